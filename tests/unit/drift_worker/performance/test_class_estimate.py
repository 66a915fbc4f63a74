"""Performance of several classes without labels: the estimate, its band, and what it cannot see."""

import io
from datetime import UTC, datetime

import joblib
import numpy as np
import pytest
from pydantic import ValidationError
from sklearn import metrics as sk
from support.telco_tasks import DATA, spec_text

from drift_worker.performance.class_estimate import METRICS, OF_A_CLASS, calibrated, estimate, metrics
from driftline.training.dataset import read_dataset
from driftline.training.spec import parse_spec
from driftline.training.train import _split, train
from schemas.bundle.manifest import ClassCalibration, Curve

CLASSES = ("a", "b", "c")
LINE = Curve(x=(0.0, 1.0), y=(0.0, 1.0))
TRUE = ClassCalibration(
    curves=dict.fromkeys(CLASSES, LINE),
    rows=1000,
    band=dict.fromkeys(METRICS, 0.0),
    class_band={name: dict.fromkeys(OF_A_CLASS, 0.0) for name in CLASSES},
)
SKLEARN = {
    "accuracy": lambda y, p: sk.accuracy_score(y, p.argmax(axis=1)),
    "precision_macro": lambda y, p: sk.precision_score(y, p.argmax(axis=1), average="macro", zero_division=0),
    "recall_macro": lambda y, p: sk.recall_score(y, p.argmax(axis=1), average="macro"),
    "f1_macro": lambda y, p: sk.f1_score(y, p.argmax(axis=1), average="macro"),
    "roc_auc_ovr": lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr"),
    "log_loss": sk.log_loss,
}
# What each class's own metrics are in scikit-learn.
OF_CLASS = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def _shares(n, seed):
    p = np.round(np.random.default_rng(seed).dirichlet([1.0, 2.0, 1.5], n), 2)
    return p / p.sum(axis=1, keepdims=True)


