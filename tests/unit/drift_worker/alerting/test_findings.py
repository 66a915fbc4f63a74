"""From measurements to findings: what needs evidence, what needs an effect, and whose limits count."""

import pytest
from msgspec.structs import replace

from drift_worker.alerting.findings import Grade, judge
from drift_worker.alerting.limits import Confirm, Policy
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
    """Each effect with the evidence of its test."""
    finding = _grades(tenure=replace(QUIET, **{"log10_p": min(change["tests"].values()), **change}))[
        "FeatureDrift", "tenure"
    ]
    assert (finding.grade, finding.clean) == (grade, clean)


def test_a_feature_may_have_its_own_limits():
    """The bundle has 0.3 and 0.5 for this one."""
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
    """All missing: DataQuality at once, and no finding about drift or missing values, for or against."""
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
