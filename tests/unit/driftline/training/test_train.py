"""Training: what the bundle holds, that it is the same every time, and what is refused."""

import csv
import io
import json
import random
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from driftline.commands.model.train import train as train_command
from driftline.errors import CommandError
from driftline.training.dataset import DatasetError, read_dataset
from driftline.training.estimators import EstimatorError
from driftline.training.golden_rows import golden_values
from driftline.training.spec import SpecError, parse_spec, read_spec
from driftline.training.synthetic_customers import generate_customers
from driftline.training.train import TrainingError, _split, drift_reference, measure, train, train_bundle
from schemas.bundle.files import read_bundle, write_bundle
from schemas.bundle.inputs import EventMapping
from schemas.bundle.manifest import ClassBusiness, ValueBusiness, manifest_bytes, parse_manifest
from schemas.event import EventDecoder
from schemas.features import UNSEEN, Layout
from schemas.reference import Reference
from schemas.task import Binary
from scorer.model import load

ROOT = Path(__file__).parents[4]
TELCO = ROOT / "examples" / "telco_churn.csv"
TELCO_SPEC = ROOT / "examples" / "telco.toml"
NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
KINDS = ("logistic_regression", "hist_gradient_boosting", "random_forest")


def _toml(kind="logistic_regression", threshold="0.5", city="", extra=""):
    return f"""
        [model]
        name = "small"
        version = "1.0.0"
        threshold = {threshold}
        [data]
        target = "left"
        positive = "yes"
        [estimator]
        kind = "{kind}"
        [features.age]
        kind = "numeric"
        min = 0
        [features.income]
        kind = "numeric"
        nullable = true
        [features.city]
        kind = "categorical"
        nullable = true
        {city}
        [features.senior]
        kind = "boolean"
        nullable = true
        {extra}
        """


def _spec(*args, **kwargs):
    return parse_spec(_toml(*args, **kwargs))


def _customers(rows=300, seed=1, learnable=True):
    """Customers who leave if they are young, poor or from Nice; or, not learnable, by the toss of a coin."""
    chance = random.Random(seed)
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["age", "income", "city", "senior", "left"])
    for row in range(rows):
        age, income = chance.randint(18, 90), round(chance.gauss(3000, 800), 2)
        city = "Brest" if row == 0 else chance.choice(["Lyon", "Lille", "Nice", ""])
        leaves = (age < 40) + (income < 2800) + (city == "Nice") + chance.random() > 1.8
        if not learnable:
            leaves = chance.random() < 0.5
        senior = chance.choice(["1", "0", ""])
        table.writerow([age, "" if chance.random() < 0.1 else income, city, senior, "yes" if leaves else "no"])
    return text.getvalue()


