"""`driftline rebaseline`: a bundle with another reference, tried in a fresh process; what is kept, what is refused."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from support import bundles
from support.events import GOOD_FEATURES, with_features, without

from drift_worker.statistics.self_check import REFERENCES, WINDOWS
from driftline.commands.model import rebaseline as command_file
from driftline.errors import CommandError
from driftline.model_life.rebaseline import OUT_OF_SAMPLE, RebaselineError, next_patch, rebaseline
from driftline.training.dataset import DatasetError
from driftline.training.fitted_estimator import MAY_BE_IN_SAMPLE, ORIGIN
from schemas.bundle.files import read_bundle, sign_bundle
from schemas.bundle.inputs import EventMapping
from schemas.features import Layout
from schemas.reference import Reference
from scorer.model import load

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DATA = Path("examples/telco_churn.csv")


def rows(path, count=20, **changes):
    """A CSV of this many customers of the small bundle, equal except for their tenure."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*GOOD_FEATURES])
        writer.writeheader()
        for i in range(count):
            writer.writerow({**GOOD_FEATURES, "tenure": i, **changes})
    return path


def reference_of(directory):
    """The reference in a bundle, read and checked."""
    return Reference.from_bytes(read_bundle(directory).files["reference.npz"])


@pytest.fixture
def model(tmp_path):
    """A small bundle with notes on its reference, one of which is not on its reference."""
    bundles.write(tmp_path / "model", notes=(ORIGIN, MAY_BE_IN_SAMPLE, "Made for a test."))
    return tmp_path / "model"


def test_everything_but_the_reference_stays(model, tmp_path):
    """The model's bytes, golden rows, metrics and all else; version, date, notes and the hashes are new."""
    data = rows(tmp_path / "recent.csv")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    made = rebaseline(model, data, tmp_path / "new", NOW)
    old, new = read_bundle(model), read_bundle(tmp_path / "new")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert new.files["model.joblib"] == old.files["model.joblib"]
    assert (new.manifest.version, new.manifest.created_at) == ("1.4.1", NOW)
    assert new.manifest.files["reference.npz"].sha256 == Reference.digest(new.files["reference.npz"])
    assert (old.manifest.self_check.windows, new.manifest.self_check.windows) == (0, REFERENCES * WINDOWS)
    changed = {"version", "created_at", "files", "notes", "self_check"}
    assert new.manifest.model_dump(exclude=changed) == old.manifest.model_dump(exclude=changed)
    kept, origin, caution = new.manifest.notes
    assert (kept, caution) == ("Made for a test.", OUT_OF_SAMPLE)
    assert origin.startswith("The drift reference is of 20 of 20 customers, given on 2026-12-01 to replace that of ver")
    assert made.recent.sha256 in origin
    again = rebaseline(tmp_path / "new", data, tmp_path / "newer", NOW)
    assert again.manifest.version == "1.4.2"
    assert len(again.manifest.notes) == 3


def test_the_scores_are_the_models_own(telco_bundle, tmp_path):
    """Row by row what a scorer gives for these customers; the file's rows are the reference's, in their order."""
    made = rebaseline(telco_bundle, DATA, tmp_path / "new", NOW)
    new, model = reference_of(tmp_path / "new"), load(tmp_path / "new", None)
    assert new.rows == 7043
    layout = Layout(made.manifest.features)
    columns = made.recent.columns
    assert np.array_equal(new.numeric, columns.numeric, equal_nan=True)
    np.testing.assert_allclose(new.score, model.predict(columns), rtol=0, atol=1e-9)
    assert layout.names == columns.layout.names


def test_more_rows_than_a_reference_holds_are_drawn_and_always_the_same(model, tmp_path):
    """10,000 of 12,000, in the file's order."""
    data = rows(tmp_path / "recent.csv", 12_000, tenure=5)
    for name in ("one", "two"):
        rebaseline(model, data, tmp_path / name, NOW)
    assert reference_of(tmp_path / "one").rows == 10_000
    assert (tmp_path / "one" / "reference.npz").read_bytes() == (tmp_path / "two" / "reference.npz").read_bytes()


