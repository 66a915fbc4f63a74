"""Measurements → findings: what exceeds which limit, and how surely. `alerting.confirmation` decides what follows.

A finding needs evidence, effect and change. Evidence is a test against the reference that is significant by
Benjamini-Hochberg, at a level that follows from the budget of false alerts. Change is evidence at that level against
the calm past of the same stream (`statistics.calm_past`). Effect is the number itself, at or above its limit. A
difference that is significant but small is a measurement, not an alert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from msgspec.structs import replace

from drift_worker.alerting.limits import (
    CLASSIC_ACT,
    CLASSIC_LOG10_P,
    CLASSIC_WATCH,
    CLEAN_SHARE,
    MISSING_CRITICAL,
    MISSING_WARNING,
    NO_EVIDENCE_LOG10_P,
    OWN_LIMITS,
    RELATION_SHARE,
    UNSEEN_CRITICAL,
    UNSEEN_WARNING,
    Policy,
)
from drift_worker.alerting.relation_change import Moved, Window, judge_relations
from drift_worker.alerting.significance import MAX_Q, benjamini_hochberg, correlation, level
from drift_worker.statistics.calm_past import DISTRIBUTION, MISSING, OUT_OF_RANGE, SPIKE, UNSEEN
from drift_worker.statistics.catalogue import EFFECTS
from drift_worker.statistics.measure import CONSTANT, NOT_ENOUGH, UNIT_JUMP
from schemas.alert import AlertName
from schemas.measurement import FeatureMeasurement, Level, Measurement

# Tests of rates; they always compare with the reference.
_RATES = ("missing", "unseen")
# Tests with the level of a single window; they are not among those that share a level.
_QUALITY = ("constant",)

# The calm past of what a test looks at; all others look at the distribution.
PROFILES = {"missing": MISSING, "unseen": UNSEEN, "out_of_range": OUT_OF_RANGE, "spike": SPIKE}

Key = tuple[AlertName, str | None]


class Grade(IntEnum):
    """How far a finding exceeds its limits."""

    NONE = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One subject in one window."""

    alertname: AlertName
    #: None for the score and for the window as a whole.
    feature: str | None
    grade: Grade = Grade.NONE
    #: Whether there was enough data for a finding.
    sufficient: bool = True
    #: Whether the effect is clearly below its limit.
    clean: bool = False
    #: Whether it is critical and so sure that one window is enough.
    fast: bool = False
    #: Whether its test gives no evidence of a difference, however large the effect is.
    no_evidence: bool = False

    @property
    def key(self) -> Key:
        """Return the subject of an alert."""
        return self.alertname, self.feature


def decide(policy: Policy, measurement: Measurement) -> tuple[Measurement, list[Finding]]:
    """Call `judge` with the measurement's stored decision; it is enough to repeat the decision.

    LookupError if it has no decision.
    """
    decision = measurement.decision
    if decision is None:
        raise LookupError("the measurement has no decision")
    judged, findings = judge(policy, measurement, decision.tests, decision.overlap)
    if decision.first:
        # counting began in the middle of it: few events in it mean no loss of data
        findings = [f for f in findings if f.alertname is not AlertName.NO_DATA]
    return judged, findings


def judge(policy: Policy, measurement: Measurement, tests: int, overlap: float) -> tuple[Measurement, list[Finding]]:
    """Return the measurement with its level, its limits and what is significant, and a finding per subject.

    `tests` is the number of tests of one window, made or not; `overlap` is as in `level.correlation`. A measurement may
    lack features, or a score; then the rules apply to the other one alone.
    """
    subjects: dict[str | None, FeatureMeasurement] = {}
    subjects.update(measurement.features)
    if measurement.score is not None:
        subjects[None] = measurement.score
    against = policy.against(measurement.window.length)
    if policy.kind == "classic":
        limits = {"effect_warning": CLASSIC_WATCH, "effect_critical": CLASSIC_ACT}
        features = {name: replace(subject, **limits) for name, subject in measurement.features.items()}
        score = None if measurement.score is None else replace(measurement.score, **limits)
        judged_all = replace(measurement, features=features, score=score)
        return judged_all, [_classic(name, subject, against) for name, subject in subjects.items()]
    # Without a past, the numbers against training are shown and lead to no finding: see statistics.seasonal_baseline.
    heard = [subject for subject in subjects.values() if subject.against == against]
    share = 1.0 if measurement.relations is None else 1.0 - RELATION_SHARE
    length = measurement.window.length
    r = _resemblance(heard or list(subjects.values()), overlap)
    single, fast = _levels(policy, length, share, tests, r)
    q = min(MAX_Q, tests * single)
    made = (
        p
        for subject in subjects.values()
        for test, p in subject.tests.items()
        if test in _RATES or (test not in _QUALITY and subject.against == against)
    )
    limit = benjamini_hochberg(made, q, tests)
    judged: dict[str | None, FeatureMeasurement] = {}
    findings: list[Finding] = []
    for name, subject in subjects.items():
        known = subject.effect is not None and subject.against == against
        significant = subject.log10_p is not None and subject.log10_p <= limit
        warning, critical = policy.limits_of(name)
        judged[name] = replace(
            subject,
            significant=significant if known else None,
            effect_warning=warning,
            effect_critical=critical,
        )
        findings += _findings(policy, name, subject, against, _Levels(limit, math.log10(single), math.log10(fast)))
    if measurement.window.length == policy.longest and measurement.features:
        findings.append(_no_data(measurement))
    measurement, related = _relations(policy, measurement, findings, r)
    findings += related
    features = {name: subject for name, subject in judged.items() if name is not None}
    judged_level = Level(q, tests, single)
    return replace(measurement, features=features, score=judged.get(None), level=judged_level), findings