@pytest.fixture
def customers(tmp_path):
    """A file of 300 customers with missing values in three columns and a city that occurs once."""
    path = tmp_path / "customers.csv"
    path.write_text(_customers(), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_bundle_scores_missing_values_and_unseen_categories(kind, customers, tmp_path):
    """Loaded as the scorer does: bytes that were checked, then a frame of five difficult customers."""
    train_bundle(_spec(kind), customers, tmp_path / "model", NOW)

    bundle = read_bundle(tmp_path / "model")
    model = joblib.load(io.BytesIO(bundle.files["model.joblib"]))
    columns = Layout(bundle.manifest.features).columns(
        [
            [20, 20, 80, 10**9, 0],
            [1000.0, None, 5000.0, None, -1e15],
            ["Nice", None, "Lyon", "Atlantis", ""],
            [True, None, False, None, True],
        ]
    )
    probability = model.predict_proba(columns.frame())[:, 1]

    assert columns.codes[3:, 0].tolist() == [UNSEEN, UNSEEN]
    assert np.isfinite(probability).all()
    assert probability[0] > 0.8
    assert probability[2] < 0.2
    assert model.classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_give_the_same_bytes(kind, customers, tmp_path):
    """In another process with another hash seed too; only created_at differs."""
    dataset = read_dataset(customers, _spec(kind))
    here = train_bundle(_spec(kind), customers, tmp_path / "here", NOW)
    again = train(_spec(kind), dataset, datetime(2027, 1, 1, tzinfo=UTC))
    script = (
        "import sys; from datetime import *; from pathlib import Path; sys.path[:0] = sys.argv[1].split(':')\n"
        "from support import short_check; short_check.install()\n"
        "from driftline.training.spec import read_spec; from driftline.training.train import train_bundle\n"
        "train_bundle(read_spec(Path(sys.argv[2])), *map(Path, sys.argv[3:5]), datetime(2026, 11, 22, 6, tzinfo=UTC))"
    )
    spec_file = tmp_path / "spec.toml"
    spec_file.write_text(_toml(kind), encoding="utf-8")
    paths = f"{ROOT}:{ROOT / 'tests'}"
    command = [sys.executable, "-c", script, paths, str(spec_file), str(customers), str(tmp_path / "there")]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "7"}, timeout=240)

    for name in ("model.joblib", "reference.npz", "manifest.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    assert dict(again.files) == dict(here.files)
    written = {"created_at", "files", "self_check"}  # the last two come when the bundle is written
    assert again.manifest.model_dump(exclude=written) == here.manifest.model_dump(exclude=written)


def test_another_seed_gives_another_model(customers):
    """Other rows are held out."""
    dataset = read_dataset(customers, _spec())
    other = _spec(extra="[training]\nseed = 43")

    assert train(_spec(), dataset, NOW).files["model.joblib"] != train(other, dataset, NOW).files["model.joblib"]


def test_the_manifest_says_what_was_trained_on_what(customers, tmp_path):
    """Digest and rows of the data, the positive class, library versions, learnt categories, a self-check."""
    train_bundle(_spec(), customers, tmp_path / "model", NOW)
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text(encoding="utf-8"))

    assert manifest["created_at"] == "2026-11-22T06:00:00Z"
    assert manifest["training_data"]["rows"] == 300
    assert manifest["positive_class"] == "yes"
    assert manifest["threshold"] == 0.5
    assert sorted(manifest["libraries"]) == ["numpy", "python", "scikit-learn"]
    assert [f["name"] for f in manifest["features"]] == ["age", "income", "city", "senior"]
    assert manifest["features"][2]["categories"] == ["Brest", "Lille", "Lyon", "Nice"]
    assert sorted(manifest["metrics"]) == ["accuracy", "brier", "f1", "log_loss", "precision", "recall", "roc_auc"]
    assert {name: sorted(found) for name, found in manifest["self_check"]["features"].items()} == {
        "age": ["ks", "psi"],
        "income": ["ks", "psi"],
        "city": ["chi2"],
        "senior": ["chi2"],
    }
    assert sorted(manifest["files"]) == ["model.joblib", "reference.npz"]


@pytest.mark.parametrize("kind", KINDS)
def test_golden_rows_are_valid_events_and_their_probabilities_are_the_models(kind, customers, tmp_path):
    """Sixteen invented customers: one all missing, one all unseen; no row of the data among them."""
    train_bundle(_spec(kind), customers, tmp_path / "model", NOW)
    bundle = read_bundle(tmp_path / "model")
    golden = bundle.manifest.golden
    features = bundle.manifest.features

    assert len(golden.rows) == 16
    assert golden.tolerance == 1e-9
    assert [golden.rows[0].get(name) for name in ("income", "city", "senior")] == [None, None, None]
    columns = Layout(features).columns(golden_values(features, golden.rows))
    assert columns.codes[1, 0] == UNSEEN
    model = joblib.load(io.BytesIO(bundle.files["model.joblib"]))
    assert model.predict_proba(columns.frame())[:, 1].tolist() == list(golden.probabilities)
    assert len({round(p, 6) for p in golden.probabilities}) > 8

    envelope = {"event_id": "e", "customer_id": "c", "event_time": "2026-11-22T06:00:00Z"}
    values = [json.dumps({**envelope, "features": row}).encode() for row in golden.rows]
    records = [
        SimpleNamespace(topic="t", partition=0, offset=i, key=b"c", value=v, headers=(), timestamp=0, timestamp_type=0)
        for i, v in enumerate(values)
    ]
    assert EventDecoder(features, EventMapping()).decode(records, 1_795_327_200_000).rejections == [None] * 16


