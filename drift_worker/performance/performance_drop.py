"""Final cohorts → `PerformanceDrop`: findings, the lifecycle of drift's episodes, and the alert's text. Pure.

Accuracy and ROC AUC can each be worse in two ways; both ways need effect and evidence:

- below the value of the bundle's held-out customers (`expected`): the customers, or their behaviour, changed;
- below the estimate from the same predictions' scores (`estimated`), outside both of its bands, sampling and
  calibration. Customers who look the same behave differently; only labels can show that, no estimate.

Effect: WARNING points, twice as much is critical. Evidence: EVIDENCE standard errors, more where days differ by more
than their customers explain (`day_variation`). They combine the cohort's, by customer, with those of the held-out
customers, or with the estimate's sampling part. Until that variation is known, a drop needs two cohorts in a row, or
SURE times the evidence. A year of daily cohorts without any change raises less than one page:
tests/quality/test_performance_drop.py simulates it, docs/model-life.md has numbers.

Of several classes, accuracy and macro F1 are compared with both. Of a regression, the mean absolute error (MAE) is, and
the effect is a share of what it is compared with: an error has the outcome's unit, so points would mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from drift_worker.alerting.confirmation import Action, State, Tracker
from drift_worker.alerting.findings import Finding, Grade
from drift_worker.alerting.limits import CLEAN_SHARE, Confirm, Policy
from drift_worker.performance.day_variation import Variation
from drift_worker.performance.label_free_estimate import Z
from drift_worker.performance.label_store import DAY_MS
from schemas.alert import Alert, AlertName, Severity, fingerprint
from schemas.performance import (
    AnyPerformance,
    Band,
    ClassPerformance,
    Metric,
    Performance,
    ValuePerformance,
)
from schemas.timestamps import parse, render

METRICS = ("accuracy", "roc_auc")
# Of a regression: what its alert shows beside what it is compared by.
VALUE_METRICS = ("mae", "rmse", "bias", "r2")
# Of several classes.
CLASS_METRICS = ("accuracy", "f1_macro")
# Points of a metric. From a drop of five on, a campaign that pays for itself no longer does.
WARNING, CRITICAL = 0.05, 0.10
# One-sided 2.3e-4 of a normal distribution: 365 cohorts x 4 comparisons give 0.34 a year, before the effect's limit.
EVIDENCE = 3.5
# One-sided 0.2: a drop of fewer standard errors is no evidence, however many points it has.
NO_EVIDENCE = 0.84
# ROC AUC and its error need some of each class; with fewer, the error itself is unreliable.
MIN_OF_A_CLASS = 20
# Largest gap between the shares of known outcomes among predicted positives and the others; above it, they are biased.
MAX_GAP = 0.1
# Growth of an error over the held-out one. An accuracy of .80 that falls by 5 and 10 points has a quarter and a half
# more wrong labels: the same growth.
MORE_WARNING, MORE_CRITICAL = 0.25, 0.50
LENGTH = "1d"
# So many times the evidence needs no second cohort.
SURE = 2.0
_AT_ONCE = Policy(lengths={LENGTH: DAY_MS}, confirm={LENGTH: Confirm(1, 1)})
_TWO_IN_A_ROW = Policy(lengths={LENGTH: DAY_MS}, confirm={LENGTH: Confirm(2, 2)})
_NAMES = {"accuracy": "accuracy", "roc_auc": "ROC AUC", "mae": "MAE", "f1_macro": "macro F1"}


@dataclass(frozen=True, slots=True)
class Limits:
    """From which effect on a drop is an alert."""

    warning: float
    critical: float
    #: What the alert's summary has about them.
    text: str


POINTS = Limits(WARNING, CRITICAL, f"limit -{WARNING:.2f}")
MORE = Limits(MORE_WARNING, MORE_CRITICAL, f"limit +{MORE_WARNING:.0%}")


@dataclass(frozen=True, slots=True)
class Drop:
    """One metric compared with `expected` or `estimated`. by: how much worse; needed: the required evidence."""

    metric: str
    against: str
    value: float
    yardstick: float
    by: float
    needed: float
    limits: Limits = POINTS

    @property
    def grade(self) -> Grade:
        """Return the grade of the effect; NONE without evidence."""
        if self.by < self.needed or self.by < self.limits.warning:
            return Grade.NONE
        return Grade.CRITICAL if self.by >= self.limits.critical else Grade.WARNING

    @property
    def clean(self) -> bool:
        """Return whether the effect is clearly below the limit."""
        return self.by < CLEAN_SHARE * self.limits.warning

    @property
    def sure(self) -> bool:
        """Return whether there is a drop, with SURE times the evidence."""
        return self.grade is not Grade.NONE and self.by >= SURE * self.needed

    @property
    def no_evidence(self) -> bool:
        """Return whether the effect is below the limit, or within what chance gives."""
        return self.by < max(CLEAN_SHARE * self.limits.warning, self.needed * NO_EVIDENCE / EVIDENCE)


class OpenEpisode(msgspec.Struct):
    """The firing episode."""

    severity: Severity
    starts_ms: int
    sequence: int
    evidence: dict[str, Any]


class DropState(msgspec.Struct):
    """State kept between cohorts. model_version: of these cohorts; how days vary is kept for the next version."""

    tracker: Tracker = msgspec.field(default_factory=Tracker)
    model_version: str = ""
    episode: OpenEpisode | None = None
    #: By metric.
    variation: dict[str, Variation] = msgspec.field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the state as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: bytes, latest_ms: float = math.inf) -> DropState:
        """Return the state that `encode` wrote; ValueError for other bytes or a time after `latest_ms`."""
        try:
            found = msgspec.msgpack.decode(raw, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"not the decisions on performance: {error}") from None
        times = [
            found.tracker.since_ms,
            found.tracker.ended_ms or 0,
            *([] if found.episode is None else [found.episode.starts_ms]),
        ]
        if any(not 0 <= time_ms <= latest_ms for time_ms in times):
            raise ValueError("not the decisions on performance: an episode ahead of the clock")
        if (found.tracker.state is State.FIRING) != (found.episode is not None):
            raise ValueError("not the decisions on performance: an episode without its state")
        if not all(variation.valid for variation in found.variation.values()):
            raise ValueError("not the decisions on performance: a variation that is no number")
        return found


@dataclass(slots=True)
class DropDetector:
    """Applies the alerting rules to the cohorts of one model, in the order of their days."""

    model: str
    model_version: str
    min_customers: int
    runbook_url: str
    remembered: DropState = field(default_factory=DropState)

    def renew(self, end_ms: int) -> Alert | None:
        """Start with another reference version: end the old version's episode and return its alert."""
        before, self.remembered = self.remembered, DropState(model_version=self.model_version)
        if before.model_version == self.model_version:
            self.remembered = before
            return None
        self.remembered.variation = before.variation
        for variation in before.variation.values():
            variation.forget_last()
        if before.episode is not None:
            before.episode.sequence += 1
            text = {"summary": f"version {before.model_version} was replaced", "reason": "reference_changed"}
            return self._alert(before.episode, text, end_ms)
        return None

    def step(self, cohort: AnyPerformance) -> tuple[AnyPerformance, Alert | None]:
        """Return the cohort with its state, and the alert to publish; None without one."""
        why_not = self._not_judged(cohort)
        if cohort.model_version != self.model_version:
            return msgspec.structs.replace(cohort, reason=why_not, state=self.state), None
        found = drops(cohort, self.remembered.variation)
        finding = Finding(
            AlertName.PERFORMANCE_DROP,
            None,
            grade=max((drop.grade for drop in found), default=Grade.NONE),
            sufficient=why_not is None,
            clean=all(drop.clean for drop in found),
            no_evidence=all(drop.no_evidence for drop in found),
        )
        end_ms = parse(cohort.cohort.end) or 0
        action, _ = self.remembered.tracker.step(self._policy(found), end_ms, [(LENGTH, finding)])
        if why_not is None:
            self._learn(cohort, found, moved=finding.grade is not Grade.NONE)
        alert = self._announced(action, cohort, found, end_ms)
        return msgspec.structs.replace(cohort, judged=why_not is None, reason=why_not, state=self.state), alert

    def _policy(self, found: Sequence[Drop]) -> Policy:
        """Return how many cohorts a drop needs: one in which it is sure, or where the variation of days is known."""
        variation = self.remembered.variation
        enough = any(
            drop.sure or (drop.metric in variation and variation[drop.metric].known)
            for drop in found
            if drop.grade is not Grade.NONE
        )
        return _AT_ONCE if enough or self.open() else _TWO_IN_A_ROW

    def _learn(self, cohort: AnyPerformance, found: Sequence[Drop], *, moved: bool) -> None:
        # in a fixed order, which is that of the stored state: a replay writes the same bytes
        for name in sorted({drop.metric for drop in found}):
            realised = cohort.metrics[name]
            if realised.value is not None and realised.error:
                variation = self.remembered.variation.setdefault(name, Variation())
                variation.learn(realised.value, realised.error, moved=moved)

    @property
    def state(self) -> str:
        """Return inactive, pending, warning, critical, or not_enough_data."""
        return self.remembered.tracker.shown

    def _not_judged(self, cohort: AnyPerformance) -> str | None:
        """Return why the rules cannot apply to a cohort; None if they can."""
        if cohort.model_version != self.model_version:
            return "other_version"
        if not drops(cohort):
            return "nothing_to_compare_with"
        if min(cohort.labels.known, cohort.customers) < self.min_customers:
            return "not_enough_labels"
        if isinstance(cohort, ClassPerformance):
            return _not_judged_classes(cohort)
        return _not_judged_binary(cohort) if isinstance(cohort, Performance) else None

    def _announced(self, action: Action, cohort: AnyPerformance, found: list[Drop], end_ms: int) -> Alert | None:
        if action is Action.NONE:
            return None
        if action is Action.OPEN:
            self.remembered.episode = OpenEpisode(Severity.WARNING, self.remembered.tracker.since_ms, 0, {})
        episode = self.remembered.episode
        assert episode is not None, "an episode is open while its tracker fires"  # noqa: S101
        if self.remembered.tracker.grade is Grade.CRITICAL:
            episode.severity = Severity.CRITICAL
        episode.sequence += 1
        episode.evidence = evidence(cohort, found)
        if action is Action.CLOSE:
            self.remembered.episode = None
        resolved = action is Action.CLOSE
        text = {"summary": _summary(found, resolved=resolved), "description": _description(cohort, found, resolved)}
        return self._alert(episode, text, end_ms if resolved else None)

    def _alert(self, episode: OpenEpisode, text: Mapping[str, str], end_ms: int | None) -> Alert:
        name = AlertName.PERFORMANCE_DROP.value
        labels = {"alertname": name, "model": self.model}
        return Alert(
            fingerprint=fingerprint(labels),
            status="firing" if end_ms is None else "resolved",
            labels={**labels, "severity": episode.severity.value},
            annotations={**text, "runbook_url": f"{self.runbook_url}#{name.lower()}"},
            starts_at=render(episode.starts_ms),
            ends_at=None if end_ms is None else render(end_ms),
            sequence=episode.sequence,
            evidence=dict(episode.evidence),
        )

    def open(self) -> bool:
        """Return whether an episode fires."""
        return self.remembered.tracker.state is State.FIRING


