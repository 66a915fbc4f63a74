"""Findings → states: inactive → pending → firing → resolved. The transitions are data; tests walk every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec

from drift_worker.alerting.findings import Finding, Grade, Key
from drift_worker.alerting.limits import SEASONAL, Confirm, Policy
from drift_worker.alerting.reference_fit import Standing
from schemas.alert import AlertName
from schemas.measurement import TRAINING

# Windows with enough data and a clean effect that end an episode; then as many in which none is opened again.
CLEAN_WINDOWS = 3
REST_WINDOWS = 3


class State(StrEnum):
    """The state of one subject's episode."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Event(StrEnum):
    """What the windows that closed together show of one subject; the strongest that applies."""

    INSUFFICIENT = "insufficient"  # no window had enough data: no count changes
    QUIET = "quiet"  # no excess in the last windows
    EXCEEDED = "exceeded"  # something did, but not k of n windows
    CONFIRMED = "confirmed"  # k of n windows, or one that is critical and sure
    WORSE = "worse"  # k of n windows are critical; the open episode was a warning
    ENDED = "ended"  # enough clean windows in a row since it fired, or enough windows since it was resolved


class Action(StrEnum):
    """What is announced."""

    NONE = "none"
    OPEN = "open"
    RAISE = "raise"
    CLOSE = "close"


_S, _E, _A = State, Event, Action
TRANSITIONS: Mapping[tuple[State, Event], tuple[State, Action]] = {
    (_S.INACTIVE, _E.INSUFFICIENT): (_S.INACTIVE, _A.NONE),
    (_S.INACTIVE, _E.QUIET): (_S.INACTIVE, _A.NONE),
    (_S.INACTIVE, _E.EXCEEDED): (_S.PENDING, _A.NONE),
    (_S.INACTIVE, _E.CONFIRMED): (_S.FIRING, _A.OPEN),
    (_S.INACTIVE, _E.WORSE): (_S.FIRING, _A.OPEN),
    (_S.INACTIVE, _E.ENDED): (_S.INACTIVE, _A.NONE),
    (_S.PENDING, _E.INSUFFICIENT): (_S.PENDING, _A.NONE),
    (_S.PENDING, _E.QUIET): (_S.INACTIVE, _A.NONE),
    (_S.PENDING, _E.EXCEEDED): (_S.PENDING, _A.NONE),
    (_S.PENDING, _E.CONFIRMED): (_S.FIRING, _A.OPEN),
    (_S.PENDING, _E.WORSE): (_S.FIRING, _A.OPEN),
    (_S.PENDING, _E.ENDED): (_S.INACTIVE, _A.NONE),
    (_S.FIRING, _E.INSUFFICIENT): (_S.FIRING, _A.NONE),
    (_S.FIRING, _E.QUIET): (_S.FIRING, _A.NONE),
    (_S.FIRING, _E.EXCEEDED): (_S.FIRING, _A.NONE),
    (_S.FIRING, _E.CONFIRMED): (_S.FIRING, _A.NONE),
    (_S.FIRING, _E.WORSE): (_S.FIRING, _A.RAISE),
    (_S.FIRING, _E.ENDED): (_S.RESOLVED, _A.CLOSE),
    (_S.RESOLVED, _E.INSUFFICIENT): (_S.RESOLVED, _A.NONE),
    (_S.RESOLVED, _E.QUIET): (_S.RESOLVED, _A.NONE),
    (_S.RESOLVED, _E.EXCEEDED): (_S.RESOLVED, _A.NONE),
    (_S.RESOLVED, _E.CONFIRMED): (_S.RESOLVED, _A.NONE),
    (_S.RESOLVED, _E.WORSE): (_S.RESOLVED, _A.NONE),
    (_S.RESOLVED, _E.ENDED): (_S.INACTIVE, _A.NONE),
}


# A number of windows or messages, as a checkpoint may hold it: any producer may write one, and sums are in 64 bits.
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]