def test_the_reference_is_scored_out_of_sample(tmp_path):
    """On labels that nothing predicts, a forest's own training scores would rank almost perfectly."""
    path = tmp_path / "noise.csv"
    path.write_text(_customers(rows=600, learnable=False), encoding="utf-8")
    dataset = read_dataset(path, _spec("random_forest"))
    trained = train(_spec("random_forest"), dataset, NOW)
    reference = Reference.from_bytes(trained.files["reference.npz"])
    model = joblib.load(io.BytesIO(trained.files["model.joblib"]))
    left = dataset.labels == "yes"

    in_sample = model.predict_proba(dataset.columns.frame())[:, 1]

    assert roc_auc_score(left, in_sample) > 0.8
    assert 0.4 < roc_auc_score(left, reference.score) < 0.6


def test_the_reference_holds_the_rows_in_order_and_counts_categories_seen_once(customers):
    """300 rows fit; Brest occurs once; a boolean has no categories to be surprised by."""
    dataset = read_dataset(customers, _spec())
    reference = Reference.from_bytes(train(_spec(), dataset, NOW).files["reference.npz"])

    assert reference.rows == 300
    assert np.array_equal(reference.numeric, dataset.columns.numeric, equal_nan=True)
    assert np.array_equal(reference.codes, dataset.columns.codes)
    assert reference.singletons.tolist() == [1, 0]


def test_categories_that_the_spec_lists_are_never_surprising(customers):
    """A listed category seen once is no sign of more unseen ones."""
    spec = _spec(city='categories = ["Lyon", "Lille", "Nice", "Brest"]')
    dataset = read_dataset(customers, spec)
    trained = train(spec, dataset, NOW)

    assert trained.manifest.features[2].categories == ("Lyon", "Lille", "Nice", "Brest")
    assert Reference.from_bytes(trained.files["reference.npz"]).singletons.tolist() == [0, 0]


def test_of_more_than_10000_customers_10000_are_drawn(tmp_path):
    """At random from all of them, not the first; what a row carries stays together."""
    path = tmp_path / "many.csv"
    path.write_text(generate_customers(12_000, 5), encoding="utf-8")
    spec = parse_spec(
        (ROOT / "examples" / "churn5.toml")
        .read_text(encoding="utf-8")
        .replace("hist_gradient_boosting", "logistic_regression")
    )
    dataset = read_dataset(path, spec)
    reference = Reference.from_bytes(train(spec, dataset, NOW).files["reference.npz"])

    assert reference.rows == 10_000
    everyone = {tuple(row) for row in np.nan_to_num(dataset.columns.numeric, nan=-1.0).tolist()}
    drawn = np.nan_to_num(reference.numeric, nan=-1.0)
    assert {tuple(row) for row in drawn.tolist()} <= everyone
    assert not np.array_equal(drawn, np.nan_to_num(dataset.columns.numeric[:10_000], nan=-1.0))


def test_of_a_large_file_the_stored_customers_with_a_category_of_their_own_are_counted():
    """15,000 customers, 3,000 of them alone in their city: a fifth of those who were drawn, not 3,000 of 10,000."""
    spec = _spec()
    cities = [f"city {i}" if i % 5 == 0 else "Lyon" for i in range(15_000)]
    features = spec.manifest_features({"city": sorted(set(cities))})
    columns = Layout(features).columns([[1] * 15_000, [None] * 15_000, cities, [True] * 15_000])

    reference = drift_reference(spec, columns, np.zeros(15_000), Binary("yes"))

    assert reference.rows == 10_000
    assert 1_850 < reference.singletons[0] < 2_150
    assert reference.singletons[1] == 0


def test_the_f1_threshold_is_chosen_on_training_rows(customers):
    """It is one of their out-of-fold scores, and no score of theirs gives a higher F1."""
    dataset = read_dataset(customers, _spec())
    trained = train(_spec(threshold='"f1"'), dataset, NOW)
    score = Reference.from_bytes(trained.files["reference.npz"]).score
    fit, held_out = _split(dataset.labels == "yes", 0.2, 42)

    assert trained.manifest.threshold in score[fit]
    assert trained.manifest.threshold not in score[held_out]
    assert trained.manifest.threshold != 0.5
    chosen = measure(dataset.labels == "yes", score, trained.manifest.threshold)["f1"]
    assert chosen >= measure(dataset.labels == "yes", score, 0.5)["f1"]


