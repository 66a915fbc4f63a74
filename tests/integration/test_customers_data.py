"""Files as customers bring them, through every command that reads one: what is taken, and what is remarked on."""

import json
from datetime import UTC, datetime

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from driftline.cli import app
from driftline.replay.event_source import open_source
from driftline.training.dataset import read_dataset
from driftline.training.fitted_estimator import bundle_existing
from driftline.training.infer_spec import infer_spec
from driftline.training.spec import parse_spec, read_spec
from driftline.training.train import train
from schemas.bundle.files import read_bundle, write_bundle
from schemas.bundle.inputs import DataFormat
from schemas.reference import Reference

NOW = datetime(2026, 12, 1, tzinfo=UTC)
TRUTH = ("--target", "left", "--id", "customer_id")


def _customers(rows, seed):
    """Customers whose plan is a number written as a text, as they come out of a database."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{seed}-{i}" for i in range(rows)],
            "age": draw.integers(18, 90, rows),
            "fee": draw.normal(60.0, 20.0, rows).round(2),
            "debt": np.where(draw.random(rows) < 0.3, np.nan, draw.normal(5.0, 1.0, rows).round(2)),
            "plan": draw.choice(["1", "2", "3"], rows),
        }
    )
    odds = -0.05 * (frame["age"] - 50) + 0.03 * (frame["fee"] - 60) + (frame["plan"] == "3")
    leaves = draw.random(rows) < 1.0 / (1.0 + np.exp(-odds))
    return frame.assign(left=np.where(leaves, "yes", "no"))


SPEC = """
[model]
name = "own"
version = "1.0.0"
[data]
target = "left"
positive = "yes"
id = "customer_id"
[features.age]
kind = "numeric"
[features.fee]
kind = "numeric"
[features.debt]
kind = "numeric"
nullable = true
[features.plan]
kind = "categorical"
"""
SEMICOLONS = 'decimal = ","\nmissing = ["NA"]\n'


def _bundle(folder, spec_path, data, version="1.0.0"):
    """A bundle without the self-check, which is not looked at here."""
    spec = read_spec(spec_path)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"version": version})})
    trained = train(spec, read_dataset(data, spec), NOW)
    write_bundle(folder, trained.manifest, trained.files)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of 1,500 customers, and one of a file with semicolons, decimal commas and NA."""
    folder = tmp_path_factory.mktemp("customers")
    (folder / "spec.toml").write_text(SPEC)
    _customers(1500, 1).to_csv(folder / "train.csv", index=False)
    _bundle(folder / "model", folder / "spec.toml", folder / "train.csv")
    (folder / "semicolons.toml").write_text(SPEC.replace('id = "customer_id"\n', f'id = "customer_id"\n{SEMICOLONS}'))
    _customers(1500, 1).to_csv(folder / "semicolons.csv", index=False, sep=";", decimal=",", na_rep="NA")
    _bundle(folder / "european", folder / "semicolons.toml", folder / "semicolons.csv")
    return folder


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _file(folder, rows=1500, **changes):
    path = folder / "recent.csv"
    frame = _customers(rows, 2)
    frame.assign(**{name: change(frame) for name, change in changes.items()}).to_csv(path, index=False)
    return path


def _as_floats(frame):
    return frame["plan"] + ".0"


def _nothing(_):
    return np.nan


def test_categories_that_the_model_never_saw_do_not_pass_without_a_remark(folder, tmp_path):
    """`1` became `1.0`: the shares are in what `evaluate` prints, and in its JSON by feature."""
    data = _file(tmp_path, plan=_as_floats)
    shown = _run("evaluate", "--model", folder / "model", "--data", data, *TRUTH)
    assert "unseen categories: plan in 100.0 % of the rows" in shown.stdout
    assert "missing values: debt in " in shown.stdout
    found = json.loads(_run("evaluate", "--model", folder / "model", "--data", data, *TRUTH, "--json").stdout)
    assert list(found["data"]["features"]) == ["age", "fee", "debt", "plan"]
    assert found["data"]["features"]["plan"] == {"missing": 0.0, "unseen": 1.0}


def test_an_empty_nullable_column_does_not_stop_an_evaluation(folder, tmp_path):
    """It is legal in events, too."""
    shown = _run("evaluate", "--model", folder / "model", "--data", _file(tmp_path, debt=_nothing), *TRUTH)
    assert (shown.exit_code, "missing values: debt in 100.0 % of the rows" in shown.stdout) == (0, True), shown.output


