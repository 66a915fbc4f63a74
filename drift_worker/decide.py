"""Measurements → findings: what exceeds which limit, and how surely. What becomes of them is `drift_worker.lifecycle`.

A finding needs evidence (a test significant by Benjamini-Hochberg, at a level that follows from the budget of false
alerts) and effect (the number itself at or above its limit). Significant but small is a measurement, not an alert.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from drift_worker.level import MAX_Q, benjamini_hochberg, correlation, level
from drift_worker.measure import NOT_ENOUGH
from schemas.alert import AlertName
from schemas.measurement import TRAINING, WEEK, FeatureMeasurement, Level, Measurement

# Differences of a rate from the reference's. The second ones are ours: where most of a feature's use is in danger.
MISSING_WARNING, MISSING_CRITICAL = 0.05, 0.20
UNSEEN_WARNING, UNSEEN_CRITICAL = 0.01, 0.10
# An effect is over when it is below this share of its warning limit, so that it does not flicker around it.
CLEAN_SHARE = 0.8
# The textbook's own numbers.
CLASSIC_ACT, CLASSIC_WATCH, CLASSIC_LOG10_P = 0.2, 0.1, math.log10(0.05)
# What a season may be to blame for. All other findings compare with the reference, whatever the baseline.
SEASONAL = frozenset({AlertName.FEATURE_DRIFT, AlertName.PREDICTION_DRIFT, AlertName.CLASSIC})
# Tests of rates, which are held against the reference always.
_RATES = ("missing", "unseen")
_DAY_MS = 86_400_000

Key = tuple[AlertName, str | None]


class Grade(IntEnum):
    """How far a finding exceeds."""

    NONE = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One subject in one window. `feature` is None for the score and for the window as a whole.

    sufficient: there was enough data to say anything. clean: the effect is clearly below its limit. fast: critical and
    so sure that one window is enough.
    """

    alertname: AlertName
    feature: str | None
    grade: Grade = Grade.NONE
    sufficient: bool = True
    clean: bool = False
    fast: bool = False

    @property
    def key(self) -> Key:
        """What an alert is about."""
        return self.alertname, self.feature


@dataclass(frozen=True, slots=True)
class Confirm:
    """An alert needs k of n windows of a length."""

    k: int
    n: int


@dataclass(frozen=True, slots=True)
class Policy:
    """What is too much.

    lengths: the windows, shortest first, label → milliseconds. confirm: by label. limits: a feature's own
    (warning, critical), where the bundle states them. budget: false alerts per 30 days. baseline: what distributions in
    windows under a day are compared with.
    """

    lengths: Mapping[str, int]
    confirm: Mapping[str, Confirm]
    kind: Literal["calibrated", "classic"] = "calibrated"
    budget: float = 1.0
    effect_warning: float = 0.1
    effect_critical: float = 0.2
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    baseline: Literal["training", "week"] = TRAINING

    def against(self, length: str) -> str:
        """What a distribution in a window of this length must have been compared with, or nothing follows from it."""
        return WEEK if self.baseline == WEEK and self.lengths[length] < _DAY_MS else TRAINING

    def limits_of(self, feature: str | None) -> tuple[float, float]:
        """(warning, critical) of the effect of a feature, or of the score."""
        return self.limits.get(feature or "", (self.effect_warning, self.effect_critical))

    @property
    def longest(self) -> str:
        """Label of the longest window."""
        return list(self.lengths)[-1]

    def stated(self) -> dict[str, Any]:
        """As a measurement says it, JSON."""
        stated: dict[str, Any] = msgspec.to_builtins(self)
        return stated

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Policy:
        """The policy that a measurement states; ValueError if that is none."""
        try:
            return msgspec.convert(stated, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"policy: {error}") from None


def decide(policy: Policy, measurement: Measurement) -> tuple[Measurement, list[Finding]]:
    """`judge` with what the measurement's own decision says; nothing else is needed to decide it again.

    LookupError if it has none.
    """
    decision = measurement.decision
    if decision is None:
        raise LookupError("the measurement does not say what it was decided on")
    judged, findings = judge(policy, measurement, decision.tests, decision.overlap)
    if decision.first:
        # counting began in the middle of it: that there is little in it says nothing
        findings = [f for f in findings if f.alertname is not AlertName.NO_DATA]
    return judged, findings