def test_metrics_of_four_customers():
    """By hand: one of each outcome at 0.5; three of four pairs in the right order."""
    metrics = measure(np.array([True, True, False, False]), np.array([0.9, 0.4, 0.6, 0.1]), 0.5)

    assert metrics == pytest.approx(
        {
            "roc_auc": 0.75,
            "accuracy": 0.5,
            "f1": 0.5,
            "precision": 0.5,
            "recall": 0.5,
            "brier": 0.185,
            "log_loss": 0.5108256237659907,
        },
        abs=1e-12,
    )


@pytest.mark.parametrize(("kind", "least"), [("logistic_regression", 0.83), ("hist_gradient_boosting", 0.83)])
def test_the_telco_customers_reach_the_known_quality(kind, least):
    """7,043 real customers: the ranking that others report for these data."""
    text = TELCO_SPEC.read_text(encoding="utf-8").replace("logistic_regression", kind)
    spec = parse_spec(text)
    dataset = read_dataset(TELCO, spec)
    trained = train(spec, dataset, NOW)
    reference = Reference.from_bytes(trained.files["reference.npz"])

    assert (trained.training_rows, trained.held_out_rows, trained.reference_rows) == (5634, 1409, 7043)
    assert trained.manifest.metrics["roc_auc"] >= least
    assert np.isnan(reference.numeric[:, 2]).sum() == 11
    assert roc_auc_score(dataset.labels == "Yes", reference.score) >= least


