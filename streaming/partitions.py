"""Who owns a partition: assign → fence → committed → seek → open … revoke → drain.

One task per assigned partition is the gate: nothing is read from a partition but by its task, and the task reads only
after its producer has fenced the previous owner. Whatever goes wrong ends in one of a few actions
(`streaming.errors.Action`), and nearly all of them in the same way: throw the producer away and start over from the
committed offset. docs/delivery.md says what a real broker did to simpler designs.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, IllegalStateError

from streaming.errors import Action, classify
from streaming.inbox import Inbox
from streaming.settings import KafkaSettings
from streaming.topic_id import TopicReplacedError
from streaming.transactions import AtLeastOnceSink, Result, Sink, TransactionalSink, transactional_id
from streaming.work import Policy, State, Stop, Telemetry, Work

CALL_TIMEOUT_S = 10.0
POLL_S = 0.5
# After a fence or an unknown outcome: about one heartbeat, else a zombie fences the rightful owner back and forth.
SETTLE_S = 2.2
MAX_BACKOFF_S = 5.0
# A transaction that is begun right after the previous one of its partition waits 20 ms for that one's markers.
FULL_BATCH_PAUSE_S = 0.03
# At most 200 transactions a second per process: 5 ms × partitions between two commits of one.
SECONDS_PER_TRANSACTION = 0.005
# How long a batch may take, waiting for its turn included: a revocation waits 15 s for it, the drain 20 s, and after
# 60 s the process counts as stuck. Batches begin small, because what a record costs is known only after the first.
SLOW_BATCH_S = 2.0
FIRST_BATCH_RECORDS = 50


# States that wait for a person or for the broker, with the time after which the partition tries again by itself.
_RETRY_S = {State.NOT_AUTHORISED: 5.0, State.TOPIC_MISSING: 5.0, State.OFFSET_LOST: 5.0, State.QUARANTINED: 60.0}


class OffsetLostError(Exception):
    """The committed offset is gone or lies outside the log, and the policy is to stop."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What the group has committed for a partition; elsewhere: it had for others of its topic at the assignment."""

    offset: int | None
    metadata: str
    elsewhere: bool


class TopicId(Protocol):
    """Asks the cluster which topic a name stands for now."""

    async def __call__(self, source: TopicPartition) -> UUID:
        """The id of the source's topic."""


class ReadCommitted(Protocol):
    """Asks the group coordinator."""

    async def __call__(self, source: TopicPartition) -> Committed:
        """What is committed now."""


