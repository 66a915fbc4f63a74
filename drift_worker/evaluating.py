"""Stage 2: deltas → windows → measurements and alerts, in one transaction with the offset. One is active, others wait.

The log is the state. A transaction is written when windows close; it holds their measurements, the alerts, the counts
of every closed unit, and a checkpoint. After a restart the checkpoint, the units that open windows need, and the deltas
from the committed offset on give the same state, to the bit: what was read before the checkpoint is told from what was
not by its offset. The hours of past weeks, where they are compared with, are read back as they were written.

One class for all of it: what is committed together must be seen together.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from drift_worker import counts, deltas
from drift_worker.cells import Vector
from drift_worker.columns import Distribution
from drift_worker.decide import Finding, Policy, decide
from drift_worker.deltas import Checkpoint, Delta, Hour, Merged, Packed, Progress
from drift_worker.episodes import Announcer, Decisions
from drift_worker.measure import Measurer
from drift_worker.reference import LoadedReference
from drift_worker.report import Report
from drift_worker.season import HOUR_MS, WEEK_MS, WEEKS, Season, pieces
from drift_worker.windows import UNIT, Closing, Side, Windows
from pages.history import History, Story
from schemas.alert import Alert
from schemas.measurement import (
    WEEK,
    Decision,
    Episode,
    FeatureMeasurement,
    Measurement,
    Sample,
    Window,
    as_json,
    decode_measurement,
    is_window,
)
from schemas.rfc3339 import render
from streaming.records import ConsumerRecord, TopicPartition
from streaming.transactions import Output, Result

# A window that ended longer ago is measured and raises nothing: a first start over a backlog is no news.
ALERT_HORIZON_MS = 24 * 3_600_000
# Clocks of two machines may differ; reading a little more from the measurements costs nothing.
CLOCK_MARGIN_MS = 60_000
# An hour is written after it has ended. So what windows still to come are compared with was written less than this
# before the end of what is measured; a day of it is for windows of several hours and for clocks that are wrong.
HOURS_READ_MS = WEEKS * WEEK_MS + 24 * HOUR_MS
PENDING = "pending"


class Kept(msgspec.Struct, frozen=True):
    """What is committed beside the offset: from when on the measurements topic must be read again, epoch ms."""

    since_ms: int = 0


class _Remembered(msgspec.Struct):
    """The decisions, and per length what the last window leaves for the next: the customers' sketch and its events."""

    decisions: Decisions
    sketches: dict[str, tuple[list[Packed], int]]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a transaction said: for the counters, once it is committed."""

    measurements: list[Measurement]
    alerts: list[Alert]
    states: Mapping[tuple[str, str], str]
    late: int


class EvaluatingWork:
    """Evaluates windows from the only partition of `drift-panes` (streaming.work.Work)."""

    def __init__(
        self,
        loaded: LoadedReference,
        policy: Policy,
        report: Report,
        *,
        topics: Mapping[Side, str],
        measurements_topic: str,
        alerts_topic: str,
        lateness_ms: int,
        straggler_s: float,
        min_events: int,
        runbook_url: str,
        read_back: Callable[[str, int], AsyncIterator[ConsumerRecord]],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read_back(topic, since_ms)` gives every committed record since then."""
        self._loaded = loaded
        self._policy = policy
        self._stated_policy = policy.stated()
        self._report = report
        self._topics = topics
        self._measurements_topic = measurements_topic
        self._alerts_topic = alerts_topic
        self._lateness_ms = lateness_ms
        self._straggler_s = straggler_s
        self._min_events = min_events
        self._measurer = Measurer(loaded.cells, loaded.reference, min_events, loaded.manifest.self_check)
        self._runbook_url = runbook_url
        self._read_back = read_back
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._counts_key = f"{loaded.manifest.name}/{_shortest(policy)}/counts".encode()
        self._hour = next((label for label, ms in policy.lengths.items() if ms == HOUR_MS), None)
        self._hours_key = f"{loaded.manifest.name}/{self._hour}/counts".encode()
        self._reset()
        self.shown: dict[str, Any] = {}  # for people: replaced as a whole, never changed
        self.story = Story()  # the same, for /drift.html

    def _reset(self) -> None:
        self._windows = Windows(
            self._loaded.cells,
            self._loaded.identity,
            self._policy.lengths,
            self._topics,
            lateness_ms=self._lateness_ms,
            straggler_s=self._straggler_s,
        )
        self._announcer = Announcer(self._policy, self._loaded.manifest.name, self._runbook_url)
        self._sketches: dict[str, tuple[Vector, int]] = {}
        self._season = Season(self._loaded.cells, self._measurer.columns, self._min_events)
        self._restored_to = 0  # deltas below this offset were read before the checkpoint
        self._position = 0
        self._replaying = False  # what was read before the checkpoint is not yet read again
        self._late_before = 0
        self._outdated: list[Alert] = []
        self._last: dict[str, Measurement] = {}
        self._history = History(self._loaded.manifest.name)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def opened(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """The predecessor is fenced: read back what it committed."""
        self._reset()
        self._position = position
        if source.partition != 0:
            self._report.extra_panes_partition(source)
            return None
        records = [r async for r in self._read_back(self._measurements_topic, _kept(metadata).since_ms)]
        ours = [record.value for record in records if record.key == self._counts_key]
        checkpoint: Checkpoint | None = None
        merged: list[Merged] = []
        for value in ours:
            try:
                found = deltas.decode(value)
            except ValueError as error:
                self._report.unreadable(self._measurements_topic, error)
                continue
            if isinstance(found, Checkpoint):
                checkpoint = found
            elif isinstance(found, Merged):
                merged.append(found)
        if checkpoint is not None:
            self._restore(checkpoint, merged)
        self._recall(records)
        if self._policy.baseline == WEEK:
            await self._restore_hours()
        self._report.restored(source, self._restored_to, len(merged), self._season.hours)
        self._report.states(self._loaded.manifest.name, self._announcer.states())
        return None

    def _restore(self, checkpoint: Checkpoint, merged: Sequence[Merged]) -> None:
        same = checkpoint.reference == self._loaded.identity.reference
        self._windows.restore(checkpoint.windows, same_reference=same)
        for part in merged:
            self._windows.merged(part)
        remembered = msgspec.msgpack.decode(checkpoint.decisions, type=_Remembered)
        self._announcer = Announcer(self._policy, self._loaded.manifest.name, self._runbook_url, remembered.decisions)
        names = [feature.name for feature in self._loaded.manifest.features]
        end_ms = self._windows.last_end()
        self._outdated = self._announcer.retire(names, end_ms)
        if same:
            for label, (pieces, events) in remembered.sketches.items():
                self._sketches[label] = (_unpack(pieces), events)
        else:
            self._outdated += self._announcer.start_anew(end_ms)
        self._restored_to = checkpoint.position
        self._position = max(self._position, checkpoint.position)
        self._replaying = self._restored_to > 0

    async def _restore_hours(self) -> None:
        """Every hour of this reference that the topic holds and a window may yet be compared with."""
        identity, since_ms = self._loaded.identity, max(0, self._windows.measured_to() - HOURS_READ_MS)
        async for record in self._read_back(self._measurements_topic, since_ms):
            if record.key != self._hours_key:
                continue
            try:
                found = deltas.decode(record.value)
                if isinstance(found, Hour) and (found.reference, found.key_id) == (identity.reference, identity.key_id):
                    self._season.keep(found.series, found.start_ms, found.packed)
            except (ValueError, IndexError) as error:
                self._report.unreadable(self._measurements_topic, error)

    def _recall(self, records: Sequence[ConsumerRecord]) -> None:
        """What the page shows of the past: the measurements among `records`, and the episodes that are open.

        The alerts' topic is not read for it: whatever stands there, a page must not keep windows from being evaluated.
        """
        prefix = f"{self._loaded.manifest.name}/".encode()
        for record in records:
            key = record.key or b""
            if key.startswith(prefix) and is_window(key) and record.value is not None:
                try:
                    self._history.measured(decode_measurement(record.value))
                except ValueError as error:
                    self._report.unreadable(self._measurements_topic, error)
        for alert in self._announcer.remembered():
            self._history.announced(alert)
        self.story = self._history.story()

    def closed(self, source: TopicPartition) -> None:  # noqa: ARG002
        """Another one evaluates now."""
        self._reset()
        self.shown = {}
        self.story = Story()
        self._report.standing_by()

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result | None:
        """Take in deltas and progress; write out what can be closed."""
        if source.partition != 0:
            return None
        for record in records:
            self._take(record)
        self._replaying = (
            self._replaying and not at_end and not (records and records[-1].offset + 1 >= self._restored_to)
        )
        if self._replaying:
            return None  # the windows are not whole yet
        self._report.watermarks(self._windows.watermarks(), self._now_ms())
        return self._evaluate()

    def committed(self, source: TopicPartition, result: Result, records: Sequence[ConsumerRecord]) -> None:  # noqa: ARG002
        """It is said: now the gauges and counters say it, too."""
        assert isinstance(result.context, Evaluated), "process put it there"  # noqa: S101
        self._report.evaluated(result.context)
        self.shown = self._picture()
        for measurement in result.context.measurements:
            self._history.measured(measurement)
        for alert in result.context.alerts:
            self._history.announced(alert)
        self.story = self._history.story()

    # -- in -----------------------------------------------------------------------------------------------------------

    def _take(self, record: ConsumerRecord) -> None:
        replayed = record.offset < self._restored_to
        self._position = max(record.offset + 1, self._restored_to)
        try:
            found = deltas.decode(record.value)
            if isinstance(found, Delta):
                self._windows.delta(found, record.offset, replayed=replayed)
            elif isinstance(found, Progress):
                self._windows.progress(found, replayed=replayed)
        except (ValueError, IndexError) as error:
            self._report.unreadable(record.topic, error)

    # -- out ----------------------------------------------------------------------------------------------------------

    def _evaluate(self) -> Result | None:
        outputs: list[Output] = []
        measurements: list[Measurement] = []
        alerts, self._outdated = self._outdated, []
        something = bool(alerts)
        now_ms = self._now_ms()
        for closings in self._windows.due(self._monotonic()):
            something = True
            for closing in (c for c in closings if c.label is UNIT):
                self._windows.written.setdefault(closing.start_ms, now_ms)
                outputs += self._unit(closing.start_ms, closing.window.vectors if closing.window else {})
            found, raised = self._windows_ended(closings, now_ms)
            measurements += found
            alerts += raised
            if self._policy.baseline == WEEK:
                outputs += [hour for closing in closings for hour in self._hour_ended(closing)]
        if not something:
            return None
        for start, window in self._windows.late_units():
            self._windows.written.setdefault(start, now_ms)
            outputs += self._unit(start, window.vectors)
        since_ms = self._windows.needed_since(now_ms) - CLOCK_MARGIN_MS
        outputs += [(m.key(), m.encode(), []) for m in measurements]
        outputs.append((self._counts_key, deltas.encode(self._checkpoint()), []))
        late, self._late_before = self._windows.late_events - self._late_before, self._windows.late_events
        return Result(
            {
                self._measurements_topic: outputs,
                self._alerts_topic: [(alert.key(), alert.encode(), []) for alert in alerts],
            },
            offset=self._windows.needed_from(self._position),
            metadata=msgspec.json.encode(Kept(max(0, since_ms))).decode(),
            context=Evaluated(measurements, alerts, self._announcer.states(), late),
        )

    def _windows_ended(self, closings: Sequence[Closing], now_ms: int) -> tuple[list[Measurement], list[Alert]]:
        """Measurements and alerts of the windows that end together, shortest first."""
        judged: list[tuple[Measurement, list[Finding]]] = []
        end_ms = closings[0].end_ms
        announced = now_ms - end_ms <= ALERT_HORIZON_MS
        together = [label for label in self._policy.lengths if any(c.label == label for c in closings)]
        for label in together:
            sides = {c.side: c for c in closings if c.label == label}
            decision = Decision(
                tests=self._measurer.tests,
                overlap=self._overlap(label, sides),
                together=together,
                first=any(closing.first for closing in sides.values()),
                announced=announced,
                policy=self._stated_policy,
            )
            judged.append(decide(self._policy, replace(self._measure(label, sides), decision=decision)))
        if not judged:
            return [], []
        alerts: list[Alert] = []
        episodes = self._announcer.shown()
        if announced:
            alerts, episodes = self._announcer.step(end_ms, judged)
        else:
            self._announcer.observe(judged)
        measurements = [self._with_states(measurement, episodes) for measurement, _ in judged]
        self._last |= {m.window.length: m for m in measurements if m.features}
        return measurements, alerts

    def _measure(self, label: str, sides: Mapping[Side, Closing]) -> Measurement:
        """The numbers of one window; the score is pending where only the features could be closed."""
        features, score = sides.get(Side.FEATURES), sides.get(Side.SCORE)
        any_side = features or score
        assert any_side is not None, "a closing has a side"  # noqa: S101
        present = [side for side in (features, score) if side is not None]
        foreign = any(side.window is not None and side.window.foreign for side in present)
        missing = sorted({name for side in present for name in side.missing})
        manifest = self._loaded.manifest
        return Measurement(
            model=manifest.name,
            model_version=manifest.version,
            reference_sha256=self._loaded.identity.reference,
            window=Window(label, render(any_side.start_ms), render(any_side.end_ms)),
            complete=not missing and not foreign,
            missing_partitions=missing,
            sample=Sample(
                events=any_side.window.events if any_side.window is not None else 0,
                late=sum(self._windows.late.pop((side.side, label), 0) for side in present),
                refused=self._windows.refused_in.pop(label, 0) if features is not None else 0,
            ),
            features=self._measurer.features(_vectors(features), self._slots(label, features)) if features else {},
            score=self._measurer.score(_vectors(score), self._slots(label, score)) if score else _pending_score(),
            offsets=_offsets(present),
            reason="reference_changed" if foreign else None,
        )

    def _slots(self, label: str, closing: Closing) -> Mapping[int, Distribution]:
        """What the distributions of a window are compared with instead of the reference's."""
        if self._policy.against(label) != WEEK:
            return {}
        series = [s for s in _vectors(closing) if s not in {counts.CUSTOMERS, counts.SCORED_CUSTOMERS}]
        return self._season.slots(closing.start_ms, closing.end_ms, series)

    def _hour_ended(self, closing: Closing) -> list[Output]:
        """What is kept of one side of an hour for the weeks to come; nothing of features in which something stirs."""
        window, identity = closing.window, self._loaded.identity
        if closing.label != self._hour or closing.missing or closing.first or window is None or window.foreign:
            return []
        calm = [series for series in sorted(window.vectors) if self._calm(series)]
        outputs: list[Output] = []
        for series, packed in pieces(self._loaded.cells, window.vectors, calm):
            self._season.keep(series, closing.start_ms, packed)
            hour = Hour(deltas.LAYOUT, identity.reference, identity.key_id, closing.start_ms, series, packed)
            outputs.append((self._hours_key, deltas.encode(hour), []))
        return outputs

    def _calm(self, series: int) -> bool:
        if series in {counts.CUSTOMERS, counts.SCORED_CUSTOMERS}:
            return True
        return self._announcer.calm(None if series == counts.SCORE else self._loaded.cells.features[series].name)

    def _overlap(self, label: str, sides: Mapping[Side, Closing]) -> float:
        """How much of this window's customers the previous one had: see drift_worker.level."""
        closing = sides.get(Side.FEATURES)
        sketch = _vectors(closing).get(counts.CUSTOMERS)
        if closing is None or closing.window is None or sketch is None or not closing.window.events:
            return 0.0
        before = self._sketches.get(label)
        self._sketches[label] = (sketch, closing.window.events)
        if before is None:
            return 0.0
        return counts.overlap(sketch, before[0]) / (closing.window.events * before[1])

    def _with_states(self, measurement: Measurement, episodes: dict[str, Episode]) -> Measurement:
        features = {
            name: replace(feature, state=self._announcer.state_of(name, feature.state))
            for name, feature in measurement.features.items()
        }
        score = measurement.score
        if score is not None:
            score = replace(score, state=self._announcer.state_of(None, score.state))
        return replace(measurement, features=features, score=score, episodes=episodes)

    def _unit(self, start_ms: int, vectors: Mapping[int, Vector]) -> list[Output]:
        identity = self._loaded.identity
        return [
            (
                self._counts_key,
                deltas.encode(Merged(deltas.LAYOUT, identity.reference, identity.key_id, start_ms, series, packed)),
                [],
            )
            for series, vector in sorted(vectors.items())
            for packed in deltas.pack(counts.sparse(vector))
        ]

    def _checkpoint(self) -> Checkpoint:
        remembered = _Remembered(
            self._announcer.decisions,
            {label: (deltas.pack(counts.sparse(sketch)), n) for label, (sketch, n) in self._sketches.items()},
        )
        return Checkpoint(
            deltas.LAYOUT,
            self._loaded.identity.reference,
            self._position,
            self._windows.memory(),
            msgspec.msgpack.encode(remembered),
        )

    def _picture(self) -> dict[str, Any]:
        """The state of everything, as `/drift` shows it."""
        return {
            "windows": {label: as_json(measurement) for label, measurement in self._last.items()},
            "states": [
                {"alertname": alertname, "feature": feature or None, "state": state}
                for (alertname, feature), state in self._announcer.states().items()
            ],
            "episodes": as_json(self._announcer.shown()),
            "late_events": self._windows.late_events,
        }


def _shortest(policy: Policy) -> str:
    return next(iter(policy.lengths))


def _kept(metadata: str) -> Kept:
    """What was committed; from the beginning if it was not by us."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Kept)
    except msgspec.MsgspecError:
        return Kept()


def _vectors(closing: Closing | None) -> Mapping[int, Vector]:
    return {} if closing is None or closing.window is None else closing.window.vectors


def _pending_score() -> FeatureMeasurement:
    return FeatureMeasurement(kind="score", events=0, reason=PENDING)


def _unpack(pieces: Sequence[Packed]) -> Vector:
    vector: Vector = np.zeros(counts.SKETCH_SIZE, dtype=np.int64)
    for packed in pieces:
        deltas.unpack(packed, counts.SKETCH_SIZE).add_to(vector)
    return vector


def _offsets(closings: Sequence[Closing]) -> dict[str, dict[str, tuple[int, int]]]:
    """Which records the window holds, [first, next) by topic and partition."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for closing in closings:
        for topic, ranges in (closing.window.ranges if closing.window is not None else {}).items():
            found[topic] = {str(partition): span for partition, span in sorted(ranges.items())}
    return found
