"""Measurements decided again: the alerts that the drift worker would have announced under another policy.

The rule is written once. This file, and no other of the command line, imports the drift worker's decisions, which are
pure (docs/adr/0004-backtest-imports-decisions.md). Decided again under the policy that was in force, the measurements
give the announced alerts, message by message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drift_worker.alerting.episodes import Announcer
from drift_worker.alerting.findings import Finding, decide
from drift_worker.alerting.limits import Confirm, Policy
from schemas.alert import Alert, AlertName
from schemas.measurement import Measurement
from schemas.timestamps import parse

# Names that mean the same: the distribution differs from the reference's. A name that both policies use stays.
_DRIFT = frozenset(
    {AlertName.FEATURE_DRIFT, AlertName.PREDICTION_DRIFT, AlertName.REFERENCE_MISMATCH, AlertName.CLASSIC}
)


@dataclass(frozen=True, slots=True)
class Change:
    """The changed settings; None: unchanged."""

    kind: Literal["calibrated", "classic"] | None = None
    effect_warning: float | None = None
    effect_critical: float | None = None
    budget: float | None = None
    confirm: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, policy: Policy) -> Policy:
        """Return the policy with this change; ValueError if the result is invalid.

        A feature's limits stay, except one that equals the general limit: it changes with it.
        """
        unknown = [label for label in self.confirm if label not in policy.lengths]
        if unknown:
            known = ", ".join(policy.lengths)
            raise ValueError(f"--confirm: no windows of {unknown[0]} were measured, only of {known}")
        warning = policy.effect_warning if self.effect_warning is None else self.effect_warning
        critical = policy.effect_critical if self.effect_critical is None else self.effect_critical
        if critical < warning:
            raise ValueError(f"--effect-critical: {critical:g} is below the warning limit, {warning:g}")
        own = {
            name: (
                warning if mine[0] == policy.effect_warning else mine[0],
                critical if mine[1] == policy.effect_critical else mine[1],
            )
            for name, mine in policy.limits.items()
        }
        return dataclasses.replace(
            policy,
            kind=self.kind or policy.kind,
            budget=policy.budget if self.budget is None else self.budget,
            effect_warning=warning,
            effect_critical=critical,
            limits=own,
            confirm={**policy.confirm, **{label: Confirm(k, n) for label, (k, n) in self.confirm.items()}},
        )


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode, from its messages. end: None while it is open. features: of a group, those that took part."""

    model: str
    alertname: str
    feature: str | None
    features: tuple[str, ...]
    severity: str
    start: str
    end: str | None
    messages: int

    def as_dict(self) -> dict[str, Any]:
        """Return builtin types, for JSON."""
        return dataclasses.asdict(self)

    def concerns(self, other: Episode) -> bool:
        """Return whether both are about the same movement: of one subject, and for some time at the same time."""
        return (
            self.model == other.model
            and _kind(self.alertname) == _kind(other.alertname)
            and not {*(self.features or (self.feature,))}.isdisjoint(other.features or (other.feature,))
            and (self.end is None or other.start <= self.end)
            and (other.end is None or self.start <= other.end)
        )


def episodes_of(alerts: Iterable[Alert]) -> list[Episode]:
    """Return the episodes of messages in their order, oldest first."""
    found: dict[tuple[str, str], Episode] = {}
    for alert in alerts:
        labels = alert.labels
        found[alert.fingerprint, alert.starts_at] = Episode(
            model=labels.get("model", ""),
            alertname=labels.get("alertname", ""),
            feature=labels.get("feature"),
            features=tuple(sorted(member["feature"] for member in alert.members())),
            severity=labels.get("severity", ""),
            start=alert.starts_at,
            end=alert.ends_at,
            messages=alert.sequence,
        )
    return sorted(found.values(), key=lambda episode: (episode.start, episode.model, episode.feature or ""))


def side_by_side(
    announced: Sequence[Episode], replayed: Sequence[Episode]
) -> list[tuple[Episode | None, Episode | None]]:
    """Return each episode with its counterpart on the other side, if it has one; in the order of their beginnings."""
    pairs: list[tuple[Episode | None, Episode | None]] = []
    left = list(replayed)
    for one in announced:
        other = next((candidate for candidate in left if one.concerns(candidate)), None)
        if other is not None:
            left.remove(other)
        pairs.append((one, other))
    pairs += [(None, other) for other in left]
    return sorted(pairs, key=lambda pair: min(episode.start for episode in pair if episode is not None))


