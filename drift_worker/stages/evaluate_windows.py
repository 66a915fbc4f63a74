"""Stage 2: deltas → windows → measurements and alerts, in one transaction with the offset. One is active, others wait.

The log is the state. When windows close, one transaction is written. It holds their measurements, the alerts, the
counts of every closed unit, and a checkpoint. A restart needs the checkpoint, the units of open windows, and the deltas
from the committed offset on. The restored state is identical to the bit: the offset of a delta shows whether it was
read before the checkpoint. With the weekly baseline, the hours of past weeks are read back as they were written.

One class holds all of it, because it is committed in one transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import replace

from drift_worker.alerting.episodes import Announcer, Decisions, check
from drift_worker.alerting.findings import Finding, decide
from drift_worker.alerting.limits import Policy
from drift_worker.counts import aggregate, wire_format
from drift_worker.counts.bins import Vector
from drift_worker.counts.spans import Reach
from drift_worker.counts.windows import UNIT, Closing, Side, Windows, WindowsState, decode_state
from drift_worker.counts.wire_format import (
    MAX_NUMBER,
    Checkpoint,
    Delta,
    Hour,
    Merged,
    Milliseconds,
    Number,
    Packed,
    Progress,
)
from drift_worker.page.history import History, Story
from drift_worker.reference import LoadedReference
from drift_worker.relations.measure import RelationMeasurer, Sides
from drift_worker.relations.past import RelationPast
from drift_worker.statistics.baseline import Distribution
from drift_worker.statistics.calm_past import SHAPE_KNOWN, CalmPast, Learn
from drift_worker.statistics.measure import Measurer
from drift_worker.statistics.seasonal_baseline import HOUR_MS, WEEK_MS, WEEKS, Season, pieces
from drift_worker.telemetry import DriftTelemetry, Evaluated
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.partition_telemetry import OffsetComparisons
from kafka_runtime.sinks import Output, Result
from schemas.alert import Alert, AlertName
from schemas.measurement import (
    WEEK,
    Decision,
    Episode,
    FeatureMeasurement,
    Measurement,
    Sample,
    Span,
    Window,
    as_json,
    decode_measurement,
    is_window,
)
from schemas.timestamps import EARLIEST_MS, render

# A window that ended longer ago is measured and raises no alert: the backlog of a first start is not news.
ALERT_HORIZON_MS = 24 * 3_600_000
# Clocks of two machines may differ. Reading slightly more of the measurements is cheap.
CLOCK_MARGIN_MS = 60_000
# An hour is written after it has ended. So the hours that future windows are compared with were written less than this
# before the end of the measured time. The additional day covers windows of several hours and wrong clocks.
HOURS_READ_MS = WEEKS * WEEK_MS + 24 * HOUR_MS
# The command that lists the episodes of windows that were too old to be announced.
LOOK = "driftline backtest --backlog"
PENDING = "pending"
# Window ends in one transaction: a first start over years closes thousands, and a transaction has a time-out.
MAX_ENDS = 50
# Checkpoints that a start tries, the newest first; an unreadable one is skipped.
CHECKPOINTS_TRIED = 8
# Shortest interval between two look-ups of the number of partitions, made when a record names an unknown partition.
PARTITIONS_LOOKUP_S = 1.0


class Kept(msgspec.Struct, frozen=True):
    """State committed with the offset: the time from which the measurements topic must be read again, epoch ms."""

    since_ms: int = 0


class PassedOver(msgspec.Struct):
    """Results of the policy in windows that ended too long ago to be announced.

    windows: number of windows. opened: episodes that would have been announced, by alertname. from_ms, to_ms: the first
    start and the last end of those windows, epoch ms. decisions: the policy's state for these windows, separate from
    the announced one.
    """

    windows: Number = 0
    opened: dict[str, Number] = msgspec.field(default_factory=dict)
    from_ms: int = 0
    to_ms: int = 0
    decisions: Decisions = msgspec.field(default_factory=Decisions)


class _Remembered(msgspec.Struct):
    """The decisions, and for each length the last window's sketch of customers with its number of events."""

    decisions: Decisions
    sketches: dict[str, tuple[list[Packed], Annotated[int, msgspec.Meta(ge=1, lt=MAX_NUMBER)]]]
    passed_over: PassedOver = msgspec.field(default_factory=PassedOver)
    #: The calm past by length and side, `15m/features`; with DRIFT_BASELINE=week `15m/features/week`.
    past: dict[str, list[Packed]] = msgspec.field(default_factory=dict)
    #: By length and side, the end of what the calm past has learnt, or lets wait: spans overlap.
    learnt_to: dict[str, Milliseconds] = msgspec.field(default_factory=dict)