def judge(policy: Policy, measurement: Measurement, tests: int, overlap: float) -> tuple[Measurement, list[Finding]]:
    """The measurement with its level, its limits and what is significant, and a finding per subject.

    tests: of one window, made or not. overlap: see `level.correlation`. Of a measurement without features (or without
    a score) only the rest is judged.
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
    # Without a past the numbers against training are shown, and nothing follows from them: see drift_worker.season.
    heard = [subject for subject in subjects.values() if subject.against == against]
    single, fast = _levels(policy, measurement.window.length, heard or list(subjects.values()), tests, overlap)
    q = min(MAX_Q, tests * single)
    made = (
        p
        for subject in subjects.values()
        for test, p in subject.tests.items()
        if test in _RATES or subject.against == against
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
        findings += _findings(policy, name, subject, against, limit, math.log10(fast))
    if measurement.window.length == policy.longest and measurement.features:
        findings.append(_no_data(measurement))
    features = {name: subject for name, subject in judged.items() if name is not None}
    judged_level = Level(q, tests, single)
    return replace(measurement, features=features, score=judged.get(None), level=judged_level), findings


def _levels(
    policy: Policy, length: str, subjects: list[FeatureMeasurement], tests: int, overlap: float
) -> tuple[float, float]:
    """The level of one test for k of n windows, and for a single window."""
    effective = max((s.effective or 0.0 for s in subjects), default=0.0)
    reference = max((s.reference for s in subjects), default=0)
    r = correlation(reference, effective, overlap) if effective and reference else 0.0
    confirm, length_ms = policy.confirm[length], policy.lengths[length]
    one, many = (
        level(k, n, tests, len(policy.lengths), length_ms, policy.budget, r)
        for k, n in ((1, 1), (confirm.k, confirm.n))
    )
    return many, one


def _findings(
    policy: Policy, name: str | None, subject: FeatureMeasurement, against: str, limit: float, fast: float
) -> list[Finding]:
    drift = AlertName.PREDICTION_DRIFT if subject.kind == "score" else AlertName.FEATURE_DRIFT
    broken = _quality(subject, limit)
    findings = [
        _drift(policy, drift, name, subject, limit, fast)
        if subject.against == against
        else Finding(drift, name, sufficient=False)
    ]
    if subject.kind != "score":
        findings.append(
            Finding(
                AlertName.DATA_QUALITY,
                name,
                grade=Grade.CRITICAL if broken else Grade.NONE,
                sufficient=subject.reason != NOT_ENOUGH,
                clean=not broken,
                fast=broken,
            )
        )
        findings.append(_rate(AlertName.MISSING_VALUES, name, subject, limit))
    if subject.reference_unseen_ratio is not None:
        findings.append(_rate(AlertName.UNSEEN_CATEGORIES, name, subject, limit))
    if broken:
        # one movement, one alert: of data that broke nothing else is said, neither for nor against
        return [f if f.alertname is AlertName.DATA_QUALITY else Finding(*f.key, sufficient=False) for f in findings]
    return findings


def _quality(subject: FeatureMeasurement, limit: float) -> bool:
    """Whether the data broke. A unit that changed must be significant as well; the others are sure by themselves."""
    if subject.quality == "unit_jump":
        return subject.log10_p is not None and subject.log10_p <= limit
    return subject.quality is not None


def _drift(
    policy: Policy, alertname: AlertName, name: str | None, subject: FeatureMeasurement, limit: float, fast: float
) -> Finding:
    if subject.effect is None:
        return Finding(alertname, name, sufficient=False)
    warning, critical = policy.limits_of(name)
    tests = subject.tests
    # each effect needs evidence from its own test; χ² speaks for both effects of a category
    pairs = [
        (tests.get("psi", tests.get("chi2", 0.0)), subject.psi_corrected),
        (tests.get("ks", 0.0), subject.ks),
        (tests.get("chi2", 0.0), subject.linf),
    ]
    exceeding = [(p, effect) for p, effect in pairs if effect is not None and effect >= warning and p <= limit]
    largest = max((effect for _, effect in exceeding), default=0.0)
    sure = any(effect >= critical and p <= fast for p, effect in exceeding)
    grade = Grade.CRITICAL if largest >= critical else Grade.WARNING if exceeding else Grade.NONE
    return Finding(alertname, name, grade, clean=subject.effect < CLEAN_SHARE * warning, fast=sure)


def _rate(alertname: AlertName, name: str | None, subject: FeatureMeasurement, limit: float) -> Finding:
    if alertname is AlertName.MISSING_VALUES:
        now, before, test = subject.missing_ratio, subject.reference_missing_ratio, "missing"
        warning, critical = MISSING_WARNING, MISSING_CRITICAL
    else:
        now, before, test = subject.unseen_ratio, subject.reference_unseen_ratio, "unseen"
        warning, critical = UNSEEN_WARNING, UNSEEN_CRITICAL
    if now is None or before is None:
        return Finding(alertname, name, sufficient=False)
    moved = abs(now - before) if alertname is AlertName.MISSING_VALUES else now - before
    grade = Grade.NONE
    if subject.tests.get(test, 0.0) <= limit and moved >= warning:
        grade = Grade.CRITICAL if moved >= critical else Grade.WARNING
    return Finding(alertname, name, grade, clean=moved < CLEAN_SHARE * warning)


def _no_data(measurement: Measurement) -> Finding:
    """The longest window lacks data: not one feature had enough."""
    lacking = all(subject.reason == NOT_ENOUGH for subject in measurement.features.values())
    return Finding(AlertName.NO_DATA, None, Grade.WARNING if lacking else Grade.NONE, clean=not lacking)


def _classic(name: str | None, subject: FeatureMeasurement, against: str) -> Finding:
    """The textbook's rule: PSI above 0.2 act, above 0.1 or a KS p-value below 5 % watch."""
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
