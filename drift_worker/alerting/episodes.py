"""Actions → alerts: one episode per movement, of one feature or of a group that moved at the same window close.

A subject that never fitted the reference has the alert `ReferenceMismatch`: see `alerting.reference_fit`. The name is
fixed when an episode opens, and the fit is not updated until it has closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from drift_worker.alerting import message as texts
from drift_worker.alerting.confirmation import Action, Count, State, Tracker, key_name, key_of
from drift_worker.alerting.findings import Finding, Grade
from drift_worker.alerting.limits import SEASONAL, Policy
from drift_worker.alerting.reference_fit import COMPARED, Fit
from schemas.alert import GROUP, RELATIONAL, Alert, AlertName, Severity, fingerprint
from schemas.measurement import TRAINING, Episode, Measurement
from schemas.timestamps import EARLIEST_MS, parse, render

# Alerts without a feature that are not about the score either.
_OF_NO_FEATURE = RELATIONAL | {AlertName.NO_DATA}
# Features that open such an alert at the same window close share it.
SHARED = (AlertName.FEATURE_DRIFT, AlertName.REFERENCE_MISMATCH)


class Open(msgspec.Struct):
    """An episode that is firing."""

    #: The name of the alert.
    alertname: AlertName
    #: One feature, GROUP, or None for the score and the window.
    feature: str | None
    #: The highest so far.
    severity: Severity
    #: The end of the first window that exceeded.
    starts_ms: int
    #: Messages so far.
    sequence: Count
    #: Of a group, every feature that joined.
    members: list[str]
    #: Of a group, the members that have not resolved.
    active: list[str]
    #: Of the last message, for a resolution without a window (a feature that is gone).
    evidence: dict[str, object]


class Decisions(msgspec.Struct):
    """All state between windows."""

    #: By `alertname/feature`.
    trackers: dict[str, Tracker] = msgspec.field(default_factory=dict)
    #: The open ones, by fingerprint.
    episodes: dict[str, Open] = msgspec.field(default_factory=dict)
    #: By feature, [start, end) of broken data in event time, ms, until it is older than the longest window.
    broken: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)


def check(decisions: Decisions, model: str, latest_ms: int) -> None:
    """Raise ValueError if no Announcer of this model can have made these decisions by `latest_ms`, epoch ms.

    They come out of a topic, and one forged record must neither end the evaluation nor outlast the true ones.
    """
    trackers = decisions.trackers.values()
    times = [one.since_ms for one in trackers] + [one.ended_ms for one in trackers if one.ended_ms is not None]
    times += [episode.starts_ms for episode in decisions.episodes.values()]
    times += [time_ms for span in decisions.broken.values() for time_ms in span]
    if any(not EARLIEST_MS <= time_ms <= latest_ms for time_ms in times):
        raise ValueError("an episode outside the time up to now")
    for name in decisions.trackers:
        key_of(name)
    for mark, episode in decisions.episodes.items():
        if mark != fingerprint(_labels(model, episode.alertname, episode.feature)):
            raise ValueError(f"an episode of {episode.alertname.value} under another fingerprint")
        if not set(episode.active) <= set(episode.members):
            raise ValueError("a group with features that did not join")


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
        """Return the alerts of windows that end at `end_ms`, shortest first, and the open or closed episodes."""
        by_length = {measurement.window.length: measurement for measurement, _ in windows}
        reach = {length: self._judged_ms(end_ms, measurement) for length, measurement in by_length.items()}
        moves: dict[Action, list[tuple[str, Measurement]]] = {action: [] for action in Action}
        for name, found in self._without_broken(end_ms, _by_subject(windows), reach).items():
            tracker = self.decisions.trackers.setdefault(name, Tracker())
            self._note(name, tracker, found)
            action, length = tracker.step(self._policy, end_ms, found, reach)
            if length is not None:
                moves[action].append((name, by_length[length]))
        alerts = [*self._open(moves[Action.OPEN]), *self._raise(moves[Action.RAISE])]
        closed, ended = self._close(end_ms, moves[Action.CLOSE])
        for name, _ in moves[Action.CLOSE]:
            self.decisions.trackers[name].standing.fit = Fit.FITS  # it was clean; what exceeds next has changed
        return [*alerts, *closed], {**self.shown(), **ended}

    def _judged_ms(self, end_ms: int, measurement: Measurement) -> int:
        """Return over how many ms a window was judged: its length, or that of the span that ends with it."""
        since_ms = None if measurement.span is None else parse(measurement.span.start)
        length_ms = self._policy.lengths[measurement.window.length]
        return length_ms if since_ms is None else max(length_ms, end_ms - since_ms)

    def _without_broken(
        self, end_ms: int, subjects: dict[str, list[tuple[str, Finding]]], reach: Mapping[str, int]
    ) -> dict[str, list[tuple[str, Finding]]]:
        """Return the findings without those of windows that hold broken data of their feature.

        One movement, one alert: an hour in which a sensor was stuck for a while differs from the reference as well, and
        `DataQuality` explains it. While that alert is open, every other excess counts as a part of it.
        """
        broken = self.decisions.broken
        longest_ms = self._policy.lengths[self._policy.longest]
        for old in [one for one, (_, until_ms) in broken.items() if until_ms <= end_ms - longest_ms]:
            del broken[old]
        for name, found in subjects.items():
            alertname, feature = key_of(name)
            if feature is None:
                continue
            open_now = self._tracker(AlertName.DATA_QUALITY, feature).state is State.FIRING
            if alertname is not AlertName.DATA_QUALITY and not open_now:
                continue
            for length, finding in found:
                if finding.sufficient and finding.grade is not Grade.NONE:
                    first_ms = end_ms - reach[length]
                    began_ms, until_ms = broken.get(feature, (first_ms, first_ms))
                    began_ms = first_ms if not open_now and first_ms >= until_ms else began_ms
                    broken[feature] = (began_ms, end_ms)
        return {name: self._judged(end_ms, name, found, reach) for name, found in subjects.items()}

    def _judged(
        self, end_ms: int, name: str, found: list[tuple[str, Finding]], reach: Mapping[str, int]
    ) -> list[tuple[str, Finding]]:
        alertname, feature = key_of(name)
        if alertname is AlertName.DATA_QUALITY or feature not in self.decisions.broken:
            return found
        until_ms = self.decisions.broken[feature][1]
        silent = Finding(alertname, feature, sufficient=False)
        return [(length, finding if end_ms - reach[length] >= until_ms else silent) for length, finding in found]

    def _tracker(self, alertname: AlertName, feature: str | None) -> Tracker:
        return self.decisions.trackers.get(key_name((alertname, feature)), Tracker())

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
        for feature in [feature for feature in self.decisions.broken if feature not in known]:
            del self.decisions.broken[feature]
        for mark, episode in list(self.decisions.episodes.items()):
            episode.active = [member for member in episode.active if member in known]
            gone = not episode.active if episode.feature == GROUP else episode.feature not in known
            if gone:
                text = {"summary": f"{episode.feature} is no longer a feature", "reason": "retired"}
                alerts.append(self._end(mark, text, end_ms))
        return alerts

    def remembered(self) -> list[Alert]:
        """Return the open episodes as alerts once more, for a page: a restart keeps no text of messages."""
        text = {"summary": "open since before this process began to evaluate"}
        return [self._alert(mark, episode, text, None) for mark, episode in self.decisions.episodes.items()]

    def start_anew(self, end_ms: int) -> list[Alert]:
        """Begin with another reference: whether it fits is open, and a mismatch with the old one has ended."""
        for name, tracker in self.decisions.trackers.items():
            if key_of(name)[0] not in COMPARED:
                continue
            drifting = tracker.state is State.FIRING and tracker.standing.fit is not Fit.DIFFERS
            self.decisions.trackers[name] = (
                Tracker(
                    tracker.state,
                    tracker.grade,
                    since_ms=tracker.since_ms,
                    opened_against=tracker.opened_against,
                    opened_by=tracker.opened_by,
                )
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
        """Return the open episodes, as a measurement names them."""
        return {
            mark: Episode("firing", episode.severity.value, render(episode.starts_ms))
            for mark, episode in self.decisions.episodes.items()
        }

    def _open(self, moves: Sequence[tuple[str, Measurement]]) -> list[Alert]:
        alerts = []
        for name, measurement in moves:
            if (joined := self._joins(name)) is not None:
                alerts += self._explain(joined, measurement)
            elif not self._may_share(name):
                alerts.append(self._begin(self._said(name), key_of(name)[1], [name], measurement))
        for alertname in SHARED:
            alerts += self._open_together(
                alertname, [(n, m) for n, m in moves if self._may_share(n) and self._said(n) is alertname]
            )
        return alerts

    def _joins(self, name: str) -> str | None:
        """Return the open episode that a `DataQuality` belongs to: drift of the window in which the data broke."""
        alertname, feature = key_of(name)
        if alertname is not AlertName.DATA_QUALITY or feature is None:
            return None
        began_ms = self.decisions.broken[feature][0]
        for other in (AlertName.FEATURE_DRIFT, AlertName.MISSING_VALUES, AlertName.UNSEEN_CATEGORIES):
            tracker = self._tracker(other, feature)
            if tracker.state is State.FIRING and tracker.since_ms >= began_ms:
                return self._episode_of(key_name((other, feature)))
            if tracker.state is not State.FIRING:
                tracker.forget_pending()
        return None

    def _explain(self, mark: str, measurement: Measurement) -> list[Alert]:
        """Send an open episode once more, with the window that shows that the data broke."""
        episode = self.decisions.episodes[mark]
        episode.severity = Severity.CRITICAL
        return [self._say(mark, episode, measurement, None)]

    def _open_together(self, alertname: AlertName, moves: Sequence[tuple[str, Measurement]]) -> list[Alert]:
        """Open one feature alone, several as a group; a feature that opens while a group is open joins it."""
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
        """Return the next message of an episode; `end_ms` if it is the last."""
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
                **_labels(self._model, episode.alertname, episode.feature),
            },
            annotations={**annotations, "runbook_url": f"{self._runbook_url}#{episode.alertname.value.lower()}"},
            starts_at=render(episode.starts_ms),
            ends_at=None if end_ms is None else render(end_ms),
            sequence=episode.sequence,
            evidence=dict(episode.evidence),
        )

    def _mark(self, alertname: AlertName, feature: str | None) -> str:
        return fingerprint(_labels(self._model, alertname, feature))

    def _episode_of(self, name: str) -> str | None:
        """Return the fingerprint of the open episode that a tracker belongs to."""
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
        """Return the alert name of a tracker's episode, which follows from its fit."""
        alertname = key_of(name)[0]
        differs = self.decisions.trackers[name].standing.fit is Fit.DIFFERS
        return AlertName.REFERENCE_MISMATCH if alertname in COMPARED and differs else alertname

    def _may_share(self, name: str) -> bool:
        return key_of(name)[0] is AlertName.FEATURE_DRIFT

    def calm(self, feature: str | None) -> bool:
        """Return whether these hours may be the past of later weeks for a feature, or for the score.

        No episode may be pending, open or just over. A difference from training does not count: it may last for months
        (a mismatch), and must not prevent a past.
        """
        for name, tracker in self.decisions.trackers.items():
            alertname, subject = key_of(name)
            if subject != feature or alertname in _OF_NO_FEATURE or tracker.state is State.INACTIVE:
                continue
            lasting = alertname in SEASONAL and tracker.opened_against == TRAINING
            if tracker.state is State.PENDING or not lasting:
                return False
        return True

    def stirring(self) -> set[str | None]:
        """Return the features, None for the score, for which something is pending or open: they are not calm."""
        stirring = (
            key_of(name)
            for name, tracker in self.decisions.trackers.items()
            if tracker.state in {State.PENDING, State.FIRING}
        )
        return {feature for alertname, feature in stirring if alertname not in _OF_NO_FEATURE}

    def relations_stir(self) -> bool:
        """Return whether a relation or a segment is pending or open: no window is then learnt as their calm past."""
        trackers = (self._tracker(alertname, None) for alertname in RELATIONAL)
        return any(tracker.state in {State.PENDING, State.FIRING} for tracker in trackers)

    def state_of(self, feature: str | None, unknown: str) -> str:
        """Return the state of a distribution: whether it drifted or never fitted, under one word."""
        kind = AlertName.PREDICTION_DRIFT if feature is None else AlertName.FEATURE_DRIFT
        key = key_name((kind if self._policy.kind == "calibrated" else AlertName.CLASSIC, feature))
        return self._shown(key) if key in self.decisions.trackers else unknown

    def states(self) -> dict[tuple[str, str], str]:
        """Return `Tracker.shown` by (alertname, feature), "" without a feature: one state per possible fingerprint."""
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
        if tracker.state is State.FIRING and self._episode_of(name) is None:
            return State.INACTIVE.value  # it joined the alert of another name
        if tracker.state is State.FIRING:
            return _severity(self._said(name), tracker.grade).value
        return tracker.shown


def _labels(model: str, alertname: AlertName, feature: str | None) -> dict[str, str]:
    labels = {"alertname": alertname.value, "model": model}
    return labels if feature is None else {**labels, "feature": feature}


def firing(decisions: Decisions) -> list[str]:
    """Return the names of the trackers that fire."""
    return [name for name, tracker in decisions.trackers.items() if tracker.state is State.FIRING]


def _by_subject(
    windows: Sequence[tuple[Measurement, Sequence[Finding]]],
) -> dict[str, list[tuple[str, Finding]]]:
    """Return tracker name → (length, finding), shortest first."""
    subjects: dict[str, list[tuple[str, Finding]]] = {}
    for measurement, findings in windows:
        for finding in findings:
            subjects.setdefault(key_name(finding.key), []).append((measurement.window.length, finding))
    return subjects


def _severity(alertname: AlertName, grade: Grade) -> Severity:
    """Return the severity; a mismatch is always a warning: it has been there from the start."""
    critical = grade is Grade.CRITICAL and alertname is not AlertName.REFERENCE_MISMATCH
    return Severity.CRITICAL if critical else Severity.WARNING