def _resemblance(subjects: list[FeatureMeasurement], overlap: float) -> float:
    """Return the correlation of the statistics of two successive windows."""
    effective = max((s.effective or 0.0 for s in subjects), default=0.0)
    reference = max((s.reference for s in subjects), default=0)
    return correlation(reference, effective, overlap) if effective and reference else 0.0


def _levels(policy: Policy, length: str, share: float, tests: int, r: float) -> tuple[float, float]:
    """Return the level of one test for k of n windows, and for a single window; `share`: of the budget."""
    confirm, length_ms = policy.confirm[length], policy.lengths[length]
    one, many = (
        level(k, n, tests, len(policy.lengths), length_ms, policy.budget * share, r)
        for k, n in ((1, 1), (confirm.k, confirm.n))
    )
    return many, one


def _relations(
    policy: Policy, measurement: Measurement, findings: list[Finding], r: float
) -> tuple[Measurement, list[Finding]]:
    """Return the measurement with what was found of its relations, and a finding for each of their alerts.

    One movement, one alert: what a finding of one feature explains is no finding of two.
    """
    relations = measurement.relations
    if relations is None:
        return measurement, []
    explained = {
        "score" if f.alertname is AlertName.PREDICTION_DRIFT else f.feature or ""
        for f in findings
        if f.grade is not Grade.NONE
    }
    window = Window(measurement.window.length, r, explained)
    judged, moved = judge_relations(policy, relations, window)
    return replace(measurement, relations=judged), [_of_relation(one) for one in moved]


def _of_relation(moved: Moved) -> Finding:
    return Finding(
        moved.alertname,
        None,
        Grade(moved.grade),
        sufficient=moved.sufficient,
        clean=moved.clean,
        fast=moved.fast,
        no_evidence=moved.clean,
    )


@dataclass(frozen=True, slots=True)
class _Levels:
    """How small log10 p must be."""

    #: Against the reference: Benjamini and Hochberg's limit.
    limit: float
    #: Against the calm past: the level of one test.
    single: float
    #: Against both, where one window is enough.
    fast: float

    def reached(self, subject: FeatureMeasurement, log_p: float, profile: str, *, critical: bool) -> bool:
        """Return whether a test is evidence of a change; `critical`: whether its effect is.

        A distribution that has no past yet is none: drift is a change in time. Of a rate only what is critical counts
        then.
        """
        if log_p > self.limit:
            return False
        if subject.past is None:
            return True
        if profile not in subject.past:
            return critical and profile != DISTRIBUTION
        return subject.past[profile] <= self.single

    def sure(self, subject: FeatureMeasurement, log_p: float, profile: str) -> bool:
        """Return whether one window is enough."""
        return max(log_p, _against_past(subject, profile)) <= self.fast


def _against_past(subject: FeatureMeasurement, profile: str) -> float:
    """Return log10 p against the calm past, -inf where there is none."""
    return -math.inf if subject.past is None else subject.past.get(profile, -math.inf)


def _findings(
    policy: Policy, name: str | None, subject: FeatureMeasurement, against: str, levels: _Levels
) -> list[Finding]:
    drift = AlertName.PREDICTION_DRIFT if subject.kind == "score" else AlertName.FEATURE_DRIFT
    findings = [
        _drift(policy, drift, name, subject, levels)
        if subject.against == against
        else Finding(drift, name, sufficient=False)
    ]
    if subject.kind == "score":
        return findings  # a score that is always the same has drifted: no producer has broken it
    quality = _quality(name, subject, levels.limit, levels.fast)
    findings += [quality, _rate(AlertName.MISSING_VALUES, name, subject, levels)]
    if subject.reference_unseen_ratio is not None:
        findings.append(_rate(AlertName.UNSEEN_CATEGORIES, name, subject, levels))
    if quality.grade is not Grade.NONE:
        # one movement, one alert: for broken data no other finding is published, firing or clean
        return [f if f.alertname is AlertName.DATA_QUALITY else Finding(*f.key, sufficient=False) for f in findings]
    return findings