class WindowEvaluator:
    """Evaluates windows from the only partition of `drift-panes` (kafka_runtime.processor.PartitionProcessor)."""

    def __init__(
        self,
        loaded: LoadedReference,
        policy: Policy,
        report: DriftTelemetry,
        *,
        topics: Mapping[Side, str],
        measurements_topic: str,
        alerts_topic: str,
        lateness_ms: int,
        straggler_s: float,
        min_events: int,
        runbook_url: str,
        read_back: Callable[[str, int], AsyncIterator[ConsumerRecord]],
        partitions_of: Callable[[str], int],
        max_future_skew_ms: int,
        moves: OffsetComparisons | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Evaluate with these settings. `read_back(topic, since_ms)` returns every committed record since then.

        partitions_of: returns the number of partitions of a topic, 0 without the topic. It is called from a thread and
        may block. max_future_skew_ms: how far ahead of the clock a time in a record may be. moves: compares the
        committed offset with the checkpoint's; None: it is not compared.
        """
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
        self._relations = RelationMeasurer(loaded.cells, min_events)
        self._runbook_url = runbook_url
        self._read_back = read_back
        self._partitions_of = partitions_of
        self._max_future_skew_ms = max_future_skew_ms
        self._moves = moves
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._counts_key = f"{loaded.manifest.name}/{_shortest(policy)}/counts".encode()
        self._hour = next((label for label, ms in policy.lengths.items() if ms == HOUR_MS), None)
        self._hours_key = f"{loaded.manifest.name}/{self._hour}/counts".encode()
        self._reset()
        self.shown: dict[str, Any] = {}  # for /drift: replaced as a whole, never changed
        self.story = Story()  # the same, for /drift.html
        #: The findings of windows that were too old to be announced, for /drift and /health; None without any.
        self.found_late: dict[str, Any] | None = None

    def _reset(self) -> None:
        self._windows = Windows(
            self._loaded.cells,
            self._loaded.identity,
            self._policy.lengths,
            self._topics,
            lateness_ms=self._lateness_ms,
            straggler_s=self._straggler_s,
            min_events=self._min_events,
        )
        self._announcer = Announcer(self._policy, self._loaded.manifest.name, self._runbook_url)
        self._sketches: dict[str, tuple[Vector, int]] = {}
        self._past: dict[tuple[str, Side], CalmPast] = {
            (label, side): self._calm_past(label, side)
            for label in self._policy.lengths
            for side in Side
            if self._policy.learns(label)
        }
        self._relation_past: dict[str, RelationPast] = {
            label: self._relations.past(ms) for label, ms in self._policy.lengths.items() if self._policy.learns(label)
        }
        self._learnt_to: dict[str, int] = {}
        self._season = Season(self._loaded.cells, self._measurer.columns, self._min_events)
        #: The position of the checkpoint that was restored; None if there was none.
        self.decided_to: int | None = None
        self._restored_to = 0  # deltas below this offset were read before the checkpoint
        self._position = 0
        self._replaying = False  # deltas that were read before the checkpoint are still to be read again
        self._read_to = 0
        self._waited_s = 0.0  # how long what there is of drift-panes was known to be all; see `_wait`
        self._waited_at_s = self._monotonic()
        self._late_before = 0
        self._sizes: dict[str, int] = {}  # number of partitions by topic
        self._looked_up_s: dict[str, float] = {}
        self._passed_over = PassedOver()
        self._opened_before: Counter[str] = Counter()
        self._outdated: list[Alert] = []
        self._last: dict[str, Measurement] = {}
        self._history = History(self._loaded.manifest.name)

    @property
    def relations_kept(self) -> dict[str, list[str]]:
        """Return the features whose relations are counted, and those that would need too many sums, for /health."""
        return {"kept": self._relations.kept, "left_out": self._relations.left_out}

    # -- life ---------------------------------------------------------------------------------------------------------

    async def on_assigned(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """Restore what the predecessor committed. It is fenced."""
        self._reset()
        self._position = self._read_to = position
        if source.partition != 0:
            self._report.extra_panes_partition(source)
            return None
        records = [r async for r in self._read_back(self._measurements_topic, _kept(metadata).since_ms)]
        ours = [record.value for record in records if record.key == self._counts_key]
        checkpoints: deque[Checkpoint] = deque(maxlen=CHECKPOINTS_TRIED)
        merged: list[Merged] = []
        for value in ours:
            try:
                found = wire_format.decode(value)
            except ValueError as error:
                self._report.unreadable(self._measurements_topic, error)
                continue
            if isinstance(found, Checkpoint):
                checkpoints.append(found)
            elif isinstance(found, Merged):
                merged.append(found)
        for checkpoint in reversed(checkpoints):
            try:
                state, remembered = decode_state(checkpoint.windows), self._decode_decisions(checkpoint.decisions)
                self._windows.check(state)
            except ValueError as error:
                self._report.unreadable(self._measurements_topic, error)
                continue
            for topic in state.partitions:
                await asyncio.to_thread(self._look_up, topic)
            self._restore(checkpoint, state, remembered, merged)
            break
        self._recall(records)
        if self._policy.baseline == WEEK:
            await self._restore_hours()
        self.found_late = self._found_late()
        self._report.restored(source, self._restored_to, len(merged), self._season.hours)
        self._report.states(self._loaded.manifest.name, self._announcer.states())
        if self._moves is not None:
            self._moves.start(source, position)
        return None

    def _decode_decisions(self, raw: bytes) -> _Remembered:
        """Return the restored decisions; ValueError if this evaluator cannot have written them."""
        try:
            remembered = msgspec.msgpack.decode(raw, type=_Remembered)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"not the memory of an evaluator: {error}") from None
        past, latest_ms = remembered.passed_over, self._latest_ms()
        for decisions in (remembered.decisions, past.decisions):
            check(decisions, self._loaded.manifest.name, latest_ms)
        if not EARLIEST_MS <= past.from_ms <= past.to_ms <= latest_ms:
            raise ValueError(f"windows from {past.from_ms} to {past.to_ms} that were found late")
        for name in past.opened:
            AlertName(name)
        for packed, _ in remembered.sketches.values():
            _unpack(packed)
        return remembered

    def _restore(
        self, checkpoint: Checkpoint, state: WindowsState, remembered: _Remembered, merged: Sequence[Merged]
    ) -> None:
        same = checkpoint.reference == self._loaded.identity.reference
        latest_ms = self._latest_ms()
        self._windows.restore(state, same_reference=same, latest_ms=latest_ms, sizes=self._sizes)
        for part in merged:
            try:
                if part.start_ms > latest_ms:
                    raise ValueError(f"start_ms {part.start_ms} is ahead of the clock")  # noqa: TRY301
                self._windows.add_merged(part)
            except (ValueError, IndexError) as error:
                self._report.unreadable(self._measurements_topic, error)
        self._passed_over = remembered.passed_over
        self._opened_before = Counter(remembered.passed_over.opened)
        self._announcer = Announcer(self._policy, self._loaded.manifest.name, self._runbook_url, remembered.decisions)
        names = [feature.name for feature in self._loaded.manifest.features]
        end_ms = self._windows.last_end()
        self._outdated = self._announcer.retire(names, end_ms)
        if same:
            for label, (pieces, events) in remembered.sketches.items():
                self._sketches[label] = (_unpack(pieces), events)
            self._restore_past(remembered.past)
            self._learnt_to = {name: at for name, at in remembered.learnt_to.items() if at <= latest_ms}
        else:
            self._outdated += self._announcer.start_anew(end_ms)
        self.decided_to = self._restored_to = checkpoint.position
        self._position = max(self._position, self._restored_to)
        self._replaying = self._restored_to > 0

    def _restore_past(self, packed: Mapping[str, Sequence[Packed]]) -> None:
        """Take over the calm past; what does not fit these features begins anew."""
        for label, side in self._past:
            pieces = packed.get(self._past_name(label, side))
            if pieces is None:
                continue
            size = len(self._past[label, side].vector)
            try:
                self._past[label, side] = self._calm_past(label, side, _unpack(pieces, size))
            except (ValueError, IndexError) as error:
                self._report.unreadable(self._measurements_topic, error)
        for label, past in self._relation_past.items():
            pieces = packed.get(_relation_name(label))
            if pieces is None:
                continue
            try:
                vector = _unpack(pieces, len(past.vector))
                self._relation_past[label] = self._relations.past(self._policy.lengths[label], vector)
            except (ValueError, IndexError) as error:
                self._report.unreadable(self._measurements_topic, error)

    def _calm_past(self, label: str, side: Side, vector: Vector | None = None) -> CalmPast:
        made = self._measurer.past_of_features if side is Side.FEATURES else self._measurer.past_of_score
        return made(self._policy.lengths[label], vector, seasonal=self._policy.against(label) == WEEK)

    def _past_name(self, label: str, side: Side) -> str:
        return "/".join([label, side, *([WEEK] if self._policy.against(label) == WEEK else [])])

    async def _restore_hours(self) -> None:
        """Restore every stored hour of this reference that a future window may be compared with."""
        identity, since_ms = self._loaded.identity, max(0, self._windows.measured_to() - HOURS_READ_MS)
        async for record in self._read_back(self._measurements_topic, since_ms):
            if record.key != self._hours_key:
                continue
            try:
                found = wire_format.decode(record.value)
                if isinstance(found, Hour) and (found.reference, found.key_id) == (identity.reference, identity.key_id):
                    if found.start_ms > self._latest_ms() or found.start_ms % HOUR_MS:
                        raise ValueError(f"start_ms {found.start_ms} is no hour of the past")  # noqa: TRY301
                    self._season.keep(found.series, found.start_ms, found.packed)
            except (ValueError, IndexError) as error:
                self._report.unreadable(self._measurements_topic, error)

    def _recall(self, records: Sequence[ConsumerRecord]) -> None:
        """Restore what the page shows of the past: the measurements among `records`, and the open episodes.

        The alerts' topic is not read for this: its content must not delay the evaluation of windows.
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

    def on_revoked(self, source: TopicPartition) -> None:
        """Drop the state: another process evaluates now."""
        if self._moves is not None:
            self._moves.cancel(source)
        self._reset()
        self.shown = {}
        self.story = Story()
        self.found_late = None
        self._report.standing_by()

    def process(
        self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool
    ) -> Result[Evaluated] | None:
        """Take in deltas and progress; write out the windows that can be closed."""
        if source.partition != 0:
            return None
        for record in records:
            self._take(record)
        if at_end and self._read_to < self._restored_to:
            # The log ends before the checkpoint's position: the topic was recreated, or the checkpoint was forged. The
            # records that follow were never read.
            error = ValueError(f"a checkpoint at offset {self._restored_to} of a log that ends at {self._read_to}")
            self._report.unreadable(self._measurements_topic, error)
            self._restored_to = self._position = self._read_to
        self._replaying = (
            self._replaying and not at_end and not (records and records[-1].offset + 1 >= self._restored_to)
        )
        if self._replaying:
            return None  # the windows are incomplete until then
        self._wait(visible=at_end or bool(records))
        self._report.watermarks(self._windows.watermarks(), self._now_ms())
        return self._evaluate()

    def _wait(self, *, visible: bool) -> None:
        """Let the time pass for which stragglers are waited for.

        It stops where no record can be read although the log continues: progress behind an open transaction in
        drift-panes is not a late partition.
        """
        at_s = self._monotonic()
        if visible:
            self._waited_s += at_s - self._waited_at_s
        self._waited_at_s = at_s

    def on_committed(
        self,
        source: TopicPartition,  # noqa: ARG002
        result: Result[Evaluated],
        records: Sequence[ConsumerRecord],  # noqa: ARG002
    ) -> None:
        """Update the metrics and the page: the transaction is committed."""
        self._report.windows_committed(result.context)
        self.found_late = self._found_late()
        self.shown = self._picture()
        for measurement in result.context.measurements:
            self._history.measured(measurement)
        for alert in result.context.alerts:
            self._history.announced(alert)
        self.story = self._history.story()

    # -- in -----------------------------------------------------------------------------------------------------------

    def _take(self, record: ConsumerRecord) -> None:
        replayed = record.offset < self._restored_to
        self._read_to = record.offset + 1
        self._position = max(self._read_to, self._restored_to)
        try:
            found = wire_format.decode(record.value)
            wire_format.check(found, self._latest_ms())
            if isinstance(found, Delta):
                self._check_partition(found.topic, found.partition, 0)
                self._windows.add_delta(found, record.offset, replayed=replayed)
            elif isinstance(found, Progress):
                self._check_partition(found.topic, found.partition, found.partitions)
                self._windows.update_progress(found, replayed=replayed)
        except (ValueError, IndexError) as error:
            self._report.unreadable(record.topic, error)

    def _latest_ms(self) -> int:
        """Return the latest time that a record can name: the clock plus the allowed skew of producers' clocks."""
        return self._now_ms() + self._max_future_skew_ms

    def _check_partition(self, topic: str, partition: int, partitions: int) -> None:
        """Raise ValueError if the cluster has no such partition. Topics grow, so an unknown partition is looked up."""
        if topic not in self._topics.values():
            raise ValueError("counts of another topic")
        needed = max(partition + 1, partitions)
        if needed > self._sizes.get(topic, 0):
            self._look_up(topic)
        if needed > self._sizes[topic]:
            raise ValueError(f"partition {needed - 1} of a topic with {self._sizes[topic]}")

    def _look_up(self, topic: str) -> None:
        at_s = self._monotonic()
        if topic in self._sizes and at_s - self._looked_up_s[topic] < PARTITIONS_LOOKUP_S:
            return
        self._sizes[topic], self._looked_up_s[topic] = self._partitions_of(topic), at_s

    # -- out ----------------------------------------------------------------------------------------------------------

    def _evaluate(self) -> Result[Evaluated] | None:
        outputs: list[Output] = []
        measurements: list[Measurement] = []
        alerts, self._outdated = self._outdated, []
        something = bool(alerts)
        now_ms = self._now_ms()
        ends = 0
        for closings in self._windows.due(self._waited_s):
            something = True
            ends += 1
            for closing in (c for c in closings if c.label is UNIT):
                self._windows.written.setdefault(closing.start_ms, now_ms)
                outputs += self._unit(closing.start_ms, closing.vectors)
            found, raised = self._windows_ended(closings, now_ms)
            measurements += found
            alerts += raised
            if self._policy.baseline == WEEK:
                outputs += [hour for closing in closings for hour in self._hour_ended(closing)]
            if ends >= MAX_ENDS:
                break
        if not something:
            return None
        for start, window in self._windows.late_units():
            self._windows.written.setdefault(start, now_ms)
            outputs += self._unit(start, window.vectors)
        since_ms = self._windows.needed_since(now_ms) - CLOCK_MARGIN_MS
        outputs += [(m.key(), m.encode(), []) for m in measurements]
        outputs.append((self._counts_key, wire_format.encode(self._checkpoint()), []))
        late, self._late_before = self._windows.late_events - self._late_before, self._windows.late_events
        opened = Counter(self._passed_over.opened)
        passed_over, self._opened_before = opened - self._opened_before, opened
        return Result(
            {
                self._measurements_topic: outputs,
                self._alerts_topic: [(alert.key(), alert.encode(), []) for alert in alerts],
            },
            offset=self._windows.needed_from(self._position),
            metadata=msgspec.json.encode(Kept(max(0, since_ms))).decode(),
            context=Evaluated(
                measurements, alerts, self._announcer.states(), late, passed_over, self._passed_over.to_ms, LOOK
            ),
            more=ends >= MAX_ENDS,
        )

    def _windows_ended(self, closings: Sequence[Closing], now_ms: int) -> tuple[list[Measurement], list[Alert]]:
        """Return the measurements and alerts of the windows that end together, shortest first."""
        judged: list[tuple[Measurement, list[Finding]]] = []
        end_ms = closings[0].end_ms
        announced = now_ms - end_ms <= ALERT_HORIZON_MS
        together = [label for label in self._policy.lengths if any(c.label == label for c in closings)]
        announcer = self._announcer
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
            announcer = self._pass_over(end_ms, judged, min(closing.start_ms for closing in closings))
        self._learn(closings, announcer)
        measurements = [self._with_states(measurement, episodes) for measurement, _ in judged]
        self._last |= {m.window.length: m for m in measurements if m.features}
        return measurements, alerts

    def _learn(self, closings: Sequence[Closing], announcer: Announcer) -> None:
        """Add whole windows to the calm past of each feature of which nothing is pending or open."""
        stirring = announcer.stirring()
        how: dict[tuple[str, Side], Learn | None] = {(c.label, c.side): self._how_to_learn(c) for c in closings}
        for closing in closings:
            past, learns = self._past.get((closing.label, closing.side)), how[closing.label, closing.side]
            if past is not None and learns is not None:
                learn = self._measurer.learn_features if closing.side is Side.FEATURES else self._measurer.learn_score
                learn(past, stirring, learns)
        calm = not announcer.relations_stir()
        for label, past_of_relations in self._relation_past.items():
            if (label, Side.FEATURES) not in how:
                continue
            learns = how[label, Side.FEATURES]
            if learns is None:
                past_of_relations.note(None)
            past_of_relations.learn(calm=calm, how=learns or Learn.NOW)

    def _how_to_learn(self, closing: Closing) -> Learn | None:
        """Return how a window becomes part of the calm past; None: not all of its events were counted.

        Spans overlap. Of those, one is learnt that begins where the last one ended, and after the next such one: so no
        event is compared with itself.
        """
        window, span, name = closing.window, closing.span, f"{closing.label}/{closing.side}"
        enough = Reach(self._min_events).enough(_events(closing), None)
        if span is None:
            if closing.missing or closing.first or window is None or window.foreign:
                return None
            if enough and closing.label == _shortest(self._policy):
                self._learnt_to[name] = closing.end_ms
            return Learn.NOW
        if not span.whole or not enough or span.start_ms < self._learnt_to.get(name, 0):
            return Learn.NOT
        self._learnt_to[name] = closing.end_ms
        return Learn.LATE

    def _pass_over(self, end_ms: int, judged: Sequence[tuple[Measurement, list[Finding]]], start_ms: int) -> Announcer:
        """Count the episodes of windows that are too old to be announced, so that drift in a backlog is reported."""
        past = self._passed_over
        announcer = Announcer(self._policy, self._loaded.manifest.name, self._runbook_url, past.decisions)
        alerts, _ = announcer.step(end_ms, judged)
        past.from_ms = min(past.from_ms, start_ms) if past.windows else start_ms
        past.to_ms = max(past.to_ms, end_ms)
        past.windows += len(judged)
        for alert in alerts:
            if alert.status == "firing" and alert.sequence == 1:
                name = alert.labels["alertname"]
                past.opened[name] = past.opened.get(name, 0) + 1
        return announcer

    def _measure(self, label: str, sides: Mapping[Side, Closing]) -> Measurement:
        """Return the measurement of one window; the score is pending where only the features could be closed."""
        features, score = sides.get(Side.FEATURES), sides.get(Side.SCORE)
        any_side = features or score
        assert any_side is not None, "a closing has a side"  # noqa: S101
        present = [side for side in (features, score) if side is not None]
        foreign = any(side.window is not None and side.window.foreign for side in present)
        missing = sorted({name for side in present for name in side.missing})
        manifest = self._loaded.manifest
        least = self._least(label, any_side)
        measured = (
            self._measurer.features(
                _vectors(features),
                self._slots(label, features),
                self._past.get((label, Side.FEATURES)),
                least=least,
                shorter=self._shorter(label, Side.FEATURES),
                spans=features.span is not None,
            )
            if features
            else {}
        )
        measured_score = (
            self._measurer.score(
                _vectors(score),
                self._slots(label, score),
                self._past.get((label, Side.SCORE)),
                least=least,
                shorter=self._shorter(label, Side.SCORE),
                spans=score.span is not None,
            )
            if score
            else _pending_score()
        )
        events = any_side.window.events if any_side.window is not None else 0
        relations = None
        if features:
            of_both = Sides(
                _vectors(features),
                _vectors(score),
                measured,
                measured_score if score else None,
                _events(features),
                least,
            )
            relations = self._relations.measure(of_both, self._relation_past.get(label))
        return Measurement(
            model=manifest.name,
            model_version=manifest.version,
            reference_sha256=self._loaded.identity.reference,
            window=Window(label, render(any_side.start_ms), render(any_side.end_ms)),
            span=None
            if any_side.span is None
            else Span(render(any_side.span.start_ms), any_side.span.windows, any_side.span.events),
            complete=not missing and not foreign,
            missing_partitions=missing,
            sample=Sample(
                events=events,
                late=sum(self._windows.late.pop((side.side, label), 0) for side in present),
                refused=self._windows.refused_in.pop(label, 0) if features is not None else 0,
            ),
            features=measured,
            score=measured_score,
            relations=relations,
            offsets=_offsets(present),
            reason="reference_changed" if foreign else None,
        )

    def _least(self, label: str, judged: Closing) -> float | None:
        """Return how many independent events are enough for a small window of the shortest length, or its span.

        None: DRIFT_MIN_EVENTS are.
        """
        small = judged.span is not None or _events(judged) < self._min_events
        return Reach(self._min_events).effective if small and label == _shortest(self._policy) else None

    def _shorter(self, label: str, side: Side) -> CalmPast | None:
        """Return the calm past of the longest shorter windows, for one of a day or more, which has none itself."""
        if self._policy.learns(label):
            return None
        known = [self._past[of, side] for of in self._policy.lengths if (of, side) in self._past]
        return next((past for past in reversed(known) if past.windows >= SHAPE_KNOWN), None)

    def _slots(self, label: str, closing: Closing) -> Mapping[int, Distribution]:
        """Return the distributions that replace the reference's for this window, by series."""
        if self._policy.against(label) != WEEK:
            return {}
        series = [s for s in _vectors(closing) if s >= aggregate.SCORE]
        start_ms = closing.start_ms if closing.span is None else closing.span.start_ms
        return self._season.slots(start_ms, closing.end_ms, series)

    def _hour_ended(self, closing: Closing) -> list[Output]:
        """Return the records of one side of an hour for coming weeks, without features that have an episode."""
        window, identity = closing.window, self._loaded.identity
        if closing.label != self._hour or closing.missing or closing.first or window is None or window.foreign:
            return []
        calm = [series for series in sorted(closing.vectors) if self._calm(series)]
        outputs: list[Output] = []
        for series, packed in pieces(self._loaded.cells, closing.vectors, calm):
            self._season.keep(series, closing.start_ms, packed)
            hour = Hour(wire_format.LAYOUT, identity.reference, identity.key_id, closing.start_ms, series, packed)
            outputs.append((self._hours_key, wire_format.encode(hour), []))
        return outputs

    def _calm(self, series: int) -> bool:
        if series < aggregate.SCORE:
            return True
        of_score = series in {aggregate.SCORE, aggregate.PREDICTED}
        return self._announcer.calm(None if of_score else self._loaded.cells.features[series].name)

    def _overlap(self, label: str, sides: Mapping[Side, Closing]) -> float:
        """Return the overlap of customers with the previous window: see drift_worker.alerting.significance."""
        closing = sides.get(Side.FEATURES)
        sketch = _vectors(closing).get(aggregate.CUSTOMERS)
        events = _events(closing)
        if sketch is None or not events:
            return 0.0
        before = self._sketches.get(label)
        self._sketches[label] = (sketch, events)
        if before is None:
            return 0.0
        return aggregate.overlap(sketch, before[0]) / (events * before[1])

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
                wire_format.encode(
                    Merged(wire_format.LAYOUT, identity.reference, identity.key_id, start_ms, series, packed)
                ),
                [],
            )
            for series, vector in sorted(vectors.items())
            for packed in wire_format.pack(aggregate.sparse(vector))
        ]

    def _checkpoint(self) -> Checkpoint:
        remembered = _Remembered(
            self._announcer.decisions,
            {label: (wire_format.pack(aggregate.sparse(sketch)), n) for label, (sketch, n) in self._sketches.items()},
            self._passed_over,
            {
                self._past_name(label, side): wire_format.pack(aggregate.sparse(past.vector))
                for (label, side), past in self._past.items()
            }
            | {
                _relation_name(label): wire_format.pack(aggregate.sparse(past.vector))
                for label, past in self._relation_past.items()
            },
            self._learnt_to,
        )
        return Checkpoint(
            wire_format.LAYOUT,
            self._loaded.identity.reference,
            self._position,
            self._windows.state(),
            msgspec.msgpack.encode(remembered),
        )

    def _picture(self) -> dict[str, Any]:
        """Return the complete state, as `/drift` shows it."""
        return {
            "windows": {label: as_json(measurement) for label, measurement in self._last.items()},
            "states": [
                {"alertname": alertname, "feature": feature or None, "state": state}
                for (alertname, feature), state in self._announcer.states().items()
            ],
            "episodes": as_json(self._announcer.shown()),
            "late_events": self._windows.late_events,
            "found_late": self.found_late,
        }

    def _found_late(self) -> dict[str, Any] | None:
        """Return the findings of windows that are too old to be announced; None without such windows."""
        past = self._passed_over
        if not past.windows:
            return None
        return {
            "windows": past.windows,
            "episodes": dict(sorted(past.opened.items())),
            "from": render(past.from_ms),
            "to": render(past.to_ms),
            "look": LOOK,
        }