def _not_judged_binary(cohort: Performance) -> str | None:
    if min(cohort.labels.positive, cohort.labels.negative) < MIN_OF_A_CLASS:
        return "not_enough_labels"
    positive, negative = cohort.coverage.predicted_positive, cohort.coverage.predicted_negative
    if positive is not None and negative is not None and abs(positive - negative) > MAX_GAP:
        return "labels_one_sided"
    return None


def _not_judged_classes(cohort: ClassPerformance) -> str | None:
    """Return that the known share of some class is another than of all, beyond what chance gives among many classes."""
    known = cohort.coverage.all
    for name, made in cohort.predicted.items():
        gap = abs(cohort.coverage.predicted.get(name, 0.0) - known)
        if gap > max(MAX_GAP, EVIDENCE * math.sqrt(known * (1.0 - known) / made)):
            return "labels_one_sided"
    return None


def drops(cohort: AnyPerformance, variation: Mapping[str, Variation] | None = None) -> list[Drop]:
    """Return every possible comparison, the largest drop first. variation: of each metric; None or without it: none."""
    errors = {name: known.errors(EVIDENCE) for name, known in (variation or {}).items()}
    if isinstance(cohort, ClassPerformance):
        found = _class_drops(cohort, errors)
    else:
        found = (
            _point_drops(METRICS, cohort, errors) if isinstance(cohort, Performance) else _value_drops(cohort, errors)
        )
    return sorted(found, key=lambda drop: -drop.by)


