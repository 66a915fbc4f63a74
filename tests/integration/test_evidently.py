"""`driftline report --evidently`: another library's page on a file, against the bundle's reference."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftline.cli import app
from driftline.errors import CommandError
from driftline.evidently.write import _current, _reference, _targets
from driftline.model_life.recent_customers import read_customers
from schemas.bundle.manifest import MANIFEST, parse_manifest
from schemas.features import Layout
from schemas.reference import Reference

CUSTOMERS = Path("examples/telco_churn.csv")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--evidently"], "go together"),
        (["--current", "x.csv"], "go together"),
        (["--reference", "x.csv"], "needs --evidently"),
        (["--evidently", "--current", "x.csv", "--target", "churn"], "needs --reference"),
        (["--evidently", "--current", "nowhere.csv"], "nowhere.csv: No such file"),
        (["--evidently", "--current", "pyproject.toml"], "pyproject.toml"),
    ],
)
def test_wrong_use_is_one_line(telco_bundle, tmp_path, arguments, says):
    """Before anything is installed."""
    with pytest.raises(CommandError, match=says):
        app(["report", *arguments, "--model", str(telco_bundle), "--out", str(tmp_path / "x")], standalone_mode=False)


def test_both_tables_speak_of_the_same_columns_in_the_same_words(telco_bundle):
    """The customers that the reference was made of: the same rows, categories, missing values; booleans as words."""
    manifest = parse_manifest((telco_bundle / MANIFEST).read_bytes())
    reference = Reference.from_bytes((telco_bundle / "reference.npz").read_bytes())
    layout = Layout(manifest.features)
    before = _reference(layout, reference)
    now = _current(read_customers(CUSTOMERS, manifest, 0).columns, reference.score)
    assert json.dumps(now) == json.dumps(before)
    assert set(now["senior_citizen"]) == {"true", "false"}
    assert now["total_charges"].count(None) == 11


def test_the_page_is_evidentlys(telco_bundle, tmp_path, long):
    """The library is installed and called; in the long form only, because that takes a minute the first time."""
    if not long:
        pytest.skip("only with --long")
    out = tmp_path / "evidently.html"
    arguments = ["report", "--evidently", "--current", str(CUSTOMERS), "--model", str(telco_bundle), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "7,043 customers against 7,043" in result.output
    page = out.read_text(encoding="utf-8")
    assert "monthly_charges" in page
    assert "Drift" in page


def test_the_outcome_of_both_files_is_one_column_in_the_same_words(tmp_path):
    """Whole numbers and booleans are written alike; a file without the column has no outcome."""
    before, now, without = tmp_path / "before.csv", tmp_path / "now.jsonl", tmp_path / "without.csv"
    before.write_text("a,churn\n1,1.0\n2,0\n3,\n4,True\n")
    now.write_text('{"a": 1, "churn": 1}\n{"a": 2, "churn": false}\n')
    without.write_text("a\n1\n")
    assert _targets("churn", [(before, False), (now, False)]) == [["1", "0", None, "true"], ["1", "false"]]
    assert _targets("churn", [(before, False), (without, False)]) is None
    assert _targets("churn", [(before, False), (now, True)]) is None


def test_the_page_has_the_drift_of_the_outcome(telco_bundle, tmp_path, long):
    """In the long form: two files with the column, and one without."""
    if not long:
        pytest.skip("only with --long")
    out = tmp_path / "evidently.html"
    options = ["--reference", str(CUSTOMERS), "--target", "churn", "--model", str(telco_bundle), "--out", str(out)]
    result = CliRunner().invoke(app, ["report", "--evidently", "--current", str(CUSTOMERS), *options])
    assert result.exit_code == 0, result.output
    assert "churn" in out.read_text(encoding="utf-8")
