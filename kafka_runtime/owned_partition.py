"""The owner of a partition: assign → fence → committed → seek → open … revoke → drain.

One task per assigned partition is the gate. Only this task reads the partition, and it reads only after its producer
has fenced the previous owner. Every failure leads to one of a few actions (`kafka_runtime.errors.Action`). Nearly all
of them close the producer and start over from the committed offset. docs/delivery.md describes how a real broker broke
simpler designs.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, IllegalStateError

from kafka_runtime.errors import Action, classify
from kafka_runtime.open_transaction import OpenTransaction
from kafka_runtime.prefetch import Prefetcher
from kafka_runtime.processor import Blocked, PartitionProcessor, PausePartition, Policy, State, Telemetry
from kafka_runtime.service.process import few_descriptors_left, require_descriptors
from kafka_runtime.service.settings import KafkaSettings
from kafka_runtime.sinks import AtLeastOnceSink, Result, Sink, TransactionalSink, transactional_id
from kafka_runtime.topic_id import TopicReplacedError

CALL_TIMEOUT_S = 10.0
POLL_S = 0.5
# After a fence or an unknown outcome: about one heartbeat. Otherwise a zombie and the rightful owner fence each other
# in turn.
SETTLE_S = 2.2
MAX_BACKOFF_S = 5.0
# Without file descriptors no attempt can succeed, and every partition writes lines about each.
SCARCE_BACKOFF_S = 30.0
# Commits that a broker may take back after it has acknowledged them: one was seen.
ACKNOWLEDGED_KEPT = 16
# A transaction that begins right after the previous one of its partition waits 20 ms for that one's markers.
FULL_BATCH_PAUSE_S = 0.03
# At most 200 transactions a second per process: 5 ms × partitions between two commits of one.
SECONDS_PER_TRANSACTION = 0.005
# Target duration of a batch, including the wait for its turn. A revocation waits 15 s for a batch, the drain 20 s, and
# after 60 s the process counts as stuck. Batches begin small, because the cost of a record is known only after the
# first.
SLOW_BATCH_S = 2.0
FIRST_BATCH_RECORDS = 50


# How often a partition looks again whether what its records need is there.
BLOCKED_RETRY_S = 1.0

# States that wait for a person or for the broker, with the time after which the partition retries.
_RETRY_S = {
    State.NOT_AUTHORISED: 5.0,
    State.TOPIC_MISSING: 5.0,
    State.OFFSET_LOST: 5.0,
    State.INPUT_BLOCKED: 5.0,
    State.QUARANTINED: 60.0,
}


def back_off_s(failures: int, *, scarce: bool) -> float:
    """Return how long a partition waits before it starts over. scarce: few file descriptors are left.

    >>> [back_off_s(failures, scarce=False) for failures in (1, 3, 9)]
    [2.2, 3, 5.0]
    >>> [back_off_s(failures, scarce=True) for failures in (1, 3, 20)]
    [3, 9, 30.0]
    """
    if scarce:
        return min(SCARCE_BACKOFF_S, 3 * failures)
    return max(SETTLE_S, min(MAX_BACKOFF_S, failures))


class OffsetLostError(Exception):
    """The committed offset is missing or lies outside the log, and the policy is to stop."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Committed offset of a partition.

    elsewhere: at the assignment, the group had committed offsets for others of its topic.
    """

    offset: int | None
    metadata: str
    elsewhere: bool


class UnpreparedError(Exception):
    """The next record cannot be processed yet; all before it are answered."""

    def __init__(self, blocked: Blocked) -> None:
        super().__init__(blocked.detail)
        self.blocked = blocked


class TopicId(Protocol):
    """Looks up which topic a name refers to now."""

    async def __call__(self, source: TopicPartition) -> UUID:
        """Return the id of the source's topic."""


class ReadCommitted(Protocol):
    """Looks up committed offsets at the group coordinator."""

    async def __call__(self, source: TopicPartition) -> Committed:
        """Return the offset that is committed now."""