class Replay:
    """Decides measurements again, in the order in which they were written.

    `alerts` are those that would have been announced. left_out counts measurements by reason. `no_decision`: they hold
    no decision. `cut`: the topic no longer holds the others of their time. `too_old`: they were too old to be
    announced; with `backlog` they are decided like all others.
    """

    def __init__(self, change: Change, runbook_url: str = "docs/runbook.md", *, backlog: bool = False) -> None:
        self._change = change
        self._runbook_url = runbook_url
        self._backlog = backlog
        self._models: dict[str, _Model] = {}
        self.alerts: list[Alert] = []
        self.decided = 0
        self.left_out = {"no_decision": 0, "cut": 0, "too_old": 0}

    def take(self, measurement: Measurement) -> None:
        """Take in the next one; ValueError if the change does not fit its policy."""
        decision = measurement.decision
        if decision is None:
            self.left_out["no_decision"] += 1
            return
        model = self._models.setdefault(measurement.model, _Model(self._change, measurement.model, self._runbook_url))
        waiting = model.waiting
        if waiting and decision.together[len(waiting) :][:1] != [measurement.window.length]:
            self.left_out["cut"] += len(waiting)
            waiting.clear()
        if not waiting and decision.together[:1] != [measurement.window.length]:
            self.left_out["cut"] += 1
            return
        waiting.append(measurement)
        if len(waiting) == len(decision.together):
            announced = decision.announced or self._backlog
            self.left_out["too_old"] += 0 if announced else len(waiting)
            self.decided += len(waiting) if announced else 0
            self.alerts += model.decide(announced=announced)

    def policies(self) -> dict[str, Policy]:
        """Return the policy of each model at the end, with the change."""
        return {name: model.policy for name, model in self._models.items() if model.policy is not None}

    def since(self) -> dict[str, str]:
        """Return the end of each model's first windows that could be decided again; earlier alerts are unknown."""
        return {name: model.first_end for name, model in self._models.items() if model.first_end is not None}


class _Model:
    """One model's decisions, as its drift worker kept them."""

    def __init__(self, change: Change, name: str, runbook_url: str) -> None:
        self._change = change
        self._name = name
        self._runbook_url = runbook_url
        self._stated: Mapping[str, Any] | None = None
        self._announcer: Announcer | None = None
        self._features: tuple[str, ...] = ()
        self._reference: str | None = None
        self._last_end_ms = 0
        self.policy: Policy | None = None
        self.first_end: str | None = None
        self.waiting: list[Measurement] = []

    def decide(self, *, announced: bool) -> list[Alert]:
        """Take in the windows that wait; they ended together."""
        windows, self.waiting = self.waiting, []
        end = windows[0].window.end
        announcer, alerts = self._evaluator(windows[0])
        assert self.policy is not None, "an evaluator has one"  # noqa: S101
        judged: list[tuple[Measurement, list[Finding]]] = [decide(self.policy, window) for window in windows]
        end_ms = parse(end) or 0
        if announced:
            said, _ = announcer.step(end_ms, judged)
            alerts += said
            self.first_end = self.first_end or end
        else:
            announcer.observe(judged)
        self._last_end_ms = max(self._last_end_ms, end_ms)
        return alerts

    def _evaluator(self, measurement: Measurement) -> tuple[Announcer, list[Alert]]:
        """Return the announcer to continue with; after a worker's restart, note its messages on removed features."""
        assert measurement.decision is not None, "Replay takes no other"  # noqa: S101
        announcer = self._announcer
        alerts: list[Alert] = []
        if announcer is None or measurement.decision.policy != self._stated:
            self._stated = measurement.decision.policy
            self.policy = self._change.of(Policy.of(self._stated))
            remembered = None if announcer is None else announcer.decisions
            announcer = self._announcer = Announcer(self.policy, self._name, self._runbook_url, remembered)
        names = tuple(measurement.features)
        if names and names != self._features:
            alerts = announcer.retire(names, self._last_end_ms)
            self._features = names
        if measurement.reference_sha256 != self._reference:
            if self._reference is not None:
                alerts += announcer.start_anew(self._last_end_ms)
            self._reference = measurement.reference_sha256
        return announcer, alerts


def _kind(alertname: str) -> str:
    return "drift" if alertname in _DRIFT else alertname
