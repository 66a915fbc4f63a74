"""Final cohorts → `PerformanceDrop`: findings, the lifecycle of drift's episodes, and what an alert says. Pure.

Two ways to be worse, of accuracy and of ROC AUC each; both need effect and evidence:

- below what the bundle's held-out customers gave (`expected`): the customers, or their behaviour, are others;
- below what the scores of the very same predictions promise (`estimated`), outside both of its bands, sampling and
  calibration: customers who look the same behave differently. No estimate can see that; only labels do.

Effect: WARNING points, twice as much is critical. Evidence: EVIDENCE standard errors (of the cohort, by customer, and
of the held-out customers together; of the estimate, its sampling part), so that a year of daily cohorts without any
change raises less than one page: tests/quality/performance_drop.py simulates it, docs/model-life.md has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from drift_worker.decide import CLEAN_SHARE, Confirm, Finding, Grade, Policy
from drift_worker.estimate import Z
from drift_worker.label_store import DAY_MS
from drift_worker.lifecycle import Action, State, Tracker
from schemas.alert import Alert, AlertName, Severity, fingerprint
from schemas.performance import Performance
from schemas.rfc3339 import parse, render

METRICS = ("accuracy", "roc_auc")
# Points of a metric; a drop of five is where a campaign that pays for itself begins not to.
WARNING, CRITICAL = 0.05, 0.10
# One-sided 2.3e-4 of a normal distribution: 365 cohorts x 4 comparisons give 0.34 a year, before the effect's say.
EVIDENCE = 3.5
# ROC AUC and its error need some of each; with fewer the error itself is a guess.
MIN_OF_A_CLASS = 20
# Outcomes known of many whom the model calls positive and of few others: what is known is not what is.
MAX_GAP = 0.1
LENGTH = "1d"
_POLICY = Policy(lengths={LENGTH: DAY_MS}, confirm={LENGTH: Confirm(1, 1)})
_NAMES = {"accuracy": "accuracy", "roc_auc": "ROC AUC"}


@dataclass(frozen=True, slots=True)
class Drop:
    """One metric held against one yardstick (`expected` or `estimated`). by: how far below it; needed: the evidence."""

    metric: str
    against: str
    value: float
    yardstick: float
    by: float
    needed: float

    @property
    def grade(self) -> Grade:
        """With evidence: how large."""
        if self.by < self.needed or self.by < WARNING:
            return Grade.NONE
        return Grade.CRITICAL if self.by >= CRITICAL else Grade.WARNING


class Open(msgspec.Struct):
    """The episode that fires."""

    severity: Severity
    starts_ms: int
    sequence: int
    evidence: dict[str, Any]


class Remembered(msgspec.Struct):
    """What is kept between cohorts. model_version: which they were of."""

    tracker: Tracker = msgspec.field(default_factory=Tracker)
    model_version: str = ""
    episode: Open | None = None

    def encode(self) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> Remembered:
        """The counterpart; ValueError if it is none."""
        try:
            return msgspec.msgpack.decode(raw, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not the decisions on performance: {error}") from None


@dataclass(slots=True)
class Judge:
    """Judges the cohorts of one model, in the order of their days."""

    model: str
    model_version: str
    min_customers: int
    runbook_url: str
    remembered: Remembered = field(default_factory=Remembered)

    def renew(self, end_ms: int) -> Alert | None:
        """Another version is compared with from now on: what was said of the old one has ended."""
        before, self.remembered = self.remembered, Remembered(model_version=self.model_version)
        if before.model_version == self.model_version:
            self.remembered = before
        elif before.episode is not None:
            before.episode.sequence += 1
            text = {"summary": f"version {before.model_version} was replaced", "reason": "reference_changed"}
            return self._alert(before.episode, text, end_ms)
        return None

    def step(self, cohort: Performance) -> tuple[Performance, Alert | None]:
        """The cohort with its state, and what there is to say."""
        why_not = self._unjudged(cohort)
        if cohort.model_version != self.model_version:
            return msgspec.structs.replace(cohort, reason=why_not, state=self.state), None
        found = drops(cohort)
        finding = Finding(
            AlertName.PERFORMANCE_DROP,
            None,
            grade=max((drop.grade for drop in found), default=Grade.NONE),
            sufficient=why_not is None,
            clean=all(drop.by < CLEAN_SHARE * WARNING for drop in found),
        )
        end_ms = parse(cohort.cohort.end) or 0
        action, _ = self.remembered.tracker.step(_POLICY, end_ms, [(LENGTH, finding)])
        alert = self._say(action, cohort, found, end_ms)
        return msgspec.structs.replace(cohort, judged=why_not is None, reason=why_not, state=self.state), alert

    @property
    def state(self) -> str:
        """inactive, pending, warning, critical, or not_enough_data."""
        return self.remembered.tracker.shown

    def _unjudged(self, cohort: Performance) -> str | None:
        """Why nothing follows from a cohort."""
        if cohort.model_version != self.model_version:
            return "other_version"
        if not drops(cohort):
            return "nothing_to_compare_with"
        known = cohort.labels.positive + cohort.labels.negative
        customers = min(known, cohort.customers)
        if customers < self.min_customers or min(cohort.labels.positive, cohort.labels.negative) < MIN_OF_A_CLASS:
            return "not_enough_labels"
        told = (cohort.coverage.predicted_positive, cohort.coverage.predicted_negative)
        if told[0] is not None and told[1] is not None and abs(told[0] - told[1]) > MAX_GAP:
            return "labels_one_sided"
        return None

    def _say(self, action: Action, cohort: Performance, found: list[Drop], end_ms: int) -> Alert | None:
        if action is Action.NONE:
            return None
        if action is Action.OPEN:
            self.remembered.episode = Open(Severity.WARNING, self.remembered.tracker.since_ms, 0, {})
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

    def _alert(self, episode: Open, text: Mapping[str, str], end_ms: int | None) -> Alert:
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
        """Whether an episode fires."""
        return self.remembered.tracker.state is State.FIRING


def drops(cohort: Performance) -> list[Drop]:
    """Every comparison that can be made, the largest drop first."""
    found = []
    for name in METRICS:
        realised = cohort.metrics.get(name)
        if realised is None or realised.value is None or realised.error is None:
            continue
        expected, promised = cohort.expected.get(name), cohort.estimated_labelled.get(name)
        if expected is not None and expected.value is not None and expected.error is not None:
            needed = EVIDENCE * math.hypot(realised.error, expected.error)
            found.append(
                Drop(name, "expected", realised.value, expected.value, expected.value - realised.value, needed)
            )
        if promised is not None:
            needed = promised.sampling * EVIDENCE / Z + promised.calibration
            found.append(
                Drop(name, "estimated", realised.value, promised.value, promised.value - realised.value, needed)
            )
    return sorted(found, key=lambda drop: -drop.by)


def evidence(cohort: Performance, found: list[Drop]) -> dict[str, Any]:
    """The alert's `evidence`."""
    return {
        "model_version": cohort.model_version,
        "cohort": msgspec.to_builtins(cohort.cohort),
        "horizon": cohort.horizon,
        "statistic": {name: msgspec.to_builtins(cohort.metrics[name]) for name in METRICS if name in cohort.metrics},
        "expected": {name: msgspec.to_builtins(cohort.expected[name]) for name in METRICS if name in cohort.expected},
        "estimated": {name: msgspec.to_builtins(cohort.estimated_labelled.get(name)) for name in METRICS},
        "drops": [
            {"metric": drop.metric, "against": drop.against, "by": drop.by, "evidence_needed": drop.needed}
            for drop in found
        ],
        "limits": {"effect_warning": WARNING, "effect_critical": CRITICAL, "standard_errors": EVIDENCE},
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
    yardstick = "of held-out customers" if worst.against == "expected" else "promised by the scores"
    text = f"{_NAMES[worst.metric]} {worst.value:.3f}, {worst.yardstick:.3f} {yardstick} (limit -{WARNING:.2f})"
    return f"resolved: {text}" if resolved else text


def _description(cohort: Performance, found: list[Drop], resolved: bool) -> str:
    known = cohort.labels.positive + cohort.labels.negative
    parts = [f"Predictions of {cohort.cohort.day}: {known} of {cohort.predictions} outcomes are known."]
    surprised = any(drop.against == "estimated" and drop.grade for drop in found)
    if resolved:
        parts.append("Back above the limit for three cohorts.")
    elif surprised:
        parts.append("The scores promised better: customers who look the same behave differently. Retrain.")
    else:
        parts.append("The scores themselves say so: the customers are others. See what drifted, then retrain.")
    return " ".join(parts)