def test_the_five_feature_customers_are_learnable(tmp_path):
    """Generated, trained, and better than chance by far; the same seed gives the same customers."""
    path = tmp_path / "churn5.csv"
    path.write_text(generate_customers(4000, 42), encoding="utf-8")
    spec = read_spec(ROOT / "examples" / "churn5.toml")
    dataset = read_dataset(path, spec)
    trained = train(spec, dataset, NOW)

    assert generate_customers(4000, 42) == path.read_text(encoding="utf-8")
    assert dataset.ids is not None
    assert dataset.ids[:2] == ("client-000001", "client-000002")
    assert 0.2 < (dataset.labels == "oui").mean() < 0.32
    assert trained.manifest.metrics["roc_auc"] > 0.7
    assert 0.1 < trained.manifest.threshold < 0.5


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("sklearn.linear_model:LinearRegression", "classifiers with predict_proba"),
        ("sklearn.svm:LinearSVC", "classifiers with predict_proba"),
        ("sklearn.preprocessing:StandardScaler", "classifiers with predict_proba"),
        ("sklearn.linear_model:Nothing", "sklearn.linear_model has no Nothing"),
        ("not_installed_anywhere:make", "No module named 'not_installed_anywhere'"),
        ("sklearn.pipeline:Pipeline", "must work without arguments"),
    ],
)
def test_an_estimator_out_of_scope_is_refused(kind, words, customers):
    """Regressors, classifiers without probabilities, what is no estimator, what isn't there."""
    with pytest.raises(EstimatorError) as caught:
        train(_spec(kind), read_dataset(customers, _spec()), NOW)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factory_of_ones_own_is_trained(customers, tmp_path, monkeypatch):
    """A bare classifier gets encoded numbers, a pipeline the frame as it is; what can't be saved is refused."""
    (tmp_path / "own_estimators.py").write_text(
        "from sklearn.compose import make_column_transformer\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.impute import SimpleImputer\n"
        "from sklearn.naive_bayes import GaussianNB\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import FunctionTransformer, OneHotEncoder\n"
        "def pipeline():\n"
        "    columns = (SimpleImputer(), ['age', 'income']), (OneHotEncoder(handle_unknown='ignore'), ['city'])\n"
        "    return make_pipeline(make_column_transformer(*columns), LogisticRegression(max_iter=5000))\n"
        "def picky():\n"
        "    return make_pipeline(LogisticRegression())\n"
        "def unsaveable():\n"
        "    return make_pipeline(FunctionTransformer(lambda frame: frame[['age']]), GaussianNB())\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    dataset = read_dataset(customers, _spec())

    assert train(_spec("own_estimators:pipeline"), dataset, NOW).manifest.metrics["roc_auc"] > 0.8
    assert train(_spec("sklearn.naive_bayes:GaussianNB"), dataset, NOW).manifest.metrics["roc_auc"] > 0.7
    with pytest.raises(EstimatorError, match="own_estimators:picky could not be fitted"):
        train(_spec("own_estimators:picky"), dataset, NOW)
    with pytest.raises(EstimatorError, match="the fitted model cannot be saved"):
        train(_spec("own_estimators:unsaveable"), dataset, NOW)


def test_too_few_rows_of_a_class_are_refused(tmp_path):
    """Five folds and a held-out part need ten."""
    path = tmp_path / "few.csv"
    path.write_text("age,income,city,senior,left\n" + "1,1,a,1,no\n" * 50 + "2,2,a,0,yes\n" * 9, encoding="utf-8")

    with pytest.raises(TrainingError, match="the rarer class has 9 rows; at least 10 are needed"):
        train(_spec(), read_dataset(path, _spec()), NOW)
    path.write_text("age,income,city,senior,left\n" + "1,1,a,1,no\n" * 50 + "2,2,a,0,yes\n" * 10, encoding="utf-8")
    with pytest.raises(TrainingError, match=r"\[training\] test_size: 0.7 leaves fewer than 5 training rows"):
        train(_spec(extra="[training]\ntest_size = 0.7"), read_dataset(path, _spec()), NOW)
    with pytest.raises(TrainingError, match=r"\[training\] test_size: "):
        train(_spec(extra="[training]\ntest_size = 0.01"), read_dataset(path, _spec()), NOW)


def test_the_command_prints_json_and_its_seed_wins_over_the_specs(customers, tmp_path, capsys):
    """Metrics, rows and digests for a program to read."""
    spec_file = tmp_path / "spec.toml"
    spec_file.write_text(_toml(), encoding="utf-8")

    train_command(spec_file, customers, tmp_path / "a", seed=None, as_json=True)
    first = json.loads(capsys.readouterr().out)
    train_command(spec_file, customers, tmp_path / "b", seed=7, as_json=True)
    second = json.loads(capsys.readouterr().out)

    assert first["rows"] == {"all": 300, "training": 240, "held_out": 60, "reference": 300}
    assert first["threshold"] == 0.5
    assert 0.8 < first["metrics"]["roc_auc"] <= 1.0
    assert first["files"]["model.joblib"] != second["files"]["model.joblib"]
    assert read_bundle(tmp_path / "a").manifest.files["model.joblib"].sha256 == first["files"]["model.joblib"]


def test_the_command_shows_the_metrics_to_people(customers, tmp_path, capsys):
    """A table, and where the bundle is."""
    spec_file = tmp_path / "spec.toml"
    spec_file.write_text(_toml(), encoding="utf-8")

    train_command(spec_file, customers, tmp_path / "model", seed=None, as_json=False)

    shown = capsys.readouterr().out
    assert "roc_auc" in shown
    assert "300 customers, 4 features; trained on 240; drift reference of 300" in shown


@pytest.mark.parametrize("wrong", ["spec", "data", "out"])
def test_wrong_use_of_the_command_is_one_line_and_exit_code_2(wrong, customers, tmp_path):
    """A broken spec, data that do not fit, a folder that can't be made."""
    spec_file = tmp_path / "spec.toml"
    spec_file.write_text(_toml(), encoding="utf-8")
    out = tmp_path / "model"
    if wrong == "spec":
        spec_file.write_text("[model]", encoding="utf-8")
    if wrong == "data":
        customers.write_text("age\n1\n", encoding="utf-8")
    if wrong == "out":
        out.write_text("a file", encoding="utf-8")

    with pytest.raises(CommandError) as caught:
        train_command(spec_file, customers, out, seed=None, as_json=False)

    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


# --- regression -----------------------------------------------------------------------------------------------------

VALUE_KINDS = ("ridge", "hist_gradient_boosting", "random_forest")


def _value_spec(kind="ridge", model="", data="", extra=""):
    text = _toml(kind, extra=extra).replace("threshold = 0.5", f'task = "regression"\n{model}')
    text = text.replace('target = "left"', 'target = "income"').replace('positive = "yes"', data)
    head, _, rest = text.partition("[features.income]")
    return head + rest[rest.index("[features.city]") :]


@pytest.fixture
def earners(tmp_path):
    """A file of 300 customers whose income follows from age and city."""
    chance = random.Random(3)
    path = tmp_path / "earners.csv"
    lines = ["age,income,city,senior"]
    for _ in range(300):
        age, city = chance.randint(18, 90), chance.choice(["Lyon", "Nice"])
        income = 20 * age + 500 * (city == "Nice") + chance.gauss(0, 100) + 1000
        lines.append(f"{age},{income:.2f},{city},{chance.choice('01')}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", VALUE_KINDS)
def test_a_regression_is_trained_measured_and_loaded(kind, earners, tmp_path):
    """The scorer's values are the estimator's; nine of ten customers that a fold left out are in the interval."""
    spec = parse_spec(_value_spec(kind, model='unit = "EUR"\nmin = 0'))
    dataset = read_dataset(earners, spec)
    trained = train(spec, dataset, NOW)
    manifest = write_bundle(tmp_path / "model", trained.manifest, trained.files)
    model, estimator = load(tmp_path / "model", None), joblib.load(io.BytesIO(trained.files["model.joblib"]))
    frame = dataset.columns.frame()
    np.testing.assert_allclose(model.predict(dataset.columns), estimator.predict(frame), rtol=1e-12, atol=0)
    assert model.form == "direct"
    assert (manifest.task, manifest.value.unit, manifest.value.min, manifest.positive_class) == (
        "regression",
        "EUR",
        0,
        None,
    )
    assert (trained.training_rows, trained.held_out_rows, trained.reference_rows) == (240, 60, 300)
    assert 50 < manifest.metrics["mae"] < 250
    assert set(manifest.metrics) == set(trained.folds) == {"mae", "rmse", "bias", "r2", "mape"}
    assert set(manifest.metric_errors) == {"mae", "rmse", "bias", "r2", "mape"}
    residuals = manifest.residuals
    inside = [residuals.low <= r <= residuals.high for r in (dataset.labels - model.predict(dataset.columns))]
    assert 0.85 < np.mean(inside) <= 1.0
    reference = Reference.from_bytes(trained.files["reference.npz"])
    out_of_fold = dataset.labels - reference.score  # the stored scores are out of sample, as the residuals are
    assert np.mean((residuals.low <= out_of_fold) & (out_of_fold <= residuals.high)) == pytest.approx(0.9, abs=0.03)
    again = train(spec, dataset, NOW)
    assert again.manifest == trained.manifest
    assert again.files == trained.files


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "logistic_regression"}, "[estimator] kind: logistic_regression is of another task"),
        ({"data": 'positive = "yes"'}, '[data] positive: not with task = "regression"'),
        ({"data": 'absent_label = "negative"'}, '[data] absent_label: not with task = "regression"'),
        ({"model": "threshold = 0.5"}, '[model] threshold: not with task = "regression"'),
        ({"model": 'method = "score_samples"'}, '[model] method: "score_samples" is for `driftline bundle`'),
        ({"model": "min = 2\nmax = 1"}, "[model] min: 2 is above max 1"),
        (
            {"extra": "[business]\ntrue_positive = 1.0"},
            '[business]: not with task = "regression", where it has over, under',
        ),
        ({"extra": "[business]\nover = 1.0"}, "[business] under: is missing"),
    ],
)
def test_a_spec_that_mixes_tasks_is_refused(change, words):
    """The line names the table, the key and the task."""
    with pytest.raises(SpecError) as caught:
        parse_spec(_value_spec(**change))
    assert words in str(caught.value)