def test_a_retraining_names_what_is_missing_or_unseen_and_trains_what_was_accepted(folder, tmp_path):
    """Blocked as broken data; where it is accepted, the candidate learns nothing from the column and is served."""
    data, out = _file(tmp_path, 3000, debt=_nothing), tmp_path / "candidate"
    arguments = ("retrain", "--spec", folder / "spec.toml", "--model", folder / "model", "--reason", "manual", "--data")
    blocked = _run(*arguments, data, "--out", out)
    assert blocked.exit_code == 1
    assert "debt: missing in every row" in blocked.stdout
    assert "missing values: debt in 100.0 % of the rows" in blocked.stdout

    done = _run(*arguments, data, "--out", out, "--accept", "debt", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["data"]["features"]["debt"] == {"missing": 1.0, "unseen": 0.0}
    assert np.isnan(Reference.from_bytes(read_bundle(out).files["reference.npz"]).numeric[:, 2]).all()

    unseen = _run(*arguments, _file(tmp_path, plan=_as_floats), "--out", tmp_path / "other")
    assert unseen.exit_code == 1
    assert "unseen categories: plan in 100.0 % of the rows" in unseen.stdout


def test_a_promotion_reports_the_shares_of_both_models(folder, tmp_path):
    """By model in the JSON, and as lines on standard error before anything is decided."""
    served = tmp_path / "served"
    bundle = read_bundle(folder / "model")
    write_bundle(served, bundle.manifest, bundle.files)
    write_bundle(tmp_path / "next", bundle.manifest.model_copy(update={"version": "1.0.1"}), bundle.files)
    arguments = ("promote", "--candidate", tmp_path / "next", "--to", served, *TRUTH, "--data")
    done = _run(*arguments, _file(tmp_path, debt=_nothing))
    assert done.exit_code == 1
    assert "missing values: debt in 100.0 % of the rows" in done.stderr
    assert "not promoted, the data is broken: debt: missing in every row" in str(done.exception)


def test_a_bundle_remembers_how_its_file_was_written(folder, tmp_path):
    """Semicolons, decimal commas and NA: later files of the same kind are read by every command."""
    european = folder / "european"
    assert read_bundle(european).manifest.data_format == DataFormat(decimal=",", missing=("NA",))
    assert read_bundle(folder / "model").manifest.data_format is None
    data = tmp_path / "recent.csv"
    _customers(600, 2).to_csv(data, index=False, sep=";", decimal=",", na_rep="NA")
    evaluated = _run("evaluate", "--model", european, "--data", data, *TRUTH)
    assert evaluated.exit_code == 0, evaluated.output
    rebaselined = _run("rebaseline", "--model", european, "--data", data, "--out", tmp_path / "new", "--json")
    assert rebaselined.exit_code == 0, rebaselined.output
    assert json.loads(rebaselined.stdout)["data"]["features"]["debt"]["missing"] == pytest.approx(0.3, abs=0.05)
    assert read_bundle(tmp_path / "new").manifest.data_format == DataFormat(decimal=",", missing=("NA",))
    for spec in (None, folder / "semicolons.toml"):
        events = open_source(data, european, spec, run="r").take(600, 0.0, 0)
        assert {type(json.loads(value)["features"]["fee"]) for _, value in events} == {float}


def test_another_file_than_the_bundle_remembers_is_described_by_a_spec(folder, tmp_path):
    """`--spec` where a command has only a bundle; without it, the line names the key that would help."""
    data = tmp_path / "recent.csv"
    _customers(600, 2).to_csv(data, index=False, sep=";", decimal=",", na_rep="NA")
    arguments = ("evaluate", "--model", folder / "model", "--data", data, *TRUTH)
    refused = _run(*arguments)
    assert (
        "fee: not a number in 600 rows, first in row 1 (0 of 600 cells are numbers; the others would be with "
        in str(refused.exception)
    )
    assert _run(*arguments, "--spec", folder / "semicolons.toml").exit_code == 0
    out = tmp_path / "new"
    arguments = ("rebaseline", "--model", folder / "model", "--data", data, "--out", out)
    assert _run(*arguments, "--spec", folder / "semicolons.toml").exit_code == 0


def test_training_names_the_columns_it_leaves_out_and_the_features_that_cannot_be_watched(tmp_path):
    """Sixty customers are too few for any window; the JSON has the same."""
    data, spec = tmp_path / "few.csv", tmp_path / "spec.toml"
    spec.write_text(SPEC)
    _customers(60, 3).assign(note="x", region="y").to_csv(data, index=False)
    shown = _run("train", "--spec", spec, "--data", data, "--out", tmp_path / "model")
    assert shown.exit_code == 0, shown.output
    assert "left out: 2 columns of the file, which the spec does not name: note, region" in shown.stdout
    assert (
        "warning: drift of no feature can be watched: the reference has 60 rows, and DRIFT_MIN_EVENTS" in shown.stdout
    )
    found = json.loads(_run("train", "--spec", spec, "--data", data, "--out", tmp_path / "model", "--json").stdout)
    assert found["unused_columns"] == ["note", "region"]
    assert found["unwatched_features"]["age"] == 60


@pytest.mark.parametrize("labels", [(0, 1), (False, True), (0.0, 1.0), ("no", "yes"), ("N", "Y")])
def test_what_spec_infer_writes_is_taken_by_train_and_by_bundle(tmp_path, labels):
    """The same CSV file: a model is trained on it, and one that pandas' frame was fitted on is bundled."""
    data, out = tmp_path / "customers.csv", tmp_path / "model"
    frame = _customers(200, 4).drop(columns=["plan", "debt"])
    frame["left"] = [labels[left == "yes"] for left in frame["left"]]
    frame.to_csv(data)
    spec = parse_spec(infer_spec(data, "left"))
    assert list(spec.features) == ["age", "fee"]
    assert train(spec, read_dataset(data, spec), NOW).manifest.positive_class == labels[1]

    read = pd.read_csv(data)
    joblib.dump(LogisticRegression(max_iter=1000).fit(read[["age", "fee"]], read["left"]), tmp_path / "fitted.joblib")
    made = bundle_existing(spec, tmp_path / "fitted.joblib", data, out, NOW, held_out=True)
    assert (made.manifest.positive_class, made.unused) == (labels[1], ("",))
    assert 0.5 < made.manifest.metrics["roc_auc"] < 1.0