def _class_drops(cohort: ClassPerformance, errors: Mapping[str, float]) -> list[Drop]:
    """Return those of accuracy, and of macro F1 where there are outcomes enough of every class."""
    enough = min(cohort.labels.classes.values(), default=0) >= MIN_OF_A_CLASS
    return _point_drops(CLASS_METRICS if enough else CLASS_METRICS[:1], cohort, errors)


def _value_drops(cohort: ValuePerformance, errors: Mapping[str, float]) -> list[Drop]:
    realised, expected, promised = (
        of.get("mae") for of in (cohort.metrics, cohort.expected, cohort.estimated_labelled)
    )
    if not isinstance(realised, Metric) or realised.value is None or realised.error is None:
        return []
    found, sure = [], errors.get("mae", EVIDENCE)
    if isinstance(expected, Metric) and expected.value and expected.error is not None:
        times = realised.value / expected.value
        # of a quotient, to first order
        error = math.hypot(realised.error, times * expected.error) / expected.value
        found.append(Drop("mae", "expected", realised.value, expected.value, times - 1.0, sure * error, MORE))
    if isinstance(promised, Band) and promised.value > 0.0:
        needed = (promised.sampling * sure / Z + promised.calibration) / promised.value
        times = realised.value / promised.value
        found.append(Drop("mae", "estimated", realised.value, promised.value, times - 1.0, needed, MORE))
    return found