def test_keys_of_a_regression_are_refused_in_a_binary_spec():
    """As is a kind that only a regression has, and a missing positive class."""
    with pytest.raises(SpecError, match=r'\[model\] unit: not with task = "binary"'):
        parse_spec(_toml().replace("threshold = 0.5", 'unit = "EUR"'))
    with pytest.raises(SpecError, match=r"\[estimator\] kind: ridge is of another task"):
        parse_spec(_toml("ridge"))
    with pytest.raises(SpecError, match=r"^\[data\] positive: is missing$"):
        parse_spec(_toml().replace('positive = "yes"', ""))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1.5", "x"], 'income: not a number, and [model] task is "regression" in 1 row'),
        (["1.5", ""], "income: no label in 1 row"),
        (["2", "2"], "income: is the same number in every row"),
        (["1e400", "2"], 'income: not a number, and [model] task is "regression" in 1 row'),
    ],
)
def test_a_target_that_is_no_number_is_refused(cells, words, tmp_path):
    """With the row, and never with the value."""
    data = tmp_path / "data.csv"
    data.write_text("age,income,city,senior\n" + "".join(f"3,{cell},Nice,1\n" for cell in cells))
    with pytest.raises(DatasetError) as caught:
        read_dataset(data, parse_spec(_value_spec()))
    assert words in str(caught.value)