def _quality(name: str | None, subject: FeatureMeasurement, limit: float, fast: float) -> Finding:
    """Return whether the data broke; needs enough events, but not enough values.

    A changed unit must be significant. Equal values, or none at all, must be as improbable as a single window requires.
    Where they are probable, they are as clean as any other values.
    """
    if subject.missing_ratio is None:
        return Finding(AlertName.DATA_QUALITY, name, sufficient=False)
    log_p: float | None = None  # None: no sign of broken data
    if subject.quality == UNIT_JUMP:
        log_p = -math.inf if subject.log10_p is None else subject.log10_p
        broken = subject.log10_p is not None and log_p <= limit
    else:
        if not subject.events and subject.reference:
            log_p = subject.tests.get("missing", NO_EVIDENCE_LOG10_P)
        elif subject.quality == CONSTANT or "constant" in subject.tests:
            log_p = subject.tests.get("constant", -math.inf)  # older measurements have none
        broken = subject.quality is not None and log_p is not None and log_p <= fast
    clean = not broken and (log_p is None or log_p > NO_EVIDENCE_LOG10_P)
    grade = Grade.CRITICAL if broken else Grade.NONE
    return Finding(AlertName.DATA_QUALITY, name, grade, clean=clean, fast=broken)


def _drift(
    policy: Policy, alertname: AlertName, name: str | None, subject: FeatureMeasurement, levels: _Levels
) -> Finding:
    if subject.effect is None:
        return Finding(alertname, name, sufficient=False)
    common = policy.limits_of(name)
    grade, sure, clean, unproven = Grade.NONE, False, True, True
    for statistic in EFFECTS:
        effect = getattr(subject, statistic.name)
        made = [subject.tests[test] for test in statistic.evidence if test in subject.tests]
        if effect is None or (statistic.own_limits and not made):
            continue
        warning, critical = OWN_LIMITS.get(statistic.name, common)
        p = made[0] if made else 0.0  # each effect needs evidence from its own test
        profile = PROFILES.get(statistic.evidence[0], DISTRIBUTION)
        if effect >= warning and levels.reached(subject, p, profile, critical=effect >= critical):
            grade = max(grade, Grade.CRITICAL if effect >= critical else Grade.WARNING)
            sure = sure or (effect >= critical and levels.sure(subject, p, profile))
        if effect >= CLEAN_SHARE * warning:
            proven = max(p, _against_past(subject, profile)) <= NO_EVIDENCE_LOG10_P
            clean, unproven = False, unproven and not proven
    return Finding(alertname, name, grade, clean=clean, fast=sure, no_evidence=unproven)


def _rate(alertname: AlertName, name: str | None, subject: FeatureMeasurement, levels: _Levels) -> Finding:
    if alertname is AlertName.MISSING_VALUES:
        now, before, test = subject.missing_ratio, subject.reference_missing_ratio, "missing"
        warning, critical = MISSING_WARNING, MISSING_CRITICAL
    else:
        now, before, test = subject.unseen_ratio, subject.reference_unseen_ratio, "unseen"
        warning, critical = UNSEEN_WARNING, UNSEEN_CRITICAL
    if now is None or before is None:
        return Finding(alertname, name, sufficient=False)
    moved = abs(now - before) if alertname is AlertName.MISSING_VALUES else now - before
    grade, log_p = Grade.NONE, subject.tests.get(test, 0.0)
    if moved >= warning and levels.reached(subject, log_p, PROFILES[test], critical=moved >= critical):
        grade = Grade.CRITICAL if moved >= critical else Grade.WARNING
    clean = moved < CLEAN_SHARE * warning
    unproven = max(log_p, _against_past(subject, PROFILES[test])) > NO_EVIDENCE_LOG10_P
    return Finding(alertname, name, grade, clean=clean, no_evidence=unproven)


def _no_data(measurement: Measurement) -> Finding:
    """Return that the longest window lacks data if not one feature had enough."""
    lacking = all(subject.reason == NOT_ENOUGH for subject in measurement.features.values())
    return Finding(AlertName.NO_DATA, None, Grade.WARNING if lacking else Grade.NONE, clean=not lacking)


def _classic(name: str | None, subject: FeatureMeasurement, against: str) -> Finding:
    """Apply the textbook's rule: PSI above 0.2 act, above 0.1 or a KS p-value below 5 % watch."""
    value = subject.psi_textbook if subject.psi_textbook is not None else subject.psi
    if value is None or subject.against != against:
        return Finding(AlertName.CLASSIC, name, sufficient=False)
    if value > CLASSIC_ACT:
        grade = Grade.CRITICAL
    elif value > CLASSIC_WATCH or subject.tests.get("ks", 0.0) < CLASSIC_LOG10_P:
        grade = Grade.WARNING
    else:
        grade = Grade.NONE
    return Finding(AlertName.CLASSIC, name, grade, clean=grade is Grade.NONE, fast=grade is Grade.CRITICAL)