def _point_drops(
    metrics: Sequence[str], cohort: Performance | ClassPerformance, errors: Mapping[str, float]
) -> list[Drop]:
    found = []
    for name in metrics:
        realised = cohort.metrics.get(name)
        if realised is None or realised.value is None or realised.error is None:
            continue
        expected, promised = cohort.expected.get(name), cohort.estimated_labelled.get(name)
        if expected is not None and expected.value is not None and expected.error is not None:
            needed = errors.get(name, EVIDENCE) * math.hypot(realised.error, expected.error)
            found.append(
                Drop(name, "expected", realised.value, expected.value, expected.value - realised.value, needed)
            )
        if promised is not None:
            needed = promised.sampling * errors.get(name, EVIDENCE) / Z + promised.calibration
            found.append(
                Drop(name, "estimated", realised.value, promised.value, promised.value - realised.value, needed)
            )
    return found


def evidence(cohort: AnyPerformance, found: list[Drop]) -> dict[str, Any]:
    """Return the alert's `evidence`."""
    if isinstance(cohort, Performance):
        return _evidence(cohort, found, METRICS, POINTS)
    if isinstance(cohort, ClassPerformance):
        return _evidence(cohort, found, CLASS_METRICS, POINTS)
    return _evidence(cohort, found, VALUE_METRICS, MORE)


def _evidence(
    cohort: AnyPerformance,
    found: list[Drop],
    metrics: Sequence[str],
    limits: Limits,
) -> dict[str, Any]:
    return {
        "model_version": cohort.model_version,
        "cohort": msgspec.to_builtins(cohort.cohort),
        "horizon": cohort.horizon,
        "statistic": {name: msgspec.to_builtins(cohort.metrics[name]) for name in metrics if name in cohort.metrics},
        "expected": {name: msgspec.to_builtins(cohort.expected[name]) for name in metrics if name in cohort.expected},
        "estimated": {n: msgspec.to_builtins(cohort.estimated_labelled.get(n)) for n in metrics},
        "drops": [
            {"metric": drop.metric, "against": drop.against, "by": drop.by, "evidence_needed": drop.needed}
            for drop in found
        ],
        "limits": {
            "effect_warning": limits.warning,
            "effect_critical": limits.critical,
            "standard_errors": EVIDENCE,
        },
        "sample": {
            "predictions": cohort.predictions,
            "customers": cohort.customers,
            "labels": msgspec.to_builtins(cohort.labels),
            "coverage": msgspec.to_builtins(cohort.coverage),
        },
        "business": None if cohort.business is None else msgspec.to_builtins(cohort.business),
    }


def _summary(found: list[Drop], *, resolved: bool) -> str:
    if not found:
        return "performance cannot be compared"
    worst = max(found, key=lambda drop: (drop.grade, drop.by))
    estimated = f"estimated from the {'values' if worst.limits is MORE else 'scores'}"
    yardstick = "of held-out customers" if worst.against == "expected" else estimated
    value, compared = (f"{n:.3f}" if worst.limits is POINTS else f"{n:.4g}" for n in (worst.value, worst.yardstick))
    text = f"{_NAMES[worst.metric]} {value}, {compared} {yardstick} ({worst.limits.text})"
    return f"resolved: {text}" if resolved else text


def _description(cohort: AnyPerformance, found: list[Drop], resolved: bool) -> str:
    parts = [f"Predictions of {cohort.cohort.day}: {cohort.labels.known} of {cohort.predictions} outcomes are known."]
    surprised = any(drop.against == "estimated" and drop.grade for drop in found)
    if resolved:
        parts.append("Back above the limit for three cohorts.")
    elif not isinstance(cohort, Performance) and not cohort.estimated_labelled:
        parts.append("Outcomes differ more from what is predicted than in training. See what drifted, then retrain.")
    elif surprised:
        parts.append("The scores predict a better value: customers who look the same behave differently. Retrain.")
    else:
        parts.append("The scores alone predict it, too: the customers are different. See what drifted, then retrain.")
    return " ".join(parts)