def _drawn(p, rng):
    """A class for each row, by its probabilities."""
    return (rng.random(len(p))[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)


def test_three_customers_by_hand():
    """Two are labelled a with .8 and .6, one b with .7: 2.1 of 3 are right."""
    p = np.array([[0.8, 0.1, 0.1], [0.6, 0.4, 0.0], [0.2, 0.7, 0.1]])

    found = estimate(p, CLASSES, TRUE)

    assert found.overall["accuracy"].value == pytest.approx(0.7)
    # variances of being right: .16, .24, .21
    assert found.overall["accuracy"].sampling == pytest.approx(1.959964 * 0.61**0.5 / 3, rel=1e-6)
    assert {name: round(one.value, 6) for name, one in found.classes[0].items()} == {
        "precision": 0.7,  # (.8 + .6) / 2
        "recall": 0.875,  # 1.4 / 1.6
        "f1": 0.777778,  # 2.8 / 3.6
    }
    assert found.classes[2]["precision"].value == 0.0  # none is labelled c: as scikit-learn has it
    assert found.overall["precision_macro"].value == pytest.approx((0.7 + 0.7 + 0.0) / 3)


@pytest.mark.parametrize("name", METRICS)
def test_the_estimate_is_the_mean_of_what_could_happen_and_its_band_holds_95_of_100(name):
    """Classes are drawn from the probabilities; scikit-learn gives each draw's metric."""
    rng, p = np.random.default_rng(7), _shares(800, 7)
    draws = np.array([SKLEARN[name](_drawn(p, rng), p) for _ in range(250)])

    found = estimate(p, CLASSES, TRUE).overall[name]

    assert found.value == pytest.approx(draws.mean(), abs=0.006)
    assert found.sampling == pytest.approx(1.96 * draws.std(), rel=0.15)


@pytest.mark.parametrize("name", OF_A_CLASS)
def test_so_it_is_for_each_class(name):
    """Precision, recall and F1 of each class against the rest."""
    rng, p = np.random.default_rng(8), _shares(800, 8)
    label = p.argmax(axis=1)
    draws = np.array([OF_CLASS[name](_drawn(p, rng), label, average=None) for _ in range(250)])

    found = [one[name] for one in estimate(p, CLASSES, TRUE).classes]

    assert [one.value for one in found] == pytest.approx(draws.mean(axis=0).tolist(), abs=0.006)
    assert [one.sampling for one in found] == pytest.approx((1.96 * draws.std(axis=0)).tolist(), rel=0.15)


@pytest.mark.parametrize("name", METRICS)
def test_with_outcomes_for_probabilities_it_is_the_realised_metric(name):
    """The same function at y instead of q, as scikit-learn has it."""
    p = _shares(500, 9)
    y = _drawn(p, np.random.default_rng(9))

    assert metrics(np.eye(3)[y], p).overall[name][0] == pytest.approx(SKLEARN[name](y, p), abs=1e-12)


def test_a_class_that_nobody_has_and_nothing_predicts_is_no_part_of_a_mean():
    """As in scikit-learn: the mean is over classes that occur. ROC AUC is then not defined."""
    p = _shares(200, 11) * [1.0, 1.0, 0.01]
    y = np.arange(200) % 2
    found = metrics(np.eye(3)[y], p / p.sum(axis=1, keepdims=True))

    for name in ("precision_macro", "recall_macro", "f1_macro"):
        assert found.overall[name][0] == pytest.approx(SKLEARN[name](y, p), abs=1e-12)
    assert found.overall["roc_auc_ovr"] is None


def test_a_customer_who_comes_four_times_is_one_draw():
    """Four copies of each row hold no more information than one."""
    p = _shares(300, 10)
    once, copies = estimate(p, CLASSES, TRUE), np.repeat(np.arange(300), 4)
    four = estimate(np.repeat(p, 4, axis=0), CLASSES, TRUE, copies)

    for name in ("accuracy", "precision_macro", "recall_macro", "f1_macro", "log_loss"):
        assert four.overall[name].sampling == pytest.approx(once.overall[name].sampling)


def test_calibrated_probabilities_are_a_distribution():
    """Also where every curve is 0: the row then keeps its own."""
    p = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    low = ((0.0, 0.9, 1.0), (0.0, 0.0, 1.0))

    found = calibrated(p, [low, low, low])

    assert found.tolist() == [[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]
    assert calibrated(p, [((0.0, 1.0), (0.2, 1.0))] * 3).sum(axis=1) == pytest.approx([1.0, 1.0])


def test_what_is_not_known_is_none():
    """A metric without a stated band; and the loss may exceed 1."""
    bare = ClassCalibration(curves=dict.fromkeys(CLASSES, LINE), rows=9, band={"log_loss": 0.5}, class_band={})
    found = estimate(np.array([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3]]), CLASSES, bare)
    assert [name for name, one in found.overall.items() if one is not None] == ["log_loss"]
    assert found.overall["log_loss"].high > 1.5
    assert {one for each in found.classes for one in each.values()} == {None}


@pytest.mark.parametrize("changes", [{"x": (0.1, 0.1)}, {"y": (0.9, 0.1)}, {"y": (0.1,)}, {"x": (), "y": ()}])
def test_a_curve_that_does_not_rise_is_refused(changes):
    """A manifest with it is not served."""
    with pytest.raises(ValidationError):
        Curve(**{"x": (0.1, 0.9), "y": (0.0, 0.8), **changes})


@pytest.fixture(
    scope="module",
    params=[
        ("payment_method", "logistic_regression"),
        ("payment_method", "hist_gradient_boosting"),
        ("payment_method", "random_forest"),
        ("contract", "logistic_regression"),
        ("contract", "hist_gradient_boosting"),
    ],
    ids="-".join,
)
def held_out(request, pytestconfig):
    """A model of real customers, and those that neither it nor its calibration has seen: manifest, columns, p, y."""
    target, kind = request.param
    if not pytestconfig.getoption("--long") and kind != "logistic_regression":
        pytest.skip("--long")
    text = spec_text("multiclass").replace('target = "payment_method"', f'target = "{target}"')
    if target == "contract":
        head, _, rest = text.partition("[features.contract]")
        text = head + '[features.payment_method]\nkind = "categorical"\n\n[' + rest.partition("[")[2]
    spec = parse_spec(text)
    spec = spec.model_copy(update={"estimator": spec.estimator.model_copy(update={"kind": kind})})
    dataset = read_dataset(DATA, spec)
    trained = train(spec, dataset, datetime(2026, 1, 1, tzinfo=UTC))
    _, rows = _split(dataset.labels, spec.training.test_size, spec.training.seed)
    columns = dataset.columns.take(rows)
    p = joblib.load(io.BytesIO(trained.files["model.joblib"])).predict_proba(columns.frame())
    return trained.manifest, columns, p, np.searchsorted(trained.manifest.classes, dataset.labels[rows])


def test_when_several_inputs_drift_together_the_realised_metric_is_within_the_band(held_out, long):
    """As a new group of customers makes them: two to five features are tilted at once."""
    manifest, columns, p, y = held_out
    rng = np.random.default_rng(5)
    scaled = [np.nan_to_num((v - np.nanmean(v)) / np.nanstd(v)) for v in (*columns.numeric.T, *columns.codes.T)]
    inside: dict[str, list[bool]] = {}
    for _ in range(500 if long else 100):
        chosen = rng.choice(len(scaled), rng.integers(2, 6), replace=False)
        weight = np.exp(sum(rng.uniform(-1.0, 1.0) * scaled[i] for i in chosen))
        drawn = rng.choice(len(p), len(p), p=weight / weight.sum())
        realised = metrics(np.eye(len(manifest.classes))[y[drawn]], p[drawn])
        found = estimate(p[drawn], manifest.classes, manifest.class_calibration, drawn)
        pairs = [(name, one, realised.overall[name][0]) for name, one in found.overall.items()]
        for k, of_class in enumerate(found.classes):
            pairs += [(f"{name} {k}", one, realised.classes[k][name][0]) for name, one in of_class.items()]
        for name, one, value in pairs:
            inside.setdefault(name, []).append(one.low <= value <= one.high)

    shares = {name: float(np.mean(found)) for name, found in inside.items()}
    print(shares)  # noqa: T201
    assert len(shares) == len(METRICS) + 3 * len(manifest.classes)
    assert {name: share for name, share in shares.items() if share < 0.93} == {}
    assert max(manifest.class_calibration.band.values()) < 0.05


def test_it_cannot_see_that_the_same_customers_behave_differently(held_out):
    """Six of ten customers have another class than before: the probabilities, and so the estimate, are the same."""
    manifest, _, p, y = held_out
    draw = np.random.default_rng(3)
    changed = np.where(draw.random(len(y)) < 0.6, draw.integers(0, len(manifest.classes), len(y)), y)

    found = estimate(p, manifest.classes, manifest.class_calibration).overall["accuracy"]

    assert found.low <= np.mean(p.argmax(axis=1) == y) <= found.high
    assert np.mean(p.argmax(axis=1) == changed) < found.low - 0.02