def test_a_numeric_target_of_a_binary_spec_names_the_task(earners):
    """Somebody who has numbers to predict finds the key."""
    with pytest.raises(DatasetError, match=r'different values \(\[model\] task = "regression" is for numbers\)'):
        read_dataset(
            earners,
            parse_spec(
                _value_spec()
                .replace('task = "regression"', "")
                .replace("ridge", "random_forest")
                .replace('target = "income"', 'target = "income"\npositive = "yes"')
            ),
        )


def test_the_factory_of_another_task_is_refused(earners):
    """A classifier for a regression, and a regressor for a binary model: both lines name the task."""
    spec = parse_spec(_value_spec("sklearn.linear_model:LogisticRegression"))
    with pytest.raises(EstimatorError, match=r'makes no regressor, and \[model\] task is "regression"'):
        train(spec, read_dataset(earners, spec), NOW)


# --- several classes ------------------------------------------------------------------------------------------------


def _class_spec(kind="logistic_regression", target="city", **parts):
    text = (
        _toml(kind).replace("threshold = 0.5", 'task = "multiclass"').replace('positive = "yes"', parts.get("data", ""))
    )
    text = text.replace('target = "left"', f'target = "{target}"').replace(
        'task = "multiclass"', 'task = "multiclass"\n' + parts.get("model", "")
    )
    return re.sub(r"\[features\.city\][^\[]*", "", text) + parts.get("extra", "")


@pytest.fixture(scope="module")
def cities(tmp_path_factory):
    """400 customers of four cities, by age and income."""
    draw = random.Random(5)
    path = tmp_path_factory.mktemp("cities") / "customers.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["age", "income", "senior", "city"])
        for _ in range(400):
            age, income = draw.randint(18, 90), draw.gauss(2000, 600)
            place = min(3, max(0, int((age - 18) / 18 + draw.gauss(0, 0.6))))
            rows.writerow([age, f"{income:.2f}", int(age > 60), ("Bern", "Lyon", "Oslo", "Rome")[place]])
    return path


MATRIX = '\n[business]\ncurrency = "USD"\n[business.matrix.Bern]\nBern = 2\n%s = -1.5\n'


def test_what_outcomes_are_worth_goes_into_the_bundle(cities, earners):
    """A table of classes, or money per unit of error; a class that the model does not have is refused."""
    spec = parse_spec(_class_spec(extra=MATRIX % "Lyon"))
    manifest = train(spec, read_dataset(cities, spec), NOW).manifest
    assert manifest.business == ClassBusiness(currency="USD", matrix={"Bern": {"Bern": 2.0, "Lyon": -1.5}})
    assert parse_manifest(manifest_bytes(manifest)) == manifest
    wrong = parse_spec(_class_spec(extra=MATRIX % "Lion"))
    with pytest.raises(TrainingError, match=r'\[business\] matrix: "Lion" is no class of the model, which has "Bern"'):
        train(wrong, read_dataset(cities, wrong), NOW)
    values = parse_spec(_value_spec() + "\n[business]\nover = -0.5\nunder = -2\n")
    manifest = train(values, read_dataset(earners, values), NOW).manifest
    assert manifest.business == ValueBusiness(over=-0.5, under=-2.0)
    assert parse_manifest(manifest_bytes(manifest)) == manifest