def test_events_are_read_as_the_scorer_reads_them(model, tmp_path):
    """What it would refuse is left out and counted by reason; customers are counted by their ids."""
    data = tmp_path / "recent.jsonl"
    lines = [with_features(tenure=i) for i in range(30)] + [b"{", without("event_id"), with_features(tenure="12")]
    data.write_bytes(b"\n".join([*lines, b"", with_features(contract="Two years")]) + b"\r\n")
    made = rebaseline(model, data, tmp_path / "new", NOW)
    assert made.recent.events
    assert made.recent.refused == {"not_json": 1, "envelope": 1, "wrong_type": 1}
    assert (made.recent.unseen_rows, made.recent.unseen) == (1, {"contract": 1})
    assert made.recent.customers == 1
    assert reference_of(tmp_path / "new").numeric[:, 0].tolist() == [float(i) for i in range(30)]


def test_flat_events_are_read_by_the_mapping(tmp_path):
    """Another envelope: the bundle has the places of the parts."""
    mapping = EventMapping(event_id="id", customer_id="who", event_time="", features="")
    bundles.write(tmp_path / "model", event=mapping)
    data = tmp_path / "recent.ndjson"
    data.write_text("\n".join(json.dumps({"id": f"e{i}", "who": f"c{i}", **GOOD_FEATURES}) for i in range(5)))
    made = rebaseline(tmp_path / "model", data, tmp_path / "new", NOW)
    assert (made.recent.events, made.recent.customers, made.new.rows) == (True, 5, 5)


def test_json_lines_of_bare_features_are_rows(model, tmp_path):
    """Columns are the features' names, as in training."""
    data = tmp_path / "recent.jsonl"
    data.write_text("\n".join(json.dumps({**GOOD_FEATURES, "tenure": i}) for i in range(8)))
    made = rebaseline(model, data, tmp_path / "new", NOW)
    assert (made.recent.events, made.recent.customers, made.new.rows) == (False, None, 8)


def test_singletons_are_expected_only_where_they_were(tmp_path):
    """A learnt category that occurs once represents unseen ones; where none was ever expected, none is now."""
    names = {"contract": ("Month-to-month", "One year"), "payment": ("Mail",)}
    bundles.write(tmp_path / "listed")
    bundles.write(tmp_path / "learnt")
    old = bundles.reference()
    learnt = Reference(old.numeric, old.codes, old.score, np.array([2, 0, 0, 0]))
    from schemas.bundle.files import write_bundle

    bundle = read_bundle(tmp_path / "learnt")
    write_bundle(tmp_path / "learnt", bundle.manifest, {**bundle.files, "reference.npz": learnt.to_bytes()})
    data = tmp_path / "recent.jsonl"
    contracts = [*["One year"] * 9, "Month-to-month"]
    data.write_text("\n".join(json.dumps({**GOOD_FEATURES, "contract": contract}) for contract in contracts))
    assert set(contracts) == set(names["contract"])
    for name, expected in (("listed", [0, 0, 0, 0]), ("learnt", [1, 0, 0, 0])):
        made = rebaseline(tmp_path / name, data, tmp_path / f"{name}-new", NOW)
        assert made.new.singletons.tolist() == expected


def test_nothing_is_overwritten(model, tmp_path):
    """A folder with something in it, the bundle's own, or a file: refused; an empty folder is taken."""
    data = rows(tmp_path / "recent.csv")
    for out in (model, data, tmp_path):
        with pytest.raises(RebaselineError, match="exists; name another folder with --out"):
            rebaseline(model, data, out, NOW)
    (tmp_path / "empty").mkdir()
    rebaseline(model, data, tmp_path / "empty", NOW)
    assert read_bundle(tmp_path / "empty").manifest.version == "1.4.1"


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("tenure\n5\n", {}, "no columns"),
        ("", {"version": "2"}, "--version: '2' is no version such as 1.4.1"),
        ("", {"version": "1.4.0"}, "--version: 1.4.0 is the bundle's own"),
        ("", {"tenure": "x"}, "tenure: not a number in 20 rows"),
        ("", {"tenure": 121}, "tenure: outside 0 to 120 in 20 rows"),
        ("", {"tenure": ""}, "tenure: missing in every row"),
        ("", {"contract": "Two years"}, "every row has a category that is unknown to the model: contract in 20 of 20"),
    ],
)
def test_what_cannot_be_a_reference_is_refused_in_one_line(model, tmp_path, text, options, says):
    """By name, and nothing is left behind."""
    version = options.pop("version", None)
    data = rows(tmp_path / "recent.csv", **options)
    if text:
        data.write_text(text)
    with pytest.raises((DatasetError, RebaselineError), match=says) as caught:
        rebaseline(model, data, tmp_path / "new", NOW, version=version)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_an_empty_nullable_column_becomes_part_of_the_reference(model, tmp_path):
    """The model takes it, and so does a scorer; the shares are reported by feature."""
    made = rebaseline(model, rows(tmp_path / "recent.csv", total_charges=""), tmp_path / "new", NOW)
    assert np.isnan(made.new.numeric[:, 2]).all()
    assert made.recent.features["total_charges"] == {"missing": 1.0, "unseen": 0.0}
    assert made.recent.features["tenure"] == {"missing": 0.0, "unseen": 0.0}
    assert load(tmp_path / "new", None).manifest.version == "1.4.1"