class Tracker(msgspec.Struct):
    """One subject's state, with the windows that it depends on."""

    #: Where the episode is in its life.
    state: State = State.INACTIVE
    #: The highest grade that the open episode has reached.
    grade: Grade = Grade.NONE
    #: While firing, clean windows in a row; while resolved, windows since the end.
    counted: Count = 0
    #: The end of the first window that exceeded.
    since_ms: int = 0
    #: Grades of the last n windows with enough data per length, newest last.
    recent: dict[str, list[Annotated[int, msgspec.Meta(ge=int(Grade.NONE), le=int(Grade.CRITICAL))]]] = msgspec.field(
        default_factory=dict
    )
    #: Whether the last window of a length had enough data.
    sufficient: dict[str, bool] = msgspec.field(default_factory=dict)
    #: Whether the subject fits the reference; the name of the episode follows from it, its course does not.
    standing: Standing = msgspec.field(default_factory=Standing)
    #: What the window that opened the episode was compared with. A usual Sunday may still differ from training, so
    #: windows of the other kind cannot end the episode.
    opened_against: str = TRAINING
    #: The length of the window that opened the episode.
    opened_by: str = ""
    #: Windows of that length in a row, while firing, in which the rule that opened the episode finds no effect or no
    #: evidence. In small windows the effect alone is never clean.
    unproven: Count = 0
    #: When the last episode ended; None without one. A longer window that began before holds the movement that was
    #: announced: it opens no other episode.
    ended_ms: int | None = None

    def step(
        self,
        policy: Policy,
        end_ms: int,
        findings: Sequence[tuple[str, Finding]],
        judged: Mapping[str, int] | None = None,
    ) -> tuple[Action, str | None]:
        """Take in the findings of the windows that end at `end_ms`, (length, finding), shortest first.

        judged: by length, over how many ms a window was judged, if not over its own length alone. Return what to
        announce, and the length of the window that decided it.
        """
        event, length, grade = self._event(policy, end_ms, findings, policy.lengths if judged is None else judged)
        before = self.state
        self.state, action = TRANSITIONS[before, event]
        if self.state is State.INACTIVE:
            self.grade, self.since_ms = Grade.NONE, 0
        elif before is State.INACTIVE:
            self.since_ms = end_ms
        if self.state is State.FIRING:
            self.grade = max(self.grade, grade)
        if action in {Action.OPEN, Action.CLOSE} or before is not self.state:
            self.counted = self.unproven = 0
        if action is Action.OPEN and length is not None:
            self.opened_against, self.opened_by = policy.against(length), length
        if action is Action.CLOSE:
            self.recent.clear()  # what was seen in the episode does not open the next one
            self.ended_ms = end_ms
        return action, length

    def forget_pending(self) -> None:
        """Become inactive if the subject is pending: another alert explains what exceeded."""
        if self.state is State.PENDING:
            self.state, self.grade, self.since_ms = State.INACTIVE, Grade.NONE, 0
        if self.state is State.INACTIVE:
            self.recent.clear()

    @property
    def shown(self) -> str:
        """Return inactive, pending, warning, critical, or not_enough_data if no window length had enough lately."""
        if self.state is State.FIRING:
            return self.grade.name.lower()
        if self.sufficient and not any(self.sufficient.values()):
            return "not_enough_data"
        return State.PENDING.value if self.state is State.PENDING else State.INACTIVE.value

    def _event(
        self, policy: Policy, end_ms: int, findings: Sequence[tuple[str, Finding]], judged: Mapping[str, int]
    ) -> tuple[Event, str | None, Grade]:
        event, decided_by, grade = Event.INSUFFICIENT, None, Grade.NONE
        for length, finding in findings:
            self.sufficient[length] = finding.sufficient
            if not finding.sufficient:
                continue
            if self._told(end_ms - judged[length]):
                continue
            confirm = policy.confirm[length]
            if self.state is not State.RESOLVED:
                self.recent[length] = [*self.recent.get(length, []), int(finding.grade)][-confirm.n :]
            reached = self._reached(confirm, length, finding)
            if reached > grade or decided_by is None:
                decided_by = length
            grade = max(grade, reached)
            if self._counts_towards_end(policy, finding.alertname, length):
                clean = finding.clean or self.state is State.RESOLVED
                self.counted = self.counted + 1 if clean else 0
            if self.state is State.FIRING and length == self.opened_by:
                self.unproven = self.unproven + 1 if finding.clean or finding.no_evidence else 0
        if decided_by is None:
            return event, None, grade
        needed = {State.FIRING: CLEAN_WINDOWS, State.RESOLVED: REST_WINDOWS}.get(self.state)
        if needed is not None and max(self.counted, self.unproven) >= needed:
            return Event.ENDED, decided_by, grade
        if self.state is State.FIRING and grade > self.grade:
            return Event.WORSE, decided_by, grade
        if grade is not Grade.NONE:
            return Event.CONFIRMED, decided_by, grade
        lately = any(any(grades) for grades in self.recent.values())
        return (Event.EXCEEDED if lately else Event.QUIET), decided_by, grade

    def _told(self, start_ms: int) -> bool:
        """Return whether a window that began at `start_ms` holds a part of the episode that has ended."""
        return self.state is not State.FIRING and self.ended_ms is not None and start_ms < self.ended_ms

    def _reached(self, confirm: Confirm, length: str, finding: Finding) -> Grade:
        """Return the grade that k of n windows of this length reach, or this one if it is critical and sure.

        One window never raises an open episode.
        """
        if finding.fast and finding.grade is Grade.CRITICAL and self.state is not State.FIRING:
            return Grade.CRITICAL
        grades = sorted(self.recent.get(length, []), reverse=True)
        return Grade(grades[confirm.k - 1]) if len(grades) >= confirm.k else Grade.NONE

    def _counts_towards_end(self, policy: Policy, alertname: AlertName, length: str) -> bool:
        """Return whether a window of this length may end an episode.

        That is the shortest length with enough data, of those that are compared with what opened the episode. If none
        of those has enough, it is the shortest of all: past weeks run out when a movement lasts for longer than four.
        """
        if self.state not in {State.FIRING, State.RESOLVED}:
            return False
        enough = [known for known in policy.lengths if self.sufficient.get(known)]
        if self.state is State.FIRING and alertname in SEASONAL:
            enough = [known for known in enough if policy.against(known) == self.opened_against] or enough
        return enough[:1] == [length]


def key_name(key: Key) -> str:
    """Return a tracker's key as text: `FeatureDrift/tenure`, `NoData/`."""
    return f"{key[0]}/{key[1] or ''}"


def key_of(name: str) -> Key:
    """Return the key from its text."""
    alertname, _, feature = name.partition("/")
    return AlertName(alertname), feature or None
