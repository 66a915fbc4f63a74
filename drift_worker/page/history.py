"""Measurements and alerts → what a page shows: the newest window of each length whole, earlier ones as points.

Bounded, for any number of inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from schemas.alert import Alert
from schemas.measurement import FeatureMeasurement, Measurement
from schemas.timestamps import parse

# Points of one length: five days of 15 minutes. A page draws a few hundred columns at most.
MOST_WINDOWS = 500
MOST_EPISODES = 200
PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Point:
    """One subject in one window. value: compared with the limits; None if unknown, with the reason."""

    value: float | None
    warning: float | None
    critical: float | None
    state: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Past:
    """One closed window as points: by feature, None for the score."""

    length: str
    start_ms: int
    end_ms: int
    points: Mapping[str | None, Point]


@dataclass(frozen=True, slots=True)
class Told:
    """One episode, from its newest message. members: of a group, the one that moves the score most first."""

    alertname: str
    feature: str | None
    severity: str
    starts_ms: int
    ends_ms: int | None
    summary: str
    description: str
    runbook_url: str
    sequence: int
    members: tuple[str, ...]

    @property
    def open(self) -> bool:
        """Return whether it is still firing."""
        return self.ends_ms is None


@dataclass(frozen=True, slots=True)
class Story:
    """The content of a page.

    newest: by length, shortest first; past: in order of time; `told`: episodes, open ones first, then newest.

    reference_since_ms: the first window after the reference changed; None if it did not.
    """

    newest: Mapping[str, Measurement] = field(default_factory=dict)
    past: tuple[Past, ...] = ()
    told: tuple[Told, ...] = ()
    reference_since_ms: int | None = None


class History:
    """Collects measurements and alerts of one model, in their topics' order, and makes a story of them."""

    def __init__(self, model: str, since_ms: int = 0) -> None:
        """Start. `model`: its name; others are ignored. Episodes that ended before `since_ms` are left out."""
        self._model = model
        self._from_ms = since_ms
        self._newest: dict[str, Measurement] = {}
        self._past: dict[str, deque[Past]] = {}
        self._told: dict[tuple[str, str], Told] = {}
        self._reference = ""
        self._since_ms: int | None = None

    def measured(self, measurement: Measurement) -> None:
        """Take in a measured window; ValueError if it has no valid times.

        The same window may arrive twice: first with its features, then with its score. After a change of the reference,
        older measurements are dropped: their numbers are not comparable.
        """
        if measurement.model != self._model:
            return
        length = measurement.window.length
        start_ms, end_ms = _ms(measurement.window.start), _ms(measurement.window.end)
        if measurement.reference_sha256 != self._reference:
            if self._reference:
                self._newest.clear()
                self._past.clear()
                self._since_ms = start_ms
            self._reference = measurement.reference_sha256
        known = self._newest.get(length)
        if known is not None and known.window.start == measurement.window.start:
            measurement = _merged(known, measurement)
        if known is None or end_ms >= _ms(known.window.end):
            self._newest[length] = measurement
        past = self._past.setdefault(length, deque(maxlen=MOST_WINDOWS))
        points = _points(measurement)
        if past and past[-1].start_ms == start_ms:
            past.pop()
        past.append(Past(length, start_ms, end_ms, points))

    def announced(self, alert: Alert) -> None:
        """Take in a message of an episode; ValueError if it has no valid times."""
        if alert.labels.get("model") != self._model:
            return
        mark = (alert.fingerprint, alert.starts_at)
        before = self._told.get(mark)
        if before is not None and before.sequence >= alert.sequence:
            return
        self._told[mark] = Told(
            alertname=alert.labels.get("alertname", "alert"),
            feature=alert.labels.get("feature"),
            severity=alert.labels.get("severity", ""),
            starts_ms=_ms(alert.starts_at),
            ends_ms=None if alert.ends_at is None else _ms(alert.ends_at),
            summary=alert.annotations.get("summary", ""),
            description=alert.annotations.get("description", ""),
            runbook_url=alert.annotations.get("runbook_url", ""),
            sequence=alert.sequence,
            members=_members(alert),
        )
        if len(self._told) > MOST_EPISODES:
            over = [mark for mark, told in self._told.items() if not told.open] or list(self._told)
            del self._told[over[0]]

    def story(self) -> Story:
        """Return the story up to now; later inputs do not change it."""
        lengths = sorted(self._newest, key=lambda length: _span_ms(self._newest[length]))
        past = sorted((p for windows in self._past.values() for p in windows), key=lambda p: (p.end_ms, p.start_ms))
        news = (t for t in self._told.values() if t.ends_ms is None or t.ends_ms >= self._from_ms)
        told = sorted(news, key=lambda t: (not t.open, -t.starts_ms))
        return Story({length: self._newest[length] for length in lengths}, tuple(past), tuple(told), self._since_ms)


def compared(measurement: Measurement, subject: FeatureMeasurement) -> float | None:
    """Return the value that the policy compares with the limits: the effect, or the textbook's PSI without a level."""
    if measurement.level is not None:
        return subject.effect
    return subject.psi if subject.psi_textbook is None else subject.psi_textbook


def subjects(measurement: Measurement) -> dict[str | None, FeatureMeasurement]:
    """Return every feature, and under None the score."""
    found: dict[str | None, FeatureMeasurement] = {}
    found.update(measurement.features)
    if measurement.score is not None:
        found[None] = measurement.score
    return found


def _points(measurement: Measurement) -> dict[str | None, Point]:
    return {
        name: Point(
            compared(measurement, subject),
            subject.effect_warning,
            subject.effect_critical,
            subject.state,
            subject.reason,
        )
        for name, subject in subjects(measurement).items()
    }


def _merged(before: Measurement, after: Measurement) -> Measurement:
    """Merge two records of one window, whose features and score were closed separately."""
    whole = after if after.features else before
    later = after.score is not None and after.score.reason != PENDING
    return replace(
        whole,
        features=after.features or before.features,
        score=after.score if later else before.score,
        complete=before.complete and after.complete,
        missing_partitions=sorted({*before.missing_partitions, *after.missing_partitions}),
        level=whole.level or before.level,
    )


def _members(alert: Alert) -> tuple[str, ...]:
    listed = alert.evidence.get("features")
    if not isinstance(listed, list):
        return ()
    return tuple(str(member["feature"]) for member in listed if isinstance(member, dict) and "feature" in member)


def _span_ms(measurement: Measurement) -> int:
    return _ms(measurement.window.end) - _ms(measurement.window.start)


def _ms(text: str) -> int:
    ms = parse(text)
    if ms is None:
        raise ValueError(f"not a time: {text[:64]!r}")
    return ms
