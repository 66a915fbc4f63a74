"""From measurements to what is said: levels, gates, confirmation, and the life of an episode."""

import itertools
import math

import numpy as np
import pytest
from msgspec.structs import replace

from drift_worker.decide import Confirm, Finding, Grade, Policy, judge
from drift_worker.level import benjamini_hochberg, correlation, joint_log10, level
from drift_worker.lifecycle import TRANSITIONS, Action, Event, State, Tracker, key_name, key_of
from schemas.alert import AlertName
from schemas.measurement import FeatureMeasurement, Measurement, Sample, Window

LENGTHS = {"15m": 900_000, "1h": 3_600_000, "24h": 86_400_000}
CONFIRM = {"15m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)}
POLICY = Policy(LENGTHS, CONFIRM)
QUIET = FeatureMeasurement(
    kind="numeric",
    events=1500,
    effective=1500.0,
    psi=0.01,
    psi_textbook=0.01,
    psi_corrected=0.0,
    ks=0.02,
    log10_p=-0.3,
    effect=0.02,
    missing_ratio=0.0,
    reference=5000,
    reference_missing_ratio=0.0,
    tests={"psi": -0.3, "ks": -0.2},
)


def _measurement(length="15m", **features):
    window = Window(length, "2026-11-22T05:00:00.000Z", "2026-11-22T05:15:00.000Z")
    return Measurement(
        model="churn",
        model_version="1.0.0",
        reference_sha256="00" * 32,
        window=window,
        complete=True,
        sample=Sample(1500, 0, 0),
        features={**features},
    )


def _grades(policy=POLICY, length="15m", tests=62, **features):
    _, findings = judge(policy, _measurement(length, **features), tests, 0.0)
    return {(f.alertname.value, f.feature): f for f in findings}


# -- level


def test_one_of_one_window_shares_the_budget_evenly():
    """One window is enough: a = budget / (L·W·T) exactly."""
    assert level(1, 1, 62, 3, 900_000, 1.0, 0.5) == pytest.approx(1 / (3 * 2880 * 62), rel=1e-12)


def test_two_of_three_independent_windows():
    """Without correlation: T·2·a² = budget/(L·W), solved by hand."""
    expected = math.sqrt(1 / (3 * 2880) / (62 * 2))
    assert level(2, 3, 62, 3, 900_000, 1.0, 0.0) == pytest.approx(expected, rel=1e-4)


def test_more_correlation_asks_for_a_smaller_level():
    """Windows that share customers and a reference confirm each other by chance."""
    levels = [level(2, 3, 62, 3, 900_000, 1.0, r) for r in (0.0, 0.2, 0.5, 0.9, 0.999)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] < 2e-6


def test_a_correlation_between_two_steps_costs_little_of_the_level():
    """1,000 events against 7,000 rows: 4.18e-4 without rounding; rounded to a tenth it was 2.7e-4."""
    assert level(2, 3, 77, 3, 900_000, 1.0, 0.125) == pytest.approx(4.06e-4, rel=0.005)
    assert level(2, 3, 77, 3, 900_000, 1.0, 0.07) == level(2, 3, 77, 3, 900_000, 1.0, 0.0699)
    assert level(2, 3, 77, 3, 900_000, 1.0, 0.995) == level(2, 3, 77, 3, 900_000, 1.0, 0.999)


@pytest.mark.parametrize(("a", "k", "r"), [(0.05, 2, 0.5), (0.01, 2, 0.9), (0.05, 3, 0.3), (0.02, 2, 0.999)])
def test_joint_tail_is_that_of_correlated_normals(a, k, r):
    """A million simulated pairs or triples, within four standard errors."""
    from scipy.stats import norm

    draw = np.random.default_rng(7)
    shared = draw.normal(size=1_000_000)
    exceed = np.ones(1_000_000, dtype=bool)
    for _ in range(k):
        exceed &= math.sqrt(r) * shared + math.sqrt(1 - r) * draw.normal(size=1_000_000) > norm.isf(a)
    seen = exceed.mean()
    assert 10 ** joint_log10(a, k, r) == pytest.approx(seen, abs=4 * math.sqrt(seen / 1_000_000))


def test_correlation_of_windows():
    """Small windows over a large reference share little; the same few customers share nearly everything."""
    assert correlation(10_000, 500, 0.0) == pytest.approx(0.0476, abs=1e-3)
    assert correlation(5000, 1000, 1 / 1000) == pytest.approx(0.999)


def test_benjamini_hochberg_counts_tests_that_were_not_made():
    """Four p-values among ten tests at q = 0.05: limits 0.005, 0.01, 0.015, 0.02."""
    p = [math.log10(x) for x in (0.0149, 0.004, 0.012, 0.3)]
    assert benjamini_hochberg(p, 0.05, 10) == pytest.approx(math.log10(0.0149))
    assert benjamini_hochberg(p, 0.05, 40) == -math.inf
    assert benjamini_hochberg([], 0.05, 10) == -math.inf
    assert benjamini_hochberg([math.log10(0.0049), math.log10(0.0101)], 0.05, 10) == math.log10(0.0049)


# -- findings


def test_a_quiet_feature_is_clean():
    """No grade, clean, in every respect."""
    for finding in _grades(tenure=QUIET).values():
        assert finding.grade is Grade.NONE
        assert finding.clean
        assert finding.sufficient


@pytest.mark.parametrize(
    ("change", "grade", "clean"),
    [
        ({"ks": 0.15, "effect": 0.15, "tests": {"psi": -1.0, "ks": -20.0}}, Grade.WARNING, False),
        ({"psi_corrected": 0.25, "effect": 0.25, "tests": {"psi": -30.0, "ks": -1.0}}, Grade.CRITICAL, False),
        ({"ks": 0.099, "effect": 0.099, "tests": {"psi": -1.0, "ks": -300.0}}, Grade.NONE, False),
        ({"ks": 0.079, "effect": 0.079, "tests": {"psi": -1.0, "ks": -300.0}}, Grade.NONE, True),
        ({"ks": 0.3, "effect": 0.3, "tests": {"psi": -1.0, "ks": -1.0}}, Grade.NONE, False),
        ({"ks": 0.3, "effect": 0.3, "tests": {"psi": -300.0, "ks": -1.0}}, Grade.NONE, False),
    ],
    ids=[
        "warning by D",
        "critical by PSI*",
        "harmless though sure",
        "clean",
        "large but not sure",
        "evidence of another",
    ],
)
def test_a_finding_needs_evidence_and_effect(change, grade, clean):
    """Each effect with the evidence of its own test."""
    finding = _grades(tenure=replace(QUIET, **{"log10_p": min(change["tests"].values()), **change}))[
        "FeatureDrift", "tenure"
    ]
    assert (finding.grade, finding.clean) == (grade, clean)


def test_a_feature_may_have_its_own_limits():
    """The bundle says 0.3 and 0.5 for this one."""
    policy = Policy(LENGTHS, CONFIRM, limits={"tenure": (0.3, 0.5)})
    moved = replace(QUIET, ks=0.25, effect=0.25, tests={"psi": -1.0, "ks": -50.0}, log10_p=-50.0)
    assert _grades(policy, tenure=moved)["FeatureDrift", "tenure"].grade is Grade.NONE
    assert _grades(policy, other=moved)["FeatureDrift", "other"].grade is Grade.CRITICAL


def test_missing_values_have_a_finding_of_their_own():
    """Six points more are a ticket, twenty a page; five points of fewer count as well."""
    for missing, before, grade in ((0.06, 0.0, 1), (0.2, 0.0, 2), (0.04, 0.0, 0), (0.0, 0.06, 1)):
        feature = replace(
            QUIET, missing_ratio=missing, reference_missing_ratio=before, tests={**QUIET.tests, "missing": -30.0}
        )
        assert _grades(tenure=feature)["MissingValues", "tenure"].grade == grade


def test_unseen_categories_have_a_finding_of_their_own():
    """One point above what the reference lets expect."""
    for now, before, grade in ((0.02, 0.0, 1), (0.12, 0.0, 2), (0.055, 0.05, 0), (0.0, 0.05, 0)):
        feature = replace(
            QUIET,
            kind="categorical",
            unseen_ratio=now,
            reference_unseen_ratio=before,
            tests={"chi2": -0.1, "unseen": -9.0},
        )
        assert _grades(plan=feature)["UnseenCategories", "plan"].grade == grade


def test_data_that_broke_is_no_drift():
    """All missing: DataQuality at once, and nothing is said of drift or of missing values, for or against."""
    feature = FeatureMeasurement(
        kind="numeric",
        events=0,
        missing_ratio=1.0,
        reference=5000,
        reference_missing_ratio=0.0,
        tests={"missing": -300.0},
        quality="all_missing",
        reason="all_missing",
    )
    found = _grades(tenure=feature)
    assert (found["DataQuality", "tenure"].grade, found["DataQuality", "tenure"].fast) == (Grade.CRITICAL, True)
    assert not found["MissingValues", "tenure"].sufficient
    assert not found["FeatureDrift", "tenure"].sufficient


def test_too_little_data_is_neither_for_nor_against():
    """A state, not an alert, unless it is the longest window."""
    lacking = FeatureMeasurement(kind="numeric", events=12, reference=5000, reason="not_enough_data")
    assert not any(f.sufficient for f in _grades(tenure=lacking).values())
    assert ("NoData", None) not in _grades(tenure=lacking)
    assert _grades(length="24h", tenure=lacking)["NoData", None].grade is Grade.WARNING
    assert _grades(length="24h", tenure=lacking, other=QUIET)["NoData", None].clean


def test_the_measurement_says_what_was_significant_and_at_which_level():
    """Everything a backtest needs is in it."""
    sure = replace(QUIET, tests={"psi": -9.0, "ks": -8.0}, log10_p=-9.0)
    measurement, _ = judge(POLICY, _measurement(a=sure, b=QUIET), 62, 0.0)
    assert measurement.features["a"].significant is True
    assert measurement.features["b"].significant is False
    assert measurement.level.tests == 62
    assert measurement.level.q == pytest.approx(min(0.05, 62 * measurement.level.single))


def test_the_measurement_says_which_limits_held():
    """The feature's own where it has some; of the classic policy, the textbook's."""
    own = Policy(LENGTHS, CONFIRM, limits={"a": (0.3, 0.6)})
    measurement = replace(_measurement(a=QUIET, b=QUIET), score=replace(QUIET, kind="score"))
    for policy, limits in (
        (own, [(0.3, 0.6), (0.1, 0.2), (0.1, 0.2)]),
        (Policy(LENGTHS, CONFIRM, kind="classic", effect_warning=0.5), [(0.1, 0.2)] * 3),
    ):
        judged, _ = judge(policy, measurement, 62, 0.0)
        shown = [*judged.features.values(), judged.score]
        assert [(s.effect_warning, s.effect_critical) for s in shown] == limits


def test_the_score_is_judged_like_a_feature():
    """Its finding names no feature."""
    moved = replace(QUIET, kind="score", ks=0.3, effect=0.3, tests={"ks": -40.0, "psi": -40.0}, log10_p=-40.0)
    _, findings = judge(POLICY, replace(_measurement(), score=moved), 62, 0.0)
    assert [(f.alertname, f.feature, f.grade) for f in findings] == [(AlertName.PREDICTION_DRIFT, None, Grade.CRITICAL)]


def test_classic_policy_is_the_textbooks_rule():
    """PSI above 0.2 act, above 0.1 or KS p below 5 % watch; no evidence, no other alert."""
    policy = Policy(LENGTHS, CONFIRM, kind="classic")
    for psi_textbook, log_ks, grade in ((0.21, 0.0, 2), (0.11, 0.0, 1), (0.05, -1.31, 1), (0.05, -1.29, 0)):
        feature = replace(QUIET, psi_textbook=psi_textbook, tests={"ks": log_ks})
        assert {k: f.grade for k, f in _grades(policy, x=feature).items()} == {("DriftPolicyClassic", "x"): grade}


# -- lifecycle

DRIFT = AlertName.FEATURE_DRIFT
CLEAN = Finding(DRIFT, "x", clean=True)
BETWEEN = Finding(DRIFT, "x")
WARNING = Finding(DRIFT, "x", Grade.WARNING)
CRITICAL = Finding(DRIFT, "x", Grade.CRITICAL)
SURE = Finding(DRIFT, "x", Grade.CRITICAL, fast=True)
LACKING = Finding(DRIFT, "x", sufficient=False)


def _run(*findings, length="15m"):
    tracker = Tracker()
    return tracker, [tracker.step(POLICY, i, [(length, f)])[0] for i, f in enumerate(findings, start=1)]


def test_every_transition_is_stated():
    """The table is total: every state with every event."""
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_transitions_keep_their_promises(state, event):
    """OPEN is the only way into firing, CLOSE the only way out; what is resolved opens nothing; no data, no change."""
    after, action = TRANSITIONS[state, event]
    assert (action is Action.OPEN) == (state is not State.FIRING and after is State.FIRING)
    assert (action is Action.CLOSE) == (state is State.FIRING and after is not State.FIRING)
    assert action is not Action.RAISE or (state, event) == (State.FIRING, Event.WORSE)
    if event is Event.INSUFFICIENT:
        assert (after, action) == (state, Action.NONE)
    if state is State.RESOLVED:
        assert after in {State.RESOLVED, State.INACTIVE}


def test_two_of_three_windows_open_an_episode():
    """Exceed, clean, exceed: it fires at the third, and began at the first."""
    tracker, actions = _run(WARNING, CLEAN, WARNING)
    assert actions == [Action.NONE, Action.NONE, Action.OPEN]
    assert (tracker.state, tracker.since_ms, tracker.shown) == (State.FIRING, 1, "warning")


def test_one_window_is_pending_and_forgotten():
    """After three windows without another the subject is inactive again."""
    tracker, actions = _run(WARNING, CLEAN, CLEAN)
    assert tracker.state is State.PENDING
    assert tracker.step(POLICY, 4, [("15m", CLEAN)]) == (Action.NONE, "15m")
    assert tracker.state is State.INACTIVE
    assert set(actions) == {Action.NONE}


def test_a_critical_and_sure_window_fires_at_once():
    """The fast path; critical alone needs two."""
    assert _run(SURE)[1] == [Action.OPEN]
    assert _run(CRITICAL, CRITICAL)[1] == [Action.NONE, Action.OPEN]


def test_severity_rises_once_and_only_on_two_of_three():
    """Warning, then one sure critical window (not enough in an open episode), then a second one."""
    tracker, actions = _run(WARNING, WARNING, SURE, CRITICAL, CRITICAL, WARNING)
    assert actions == [Action.NONE, Action.OPEN, Action.NONE, Action.RAISE, Action.NONE, Action.NONE]
    assert tracker.shown == "critical"


def test_three_clean_windows_in_a_row_resolve():
    """A window that is neither clean nor exceeding starts the count again; one without data does not touch it."""
    _, actions = _run(SURE, CLEAN, CLEAN, BETWEEN, CLEAN, LACKING, CLEAN, CLEAN)
    assert actions == [Action.OPEN, *[Action.NONE] * 6, Action.CLOSE]


def test_no_reopening_for_three_windows():
    """What exceeds right after the end is not a new episode; after that it needs two of three again."""
    tracker, actions = _run(SURE, CLEAN, CLEAN, CLEAN, SURE, SURE, SURE, WARNING, WARNING)
    assert actions == [Action.OPEN, Action.NONE, Action.NONE, Action.CLOSE, *[Action.NONE] * 4, Action.OPEN]
    assert tracker.since_ms == 8


def test_any_length_opens_and_the_shortest_with_data_resolves():
    """Opened by a day; quarter-hours have enough data again and end it; the day's own windows do not."""
    tracker = Tracker()
    assert tracker.step(POLICY, 1, [("15m", LACKING), ("24h", WARNING)]) == (Action.OPEN, "24h")
    assert [tracker.step(POLICY, i, [("15m", CLEAN)])[0] for i in (2, 3)] == [Action.NONE] * 2
    assert tracker.step(POLICY, 4, [("24h", CLEAN)])[0] is Action.NONE
    assert tracker.step(POLICY, 5, [("15m", CLEAN)])[0] is Action.CLOSE


def test_what_opened_an_episode_does_not_count_towards_the_next():
    """The day is long over when the quarter-hours have ended it."""
    tracker = Tracker()
    tracker.step(POLICY, 1, [("15m", LACKING), ("24h", WARNING)])
    for i in range(2, 9):
        tracker.step(POLICY, i, [("15m", CLEAN)])
    assert tracker.state is State.INACTIVE


def test_where_quarter_hours_lack_data_the_hour_resolves():
    """Night traffic: no quarter-hour has enough."""
    tracker = Tracker()
    tracker.step(POLICY, 1, [("15m", LACKING), ("1h", SURE)])
    actions = []
    for i in range(2, 14):
        found = [("15m", LACKING)] if i % 4 else [("15m", LACKING), ("1h", CLEAN)]
        actions.append(tracker.step(POLICY, i, found)[0])
    assert actions == [*[Action.NONE] * 10, Action.CLOSE, Action.NONE]


def test_a_subject_without_data_says_so():
    """A state, not an alert."""
    tracker, _ = _run(LACKING)
    assert tracker.shown == "not_enough_data"


def test_a_steady_small_shift_is_two_messages():
    """0.45 standard deviations for two days of quarter-hours, near the limit: open and close, however it flickers."""
    draw = np.random.default_rng(11)
    held = [
        (WARNING if effect >= 0.1 else CLEAN if effect < 0.08 else BETWEEN) for effect in draw.normal(0.125, 0.02, 192)
    ]
    _, actions = _run(*[CLEAN] * 10, *held, *[CLEAN] * 10)
    assert 2 <= sum(action is not Action.NONE for action in actions) <= 3


def test_tracker_names_are_keys():
    """Features may hold a slash; the window as a whole has no feature."""
    for key in ((DRIFT, "a/b"), (AlertName.NO_DATA, None)):
        assert key_of(key_name(key)) == key
