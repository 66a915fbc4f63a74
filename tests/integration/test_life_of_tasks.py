"""A regression and a model of several classes are trained again and promoted, from files: no broker is needed."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from driftline.cli import app
from driftline.errors import CommandError
from driftline.model_life.candidate import judge
from driftline.model_life.labelled_customers import read_labelled
from driftline.model_life.trained_rows import digests
from driftline.training.dataset import read_dataset
from driftline.training.loaded_bundle import load_bundle
from driftline.training.spec import read_spec
from driftline.training.train import train
from schemas.bundle.files import TRAINED_ROWS, write_bundle
from schemas.bundle.manifest import parse_manifest

NOW = datetime(2026, 12, 1, tzinfo=UTC)
TASKS = ("regression", "multiclass")
METRIC = {"regression": "mae", "multiclass": "accuracy"}
SPEC = """
[model]
name = "own"
version = "1.0.0"
task = "{task}"
[data]
target = "outcome"
id = "customer_id"
{form}
[estimator]
kind = "{kind}"
[features.age]
kind = "numeric"
[features.fee]
kind = "numeric"
[features.plan]
kind = "categorical"
{business}
"""
BUSINESS = {
    "regression": "[business]\nover = -1\nunder = -2",
    "multiclass": "[business.matrix.gold]\ngold = 3\nbronze = -1\n[business.matrix.bronze]\nbronze = 1",
}
KIND = {"regression": "ridge", "multiclass": "logistic_regression"}


def _customers(task: str, rows: int, seed: int, *, changed: bool) -> pd.DataFrame:
    """Customers whose outcome is made of the same features in another way if `changed`."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{seed}-{i}" for i in range(rows)],
            "age": draw.integers(18, 90, rows),
            "fee": draw.normal(60.0, 20.0, rows).round(2),
            "plan": draw.choice(["basic", "plus", "max"], rows),
        }
    )
    size = (frame["fee"] if changed else 110 - frame["fee"]) + 10.0 * (frame["plan"] == "max") + draw.normal(0, 8, rows)
    tier = np.select([size < 45, size < 70], ["bronze", "silver"], "gold")
    return frame.assign(outcome=size.round(2) if task == "regression" else tier)


def _write(frame: pd.DataFrame, path: Path, form: bool) -> Path:
    frame.to_csv(path, index=False, **({"sep": ";", "decimal": ","} if form else {}))
    return path


def _bundle(folder: Path, spec_path: Path, data: Path) -> Path:
    """A bundle without the self-check, which is not looked at here."""
    spec = read_spec(spec_path)
    trained = train(spec, read_dataset(data, spec), NOW)
    write_bundle(folder, trained.manifest, trained.files)
    return folder


