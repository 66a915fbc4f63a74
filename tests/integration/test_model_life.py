"""Retrain, promote, roll back: what is kept, what is refused, and that nothing is promoted that is not better."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftline.cli import app
from driftline.errors import CommandError
from driftline.model_life.candidate import judge
from driftline.training.dataset import read_dataset
from driftline.training.spec import read_spec
from driftline.training.synthetic_customers import generate_customers
from driftline.training.train import train
from schemas.bundle.files import read_bundle, write_bundle
from schemas.bundle.manifest import MANIFEST
from scorer.model import load

NOW = datetime(2026, 12, 1, tzinfo=UTC)
TRUTH = ("--target", "resiliation", "--id", "client_id")


def _bundle(folder, data, version):
    """A logistic regression of these customers; without the self-check, which is not looked at here."""
    spec = read_spec(folder.with_name("spec.toml"))
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"version": version})})
    trained = train(spec, read_dataset(data, spec), NOW)
    write_bundle(folder, trained.manifest, trained.files)
    return folder


def _customers(path, rows, seed, change=None):
    """A file of generated customers; `change` gets each row as a dict."""
    table = list(csv.DictReader(io.StringIO(generate_customers(rows, seed))))
    for number, row in enumerate(table):
        row["client_id"] = f"{seed}-{row['client_id']}"
        if change:
            change(number, row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*table[0]])
        writer.writeheader()
        writer.writerows(table)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Customers of last year, a model that learnt from 60 of them and one that learnt from 3,000; 1,500 new ones."""
    folder = tmp_path_factory.mktemp("life")
    text = Path("examples/churn5.toml").read_text(encoding="utf-8")
    (folder / "spec.toml").write_text(text.replace("hist_gradient_boosting", "logistic_regression"), encoding="utf-8")
    old = _customers(folder / "old.csv", 3000, 1)
    _customers(folder / "recent.csv", 1500, 2)
    _bundle(folder / "good", old, "1.1.0")

    def swapped(_, row):  # complaints and satisfaction mean the opposite: a poor model, of the same form
        row["nb_reclamations"] = str(max(0, 4 - int(row["nb_reclamations"])))

    _bundle(folder / "poor", _customers(folder / "swapped.csv", 3000, 3, swapped), "1.0.0")
    return folder


@pytest.fixture
def served(tmp_path):
    """The champion's place."""
    return tmp_path / "model"


def _put(source, served):
    bundle = read_bundle(source)
    write_bundle(served, bundle.manifest, bundle.files)
    return served


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _promote(candidate, served, data, *more):
    return _run("promote", "--candidate", candidate, "--to", served, "--data", data, *TRUTH, *more)


def _version(served):
    return json.loads((served / MANIFEST).read_bytes())["version"]


def test_a_better_candidate_is_served_and_the_former_bundle_is_kept(folder, served):
    """Byte for byte; rolled back it is served again, and once more the newer one. The scorer's loader takes both."""
    _put(folder / "poor", served)
    before = {path.name: path.read_bytes() for path in served.iterdir()}

    promoted = _promote(folder / "good", served, folder / "recent.csv", "--json")

    found = json.loads(promoted.stdout)
    assert found["served"]["version"] == _version(served) == load(served, None).manifest.version == "1.1.0"
    assert found["comparison"]["customers"] == 1500
    assert found["comparison"]["low"] > 0.0
    kept = served.with_name("model.previous")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before

    assert _run("rollback", "--model", served).exit_code == 0
    assert {path.name: path.read_bytes() for path in served.iterdir()} == before
    assert _run("rollback", "--model", served).exit_code == 0
    assert (_version(served), _version(kept)) == ("1.1.0", "1.0.0")
    assert load(served, None).manifest.version == "1.1.0"


def _equal(folder, tmp_path):
    bundle = read_bundle(folder / "good")
    twin = bundle.manifest.model_copy(update={"version": "1.2.0"})
    write_bundle(tmp_path / "twin", twin, bundle.files)
    return tmp_path / "twin"


def _constant(_, row):
    row["nb_produits"] = "3"


@pytest.mark.parametrize(
    ("case", "code", "says"),
    [
        ("worse", 1, "not promoted, not better: brier of 1,500 customers"),
        ("equal", 1, "not promoted, not better: brier of 1,500 customers"),
        ("too few labels", 3, "499 labelled customers that neither model was fitted on, 500 are needed"),
        ("broken data", 1, "the data is broken: nb_produits: the same value in every row"),
        ("another model", 2, "other is other"),
        ("the same version", 2, "both are churn-abonnement 1.0.0; a candidate needs another version"),
        ("damaged", 2, "model.joblib"),
    ],
)
def test_a_candidate_is_refused(folder, served, tmp_path, case, code, says):
    """Worse, equal, too few labels, broken data, and what is no candidate: the served bundle stays as it is."""
    champion, candidate, data = folder / "poor", folder / "good", folder / "recent.csv"
    if case == "worse":
        champion, candidate = candidate, champion
    elif case == "equal":
        champion, candidate = folder / "good", _equal(folder, tmp_path)
    elif case == "too few labels":
        data = _customers(tmp_path / "few.csv", 499, 4)
    elif case == "broken data":
        data = _customers(tmp_path / "broken.csv", 1500, 5, _constant)
    elif case == "another model":
        bundle = read_bundle(candidate)
        candidate = tmp_path / "other"
        write_bundle(candidate, bundle.manifest.model_copy(update={"name": "other"}), bundle.files)
    elif case == "the same version":
        candidate = champion
    elif case == "damaged":
        candidate = _put(candidate, tmp_path / "damaged")
        (candidate / "model.joblib").write_bytes(b"x")
    _put(champion, served)
    before = {path.name: path.read_bytes() for path in served.iterdir()}

    with pytest.raises(CommandError, match=says) as refused:
        app(
            ["promote", "--candidate", str(candidate), "--to", str(served), "--data", str(data), *TRUTH],
            standalone_mode=False,
        )

    assert refused.value.exit_code == code
    assert {path.name: path.read_bytes() for path in served.iterdir()} == before
    assert not served.with_name("model.previous").exists()


