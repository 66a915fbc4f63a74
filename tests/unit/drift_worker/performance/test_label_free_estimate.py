"""Performance without labels: the estimate, its two bands, and what it cannot see."""

import io
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from drift_worker.performance.label_free_estimate import METRICS, calibrated, estimate, metrics
from driftline.training.dataset import read_dataset
from driftline.training.spec import read_spec
from driftline.training.synthetic_customers import generate_customers
from driftline.training.train import _split, train
from schemas.bundle.manifest import Calibration

ROOT = Path(__file__).parents[4]
KINDS = ("logistic_regression", "hist_gradient_boosting", "random_forest")
TRUE = Calibration(x=(0.0, 1.0), y=(0.0, 1.0), rows=1000, band=dict.fromkeys(METRICS, 0.0))
SKLEARN = {
    "accuracy": lambda y, p: accuracy_score(y, p >= 0.5),
    "precision": lambda y, p: precision_score(y, p >= 0.5),
    "recall": lambda y, p: recall_score(y, p >= 0.5),
    "f1": lambda y, p: f1_score(y, p >= 0.5),
    "roc_auc": roc_auc_score,
}


def test_four_customers_by_hand():
    """Two labelled positive with 0.9 and 0.8, two not with 0.1 and 0.3: 1.7 hits, 0.4 missed."""
    found = estimate(np.array([0.9, 0.8, 0.1, 0.3]), 0.5, TRUE)

    assert {name: round(one.value, 6) for name, one in found.items() if name != "roc_auc"} == {
        "accuracy": 0.825,  # (0.9 + 0.8 + 0.9 + 0.7) / 4
        "precision": 0.85,
        "recall": 0.809524,  # 1.7 / 2.1
        "f1": 0.829268,  # 3.4 / 4.1
    }
    # variance of the number of right ones: 0.09 + 0.16 + 0.09 + 0.21, over 16
    assert found["accuracy"].sampling == pytest.approx(1.959964 * 0.55**0.5 / 4, rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_the_estimate_is_the_mean_of_what_could_happen_and_its_band_holds_95_of_100(name):
    """Outcomes are drawn from the probabilities; scikit-learn gives each draw's metric. Scores have ties."""
    rng = np.random.default_rng(7)
    p = np.round(rng.beta(0.8, 1.6, 800), 2)
    draws = np.array([SKLEARN[name](rng.random(800) < p, p) for _ in range(250)])

    found = estimate(p, 0.5, TRUE)[name]

    assert found.value == pytest.approx(draws.mean(), abs=0.004)
    assert found.sampling == pytest.approx(1.96 * draws.std(), rel=0.15)


@pytest.mark.parametrize("name", METRICS)
def test_with_outcomes_for_probabilities_it_is_the_realised_metric(name):
    """The same function at y instead of q, as scikit-learn has it."""
    rng = np.random.default_rng(8)
    p = np.round(rng.random(500), 2)
    y = (rng.random(500) < p).astype(float)

    assert metrics(y, p, 0.5)[name][0] == pytest.approx(SKLEARN[name](y, p), abs=1e-12)


def test_a_customer_who_comes_four_times_is_one_draw():
    """Four copies of each row hold no more information than one: the band is that of the rows without the copies."""
    p = np.random.default_rng(9).random(300)
    once, copies = estimate(p, 0.5, TRUE), np.repeat(np.arange(300), 4)
    four = estimate(np.repeat(p, 4), 0.5, TRUE, copies)

    for name in ("accuracy", "precision", "recall", "f1"):
        assert four[name].sampling == pytest.approx(once[name].sampling)
    assert estimate(np.repeat(p, 4), 0.5, TRUE)["accuracy"].sampling == pytest.approx(once["accuracy"].sampling / 2)


def test_a_customer_above_and_below_the_threshold_makes_no_band_narrower():
    """One of the two rows is right for any outcome of the customer: that does not narrow the band."""
    p = np.array([0.9, 0.1] * 50)
    apart, together = estimate(p, 0.5, TRUE), estimate(p, 0.5, TRUE, np.repeat(np.arange(50), 2))

    for name in ("accuracy", "precision", "recall", "f1", "roc_auc"):
        assert together[name].sampling >= apart[name].sampling


def test_what_is_not_defined_is_none():
    """No row labelled positive: no precision. A metric without a stated band is not estimated. One row: no pairs."""
    low = estimate(np.array([0.1, 0.2]), 0.5, TRUE)
    assert low["precision"] is None
    assert low["recall"].value == 0.0
    assert estimate(np.array([0.4]), 0.5, TRUE)["roc_auc"] is None
    none = Calibration(x=(0.5,), y=(0.3,), rows=9, band={"accuracy": 0.1})
    assert [name for name, one in estimate(np.array([0.1, 0.9]), 0.5, none).items() if one] == ["accuracy"]
    assert calibrated(np.array([0.0, 1.0]), none).tolist() == [0.3, 0.3]


@pytest.mark.parametrize(
    "changes", [{"x": (0.1, 0.1)}, {"y": (0.9, 0.1)}, {"y": (0.1,)}, {"x": (), "y": ()}, {"y": (0.0, 1.5)}]
)
def test_a_calibration_that_is_no_rising_curve_is_refused(changes):
    """A manifest with it is not served."""
    good = {"x": (0.1, 0.9), "y": (0.0, 0.8), "rows": 10, "band": {}}
    with pytest.raises(ValidationError):
        Calibration(**{**good, **changes})


@pytest.fixture(scope="module", params=KINDS)
def held_out(request):
    """A model of real customers, and the customers that neither it nor its calibration has seen: manifest, p, y."""
    spec = read_spec(ROOT / "examples/telco.toml")
    spec = spec.model_copy(update={"estimator": spec.estimator.model_copy(update={"kind": request.param})})
    dataset = read_dataset(ROOT / "examples/telco_churn.csv", spec)
    trained = train(spec, dataset, datetime(2026, 1, 1, tzinfo=UTC))
    positive = dataset.labels == "Yes"
    _, rows = _split(positive, spec.training.test_size, spec.training.seed)
    columns = dataset.columns.take(rows)
    model = joblib.load(io.BytesIO(trained.files["model.joblib"]))
    return trained.manifest, columns, model.predict_proba(columns.frame())[:, 1], positive[rows].astype(float)


def test_when_only_the_inputs_drift_the_realised_metric_is_within_the_band(held_out):
    """Customers are drawn again by each feature in turn, e times as often per standard deviation, up and down.

    The band is one of 95 %, so that one in twenty may lie outside; that much is allowed of each metric and no more.
    """
    manifest, columns, p, y = held_out
    rng = np.random.default_rng(1)
    inside = {name: [] for name in METRICS}
    for values in (*columns.numeric.T, *columns.codes.T):
        z = np.nan_to_num((values - np.nanmean(values)) / np.nanstd(values))
        for direction in (-1.0, 1.0):
            weight = np.exp(direction * z)
            drawn = rng.choice(len(p), len(p), p=weight / weight.sum())
            realised = metrics(y[drawn], p[drawn], manifest.threshold)
            for name, one in estimate(p[drawn], manifest.threshold, manifest.calibration, drawn).items():
                inside[name].append(one.low <= realised[name][0] <= one.high)

    assert {name: len(found) for name, found in inside.items()} == dict.fromkeys(METRICS, 38)
    assert min(np.mean(found) for found in inside.values()) >= 0.95
    assert max(manifest.calibration.band.values()) < 0.03


def test_when_several_inputs_drift_together_the_realised_metric_is_within_the_band(held_out):
    """As a new group of customers makes them: two to five features are tilted at once, 100 times."""
    manifest, columns, p, y = held_out
    inside = _inside_of_joint_tilts(manifest, columns, p, y, draws=100, size=len(p))
    assert min(np.mean(found) for found in inside.values()) >= 0.95


@pytest.mark.parametrize("kind", ["logistic_regression", "hist_gradient_boosting"])
def test_large_windows_of_another_mix_are_within_the_band(kind, tmp_path, long):
    """Many customers of a known process: sampling explains little, so it is the calibration's part that must hold.

    Of 5,000 customers each. With the band of single shifts alone, 36 to 99 of 100 were inside.
    """
    spec = read_spec(ROOT / "examples/churn5.toml")
    spec = spec.model_copy(update={"estimator": spec.estimator.model_copy(update={"kind": kind})})
    inside = {name: [] for name in METRICS}
    for seed in range(1, 11 if long else 3):
        datasets = []
        for rows, seed_of in ((7000, seed), (15_000, seed + 1000)):
            (tmp_path / "customers.csv").write_text(generate_customers(rows, seed_of))
            datasets.append(read_dataset(tmp_path / "customers.csv", spec))
        trained = train(spec, datasets[0], datetime(2026, 1, 1, tzinfo=UTC))
        model = joblib.load(io.BytesIO(trained.files["model.joblib"]))
        columns, left = datasets[1].columns, (datasets[1].labels == "oui").astype(float)
        p = model.predict_proba(columns.frame())[:, 1]
        for name, found in _inside_of_joint_tilts(trained.manifest, columns, p, left, draws=50, size=5000).items():
            inside[name] += found
    assert {name: np.mean(found) for name, found in inside.items() if np.mean(found) < 0.93} == {}


def _inside_of_joint_tilts(manifest, columns, p, y, draws, size):
    """Per metric, whether each realised one was within its band."""
    rng = np.random.default_rng(5)
    scaled = [np.nan_to_num((v - np.nanmean(v)) / np.nanstd(v)) for v in (*columns.numeric.T, *columns.codes.T)]
    inside = {name: [] for name in METRICS}
    for _ in range(draws):
        chosen = rng.choice(len(scaled), rng.integers(2, 6), replace=False)
        weight = np.exp(sum(rng.uniform(-1.0, 1.0) * scaled[i] for i in chosen))
        drawn = rng.choice(len(p), size, p=weight / weight.sum())
        realised = metrics(y[drawn], p[drawn], manifest.threshold)
        for name, one in estimate(p[drawn], manifest.threshold, manifest.calibration, drawn).items():
            inside[name].append(one.low <= realised[name][0] <= one.high)
    return inside


def test_it_cannot_see_that_the_same_customers_behave_differently(held_out):
    """Of those on a monthly contract who would have left, most stay: the inputs, and so the estimate, are the same."""
    manifest, columns, p, y = held_out
    monthly = np.array(columns.values[columns.layout.names.index("contract")]) == "Month-to-month"
    stay = monthly & (np.random.default_rng(3).random(len(y)) < 0.7)
    changed = np.where(stay, 0.0, y)

    found = estimate(p, manifest.threshold, manifest.calibration)["precision"]

    assert found.low <= metrics(y, p, manifest.threshold)["precision"][0] <= found.high
    assert metrics(changed, p, manifest.threshold)["precision"][0] < found.low - 0.2
