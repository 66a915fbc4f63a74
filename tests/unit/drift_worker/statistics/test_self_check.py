"""How far statistics stray on a reference: simulated when a bundle is made, heeded when windows are tested."""

import numpy as np
import pytest
from scipy import stats

from drift_worker.counts.bins import Cells
from drift_worker.settings import DriftSettings
from drift_worker.statistics import psi, self_check
from drift_worker.statistics.baseline import Columns
from drift_worker.statistics.catalogue import EXACT, TESTS
from drift_worker.statistics.measure import Measurer
from schemas.bundle.inputs import Feature
from schemas.bundle.manifest import Inflation, SelfCheck
from schemas.reference import Reference

AMOUNT = Feature(name="amount", kind="numeric")
CITIES = tuple(f"city-{i:02}" for i in range(40))
CITY = Feature(name="city", kind="categorical", categories=CITIES)


def _reference(rows=800):
    """Half of the amounts are 0, a twentieth is missing; three cities hold nearly everybody."""
    draw = np.random.default_rng(7)
    amount = np.where(draw.random(rows) < 0.5, 0.0, draw.lognormal(3.0, 1.0, rows))
    amount[draw.random(rows) < 0.05] = np.nan
    shares = np.array([0.5, 0.3, 0.163, *[0.001] * 37])
    codes = draw.choice(40, rows, p=shares).astype(np.int32)
    return Reference(amount[:, None], codes[:, None], draw.random(rows), np.zeros(1, dtype=np.int64))


@pytest.fixture(scope="module", autouse=True)
def all_references():
    """As many as in production: other tests draw fewer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_check, "REFERENCES", 40)
        yield


@pytest.fixture(scope="module")
def checked():
    """What is found on that reference."""
    return self_check.self_check([AMOUNT, CITY], _reference(), 42)


def test_every_statistic_that_is_tested_is_checked(checked):
    """PSI and KS of numbers, χ² of categories, from 2,000 windows of each size: each test that is not exact."""
    assert checked.windows == 2000
    simulated = {kind: set(tests) - EXACT for kind, tests in TESTS.items()}
    assert {name: set(found) for name, found in checked.features.items()} == {
        "amount": simulated["numeric"],
        "city": simulated["categorical"],
    }
    assert set(checked.score) == simulated["score"] == {"psi", "ks"}


def test_statistics_of_this_project_need_no_correction(checked):
    """Atoms, missing values and rare categories: no λ is above 1.1, and the score's is near 1."""
    found = [*checked.features["amount"].values(), *checked.features["city"].values(), *checked.score.values()]
    assert all(one.lower <= one.ratio <= 1.1 for one in found)
    assert all(one.ratio >= 0.9 for one in checked.score.values())


def test_a_statistic_that_alarms_too_often_is_found(monkeypatch):
    """PSI that comes out a third too large on this reference."""
    correct = psi.psis
    monkeypatch.setattr(psi, "psis", lambda reference, windows: correct(reference, windows) * 4 / 3)
    eager = self_check.self_check([AMOUNT, CITY], _reference(), 42).features["amount"]["psi"]
    assert 1.1 < eager.lower < eager.ratio == eager.divisor


def test_features_with_too_few_values_for_any_window_are_found():
    """Missing values do not count; the measurer gives up on exactly these features."""
    full, few = _reference(800), _reference(300)
    assert self_check.unwatched([AMOUNT, CITY], full) == {}
    gaps = Reference(np.where(np.arange(800)[:, None] < 600, np.nan, 1.0), full.codes, full.score, full.singletons)
    assert self_check.unwatched([AMOUNT, CITY], gaps) == {"amount": 200}
    assert self_check.unwatched([AMOUNT, CITY], gaps, 200) == {}
    assert set(self_check.unwatched([AMOUNT, CITY], few)) == {"amount", "city"}

    cells = Cells([AMOUNT, CITY], (CITIES,), gaps)
    window = {
        series: column.vector
        for series, column in enumerate(Columns(Cells([AMOUNT, CITY], (CITIES,), full), full).features)
    }
    window[0] = Columns(cells, gaps).features[0].vector * 5
    measured = Measurer(cells, gaps, self_check.MIN_EVENTS).features(window)
    assert {name for name, one in measured.items() if one.reason == "reference_too_small"} == {"amount"}