@pytest.mark.parametrize("kind", KINDS)
def test_several_classes_are_trained_measured_and_loaded(kind, cities, tmp_path):
    """The scorer's distributions are the estimator's, and the metrics are scikit-learn's of the held-out customers."""
    spec = parse_spec(_class_spec(kind))
    dataset = read_dataset(cities, spec)
    trained = train(spec, dataset, NOW)
    manifest = write_bundle(tmp_path / "model", trained.manifest, trained.files)
    model, estimator = load(tmp_path / "model", None), joblib.load(io.BytesIO(trained.files["model.joblib"]))
    frame = dataset.columns.frame()
    np.testing.assert_allclose(model.predict(dataset.columns), estimator.predict_proba(frame), rtol=0, atol=1e-12)
    assert model.form == "direct"
    assert (manifest.task, manifest.classes) == ("multiclass", ("Bern", "Lyon", "Oslo", "Rome"))
    assert (manifest.positive_class, manifest.threshold, manifest.calibration) == (None, None, None)
    names = {"accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc_ovr", "log_loss"}
    assert set(manifest.metrics) == set(manifest.metric_errors) == set(trained.folds) == names
    assert 0.5 < manifest.metrics["f1_macro"] < 1.0
    reference = Reference.from_bytes(trained.files["reference.npz"])
    shares = np.bincount(reference.predicted, minlength=4) / reference.rows
    assert shares.sum() == 1.0
    assert (reference.score <= 1.0).all()
    assert (reference.score >= 0.25).all()
    again = train(spec, dataset, NOW)
    assert (again.manifest, again.files) == (trained.manifest, trained.files)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "ridge"}, '[estimator] kind: ridge is of another task; with task = "multiclass" there are logistic'),
        ({"data": 'positive = "Bern"'}, '[data] positive: not with task = "multiclass"'),
        ({"model": "threshold = 0.5"}, '[model] threshold: not with task = "multiclass"'),
        ({"model": 'unit = "EUR"'}, '[model] unit: not with task = "multiclass"'),
        ({"data": 'absent_label = "negative"'}, '[data] absent_label: not with task = "multiclass"'),
        (
            {"extra": "[business]\ntrue_positive = 1.0"},
            '[business]: not with task = "multiclass", where it has matrix',
        ),
    ],
)
def test_a_spec_of_several_classes_that_mixes_tasks_is_refused(change, words):
    """The line names the table, the key and the task."""
    with pytest.raises(SpecError) as caught:
        parse_spec(_class_spec(**change))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("cities_of", "words"),
    [
        (["Bern", "Lyon"] * 50, 'city: 2 different values ([model] task = "binary" is for two)'),
        ([f"c{n}" for n in range(101)], "city: 101 different values"),
        (["Bern", "Lyon", ""] * 30, "city: no label in 30 rows"),
    ],
)
def test_a_target_of_other_than_several_classes_is_refused(cities_of, words, tmp_path):
    """Two, too many, or none in a row."""
    path = tmp_path / "customers.csv"
    path.write_text("age,income,senior,city\n" + "".join(f"{20 + n % 60},{n},0,{c}\n" for n, c in enumerate(cities_of)))
    with pytest.raises(DatasetError) as caught:
        read_dataset(path, parse_spec(_class_spec()))
    assert words in str(caught.value)


def test_a_class_of_too_few_customers_is_named(cities, tmp_path):
    """Nine customers are fewer than two for each fold."""
    path = tmp_path / "customers.csv"
    path.write_text(cities.read_text() + "30,1000,0,Nice\n" * 9)
    spec = parse_spec(_class_spec())
    with pytest.raises(TrainingError, match="the class Nice has 9 rows; at least 10 are needed"):
        train(spec, read_dataset(path, spec), NOW)