def _spec(folder: Path, task: str) -> Path:
    path, form = folder / f"{task}.toml", 'separator = ";"\ndecimal = ","' if task == "regression" else ""
    path.write_text(SPEC.format(task=task, kind=KIND[task], form=form, business=BUSINESS[task]), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=TASKS)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec, a champion of 1,500 customers, customers whose outcomes have changed since, a candidate."""
    task, folder = request.param, tmp_path_factory.mktemp("life")
    form = task == "regression"  # European numbers: an outcome that was read is not read again
    _spec(folder, task).rename(folder / "spec.toml")
    before = _write(_customers(task, 1500, 1, changed=False), folder / "before.csv", form)
    _bundle(folder / "champion", folder / "spec.toml", before)
    _write(_customers(task, 3500, 2, changed=True), folder / "recent.csv", form)
    _write(_customers(task, 800, 3, changed=True), folder / "newer.csv", form)
    _write(_customers(task, 300, 3, changed=True), folder / "few.csv", form)
    done = _retrain(folder, folder / "candidate", "--json")
    assert done.exit_code == 0, done.output
    (folder / "retrain.json").write_text(done.stdout, encoding="utf-8")
    return folder


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _refused(found: Result) -> tuple[int, str]:
    """Return the exit code and the line that the command ends with."""
    assert isinstance(found.exception, CommandError), found.output
    return found.exception.exit_code, str(found.exception)


def _retrain(life: Path, out: Path, *more: object) -> Result:
    told = ("--spec", life / "spec.toml", "--model", life / "champion", "--data", life / "recent.csv", "--out", out)
    return _run("retrain", "--reason", "new_data", *told, *more)


def _promote(life: Path, candidate: Path, data: str, *more: object) -> Result:
    told = ("--data", life / data, "--target", "outcome", "--id", "customer_id", "--spec", life / "spec.toml")
    return _run("promote", "--candidate", candidate, "--to", life / "served", *told, *more)


def test_a_model_is_trained_again_promoted_and_rolled_back(life: Path) -> None:
    """By the metric of its task; rows that the candidate was fitted on do not count, and the way back is there."""
    task = read_spec(life / "spec.toml").task
    out, found = life / "candidate", json.loads((life / "retrain.json").read_text(encoding="utf-8"))
    compared = found["comparison"]
    assert (found["action"], compared["metric"], compared["better"]) == ("gain", METRIC[task], True)
    assert found["candidate"]["version"] == "1.1.0"
    assert "positive" not in found["data"]
    assert sum(found["data"].get("outcomes", {"all": 3500}).values()) == 3500
    manifest = parse_manifest((out / "manifest.json").read_bytes())
    assert (manifest.predicts.name, manifest.version) == (task, "1.1.0")
    if task == "regression":
        assert compared["advantage"] == pytest.approx(1 - compared["challenger"] / compared["champion"])
        assert manifest.residuals is not None

    shutil.copytree(life / "champion", life / "served", dirs_exist_ok=True)
    fitted = _promote(life, out, "recent.csv", "--json")
    # a customer of the training is left out, whatever the file is that names them
    assert json.loads(fitted.stdout)["comparison"]["customers"] == 700
    back = _run("rollback", "--model", life / "served")
    assert back.exit_code == 0, back.output
    served = _promote(life, out, "newer.csv")
    assert served.exit_code == 0, served.output
    # two customers of a class may have the same numbers
    assert re.match(rf"{METRIC[task]} of (79\d|800) customers: champion ", served.stdout)
    assert ("%" in served.stdout.split("advantage ")[1].split(" (")[0]) == (task == "regression")
    assert parse_manifest((life / "served" / "manifest.json").read_bytes()).version == "1.1.0"


def test_a_candidate_that_is_not_better_or_not_known_to_be_is_rejected(life: Path) -> None:
    """The champion as a candidate of the new model: exit code 1; too few customers: 3; neither is served."""
    shutil.copytree(life / "candidate", life / "served", dirs_exist_ok=True)
    code, line = _refused(_promote(life, life / "champion", "newer.csv"))
    assert (code, "not promoted, not better: " in line) == (1, True)
    code, line = _refused(_promote(life, life / "champion", "newer.csv", "--metric", "business_value"))
    assert (code, "not promoted, not better: business_value of " in line) == (1, True)
    shown = _run(
        "evaluate", "--model", life / "candidate", "--data", life / "newer.csv", "--target", "outcome", "--json"
    )
    worth = json.loads(shown.stdout)["business"]
    assert (worth["currency"], worth["low"] < worth["value"] < worth["high"]) == ("EUR", True)
    code, line = _refused(_promote(life, life / "champion", "few.csv"))
    assert (code, "300 labelled customers" in line) == (3, True)
    assert parse_manifest((life / "served" / "manifest.json").read_bytes()).version == "1.1.0"


def test_metrics_and_models_of_another_task_are_rejected_by_name(life: Path, tmp_path: Path) -> None:
    """With exit code 2, a line that names the task, and nothing written."""
    task = read_spec(life / "spec.toml").task
    other = next(one for one in TASKS if one != task)
    code, line = _refused(_retrain(life, tmp_path / "candidate", "--metric", "brier"))
    assert (code, f"task of the models is {task}" in line) == (2, True)
    spec = _spec(tmp_path, other)
    told = ("--model", life / "champion", "--data", life / "recent.csv", "--out", tmp_path / "candidate")
    code, line = _refused(_run("retrain", "--spec", spec, *told))
    assert (code, f"task is {other}, and the champion's is {task}" in line) == (2, True)
    frame = _customers(other, 400, 5, changed=True)
    strange = _bundle(tmp_path / "strange", spec, _write(frame, tmp_path / "other.csv", other == "regression"))
    shutil.copytree(life / "champion", life / "served", dirs_exist_ok=True)
    manifest = strange / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": "1.0.0"', '"version": "2.0.0"'))
    code, line = _refused(_promote(life, strange, "newer.csv"))
    assert (code, f"is {other}, and of {life / 'served'} {task}" in line) == (2, True)
    assert not (tmp_path / "candidate").exists()


def test_a_row_has_one_digest_however_it_was_read(life: Path) -> None:
    """Of a file, as training read it and as a comparison reads it; a class that the champion lacks is compared, too."""
    champion, candidate = (load_bundle(life / name) for name in ("champion", "candidate"))
    spec = read_spec(life / "spec.toml")
    names = [feature.name for feature in candidate.manifest.features]
    rows = read_labelled(life / "recent.csv", names, "outcome", None, "customer_id", spec.data.format(), spec.task)
    seen = np.load(candidate.directory / TRAINED_ROWS)
    known = np.isin(digests(rows.columns(candidate.manifest.features), rows.outcome), seen)
    assert known.sum() == 2800
    if spec.task == "multiclass":
        told = np.where(np.arange(rows.rows) % 7 == 0, "platinum", rows.outcome)
        found = judge(champion, candidate, type(rows)(rows.table, told, rows.customers), "f1_macro", 0.95).comparison
        assert found.better is True
