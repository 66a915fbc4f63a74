"""Actions → alerts: one episode per movement, of one feature or of a group that moved at the same window close.

What never fitted the reference is called `ReferenceMismatch` instead: see `drift_worker.mismatch`. The name is settled
when an episode opens, and nothing is noted of the fit until it has closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from drift_worker import evidence as texts
from drift_worker.decide import SEASONAL, Finding, Grade, Policy
from drift_worker.lifecycle import Action, State, Tracker, key_name, key_of
from drift_worker.mismatch import COMPARED, Fit
from schemas.alert import GROUP, Alert, AlertName, Severity, fingerprint
from schemas.measurement import TRAINING, Episode, Measurement
from schemas.rfc3339 import render

# Features that open such an alert at the same window close share it.
SHARED = (AlertName.FEATURE_DRIFT, AlertName.REFERENCE_MISMATCH)


class Open(msgspec.Struct):
    """An episode that is firing. members: of a group, every feature that joined; active: those that have not resolved.

    evidence: of the last message, for a resolution without a window (a feature that is gone).
    """

    alertname: AlertName
    feature: str | None
    severity: Severity
    starts_ms: int
    sequence: int
    members: list[str]
    active: list[str]
    evidence: dict[str, object]


class Decisions(msgspec.Struct):
    """Everything that is remembered between windows: trackers by `alertname/feature`, open episodes by fingerprint."""

    trackers: dict[str, Tracker] = msgspec.field(default_factory=dict)
    episodes: dict[str, Open] = msgspec.field(default_factory=dict)


class Announcer:
    """Turns the findings of windows that end together into alerts, and keeps the decisions up to date."""

    def __init__(self, policy: Policy, model: str, runbook_url: str, decisions: Decisions | None = None) -> None:
        self._policy = policy
        self._model = model
        self._runbook_url = runbook_url
        self.decisions = decisions or Decisions()

    def step(
        self, end_ms: int, windows: Sequence[tuple[Measurement, Sequence[Finding]]]
    ) -> tuple[list[Alert], dict[str, Episode]]:
        """`windows` end at `end_ms`, shortest first. The alerts to send, and the episodes open or closed with them."""
        by_length = {measurement.window.length: measurement for measurement, _ in windows}
        moves: dict[Action, list[tuple[str, Measurement]]] = {action: [] for action in Action}
        for name, found in _by_subject(windows).items():
            tracker = self.decisions.trackers.setdefault(name, Tracker())
            self._note(name, tracker, found)
            action, length = tracker.step(self._policy, end_ms, found)
            if length is not None:
                moves[action].append((name, by_length[length]))
        alerts = [*self._open(moves[Action.OPEN]), *self._raise(moves[Action.RAISE])]
        closed, ended = self._close(end_ms, moves[Action.CLOSE])
        for name, _ in moves[Action.CLOSE]:
            self.decisions.trackers[name].standing.fit = Fit.FITS  # it was clean; what exceeds next has changed
        return [*alerts, *closed], {**self.shown(), **ended}

    def observe(self, windows: Sequence[tuple[Measurement, Sequence[Finding]]]) -> None:
        """Take in windows that are too old to raise anything: they still show whether the reference fits."""
        for name, found in _by_subject(windows).items():
            self._note(name, self.decisions.trackers.setdefault(name, Tracker()), found)

    def _note(self, name: str, tracker: Tracker, found: Sequence[tuple[str, Finding]]) -> None:
        if key_of(name)[0] in COMPARED and tracker.state is not State.FIRING:
            tracker.standing.note(self._policy, found)

    def retire(self, features: Sequence[str], end_ms: int) -> list[Alert]:
        """Resolve the alerts of features that no longer exist; forget their trackers."""
        known = {*features, None}
        alerts = []
        for name in [name for name in self.decisions.trackers if key_of(name)[1] not in known]:
            del self.decisions.trackers[name]
        for mark, episode in list(self.decisions.episodes.items()):
            episode.active = [member for member in episode.active if member in known]
            gone = not episode.active if episode.feature == GROUP else episode.feature not in known
            if gone:
                text = {"summary": f"{episode.feature} is no longer a feature", "reason": "retired"}
                alerts.append(self._end(mark, text, end_ms))
        return alerts

    def remembered(self) -> list[Alert]:
        """The open episodes as alerts once more, for a page: a restart remembers no message's words."""
        text = {"summary": "open since before this process began to evaluate"}
        return [self._alert(mark, episode, text, None) for mark, episode in self.decisions.episodes.items()]

    def start_anew(self, end_ms: int) -> list[Alert]:
        """Another reference from now on: whether it fits is open, and that the old one did not is no news any more."""
        for name, tracker in self.decisions.trackers.items():
            if key_of(name)[0] not in COMPARED:
                continue
            drifting = tracker.state is State.FIRING and tracker.standing.fit is not Fit.DIFFERS
            self.decisions.trackers[name] = (
                Tracker(tracker.state, tracker.grade, since_ms=tracker.since_ms, opened_against=tracker.opened_against)
                if drifting
                else Tracker()
            )
        text = {"summary": "there is another reference", "reason": "reference_changed"}
        return [
            self._end(mark, text, end_ms)
            for mark, episode in list(self.decisions.episodes.items())
            if episode.alertname is AlertName.REFERENCE_MISMATCH
        ]

    def _end(self, mark: str, text: Mapping[str, str], end_ms: int) -> Alert:
        """Resolve an episode without a window that shows it."""
        episode = self.decisions.episodes.pop(mark)
        episode.sequence += 1
        return self._alert(mark, episode, text, end_ms)

    def shown(self) -> dict[str, Episode]:
        """The open episodes, as a measurement names them."""
        return {
            mark: Episode("firing", episode.severity.value, render(episode.starts_ms))
            for mark, episode in self.decisions.episodes.items()
        }

    def _open(self, moves: Sequence[tuple[str, Measurement]]) -> list[Alert]:
        alerts = []
        for name, measurement in moves:
            if not self._may_share(name):
                alerts.append(self._begin(self._said(name), key_of(name)[1], [name], measurement))
        for alertname in SHARED:
            alerts += self._open_together(
                alertname, [(n, m) for n, m in moves if self._may_share(n) and self._said(n) is alertname]
            )
        return alerts

    def _open_together(self, alertname: AlertName, moves: Sequence[tuple[str, Measurement]]) -> list[Alert]:
        """One feature by itself, several as a group; who opens while a group is open joins it."""
        episode = self.decisions.episodes.get(self._mark(alertname, GROUP))
        names = [name for name, _ in moves]
        if not moves:
            return []
        if episode is None:
            feature = key_of(names[0])[1] if len(names) == 1 else GROUP
            return [self._begin(alertname, feature, names, moves[0][1])]
        # listed from its next message on
        for feature in (key_of(name)[1] or "" for name in names):
            episode.active.append(feature)
            episode.members += [feature] * (feature not in episode.members)
        return self._raise(moves)

    def _begin(
        self, alertname: AlertName, feature: str | None, trackers: Sequence[str], measurement: Measurement
    ) -> Alert:
        members = [key_of(name)[1] or "" for name in trackers] if feature == GROUP else []
        states = [self.decisions.trackers[name] for name in trackers]
        mark = self._mark(alertname, feature)
        episode = Open(
            alertname=alertname,
            feature=feature,
            severity=_severity(alertname, max(state.grade for state in states)),
            starts_ms=min(state.since_ms for state in states),
            sequence=0,
            members=members,
            active=list(members),
            evidence={},
        )
        self.decisions.episodes[mark] = episode
        return self._say(mark, episode, measurement, None)

    def _raise(self, moves: Sequence[tuple[str, Measurement]]) -> list[Alert]:
        alerts = []
        for name, measurement in moves:
            mark = self._episode_of(name)
            severity = _severity(self._said(name), self.decisions.trackers[name].grade)
            if mark is None or self.decisions.episodes[mark].severity is Severity.CRITICAL:
                continue
            if severity is Severity.CRITICAL:
                self.decisions.episodes[mark].severity = severity
                alerts.append(self._say(mark, self.decisions.episodes[mark], measurement, None))
        return alerts

    def _close(self, end_ms: int, moves: Sequence[tuple[str, Measurement]]) -> tuple[list[Alert], dict[str, Episode]]:
        alerts, ended = [], {}
        for name, measurement in moves:
            mark = self._episode_of(name)
            if mark is None:
                continue
            episode = self.decisions.episodes[mark]
            if episode.feature == GROUP:
                episode.active.remove(key_of(name)[1] or "")
                if episode.active:
                    continue
            del self.decisions.episodes[mark]
            ended[mark] = Episode("resolved", episode.severity.value, render(episode.starts_ms))
            alerts.append(self._say(mark, episode, measurement, end_ms))
        return alerts, ended

    def _say(self, mark: str, episode: Open, measurement: Measurement, end_ms: int | None) -> Alert:
        """The next message of an episode; `end_ms` if it is the last."""
        ranked = texts.rank(measurement, episode.members)
        feature = ranked[0] if ranked else episode.feature
        episode.sequence += 1
        episode.evidence = texts.evidence(self._policy, measurement, episode.alertname, feature, ranked)
        since = render(episode.starts_ms)
        resolved = end_ms is not None
        summary = texts.summary(self._policy, measurement, episode.alertname, feature, ranked, resolved=resolved)
        annotations = {
            "summary": f"resolved: {summary}" if resolved else summary,
            "description": texts.describe(measurement, episode.alertname, feature, since, resolved=resolved),
        }
        return self._alert(mark, episode, annotations, end_ms)

    def _alert(self, mark: str, episode: Open, annotations: Mapping[str, str], end_ms: int | None) -> Alert:
        return Alert(
            fingerprint=mark,
            status="firing" if end_ms is None else "resolved",
            labels={
                "alertname": episode.alertname.value,
                "severity": episode.severity.value,
                **self._labels(episode.alertname, episode.feature),
            },
            annotations={**annotations, "runbook_url": f"{self._runbook_url}#{episode.alertname.value.lower()}"},
            starts_at=render(episode.starts_ms),
            ends_at=None if end_ms is None else render(end_ms),
            sequence=episode.sequence,
            evidence=dict(episode.evidence),
        )

    def _labels(self, alertname: AlertName, feature: str | None) -> dict[str, str]:
        labels = {"alertname": alertname.value, "model": self._model}
        return labels if feature is None else {**labels, "feature": feature}

    def _mark(self, alertname: AlertName, feature: str | None) -> str:
        return fingerprint(self._labels(alertname, feature))

    def _episode_of(self, name: str) -> str | None:
        """Fingerprint of the open episode that a tracker belongs to."""
        alertname, feature = self._said(name), key_of(name)[1]
        own = self._mark(alertname, feature)
        if own in self.decisions.episodes:
            return own
        group = self._mark(alertname, GROUP)
        episode = self.decisions.episodes.get(group)
        if episode is not None and self._may_share(name) and feature in episode.active:
            return group
        return None

    def _said(self, name: str) -> AlertName:
        """What a tracker's episode is called, from its fit."""
        alertname = key_of(name)[0]
        differs = self.decisions.trackers[name].standing.fit is Fit.DIFFERS
        return AlertName.REFERENCE_MISMATCH if alertname in COMPARED and differs else alertname

    def _may_share(self, name: str) -> bool:
        return key_of(name)[0] is AlertName.FEATURE_DRIFT

    def calm(self, feature: str | None) -> bool:
        """Whether these hours may be the past of later weeks for a feature, or for the score.

        Nothing must be pending, open or just over. What was found against training does not count: it may last for
        months (a mismatch), and is no reason to have no past.
        """
        for name, tracker in self.decisions.trackers.items():
            alertname, subject = key_of(name)
            if subject != feature or alertname is AlertName.NO_DATA or tracker.state is State.INACTIVE:
                continue
            lasting = alertname in SEASONAL and tracker.opened_against == TRAINING
            if tracker.state is State.PENDING or not lasting:
                return False
        return True

    def state_of(self, feature: str | None, unknown: str) -> str:
        """Of the distribution of a feature, or of the score: whether it drifted or never fitted, under one word."""
        kind = AlertName.PREDICTION_DRIFT if feature is None else AlertName.FEATURE_DRIFT
        key = key_name((kind if self._policy.kind == "calibrated" else AlertName.CLASSIC, feature))
        return self._shown(key) if key in self.decisions.trackers else unknown

    def states(self) -> dict[tuple[str, str], str]:
        """`Tracker.shown` by (alertname, feature), "" where there is no feature: one state per possible fingerprint."""
        found = {}
        for name in self.decisions.trackers:
            alertname, feature = key_of(name)
            names = [alertname, *([AlertName.REFERENCE_MISMATCH] if alertname in COMPARED else [])]
            for said in names:
                shown = self._shown(name) if said is self._said(name) else State.INACTIVE.value
                found[said.value, feature or ""] = shown
        return found

    def _shown(self, name: str) -> str:
        tracker = self.decisions.trackers[name]
        if tracker.state is State.FIRING:
            return _severity(self._said(name), tracker.grade).value
        return tracker.shown


def firing(decisions: Decisions) -> list[str]:
    """Names of the trackers that fire."""
    return [name for name, tracker in decisions.trackers.items() if tracker.state is State.FIRING]


def _by_subject(
    windows: Sequence[tuple[Measurement, Sequence[Finding]]],
) -> dict[str, list[tuple[str, Finding]]]:
    """Tracker name → (length, finding), shortest first."""
    subjects: dict[str, list[tuple[str, Finding]]] = {}
    for measurement, findings in windows:
        for finding in findings:
            subjects.setdefault(key_name(finding.key), []).append((measurement.window.length, finding))
    return subjects


def _severity(alertname: AlertName, grade: Grade) -> Severity:
    """A mismatch is a ticket however large it is: it has been there from the start, and is said once."""
    critical = grade is Grade.CRITICAL and alertname is not AlertName.REFERENCE_MISMATCH
    return Severity.CRITICAL if critical else Severity.WARNING
