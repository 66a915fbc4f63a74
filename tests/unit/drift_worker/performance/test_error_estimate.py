"""The error of a regression without labels: the estimate, its band, and what it cannot see."""

import io
import itertools
from datetime import UTC, datetime

import joblib
import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.model_selection import train_test_split
from support.telco_tasks import DATA, spec_text

from drift_worker.performance.error_estimate import estimate
from driftline.training.dataset import read_dataset
from driftline.training.spec import parse_spec
from driftline.training.train import train
from schemas.bundle.manifest import ErrorCurve

CURVE = ErrorCurve(x=(0.0, 100.0), y=(1.0, 5.0), spread=(0.5, 2.0), rows=1000, band=0.0)


def test_three_values_by_hand():
    """Sizes of 1, 3 and 5 are expected, with deviations of .5, 1.25 and 2."""
    found = estimate(np.array([0.0, 50.0, 200.0]), CURVE)["mae"]

    assert found.value == pytest.approx(3.0)
    assert found.sampling == pytest.approx(1.959964 * (0.25 + 1.5625 + 4.0) ** 0.5 / 3, rel=1e-6)
    assert (found.low, found.high) == (found.value - found.sampling, found.value + found.sampling)


def test_the_estimate_is_the_mean_of_what_could_happen_and_its_band_holds_95_of_100():
    """Sizes of errors are drawn with the curve's mean and deviation."""
    rng = np.random.default_rng(7)
    value = rng.uniform(0.0, 100.0, 600)
    mean, spread = np.interp(value, CURVE.x, CURVE.y), np.interp(value, CURVE.x, CURVE.spread)
    draws = np.array([rng.gamma((mean / spread) ** 2, spread**2 / mean).mean() for _ in range(400)])

    found = estimate(value, CURVE)["mae"]

    assert found.value == pytest.approx(draws.mean(), rel=0.005)
    assert found.sampling == pytest.approx(1.96 * draws.std(), rel=0.1)


def test_a_customer_who_comes_four_times_is_one_draw():
    """Four copies of each value hold no more information than one; the other half is a share of the estimate."""
    value = np.random.default_rng(9).uniform(0.0, 100.0, 300)
    curve = CURVE.model_copy(update={"band": 0.1})
    once, four = estimate(value, curve), estimate(np.repeat(value, 4), curve, np.repeat(np.arange(300), 4))

    assert four["mae"].sampling == pytest.approx(once["mae"].sampling)
    assert four["mae"].calibration == pytest.approx(0.1 * four["mae"].value)


@pytest.mark.parametrize("changes", [{"x": (1.0, 1.0)}, {"y": (1.0,)}, {"y": (-1.0, 1.0)}, {"x": (), "y": ()}])
def test_what_is_no_curve_is_refused(changes):
    """A manifest with it is not served."""
    good = {"x": (0.0, 1.0), "y": (1.0, 1.0), "spread": (0.0, 0.0), "rows": 10, "band": 0.0}
    with pytest.raises(ValidationError):
        ErrorCurve(**{**good, **changes})


FEW = ("tenure", "internet_service", "streaming_tv")


@pytest.fixture(
    scope="module",
    params=list(itertools.product(("all", "few"), ("ridge", "hist_gradient_boosting", "random_forest"))),
    ids="-".join,
)
def held_out(request, pytestconfig):
    """A model of real customers' charges, and customers it has not seen: manifest, columns, values, outcomes.

    few: three features, so that much is left unexplained.
    """
    which, kind = request.param
    if not pytestconfig.getoption("--long") and request.param not in {
        ("all", "ridge"),
        ("few", "hist_gradient_boosting"),
    }:
        pytest.skip("--long")
    spec = parse_spec(spec_text("regression"))
    spec = spec.model_copy(update={"estimator": spec.estimator.model_copy(update={"kind": kind})})
    if which == "few":
        spec = spec.model_copy(update={"features": {name: spec.features[name] for name in FEW}})
    dataset = read_dataset(DATA, spec)
    trained = train(spec, dataset, datetime(2026, 1, 1, tzinfo=UTC))
    _, rows = train_test_split(np.arange(dataset.rows), test_size=spec.training.test_size, random_state=42)
    columns = dataset.columns.take(np.sort(rows))
    value = joblib.load(io.BytesIO(trained.files["model.joblib"])).predict(columns.frame())
    return trained.manifest, columns, value, dataset.labels[np.sort(rows)].astype(float)


def test_when_several_inputs_drift_together_the_realised_error_is_within_the_band(held_out, long):
    """As a new group of customers makes them: two to five features are tilted at once."""
    manifest, columns, value, y = held_out
    rng = np.random.default_rng(5)
    scaled = [np.nan_to_num((v - np.nanmean(v)) / np.nanstd(v)) for v in (*columns.numeric.T, *columns.codes.T)]
    inside = []
    for _ in range(500 if long else 100):
        chosen = rng.choice(len(scaled), rng.integers(2, min(6, len(scaled) + 1)), replace=False)
        weight = np.exp(sum(rng.uniform(-1.0, 1.0) * scaled[i] for i in chosen))
        drawn = rng.choice(len(value), len(value), p=weight / weight.sum())
        found = estimate(value[drawn], manifest.error_curve, drawn)["mae"]
        inside.append(found.low <= np.abs(y - value)[drawn].mean() <= found.high)

    print(np.mean(inside), manifest.error_curve.band)  # noqa: T201
    assert np.mean(inside) >= 0.93
    # a band that says nothing would hold, too; an alert needs a quarter more error
    assert manifest.error_curve.band < 0.2


def test_it_cannot_see_that_the_same_customers_behave_differently(held_out):
    """A price is raised by a fifth: the values, and so the estimate, are the same."""
    manifest, _, value, y = held_out
    found = estimate(value, manifest.error_curve)["mae"]

    assert found.low <= np.abs(y - value).mean() <= found.high
    assert np.abs(1.2 * y - value).mean() > found.high
