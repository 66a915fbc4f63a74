"""The same hours of past weeks: what is kept, what a window is compared with, and what follows for decisions."""

import numpy as np
import pytest
from msgspec.structs import replace

from drift_worker.alerting.confirmation import Action, State, Tracker
from drift_worker.alerting.episodes import Announcer
from drift_worker.alerting.findings import Finding, Grade, judge
from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.alerting.reference_fit import Fit, Standing
from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.counts.wire_format import pack
from drift_worker.statistics import psi
from drift_worker.statistics.measure import Measurer
from drift_worker.statistics.seasonal_baseline import HOUR_MS, WEEK_MS, Season, kept, pieces
from schemas.alert import AlertName
from schemas.bundle.inputs import Feature
from schemas.measurement import Measurement, Sample, Window
from schemas.reference import Reference

FEATURES = (Feature(name="amount", kind="numeric"), Feature(name="plan", kind="categorical", categories=("a", "b")))
LENGTHS = {"15m": HOUR_MS // 4, "1h": HOUR_MS, "24h": 24 * HOUR_MS}
CONFIRM = {"15m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)}
WEEK = Policy(LENGTHS, CONFIRM, baseline="week")
MONDAY_MS = 1_795_996_800_000  # 2026-11-30T00:00:00Z
SERIES = [0, 1, aggregate.SCORE]


def _law(draw, n, moved=0.0):
    amount = draw.normal(moved, 1.0, n)
    return amount[:, None], (draw.random((n, 1)) < 0.5).astype(np.int32), 1 / (1 + np.exp(-amount))


REFERENCE = Reference(*_law(np.random.default_rng(1), 4000), np.zeros(1, dtype=np.int64))
CELLS = Cells(FEATURES, (("a", "b"),), REFERENCE)
MEASURER = Measurer(CELLS, REFERENCE, min_events=300)


def _counted(numeric, codes, scores, hashes):
    panes, vectors = np.zeros(len(hashes), dtype=np.int64), {}
    for _, series, part in (
        *aggregate.count_events(CELLS, panes, numeric, codes, hashes),
        *aggregate.count_scores(CELLS, panes, scores, scores >= 0.5, hashes),
    ):
        vectors[series] = np.zeros(aggregate.size_of(CELLS, series), dtype=np.int64)
        part.add_to(vectors[series])
    return vectors


def _hour(customers=400, repeats=1, seed=5, moved=0.0):
    """Customers with this number of identical events each."""
    draw = np.random.default_rng(seed)
    rows = [np.repeat(x, repeats, axis=0) for x in _law(draw, customers, moved)]
    return _counted(*rows, np.repeat(draw.integers(0, 1 << 63, customers).astype(np.uint64) * np.uint64(2), repeats))


def _keep(season, start_ms, vectors):
    for series, packed in pieces(CELLS, vectors, sorted(vectors)):
        season.keep(series, start_ms, packed)


def _season(*starts, min_events=300, **options):
    season = Season(CELLS, MEASURER.columns, min_events)
    for start in starts:
        _keep(season, start, _hour(**options))
    return season


# -- hours ------------------------------------------------------------------------------------------------------------


def test_a_slot_is_the_sum_of_the_last_four_weeks():
    """One to four weeks back, the same hour; a fifth is too old, and neither this week nor another hour counts."""
    season = _season(*(MONDAY_MS - back * WEEK_MS for back in (5, 3, 1, 0)))
    slots = season.slots(MONDAY_MS, MONDAY_MS + LENGTHS["15m"], SERIES)
    hour = _hour()
    assert slots[0].psi_counts.tolist() == (2 * CELLS.features[0].psi_counts(hour[0])).tolist()
    assert slots[1].shown.tolist() == (2 * hour[1][:3]).tolist()
    assert slots[aggregate.SCORE].psi_counts.sum() == 800
    assert slots[aggregate.SCORE].mean == pytest.approx(_law(np.random.default_rng(5), 400)[2].mean())
    assert {slot.against for slot in slots.values()} == {"week"}
    assert season.slots(MONDAY_MS + HOUR_MS, MONDAY_MS + 2 * HOUR_MS, SERIES) == {}


def test_a_window_of_hours_needs_all_of_them():
    """Of two hours, one of which is not known of a week: half a mix is another mix."""
    season = _season(*(MONDAY_MS - back * WEEK_MS + at for back, at in ((2, 0), (2, HOUR_MS), (1, HOUR_MS))))
    slots = season.slots(MONDAY_MS, MONDAY_MS + 2 * HOUR_MS, SERIES)
    assert [int(slot.psi_counts.sum()) for slot in slots.values()] == [800, 800, 800]


def test_hours_do_not_pile_up():
    """Of an hour of the week five are held, however many weeks pass, and the oldest that counts is among them."""
    season = _season(*(MONDAY_MS + week * WEEK_MS for week in range(60)))
    assert {len(hours) for hours in season._hours.values()} == {5}
    slots = season.slots(MONDAY_MS + 60 * WEEK_MS, MONDAY_MS + 60 * WEEK_MS + HOUR_MS, SERIES)
    assert slots[0].psi_counts.sum() == 1600
    held = sum(vector.nbytes for hours in season._hours.values() for vector in hours.values())
    assert held < 5 * 50_000


def test_the_textbooks_bins_of_what_is_kept_are_those_of_the_hour():
    """So that policy classic and the pictures go on with them."""
    hour = _hour()
    (slot,) = _season(MONDAY_MS - WEEK_MS).slots(MONDAY_MS, MONDAY_MS + HOUR_MS, [0]).values()
    cells = CELLS.features[0]
    assert slot.shown.tolist() == psi.textbook_counts(cells, np.cumsum(cells.values(hour[0]))).tolist()
    assert len(kept(CELLS, 0, hour[0])) < 800


def test_customers_who_come_back_count_less_in_a_slot():
    """400 customers with five identical events each, in two weeks: about 400 independent values, not 4,000."""
    starts = MONDAY_MS - 2 * WEEK_MS, MONDAY_MS - WEEK_MS
    (slot,) = _season(*starts, repeats=5).slots(MONDAY_MS, MONDAY_MS + HOUR_MS, [0]).values()
    assert slot.psi_counts.sum() == 4000
    assert 300 <= slot.effective <= 600
    measured = MEASURER.features(_hour(1500, seed=6), {0: slot})["amount"]
    assert (measured.against, measured.reference) == ("week", int(slot.effective))
    assert measured.log10_p > -3


def test_one_customer_is_no_past_of_all_others():
    """A third of the events by one customer: a slot is made of the others; without others there is none."""
    hour = _hour(1000)
    loud = _hour(1, repeats=500, seed=9)
    (slot,) = _season(MONDAY_MS - WEEK_MS).slots(MONDAY_MS, MONDAY_MS + HOUR_MS, [0]).values()
    season = Season(CELLS, MEASURER.columns, 300)
    _keep(season, MONDAY_MS - WEEK_MS, {series: hour[series] + loud[series] for series in hour})
    (both,) = season.slots(MONDAY_MS, MONDAY_MS + HOUR_MS, [0]).values()
    assert 950 <= both.psi_counts.sum() <= 1000
    assert both.psi_counts.max() / both.psi_counts.sum() < 0.2
    assert slot.psi_counts.max() / slot.psi_counts.sum() < 0.2
    alone = _season(MONDAY_MS - WEEK_MS, customers=1, repeats=1000)
    assert alone.slots(MONDAY_MS, MONDAY_MS + HOUR_MS, SERIES) == {}


def test_an_hour_of_other_cells_is_refused():
    """A record that does not fit must not stay and fail later."""
    season = _season()
    (packed,) = pack(aggregate.sparse(np.ones(2000, dtype=np.int64)))
    with pytest.raises(ValueError, match="for a vector of"):
        season.keep(0, MONDAY_MS, packed)
    with pytest.raises(IndexError):
        season.keep(9, MONDAY_MS, packed)
    assert season.slots(MONDAY_MS + WEEK_MS, MONDAY_MS + WEEK_MS + HOUR_MS, SERIES) == {}


def test_missing_and_broken_values_are_the_references_business():
    """They know no season: only the distribution is compared with the slot."""
    slots = _season(MONDAY_MS - WEEK_MS, customers=1000, moved=1.0).slots(MONDAY_MS, MONDAY_MS + HOUR_MS, SERIES)
    window = _hour(1500, seed=6, moved=1.0)
    plain, seasonal = (MEASURER.features(window, found)["amount"] for found in ({}, slots))
    assert plain.ks > 0.3
    assert seasonal.ks < 0.06
    assert plain.tests["psi"] < -50 < seasonal.tests["psi"]
    assert seasonal.psi_textbook < 0.05 < plain.psi_textbook
    for name in ("events", "reference_missing_ratio", "missing_ratio", "quality", "out_of_range_ratio", "effective"):
        assert getattr(plain, name) == getattr(seasonal, name)
    score = MEASURER.score(window, slots)
    assert score.reference_mean == pytest.approx(score.mean, abs=0.03)
    assert MEASURER.score(window).reference_mean == pytest.approx(0.5, abs=0.03)


# -- what follows for decisions --------------------------------------------------------------------------------------

DRIFT = AlertName.FEATURE_DRIFT
CLEAN = Finding(DRIFT, "x", clean=True)
LACKING = Finding(DRIFT, "x", sufficient=False)
SURE = Finding(DRIFT, "x", Grade.CRITICAL, fast=True)


@pytest.mark.parametrize("kind", ["calibrated", "classic"])
@pytest.mark.parametrize(
    ("length", "against", "speaks"),
    [
        ("15m", "training", False),
        ("15m", "week", True),
        ("1h", "training", False),
        ("24h", "training", True),
    ],
)
def test_without_a_past_a_window_under_a_day_says_nothing_of_a_distribution(kind, length, against, speaks):
    """It was measured against training, which the season alone exceeds; its numbers stay, and its rates count."""
    moved = MEASURER.features(_hour(1500, moved=1.0))
    features = {name: replace(feature, against=against) for name, feature in moved.items()}
    measurement = Measurement(
        model="m",
        model_version="1.0.0",
        reference_sha256="",
        window=Window(length, "", ""),
        complete=True,
        sample=Sample(1500, 0, 0),
        features=features,
    )
    policy = Policy(LENGTHS, CONFIRM, kind=kind, baseline="week")
    judged, findings = judge(policy, measurement, 8, 0.0)
    (drift,) = [f for f in findings if f.feature == "amount" and f.alertname in {DRIFT, AlertName.CLASSIC}]
    assert (drift.sufficient, drift.grade is Grade.CRITICAL) == (speaks, speaks)
    assert all(f.sufficient for f in findings if f.alertname is AlertName.MISSING_VALUES)
    if kind == "calibrated":
        assert judged.features["amount"].significant is (True if speaks else None)
        assert judged.features["amount"].effect > 0.2


def _windows(tracker, first, *findings):
    return [tracker.step(WEEK, first + i, [window])[0] for i, window in enumerate(findings)]


def test_what_a_day_has_opened_no_quarter_of_an_hour_can_end():
    """It is as usual for the hour, and still not what the model was trained on."""
    tracker = Tracker()
    assert _windows(tracker, 1, ("24h", SURE)) == [Action.OPEN]
    assert set(_windows(tracker, 2, *[("15m", CLEAN)] * 20)) == {Action.NONE}
    assert _windows(tracker, 22, *[("24h", CLEAN)] * 3)[-1] is Action.CLOSE


def test_what_a_quarter_has_opened_no_day_can_end_while_there_is_a_past():
    """A day is whole again long before the quarter hours are; without a past only the days are left."""
    tracker = Tracker()
    assert _windows(tracker, 1, ("15m", SURE)) == [Action.OPEN]
    assert set(_windows(tracker, 2, *[("24h", CLEAN)] * 7)) == {Action.NONE}
    assert _windows(tracker, 9, *[("15m", CLEAN)] * 3)[-1] is Action.CLOSE
    lasting = Tracker()
    _windows(lasting, 1, ("15m", SURE), ("15m", LACKING))
    assert _windows(lasting, 3, *[("24h", CLEAN)] * 3)[-1] is Action.CLOSE


@pytest.mark.parametrize(
    ("windows", "fit"),
    [
        ([("15m", SURE)], Fit.FITS),
        ([("15m", CLEAN), ("24h", SURE)], Fit.DIFFERS),
        ([("24h", SURE)], Fit.DIFFERS),
        ([("24h", CLEAN)], Fit.FITS),
    ],
)
def test_past_weeks_say_nothing_of_the_reference(windows, fit):
    """What exceeds against them has changed, however early; that it does not does not make the reference fit."""
    standing = Standing()
    for window in windows:
        standing.note(WEEK, [window])
    assert standing.fit is fit


def test_an_hour_is_kept_unless_something_stirs():
    """Pending, firing or just over against past weeks is not calm; against training it is no reason to have no past."""
    announcer = Announcer(WEEK, "churn", "docs/runbook.md")
    trackers = announcer.decisions.trackers
    assert announcer.calm("x")
    for name in ("MissingValues/x", "FeatureDrift/x"):
        for state in (State.PENDING, State.FIRING, State.RESOLVED):
            trackers[name] = Tracker(state, opened_against="week" if name.startswith("Feature") else "training")
            assert not announcer.calm("x")
            assert announcer.calm("y")
            assert announcer.calm(None)
        del trackers[name]
    trackers["NoData/"] = Tracker(State.FIRING)
    trackers["FeatureDrift/x"] = Tracker(State.FIRING, standing=Standing(Fit.DIFFERS))
    assert announcer.calm("x")
    assert announcer.calm(None)