def _trained_on(candidate, data, tmp_path):
    """The first customers of the file, whom the candidate was fitted on (each row's digest is in the bundle)."""
    from driftline.model_life.labelled_customers import read_labelled
    from driftline.model_life.trained_rows import unseen

    bundle = read_bundle(candidate)
    features = bundle.manifest.features
    rows = read_labelled(data, [f.name for f in features], "resiliation", "oui", "client_id")
    seen = ~unseen(bundle, rows.columns(features), rows.positive)
    lines = data.read_text().splitlines()
    path = tmp_path / "seen.csv"
    path.write_text("\n".join([lines[0], *(line for line, one in zip(lines[1:], seen, strict=True) if one)]) + "\n")
    return path


def test_a_candidate_is_trained_on_all_but_the_most_recent_customers_and_judged_by_them(folder, tmp_path):
    """Old data and new: the last fifth of the rows are held out. The bundle is whole, and nothing else has changed."""
    champion = {path.name: path.read_bytes() for path in (folder / "poor").iterdir()}
    done = _run(
        *("retrain", "--spec", folder / "spec.toml", "--model", folder / "poor", "--out", tmp_path / "candidate"),
        *("--reason", "new_data", "--data", folder / "old.csv", "--data", folder / "recent.csv", "--json"),
    )

    found = json.loads(done.stdout)
    assert (found["trigger"], found["action"]) == ("new_data", "gain")
    assert found["data"]["rows"] == 4500
    assert found["candidate"]["rows"] == {"training": 3600, "held_out": 900, "reference": 3600}
    assert found["candidate"]["unwatched_features"] == {}
    assert found["comparison"]["customers"] == 900
    assert found["comparison"]["better"] is True
    manifest = load(tmp_path / "candidate", None).manifest
    assert (manifest.version, manifest.training_data.rows) == ("1.1.0", 3600)
    assert "the 900 of the most recent customers were held out" in manifest.notes[0]
    assert {path.name: path.read_bytes() for path in (folder / "poor").iterdir()} == champion


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--reason", "drift"), 0, "drift: investigate"),
        (("--reason", "schedule"), 3, "60 customers to compare by, 500 are needed"),
        (("--reason", "manual", "--data", "broken"), 1, "manual: block (nb_produits: the same value in every row"),
    ],
)
def test_what_the_policy_does_not_train_leaves_nothing_behind(folder, tmp_path, arguments, code, says):
    """A plan, too few labels, or broken data: no folder is made."""
    files = {"broken": _customers(tmp_path / "broken.csv", 1500, 5, _constant)}
    few = _customers(tmp_path / "few.csv", 300, 6)
    given = [files.get(argument, argument) for argument in arguments]
    data = () if "--data" in arguments else ("--data", few)
    done = _run(
        "retrain", "--spec", folder / "spec.toml", "--model", folder / "poor", "--out", tmp_path / "new", *data, *given
    )

    assert (done.exit_code, says in done.output) == (code, True), done.output
    assert not (tmp_path / "new").exists()


def test_falling_performance_does_not_wait_for_labels(folder, tmp_path):
    """The candidate is kept although 60 customers cannot compare it.

    Promotion compares again: by rows that it has not used.
    """
    few, candidate, served = _customers(tmp_path / "few.csv", 300, 6), tmp_path / "candidate", tmp_path / "model"
    arguments = ("--reason", "performance", "--data", few, "--out", candidate)
    done = _run("retrain", "--spec", folder / "spec.toml", "--model", folder / "poor", *arguments)

    assert done.exit_code == 0, done.output
    assert "warning: drift of no feature can be watched: the reference has 240 rows" in done.stdout
    assert load(candidate, None).manifest.version == "1.1.0"
    _put(folder / "poor", served)
    for data, code, says in (
        (few, 3, "500 are needed"),
        (_trained_on(candidate, few, tmp_path), 1, "every one of these customers is one that a model was fitted on"),
    ):
        with pytest.raises(CommandError, match=says) as refused:
            app(
                ["promote", "--candidate", str(candidate), "--to", str(served), "--data", str(data), *TRUTH],
                standalone_mode=False,
            )
        assert refused.value.exit_code == code


def test_what_was_judged_is_what_is_served(folder, served, tmp_path, monkeypatch):
    """The candidate's folder gets another bundle during the comparison: no uncompared bundle is promoted."""
    candidate = served.with_name("candidate")
    _put(folder / "poor", served)
    _put(folder / "good", candidate)
    before = (served / MANIFEST).read_bytes()

    def judged(*arguments):
        found = judge(*arguments)
        _put(_equal(folder, tmp_path), candidate)
        return found

    monkeypatch.setattr("driftline.model_life.candidate.judge", judged)
    with pytest.raises(CommandError, match="was replaced while"):
        app(
            [
                "promote",
                "--candidate",
                str(candidate),
                "--to",
                str(served),
                "--data",
                str(folder / "recent.csv"),
                *TRUTH,
            ],
            standalone_mode=False,
        )
    assert (served / MANIFEST).read_bytes() == before
    assert not served.with_name("model.previous").exists()