def test_customers_of_unknown_categories_need_another_model(model, tmp_path):
    """Two of twenty: what is left out would be missed in the other features, too."""
    data = tmp_path / "recent.jsonl"
    plans = ["One year"] * 18 + ["Two years"] * 2
    data.write_text("\n".join(json.dumps({**GOOD_FEATURES, "contract": plan}) for plan in plans))
    with pytest.raises(RebaselineError, match=r"2 of 20 rows have a category .* \(most in contract\).* train"):
        rebaseline(model, data, tmp_path / "new", NOW)


def test_the_next_patch():
    """The text after the patch number is left out."""
    assert [next_patch(v) for v in ("1.4.0", "0.0.9", "1.4.0-rc.1", "1.4.0+build.7")] == [
        "1.4.1",
        "0.0.10",
        "1.4.1",
        "1.4.1",
    ]


def run(**options):
    """The command as typer calls it."""
    defaults = {"version": None, "public_key": None, "as_json": False}
    command_file.command(**{**defaults, **options})


def test_the_command_says_what_is_different(telco_bundle, tmp_path, capsys):
    """Charges 25 higher: named with both means and a PSI; the rest has hardly moved.

    The notes hold what a reader needs.
    """
    with DATA.open() as file:
        customers = list(csv.DictReader(file))[:2000]
    data = tmp_path / "recent.csv"
    with data.open("w", newline="") as file:
        writer = csv.DictWriter(file, customers[0].keys())
        writer.writeheader()
        for customer in customers:
            writer.writerow({**customer, "monthly_charges": float(customer["monthly_charges"]) + 25})
    run(model=telco_bundle, data=data, out=tmp_path / "new", as_json=True)
    summary = json.loads(capsys.readouterr().out)
    assert summary["version"] == {"previous": "1.0.0", "new": "1.0.1"}
    assert summary["reference_rows"] == {"previous": 7043, "new": 2000}
    assert (summary["data"]["kind"], summary["data"]["rows"], summary["data"]["customers"]) == ("rows", 2000, None)
    found = {change["name"]: change for change in summary["differences"]}
    charges = found.pop("monthly_charges")
    assert charges["psi"] > 0.5
    assert charges["mean"][1] - charges["mean"][0] == pytest.approx(25, abs=1.5)
    assert len(found) == 19
    assert all(change["psi"] < 0.05 for name, change in found.items() if name != "score")
    assert summary["notes"] == [OUT_OF_SAMPLE]
    run(model=telco_bundle, data=data, out=tmp_path / "again", version="2.0.0")
    shown = capsys.readouterr()
    assert "churn-telco 2.0.0, reference of 2000 rows (version 1.0.0: 7043)" in shown.out
    assert "monthly_charges" in shown.out
    assert "note: The model's scores" in shown.err


def test_a_signed_bundle_is_no_longer_signed_and_that_is_said(model, tmp_path, capsys):
    """The signature was of other bytes; with a public key, an unsigned bundle is not even read."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = tmp_path / "public.pem"
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    data = rows(tmp_path / "recent.csv")
    with pytest.raises(CommandError, match="requires a signed bundle"):
        run(model=model, data=data, out=tmp_path / "new", public_key=public)
    none = serialization.NoEncryption()
    sign_bundle(model, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none))
    run(model=model, data=data, out=tmp_path / "new", public_key=public)
    said = capsys.readouterr().err
    assert "note: the bundle was signed; the new one is not yet: driftline sign" in said
    assert "note: drift of no feature can be watched: the reference has 20 rows, and DRIFT_MIN_EVENTS requires" in said
    assert not (tmp_path / "new" / "manifest.sig").exists()