def test_the_default_is_the_drift_workers():
    """DRIFT_MIN_EVENTS where it is not set."""
    assert DriftSettings.model_fields["drift_min_events"].default == self_check.MIN_EVENTS


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({}, None),
        (
            {"a": 60, "b": 60},
            "drift of no feature can be watched: the reference has 60 rows, and DRIFT_MIN_EVENTS requires 500 values",
        ),
        (
            {"b": 0},
            "drift of 1 of 2 features cannot be watched: b (0 values), and DRIFT_MIN_EVENTS requires 500 values",
        ),
    ],
)
def test_what_cannot_be_watched_is_one_sentence_with_what_would_help(found, sentence):
    """All of it, a part, or nothing."""
    text = self_check.unwatched_sentence(found, 2, 60)
    assert (text is None) == (sentence is None)
    if text is not None:
        assert text.startswith(f"{sentence}; more customers in the reference help")


def test_the_same_reference_and_seed_give_the_same_answer(checked):
    """A bundle's bytes must not depend on when it was made."""
    assert self_check.self_check([AMOUNT, CITY], _reference(), 42) == checked


def test_what_cannot_be_tested_is_left_out():
    """A column without values, and one with a single category."""
    lonely = Feature(name="country", kind="categorical", categories=("FR",))
    reference = Reference(
        np.full((300, 1), np.nan), np.zeros((300, 1), np.int32), np.linspace(0, 1, 300), np.zeros(1, np.int64)
    )
    found = self_check.self_check([AMOUNT, lonely], reference, 1)
    assert found.features == {"amount": {}, "country": {}}
    assert set(found.score) == {"psi", "ks"}


def test_the_simulated_statistics_are_those_of_scipy():
    """One R* and three windows with ties and missing values, drawn as numbers of rows."""
    reference, draw = _reference(), np.random.default_rng(3)
    rows, picked = draw.integers(800, size=800), draw.integers(800, size=(3, 500))
    drawn = Reference(reference.numeric[rows], reference.codes[rows], reference.score[rows], reference.singletons)
    column = Columns(Cells([AMOUNT, CITY], [CITIES], drawn), drawn).features[0]
    ratios = dict(
        self_check._numeric(
            ["psi", "ks"],
            column,
            self_check._Ordered(reference.numeric[:, 0]),
            self_check._weights(rows[None, :], 800),
            self_check._weights(picked, 800),
        )
    )
    for window, ratio in zip(picked, ratios["ks"], strict=True):
        r, w = (reference.numeric[at, 0] for at in (rows, window))
        r, w = r[~np.isnan(r)], w[~np.isnan(w)]
        # 1.62762: the 99 % point of Kolmogorov's distribution (Smirnov 1948)
        expected = stats.ks_2samp(r, w).statistic / (1.62762 * np.sqrt(1 / len(r) + 1 / len(w)))
        assert ratio == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("lower", "divided"), [(1.05, True), (0.98, False)])
def test_a_statistic_is_divided_by_lambda_only_beyond_doubt(lower, divided):
    """λ = 1.5 with a lower bound above or below 1: the evidence changes, the distance itself never does."""
    reference = _reference()
    cells = Cells([AMOUNT, CITY], [CITIES], reference)
    one = Inflation(ratio=1.5, lower=lower, events=500)
    found = SelfCheck(windows=1, features={"amount": {"psi": one, "ks": one}, "city": {"chi2": one}})
    window = {series: column.vector for series, column in enumerate(Columns(cells, reference).features)}
    shifted = {**window, 0: np.roll(window[0], 40)}
    shifted[1] = window[1].copy()
    shifted[1][[0, 1]] = window[1][[1, 0]]
    plain = Measurer(cells, reference, 500).features(shifted)
    corrected = Measurer(cells, reference, 500, found).features(shifted)
    for name, statistics in {"amount": ("psi", "ks"), "city": ("chi2",)}.items():
        assert corrected[name].effect == plain[name].effect
        for statistic in statistics:
            assert (corrected[name].tests[statistic] > plain[name].tests[statistic]) is divided