def _shortest(policy: Policy) -> str:
    return next(iter(policy.lengths))


def _relation_name(label: str) -> str:
    return f"{label}/relations"


def _kept(metadata: str) -> Kept:
    """Return the committed state; the default if this evaluator did not write it."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Kept)
    except msgspec.MsgspecError:
        return Kept()


def _vectors(closing: Closing | None) -> Mapping[int, Vector]:
    """Return the counts that are judged."""
    if closing is None:
        return {}
    return closing.vectors if closing.span is None else closing.span.vectors


def _events(closing: Closing | None) -> int:
    """Return the number of events that are judged."""
    if closing is None:
        return 0
    if closing.span is not None:
        return closing.span.events
    return 0 if closing.window is None else closing.window.events


def _pending_score() -> FeatureMeasurement:
    return FeatureMeasurement(kind="score", events=0, reason=PENDING)


def _unpack(pieces: Sequence[Packed], size: int = aggregate.SKETCH_SIZE) -> Vector:
    vector: Vector = np.zeros(size, dtype=np.int64)
    for packed in pieces:
        wire_format.unpack(packed, size).add_to(vector)
    return vector


def _offsets(closings: Sequence[Closing]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return the records that the window holds: offsets [first, next) by topic and partition."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for closing in closings:
        judged = closing.window if closing.span is None else closing.span
        for topic, ranges in (judged.ranges if judged is not None else {}).items():
            found[topic] = {str(partition): span for partition, span in sorted(ranges.items())}
    return found
