"""Windows of counts measured against a reference: repeats, gaps, broken data and too little data."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.statistics.feature_table import Subjects
from drift_worker.statistics.measure import Measurer
from schemas.bundle.inputs import Feature
from schemas.measurement import FeatureMeasurement
from schemas.reference import Reference

FEATURES = (
    Feature(name="amount", kind="numeric", nullable=True),
    Feature(name="plan", kind="categorical", categories=("a", "b", "c"), nullable=True),
    Feature(name="senior", kind="boolean"),
)
CATEGORIES = (("a", "b", "c"), ("false", "true"))
HASH = aggregate.CustomerHash("00" * 32)


def _law(draw, n):
    amount = draw.gamma(4.0, 10.0, n)
    codes = np.column_stack([draw.choice(3, n, p=[0.6, 0.3, 0.1]), draw.choice(2, n, p=[0.8, 0.2])]).astype(np.int32)
    return amount[:, None], codes, np.clip(amount / 120, 0, 1)


REFERENCE = Reference(*_law(np.random.default_rng(1), 5000), np.zeros(2, dtype=np.int64))
CELLS = Cells(FEATURES, CATEGORIES, REFERENCE)
MEASURER = Measurer(CELLS, REFERENCE, min_events=500)


def _window(numeric, codes, scores, customers):
    panes, hashes = np.zeros(len(numeric), dtype=np.int64), HASH(customers)
    window = {}
    for _, series, part in (
        *aggregate.count_events(CELLS, panes, numeric, codes, hashes),
        *aggregate.count_scores(CELLS, panes, scores, scores >= 0.5, hashes),
    ):
        window[series] = np.zeros(aggregate.size_of(CELLS, series), dtype=np.int64)
        part.add_to(window[series])
    return window


def _events(m, seed=2):
    numeric, codes, scores = _law(np.random.default_rng(seed), m)
    return numeric, codes, scores, [f"c{i}" for i in range(m)]


def test_a_quiet_window_has_numbers_and_no_effect():
    """1,500 independent events of the same law count as about 1,500, and nothing moved."""
    measured = MEASURER.features(_window(*_events(1500)))
    assert list(measured) == ["amount", "plan", "senior"]
    assert [f.kind for f in measured.values()] == ["numeric", "categorical", "boolean"]
    for feature in measured.values():
        assert feature.events == 1500
        assert 1400 <= feature.effective <= 1500
        assert feature.effect < 0.06
        assert feature.log10_p > -3
        assert feature.reason is None
        assert feature.quality is None


def test_a_shift_of_half_a_standard_deviation_is_seen():
    """KS, PSI and the score that moved with it; the evidence is overwhelming."""
    numeric, codes, scores, customers = _events(3000)
    amount = MEASURER.features(_window(numeric + 10.0, codes, scores, customers))["amount"]
    assert 0.15 < amount.ks < 0.25
    assert amount.psi_corrected > 0.15
    assert amount.psi == pytest.approx(amount.psi_corrected + 9 * (1 / 5000 + 1 / amount.effective), abs=1e-9)
    assert amount.log10_p < -20
    assert amount.score_shift > 0.05
    assert amount.bins.edges == sorted(amount.bins.edges)
    assert sum(amount.bins.window) == pytest.approx(1.0, abs=1e-4)


def test_identical_repeats_count_once():
    """600 customers × 5 identical events are about 600 events, not 3,000."""
    numeric, codes, scores, customers = _events(600)
    window = _window(*(np.repeat(x, 5, axis=0) for x in (numeric, codes, scores)), list(np.repeat(customers, 5)))
    for feature in MEASURER.features(window).values():
        assert 480 <= (feature.effective or 600) <= 950
    assert MEASURER.score(window).events == 3000


def test_independent_repeats_count_nearly_in_full():
    """600 customers × 5 events of their own each: Kish alone would leave 600."""
    numeric, codes, scores, _ = _events(3000)
    window = _window(numeric, codes, scores, [f"c{i % 600}" for i in range(3000)])
    assert MEASURER.features(window)["amount"].effective > 2000


def test_one_customer_with_many_events_is_no_drift():
    """A fifth of the window is one customer with one amount: the effect without that customer counts."""
    numeric, codes, scores, customers = _events(4000)
    numeric[:800], customers[:800] = 200.0, ["the one"] * 800
    with_many = MEASURER.features(_window(numeric, codes, scores, customers))["amount"]
    scattered = MEASURER.features(_window(numeric, codes, scores, _events(4000)[3]))["amount"]
    assert scattered.psi_corrected > 0.2
    assert scattered.log10_p < -50
    assert with_many.psi_corrected < 0.05
    assert with_many.log10_p > -4


def test_too_little_data_is_no_number():
    """499 events of 500: null with a reason, never 0; the sizes are known all the same."""
    amount = MEASURER.features(_window(*_events(499)))["amount"]
    assert (amount.reason, amount.events, amount.reference) == ("not_enough_data", 499, 5000)
    for name in ("psi", "psi_textbook", "psi_corrected", "ks", "log10_p", "effect"):
        assert getattr(amount, name) is None
    assert amount.tests == {}
    assert MEASURER.features({})["plan"].reason == "not_enough_data"
    assert MEASURER.score({}).reason == "not_enough_data"


def _stream(sizes, measurer, past_of):
    """Measure and learn windows of these sizes; the first large ones shift, so that one of them waits."""
    pasts = past_of(measurer.past_of_features), past_of(measurer.past_of_score)
    found = []
    for at, m in enumerate(sizes):
        numeric, codes, scores, customers = _events(m, seed=20 + at)
        window = _window(numeric + 3.0 * (at % 3), codes, scores, customers) if m else {}
        found.append((measurer.features(window, past=pasts[0]), measurer.score(window, past=pasts[1])))
        if pasts[0] is not None:
            stirring = {"amount"} if at % 5 == 4 else set()
            measurer.learn_features(pasts[0], stirring)
            measurer.learn_score(pasts[1], stirring)
            found.append((pasts[0].vector.tolist(), pasts[1].vector.tolist()))
    return found


@pytest.mark.parametrize("past_of", [lambda made: made(3_600_000), lambda _: None], ids=["past", "no past"])
def test_a_window_with_too_few_events_costs_no_statistics_and_says_the_same(monkeypatch, past_of):
    """Large and small windows in turn, as computed and as passed over: equal numbers, and an equal calm past."""
    sizes = [700, 900, 3, 800, 0, 499, 500, 650, 1, 2, 900, 800]
    passed_over = _stream(sizes, MEASURER, past_of)
    with monkeypatch.context() as patch:
        patch.setattr(Subjects, "sizes", lambda *_: [(1 << 40, 0)])
        computed = _stream(sizes, MEASURER, past_of)
    assert passed_over == computed
    monkeypatch.setattr(Subjects, "tables", lambda *_: pytest.fail("a small window needs no tables"))
    _stream([3, 0, 499], MEASURER, past_of)


def test_a_reference_that_is_too_small_says_so():
    """100 reference rows where 500 are required."""
    small = Reference(REFERENCE.numeric[:100], REFERENCE.codes[:100], REFERENCE.score[:100], REFERENCE.singletons)
    cells = Cells(FEATURES, CATEGORIES, small)
    window = {s: np.zeros(aggregate.size_of(cells, s), dtype=np.int64) for s in (0, 1, 2)}
    window[0][0] = window[0][cells.features[0].groups_at] = 900
    assert Measurer(cells, small, 500).features(window)["amount"].reason == "reference_too_small"


def test_all_missing_is_named():
    """Every amount is null: no distribution, a quality finding, and overwhelming evidence for the rate."""
    numeric, codes, scores, customers = _events(1000)
    numeric[:] = np.nan
    amount = MEASURER.features(_window(numeric, codes, scores, customers))["amount"]
    assert (amount.reason, amount.quality, amount.events) == ("all_missing", "all_missing", 0)
    assert amount.missing_ratio == 1.0
    assert amount.tests["missing"] < -300


def test_a_tenth_missing_is_evidence_and_the_rest_is_still_measured():
    """Missing values are no part of the distribution."""
    numeric, codes, scores, customers = _events(1500)
    numeric[::10] = np.nan
    amount = MEASURER.features(_window(numeric, codes, scores, customers))["amount"]
    assert amount.missing_ratio == pytest.approx(0.1)
    assert amount.tests["missing"] < -30
    assert amount.ks < 0.05


def test_missing_values_of_one_customer_are_no_evidence():
    """Two customers are at most two groups: a habit, not a rate."""
    numeric, codes, scores, customers = _events(1500)
    numeric[:200] = np.nan
    customers[:200] = ["a", "b"] * 100
    assert "missing" not in MEASURER.features(_window(numeric, codes, scores, customers))["amount"].tests


def test_two_percent_unseen_categories_are_evidence():
    """The spec lists the categories, so none is expected."""
    numeric, codes, scores, customers = _events(1500)
    codes[::50, 0] = -2
    plan = MEASURER.features(_window(numeric, codes, scores, customers))["plan"]
    assert plan.unseen_ratio == pytest.approx(0.02)
    assert plan.tests["unseen"] < -5
    assert plan.effect < 0.05, "they have a test of their own and are no drift besides"
    assert MEASURER.features(_window(numeric, codes, scores, customers))["senior"].unseen_ratio is None


def test_unseen_categories_are_expected_where_categories_were_learnt():
    """250 of 5,000 reference rows were alone in their category: 5 % unseen is what such a window holds."""
    learnt = Reference(REFERENCE.numeric, REFERENCE.codes, REFERENCE.score, np.array([250, 0]))
    numeric, codes, scores, customers = _events(1500)
    codes[::20, 0] = -2
    plan = Measurer(CELLS, learnt, 500).features(_window(numeric, codes, scores, customers))["plan"]
    assert plan.reference_unseen_ratio == 0.05
    assert plan.tests["unseen"] > -1


@pytest.mark.parametrize(
    ("change", "quality", "detail"),
    [
        (lambda x: x * 0 + 40.0, "constant", None),
        (lambda x: x * 0, "constant", None),
        (lambda x: x * 100, "unit_jump", "×100"),
        (lambda x: x / 60, "unit_jump", "÷60"),
        (lambda x: x * 2, None, None),
        (lambda x: x + 100, None, None),
    ],
)
def test_broken_data_is_told_from_drift(change, quality, detail):
    """A constant (also one between anchors, also zero), euros that became cents, minutes that became hours."""
    numeric, codes, scores, customers = _events(1500)
    amount = MEASURER.features(_window(change(numeric), codes, scores, customers))["amount"]
    assert (amount.quality, amount.quality_detail) == (quality, detail)


def test_the_score_has_its_mean_and_its_positives():
    """Exact from fixed-point sums."""
    numeric, codes, _, customers = _events(1000)
    scores = np.where(np.arange(1000) < 250, 0.75, 0.25)
    score = MEASURER.score(_window(numeric, codes, scores, customers))
    assert score.mean == pytest.approx(0.375, abs=1e-9)
    assert score.positive_ratio == 0.25
    assert score.reference_mean == pytest.approx(float(REFERENCE.score.mean()), abs=1e-9)
    assert score.kind == "score"


def test_the_value_of_a_regression_is_measured_like_a_score():
    """PSI and KS of values far from 0 to 1, negative ones included, with their mean and no share of positives."""
    draw = np.random.default_rng(5)
    customers = [f"c{i}" for i in range(4000)]
    reference = replace(REFERENCE, score=draw.normal(-400.0, 80.0, REFERENCE.rows))
    cells = Cells(FEATURES, CATEGORIES, reference, "regression")
    measurer = Measurer(cells, reference, min_events=500)
    for values, drifts in ((draw.normal(-400.0, 80.0, 4000), False), (draw.normal(-340.0, 80.0, 4000), True)):
        window = {}
        for _, series, part in aggregate.count_scores(
            cells, np.zeros(4000, dtype=np.int64), values, np.zeros(4000, dtype=np.bool_), HASH(customers)
        ):
            window[series] = np.zeros(aggregate.size_of(cells, series), dtype=np.int64)
            part.add_to(window[series])
        score = measurer.score(window)
        assert score.ks == pytest.approx(ks_2samp(reference.score, values).statistic, abs=1e-12)
        assert score.mean == pytest.approx(values.mean(), abs=1e-6)
        assert score.reference_mean == pytest.approx(reference.score.mean(), abs=1e-6)
        assert score.positive_ratio is None
        assert (score.effect > 0.2, score.log10_p < -6) == (drifts, drifts)


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_without_drift_small_p_values_are_rare(repeats):
    """P(p < 0.01) over 150 windows of identical repeats stays below 4 % for every test."""
    small = {"psi": 0, "ks": 0, "chi2": 0}
    for seed in range(150):
        numeric, codes, scores, customers = _events(800, seed + 10)
        window = _window(
            *(np.repeat(x, repeats, axis=0) for x in (numeric, codes, scores)), list(np.repeat(customers, repeats))
        )
        measured = MEASURER.features(window)
        for test, feature in (("psi", "amount"), ("ks", "amount"), ("chi2", "plan")):
            small[test] += measured[feature].tests.get(test, 0.0) < -2
    assert max(small.values()) <= 6
    assert isinstance(measured["amount"], FeatureMeasurement)


# --- several classes ------------------------------------------------------------------------------------------------

CLASS_CELLS = Cells(FEATURES, CATEGORIES, REFERENCE, "multiclass", ("bronze", "gold", "silver"))


def _predictions(m, shares, seed):
    draw = np.random.default_rng(seed)
    return draw.beta(5.0, 2.0, m), draw.choice(3, m, p=shares).astype(np.int32)


def _classes_measured(shares, m=3000, seed=8):
    score, predicted = _predictions(5000, [0.5, 0.3, 0.2], 7)
    reference = replace(REFERENCE, score=score, predicted=predicted)
    cells = Cells(FEATURES, CATEGORIES, reference, "multiclass", ("bronze", "gold", "silver"))
    measurer = Measurer(cells, reference, min_events=500)
    score, predicted = _predictions(m, shares, seed)
    hashes, window = HASH([f"c{i}" for i in range(m)]), {}
    parts = aggregate.count_scores(
        cells, np.zeros(m, dtype=np.int64), score, np.zeros(m, dtype=np.bool_), hashes, predicted
    )
    for _, series, part in parts:
        aggregate.check_part(cells, series, part, m)
        window[series] = np.zeros(aggregate.size_of(cells, series), dtype=np.int64)
        part.add_to(window[series])
    return measurer, measurer.score(window), np.bincount(predicted, minlength=3) / m


def test_predicted_classes_that_move_are_drift_of_the_score():
    """The largest probability stays as it was; χ² and the largest share that moved show the classes."""
    _, calm, _ = _classes_measured([0.5, 0.3, 0.2])
    measurer, moved, shares = _classes_measured([0.25, 0.3, 0.45])
    before = np.bincount(_predictions(5000, [0.5, 0.3, 0.2], 7)[1], minlength=3) / 5000
    assert moved.linf == pytest.approx(np.abs(shares - before).max(), abs=1e-9)
    assert (calm.kind, moved.effect, moved.log10_p) == ("score", moved.linf, moved.tests["chi2"])
    assert moved.tests["chi2"] < -50 < -3 < calm.tests["chi2"]
    assert moved.ks < 0.05
    assert calm.effect < 0.05
    assert moved.positive_ratio is None
    assert set(moved.tests) >= {"psi", "ks", "chi2"}
    assert measurer.tests == MEASURER.tests + 1


def test_a_window_of_too_few_predictions_has_no_classes_either():
    """Nothing is merged where nothing is known."""
    _, few, _ = _classes_measured([0.1, 0.1, 0.8], m=400)
    assert (few.reason, few.linf, few.tests) == ("not_enough_data", None, {})


def test_series_of_classes_belong_to_such_models_alone():
    """A forged part of a class is refused where the reference has none."""
    with pytest.raises(IndexError):
        aggregate.size_of(CELLS, aggregate.PREDICTED)
    assert aggregate.size_of(CLASS_CELLS, aggregate.PREDICTED) == 5 * 65
