"""`driftline report --evidently`: another library's page on a file, against the bundle's reference."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftline.cli import app
from driftline.errors import CommandError
from driftline.with_evidently import _current, _reference
from schemas.bundle import MANIFEST, parse_manifest
from schemas.features import Layout
from schemas.reference import Reference
from training.recent import read_customers

CUSTOMERS = Path("training/data/telco_churn.csv")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--evidently"], "go together"),
        (["--current", "x.csv"], "go together"),
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
    """The library is installed and asked; in the long form only, because that takes a minute the first time."""
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