class OwnedPartition:
    """One assigned partition and the task that serves it, from fencing to drain."""

    def __init__(
        self,
        source: TopicPartition,
        consumer: AIOKafkaConsumer,
        read_committed: ReadCommitted,
        topic_id: TopicId,
        settings: KafkaSettings,
        policy: Policy,
        work: Work,
        telemetry: Telemetry,
        executor: Executor,
    ) -> None:
        self.source = source
        self.current = State.FENCING
        self.detail = ""
        self.held = 0  # records in hand and not answered yet
        self.held_since = 0.0  # monotonic; since when
        self.shut_out = False  # the group itself refused us
        self.siblings = 1  # assigned partitions of this process, for the pace of commits
        self._consumer = consumer
        self._read_committed = read_committed
        self._topic_id = topic_id
        self._identity: UUID | None = None  # of the topic that is read
        self._settings = settings
        self._policy = policy
        self._work = work
        self._telemetry = telemetry
        self._executor = executor
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost = False
        self._reading = False
        self._read_to = 0  # where the reader stood when it ended
        self._answered: int | None = None  # position after the last answered batch
        self._newest_ms: int | None = None  # Kafka time of the last record taken
        self._limit = min(policy.max_records, FIRST_BATCH_RECORDS)  # of the next batch, in records
        self._failures = 0

    def close(self) -> None:
        """Finish the batch in hand, take no other."""
        if not self._closing.done():
            self._closing.set_result(None)

    def lose(self) -> None:
        """The deadline of a revocation has passed: commit nothing more."""
        self._lost = True
        self.close()

    async def run(self) -> None:
        """Serve until closed. Raises only for a defect of ours."""
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
            self._work.closed(self.source)
            self._set(State.DRAINED)

    def _sink(self) -> Sink:
        if self._policy.delivery == "at_least_once":
            return AtLeastOnceSink(self._settings, self._consumer, self.source)
        return TransactionalSink(self._settings, self._policy.group, self.source)

    async def _serve(self, sink: Sink) -> None:
        self._set(State.FENCING)
        self._reading = False
        await sink.start()
        async with asyncio.timeout(CALL_TIMEOUT_S):
            self._identity = await self._topic_id(self.source)
        position, metadata, placed = await self._position()
        self._answered = position
        if self._policy.unfinished is not None and (torn := await self._policy.unfinished(self.source, position)):
            # A broker may say that a transaction has ended and leave it open (docs/delivery.md, "a torn transaction"):
            # our next commit would make its records visible beside their repetition.
            await sink.abandon(torn, position)
            self._telemetry.transaction(self.source, "aborted", 0.0, 0.0)
        if placed:
            # decided once: what comes after this moment is answered, whatever happens before the first batch
            await self._write(sink, Result({}), position)
        restored = await self._work.opened(self.source, position, metadata)
        position = position if restored is None else restored
        self._consumer.seek(self.source, position)
        self._consumer.resume(self.source)  # the reader before may have been waiting for room, paused
        inbox = Inbox(self._consumer, self.source, position, self._policy.max_records, self._closing)
        self._set(State.RUNNING)
        try:
            await self._answer(inbox, sink)
        finally:
            self._read_to = inbox.read_to
            await inbox.close()

    async def _answer(self, inbox: Inbox, sink: Sink) -> None:
        """Batch after batch until closed: take, process, commit."""
        written_at = committed_at = active_at = time.monotonic()
        tick_s = self._policy.tick_s
        while not self._closing.done():
            if not inbox.full:
                # nothing waits for a batch to fill; but two commits keep their distance, and records gather meanwhile
                await self._sleep(written_at + self._interval_s() - time.monotonic())
            self._reading = True
            await inbox.wait(POLL_S if tick_s is None else min(POLL_S, tick_s))
            self._reading = False
            full = inbox.full
            records = inbox.take(self._limit)
            if records:
                self._newest_ms = records[-1].timestamp
            else:
                self._answered = inbox.position  # it may have stepped over markers
            at_end = self._at_end(inbox.position)
            now = time.monotonic()
            if self._closing.done() or (not records and (tick_s is None or now < active_at + tick_s)):
                continue
            active_at = now
            self.held, self.held_since = len(records), now
            process = functools.partial(self._work.process, self.source, records, at_end=at_end)
            result = await asyncio.get_running_loop().run_in_executor(self._executor, process)
            self._limit = self._next_limit(len(records), time.monotonic() - now)
            if result is not None:
                if full:
                    await self._sleep(committed_at + FULL_BATCH_PAUSE_S - time.monotonic())
                offset = inbox.position if result.offset is None else result.offset
                written_at = time.monotonic()
                produce_s, commit_s = await self._write(sink, result, offset)
                committed_at = time.monotonic()
                self._telemetry.transaction(self.source, "committed", produce_s, commit_s)
                self._work.committed(self.source, result, records)
                self._failures = 0
            del process, result, records  # a batch answered must not be held while the next one is waited for
            self.held = 0
            self._answered = inbox.position
            self._at_end(inbox.position)

    async def _write(self, sink: Sink, result: Result, offset: int) -> tuple[float, float]:
        """Write and commit, if the topic that was read is still the one of its name. Asked beside the writes."""
        asked = asyncio.ensure_future(self._topic_id(self.source))

        async def still_ours() -> bool:
            if (now := await asked) != self._identity:
                raise TopicReplacedError(f"{self.source.topic} was {self._identity} and is {now}")
            return not self._lost

        try:
            return await sink.write(result, offset, still_ours)
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    def _next_limit(self, records: int, seconds: float) -> int:
        """How many records the next batch may have, after one of `records` took `seconds`."""
        if seconds > SLOW_BATCH_S:
            return max(1, min(records, int(records * SLOW_BATCH_S / seconds)))
        if records >= self._limit and seconds < SLOW_BATCH_S / 8:
            return min(self._policy.max_records, 4 * self._limit)
        return self._limit

    def _interval_s(self) -> float:
        """From the begin of one write to that of the next."""
        if self._policy.delivery == "at_least_once":
            return self._policy.commit_interval_s
        return max(self._policy.commit_interval_s, SECONDS_PER_TRANSACTION * self.siblings)

    async def _position(self) -> tuple[int, str, bool]:
        """Where to start, the metadata committed there, and whether it was not committed but decided now.

        OffsetLostError if that must be decided by a person.
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
            choice, why = "earliest", "a new partition"  # never skip what was written before we saw it
        else:
            choice, why = policy.first_start, "first start"
        if choice == "stop":
            raise OffsetLostError(why)
        position = first if choice == "earliest" else end
        self._telemetry.placed(source, position, f"{why}; {choice}")
        return position, "", True

    def _at_end(self, position: int) -> bool:
        """Whether the partition has been taken to its end; reports the lag, for it is known now."""
        stable: int | None = self._consumer.last_stable_offset(self.source)
        if stable is None:
            return False
        self.report_lag(stable)
        return position >= stable

    def report_lag(self, stable: int) -> None:
        """Report how far the answers are behind `stable`, the last stable offset."""
        if self._answered is not None:
            behind = max(0, stable - self._answered)
            self._telemetry.lag(self.source, behind, self._newest_ms if behind else None)

    async def _recover(self, error: Exception) -> bool:
        """Do what `error` calls for; False if the partition is not ours any more."""
        self.held = 0
        if isinstance(error, Stop):
            return await self._rest(State.PAUSED, error.reason, None)
        action = Action.NO_OFFSET if isinstance(error, OffsetLostError) else classify(error, reading=self._reading)
        if self._closing.done() and action is not Action.CRASH:
            return False
        if action is Action.CRASH:
            raise error
        if action is Action.LOST:
            # a seek or poll that raced a rebalance says the same; if we are still assigned, start over
            return self.source in self._consumer.assignment() and await self._back_off(error, "lost")
        if action is Action.NO_OFFSET:
            if isinstance(error, OffsetLostError):
                return await self._rest(State.OFFSET_LOST, str(error), _RETRY_S[State.OFFSET_LOST])
            return await self._back_off(error, action)
        if action in {Action.QUARANTINE, Action.STOP_NOT_AUTHORISED, Action.STOP_TOPIC_MISSING}:
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
        self._telemetry.rebuilt(self.source, cause, error, identity)
        self._set(State.BACKING_OFF, repr(error))
        await self._sleep(max(SETTLE_S, min(MAX_BACKOFF_S, self._failures)) * random.uniform(0.95, 1.15))
        return not self._closing.done()

    async def _rest(self, state: State, detail: str, seconds: float | None) -> bool:
        """Wait, paused, for `seconds` or until closed. Keeps polling: a member that does not poll is thrown out."""
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
                pass  # a rebalance is under way
            except Exception as error:  # what stopped the partition may be raised again by every poll
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