class OwnedPartition:
    """One assigned partition and the task that serves it, from fencing to drain."""

    def __init__(
        self,
        source: TopicPartition,
        *,
        consumer: AIOKafkaConsumer,
        read_committed: ReadCommitted,
        topic_id: TopicId,
        settings: KafkaSettings,
        policy: Policy,
        work: PartitionProcessor[Any],
        telemetry: Telemetry,
        executor: Executor,
        starting: asyncio.Semaphore,
    ) -> None:
        self.source = source
        self.current = State.FENCING
        self.detail = ""
        self.held = 0  # records taken and not answered yet
        self.held_since = 0.0  # monotonic; since when
        self.shut_out = False  # the group itself rejected this member
        self.open_transaction = OpenTransaction(source)
        self.siblings = 1  # assigned partitions of this process, for the pace of commits
        self._consumer = consumer
        self._read_committed = read_committed
        self._topic_id = topic_id
        self._identity: UUID | None = None  # id of the topic that is read
        self._settings = settings
        self._policy = policy
        self._work = work
        self._telemetry = telemetry
        self._executor = executor
        self._starting = starting
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost = False
        self._reading = False
        self._read_to = 0  # the reader's position when it ended
        self._answered: int | None = None  # position after the last answered batch
        # Of the last acknowledged commits: the offset, and the records of the batch.
        self._acknowledged: deque[tuple[int, int]] = deque(maxlen=ACKNOWLEDGED_KEPT)
        self._newest_ms: int | None = None  # Kafka time of the last record taken
        self._limit = min(policy.max_records, FIRST_BATCH_RECORDS)  # size of the next batch, in records
        self._failures = 0

    def close(self) -> None:
        """Finish the current batch, take no other one."""
        if not self._closing.done():
            self._closing.set_result(None)

    def lose(self) -> None:
        """Commit no more: the deadline of a revocation has passed."""
        self._lost = True
        self.close()

    async def run(self) -> None:
        """Serve until closed. Raises only for an internal error."""
        try:
            while not self._closing.done():
                sink = self._sink()
                failure: Exception | None = None
                try:
                    await self._serve(sink)
                except Exception as error:  # noqa: BLE001 - classified in one place, and raised again if not known
                    failure = error
                finally:
                    await sink.stop()
                if failure is not None and not await self._recover(failure):
                    return
        finally:
            self._work.on_revoked(self.source)
            self._set(State.DRAINED)

    def _sink(self) -> Sink:
        if self._policy.delivery == "at_least_once":
            return AtLeastOnceSink(self._settings, self._consumer, self.source)
        return TransactionalSink(self._settings, self._policy.group, self.source)

    async def _start(self, sink: Sink) -> None:
        """Fence the previous owner. Few partitions do so at a time, because each opens connections."""
        async with self._starting:
            if self._closing.done():  # it was revoked while it waited for its turn
                raise IllegalStateError(f"{self.source} is not assigned any more")
            require_descriptors()
            await sink.start()

    async def _serve(self, sink: Sink) -> None:
        self._set(State.FENCING)
        self._reading = False
        await self._start(sink)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            self._identity = await self._topic_id(self.source)
        position, metadata, placed = await self._position()
        self._answered = position
        taken_back = sum(records for offset, records in self._acknowledged if offset > position)
        self._acknowledged.clear()
        if self._policy.unfinished is not None and (torn := await self._policy.unfinished(self.source, position)):
            # A broker may report a transaction as ended and leave it open (docs/delivery.md, "a torn transaction"). The
            # next commit would then make its records visible next to their repetition.
            await sink.abandon(list(torn), position)
            self._telemetry.transaction(self.source, "aborted", 0.0, 0.0)
            taken_back = max(taken_back, sum(torn.values()))
        if taken_back:
            self._telemetry.torn(taken_back)
        if placed:
            # decided once: every later record is answered, for any event before the first batch
            await self._write(sink, Result({}, None), position)
        restored = await self._work.on_assigned(self.source, position, metadata)
        position = position if restored is None else restored
        self._consumer.seek(self.source, position)
        self._consumer.resume(self.source)  # the previous reader may have paused because its prefetcher was full
        prefetcher = Prefetcher(self._consumer, self.source, position, self._policy.max_records, self._closing)
        self._set(State.RUNNING)
        try:
            await self._answer(prefetcher, sink)
        finally:
            self._read_to = prefetcher.read_to
            await prefetcher.close()

    async def _answer(self, prefetcher: Prefetcher, sink: Sink) -> None:
        """Take, process and commit batch after batch, until closed."""
        written_at = committed_at = active_at = time.monotonic()
        tick_s, more = self._policy.tick_s, False
        while not self._closing.done():
            if not prefetcher.full:
                # a batch does not wait until it is full; but commits keep a least interval, in which records gather
                await self._sleep(written_at + self._interval_s() - time.monotonic())
            self._reading = True
            await prefetcher.wait(0.0 if more else POLL_S if tick_s is None else min(POLL_S, tick_s))
            self._reading = False
            full = prefetcher.full
            records = prefetcher.take(self._limit)
            if records:
                self._newest_ms = records[-1].timestamp if records[-1].timestamp >= 0 else None
            else:
                self._answered = prefetcher.position  # it may have stepped over markers
            at_end = self._at_end(prefetcher.position)
            now = time.monotonic()
            if self._closing.done() or (not records and not more and (tick_s is None or now < active_at + tick_s)):
                continue
            blocked = None
            if records and self._policy.prepare is not None:
                blocked = await self._policy.prepare(self.source, records)
            if blocked is not None and not blocked.ready:
                raise UnpreparedError(blocked)
            stop = None if blocked is None else records[blocked.ready].offset
            records = records if blocked is None else records[: blocked.ready]
            active_at = now = time.monotonic()
            self.held, self.held_since = len(records), now
            process = functools.partial(self._work.process, self.source, records, at_end=at_end)
            result = await asyncio.get_running_loop().run_in_executor(self._executor, process)
            self._limit = self._next_limit(len(records), time.monotonic() - now)
            more = result is not None and result.more
            if result is not None:
                if full:
                    await self._sleep(committed_at + FULL_BATCH_PAUSE_S - time.monotonic())
                end = prefetcher.position if stop is None else stop
                offset = end if result.offset is None else result.offset
                written_at = time.monotonic()
                produce_s, commit_s = await self._write(sink, result, offset, len(records))
                committed_at = time.monotonic()
                self._telemetry.transaction(self.source, "committed", produce_s, commit_s)
                self._work.on_committed(self.source, result, records)
                self._failures = 0
            del process, result, records  # release an answered batch before the wait for the next one
            self.held = 0
            if blocked is not None:
                self._answered = stop
                raise UnpreparedError(blocked)
            self._answered = prefetcher.position
            self._at_end(prefetcher.position)

    async def _write(self, sink: Sink, result: Result[object], offset: int, records: int = 0) -> tuple[float, float]:
        """Write and commit, if the topic that was read still has its name. The look-up runs beside the writes.

        records: how many the result is of.
        """
        asked = asyncio.ensure_future(self._topic_id(self.source))

        async def still_ours() -> bool:
            if (now := await asked) != self._identity:
                raise TopicReplacedError(f"{self.source.topic} was {self._identity} and is {now}")
            return not self._lost

        try:
            seconds = await sink.write(result, offset, still_ours)
            self._acknowledged.append((offset, records))
            return seconds
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    def _next_limit(self, records: int, seconds: float) -> int:
        """Return the size limit of the next batch, after one of `records` records took `seconds`."""
        if seconds > SLOW_BATCH_S:
            return max(1, min(records, int(records * SLOW_BATCH_S / seconds)))
        if records >= self._limit and seconds < SLOW_BATCH_S / 8:
            return min(self._policy.max_records, 4 * self._limit)
        return self._limit

    def _interval_s(self) -> float:
        """Return the least interval between the beginnings of two writes."""
        if self._policy.delivery == "at_least_once":
            return self._policy.commit_interval_s
        return max(self._policy.commit_interval_s, SECONDS_PER_TRANSACTION * self.siblings)

    async def _position(self) -> tuple[int, str, bool]:
        """Return the start position, its committed metadata, and whether it was not committed but decided now.

        OffsetLostError if an operator must decide it.
        """
        source, policy = self.source, self._policy
        async with asyncio.timeout(CALL_TIMEOUT_S):
            committed = await self._read_committed(source)
            first: int = (await self._consumer.beginning_offsets([source]))[source]
            end: int = (await self._consumer.end_offsets([source]))[source]
        offset = committed.offset
        if offset is not None and first <= offset <= end:
            return offset, committed.metadata, False
        log_range = f"the log holds {first} to {end}"
        if offset is not None:
            choice, why = policy.offset_lost, f"committed offset {offset} is outside the log: {log_range}"
        elif policy.answered_before is not None and await policy.answered_before(source):
            choice, why = policy.offset_lost, f"no committed offset, although outputs of this group exist: {log_range}"
        elif committed.elsewhere:
            choice, why = "earliest", "a new partition"  # never skip records that are older than this look
        else:
            choice, why = policy.first_start, "first start"
        if choice == "stop":
            raise OffsetLostError(why)
        position = first if choice == "earliest" else end
        self._telemetry.start_position(source, position, f"{why}; {choice}")
        return position, "", True

    def _at_end(self, position: int) -> bool:
        """Return whether the partition has been read to its end; report the lag, which is known then.

        Records behind an open transaction are before the end: they may yet become visible.
        """
        stable: int | None = self._consumer.last_stable_offset(self.source)
        high: int | None = self._consumer.highwater(self.source)
        if stable is None or high is None:
            return False
        self.report_lag(stable)
        return position >= stable >= high

    def observe(self, high: int, stable: int) -> None:
        """Report the lag, and what is behind an open transaction. Ask for the high watermark first."""
        self.report_lag(stable)
        self.open_transaction.observe(high, stable)
        self._telemetry.blocked(self.source, self.open_transaction.records, self.open_transaction.seconds)

    def ends_unknown(self) -> None:
        """Report that the cluster does not answer where the partition ends."""
        self.open_transaction.unknown()
        self._telemetry.blocked(self.source, None, None)

    def report_lag(self, stable: int) -> None:
        """Report the distance of the answers from `stable`, the last stable offset."""
        if self._answered is not None:
            behind = max(0, stable - self._answered)
            self._telemetry.lag(self.source, behind, self._newest_ms if behind else None)

    async def _recover(self, error: Exception) -> bool:
        """Take the action that `error` requires; return False if the partition is no longer assigned."""
        self.held = 0
        if isinstance(error, PausePartition):
            return await self._rest(State.PAUSED, error.reason, None)
        if isinstance(error, UnpreparedError):
            return await self._wait_for(error.blocked)
        action = Action.NO_OFFSET if isinstance(error, OffsetLostError) else classify(error, reading=self._reading)
        if self._closing.done() and action is not Action.CRASH:
            return False
        if action is Action.CRASH:
            raise error
        if action is Action.LOST:
            # a seek or poll that raced a rebalance raises the same; if the partition is still assigned, start over
            return self.source in self._consumer.assignment() and await self._back_off(error, "lost")
        if action is Action.NO_OFFSET:
            if isinstance(error, OffsetLostError):
                return await self._rest(State.OFFSET_LOST, str(error), _RETRY_S[State.OFFSET_LOST])
            return await self._back_off(error, action)
        if action in {Action.QUARANTINE, Action.STOP_NOT_AUTHORISED, Action.STOP_TOPIC_MISSING, Action.STOP_BLOCKED}:
            state = State(action.value)
            where = f"offset {self._read_to}: " if action is Action.QUARANTINE else ""
            self.shut_out = isinstance(error, GroupAuthorizationFailedError)
            return await self._rest(state, f"{where}{error!r}", _RETRY_S[state])
        self._telemetry.transaction(self.source, "fenced" if action is Action.FENCED else "unknown", 0.0, 0.0)
        return await self._back_off(error, action)

    async def _back_off(self, error: Exception, cause: str) -> bool:
        self._failures += 1
        exactly_once = self._policy.delivery == "exactly_once"
        identity = transactional_id(self._policy.group, self.source) if exactly_once else None
        self._telemetry.producer_rebuilt(self.source, cause, error, identity)
        self._set(State.BACKING_OFF, repr(error))
        await self._sleep(back_off_s(self._failures, scarce=few_descriptors_left()) * random.uniform(0.95, 1.15))
        return not self._closing.done()

    async def _wait_for(self, blocked: Blocked) -> bool:
        """Wait until the next record can be processed; return False if the partition is no longer assigned."""
        detail: str | None = blocked.detail
        while detail is not None:
            if not await self._rest(blocked.state, detail, BLOCKED_RETRY_S):
                return False
            detail = await blocked.why_still()
        return True

    async def _rest(self, state: State, detail: str, seconds: float | None) -> bool:
        """Wait, paused, for `seconds` or until closed. Keep polling: a member that does not poll is removed."""
        self._set(state, detail)
        until = None if seconds is None else time.monotonic() + seconds
        while not self._closing.done() and (until is None or time.monotonic() < until):
            try:
                self._consumer.pause(self.source)
                async with asyncio.timeout(POLL_S):
                    await self._consumer.getmany(self.source, timeout_ms=round(POLL_S * 1000), max_records=1)
            except IllegalStateError:
                return False
            except TimeoutError:
                pass  # a rebalance is in progress
            except Exception as error:  # the error that stopped the partition may be raised again by every poll
                if classify(error, reading=True) is Action.CRASH:
                    raise
                await self._sleep(POLL_S)
        if not self._closing.done():
            self._consumer.resume(self.source)
        return not self._closing.done()

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.wait((self._closing,), timeout=seconds)

    def _set(self, state: State, detail: str = "") -> None:
        if (state, detail) != (self.current, self.detail) or state is State.FENCING:
            self.current, self.detail = state, detail
            self._telemetry.state(self.source, state, detail)
