"""The group member: which partitions are ours, one task for each, and what the process knows about itself."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, KafkaError, for_code
from aiokafka.structs import OffsetAndMetadata

from streaming import clients, logs
from streaming.errors import Action, classify
from streaming.partitions import CALL_TIMEOUT_S, Committed, OwnedPartition
from streaming.settings import KafkaSettings
from streaming.topic_id import topic_id
from streaming.work import Policy, State, Telemetry, Work

log = logs.get(__name__)

PROBE_S = 5.0
TURN_S = 0.5
# A revoked partition must be let go well before the group gives up on us (max.poll.interval, 5 minutes).
REVOKE_DEADLINE_S = 15.0
LOOP_STUCK_S = 30.0
BATCH_STUCK_S = 60.0


class NotReady(StrEnum):
    """Why `/readyz` says 503: a closed set."""

    STARTING = "starting"
    NO_MODEL = "no_model"
    BROKER_UNREACHABLE = "broker_unreachable"
    NOT_IN_GROUP = "not_in_group"
    FENCING = "fencing"
    TOPIC_MISSING = "topic_missing"
    NOT_AUTHORISED = "not_authorised"
    DEAD_LETTER_LIMIT = "dead_letter_limit"
    QUARANTINED = "quarantined"
    OFFSET_LOST = "offset_lost"
    DRAINING = "draining"


_REASON_OF_STATE = {
    State.FENCING: NotReady.FENCING,
    State.BACKING_OFF: NotReady.FENCING,
    State.NOT_AUTHORISED: NotReady.NOT_AUTHORISED,
    State.TOPIC_MISSING: NotReady.TOPIC_MISSING,
    State.OFFSET_LOST: NotReady.OFFSET_LOST,
    State.QUARANTINED: NotReady.QUARANTINED,
}


def _is_refusal(error: Exception) -> bool:
    return classify(error, reading=False) is Action.STOP_NOT_AUTHORISED


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One assigned partition, as people see it."""

    topic: str
    partition: int
    state: str
    detail: str


class GroupMember(ConsumerRebalanceListener):  # type: ignore[misc] # the base class has no types
    """Serves whatever partitions the group gives us, until told to drain."""

    def __init__(
        self, settings: KafkaSettings, topics: Sequence[str], policy: Policy, work: Work, telemetry: Telemetry
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._policy = policy
        self._work = work
        self._telemetry = telemetry
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._owned: dict[TopicPartition, tuple[OwnedPartition, asyncio.Task[None]]] = {}
        self._joined = False
        self._draining = False
        self._reachable = False
        self._tried = False
        self._missing_topics: list[str] = []
        self._barred: Exception | None = None  # the cluster does not let us in, or not at our topics
        self._denied: Exception | None = None  # the group does not take us
        self._fatal: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.turned_at = time.monotonic()  # when the event loop last came round
        self.loop_lag_s = 0.0

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self, drain: asyncio.Event) -> None:
        """Serve until `drain` is set. Raises only for a defect of ours; the broker being away is waited out."""
        self._loop = asyncio.get_running_loop()
        turning = asyncio.create_task(self._turn(), name="turn")
        try:
            while not drain.is_set() and self._fatal is None:
                await self._start(drain)
                await self._belong(drain)
                if self._shut_out():
                    # aiokafka's consumer repeats the group's refusal for ever, granted or not: a new one asks anew
                    self._denied = GroupAuthorizationFailedError(self._policy.group)
                    self._telemetry.revoked(sorted(self._owned))
                    await self._leave()
            self._draining = True
            if self._fatal is not None:
                raise self._fatal
        finally:
            self._draining = True
            await self._stop()
            turning.cancel()

    async def _belong(self, drain: asyncio.Event) -> None:
        """Be a member until told to drain, until a defect shows, or until the group shuts us out."""
        # beside the rest: a broker that does not answer must not keep us from draining
        watching = asyncio.create_task(self._watch(), name="watch")
        watching.add_done_callback(self._ended)
        try:
            while not drain.is_set() and self._fatal is None and not self._shut_out():
                await self._poll_if_idle()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TURN_S):
                        await drain.wait()
        finally:
            watching.cancel()

    async def _start(self, drain: asyncio.Event) -> None:
        failures = 0
        while not drain.is_set():
            self._admin = clients.admin(self._settings)
            consumer = clients.group_consumer(
                self._settings, self._topics, self._policy.group, self._policy.fetch_bytes, self
            )
            self._consumer = consumer  # the first assignment may come before start returns
            try:
                async with asyncio.timeout(30.0):
                    await self._admin.start()
                    await consumer.start()
            except (KafkaError, TimeoutError, OSError) as error:
                failures += 1
                why = await self._why(error)
                self._tried, self._reachable = True, self._bar(why)
                if not self._reachable:
                    log.warning("broker_unreachable", exception=repr(error), failures=failures)
                self._consumer = None
                await self._close(consumer)
                await self._close(self._admin)
                self._admin = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(5.0, 0.5 * failures)):
                        await drain.wait()
                continue
            self._reachable = self._tried = True
            self._bar(None)
            self._denied = None
            return

    async def _leave(self) -> None:
        await self._release(REVOKE_DEADLINE_S)
        for client in (self._consumer, self._admin):
            if client is not None:
                await self._close(client)
        self._consumer = self._admin = None
        self._joined = False

    async def _stop(self) -> None:
        await self._leave()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _close(self, client: AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await (clients.stop(client) if isinstance(client, AIOKafkaConsumer) else client.close())
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("close_failed", client=type(client).__name__, exception=repr(error))

    # -- rebalances -----------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by aiokafka: the group is about to give our partitions to somebody else, perhaps to us again."""
        self._joined = False
        self._telemetry.revoked(sorted(revoked))
        await self._release(REVOKE_DEADLINE_S)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka: starts the tasks and returns, for records may be fetched while it runs."""
        if self._consumer is None or self._draining:
            return
        await self._release(REVOKE_DEADLINE_S)  # a generation may have passed without a revocation
        sources = sorted(assigned)
        # asked once, before any of these partitions has committed: which of them are new to a group that is not
        before = asyncio.ensure_future(self._all_committed())
        before.add_done_callback(lambda asked: asked.cancelled() or asked.exception())  # looked at where it is needed
        for source in sources:
            owned = OwnedPartition(
                source,
                self._consumer,
                functools.partial(self._read_committed, before),
                self._topic_id,
                self._settings,
                self._policy,
                self._work,
                self._telemetry,
                self._executor,
            )
            owned.siblings = len(sources)
            task = asyncio.create_task(owned.run(), name=f"partition {source.topic}-{source.partition}")
            task.add_done_callback(self._ended)
            self._owned[source] = (owned, task)
        self._joined = True
        self._telemetry.assigned(sources)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", task=task.get_name(), exc_info=error)
            self._fatal = error

    async def _release(self, deadline_s: float) -> None:
        """Let open batches finish, within the deadline; after it nothing more is committed."""
        owned, self._owned = self._owned, {}
        if not owned:
            return
        for partition, _ in owned.values():
            partition.close()
        tasks = {task for _, task in owned.values()}
        _, pending = await asyncio.wait(tasks, timeout=deadline_s)
        if pending:
            for partition, task in owned.values():
                if task in pending:
                    log.warning("batch_abandoned", topic=partition.source.topic, partition=partition.source.partition)
                    partition.lose()
                    task.cancel()
            await asyncio.wait(pending, timeout=CALL_TIMEOUT_S)

    async def _all_committed(self) -> dict[TopicPartition, OffsetAndMetadata]:
        if self._admin is None:
            raise KafkaConnectionError("not connected")
        async with asyncio.timeout(CALL_TIMEOUT_S):
            offsets = await self._admin.list_consumer_group_offsets(self._policy.group)
        return {source: found for source, found in offsets.items() if found.offset >= 0}

    async def _topic_id(self, source: TopicPartition) -> UUID:
        if self._admin is None or self._consumer is None:
            raise KafkaConnectionError("not connected")
        # the broker that we read from: it knows what it gave us, and without it there is nothing to answer anyway
        leader = self._consumer._client.cluster.leader_for_partition(source)  # noqa: SLF001 - nothing public says it
        return await topic_id(self._admin, source.topic, None if leader in {None, -1} else leader)

    async def _read_committed(
        self, before: asyncio.Future[dict[TopicPartition, OffsetAndMetadata]], source: TopicPartition
    ) -> Committed:
        now = (await self._all_committed()).get(source)
        if now is not None:
            return Committed(now.offset, now.metadata or "", elsewhere=True)
        await asyncio.wait((before,))
        known = await self._all_committed() if before.exception() is not None else before.result()
        return Committed(None, "", elsewhere=any(other.topic == source.topic for other in known))

    # -- what the process knows about itself ------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Notes that the loop turns, and how late it is."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TURN_S)
            self.turned_at = time.monotonic()
            self.loop_lag_s = max(0.0, self.turned_at - before - TURN_S)

    async def _watch(self) -> None:
        """Asks the cluster how things stand, every few seconds. Raises if nothing can come any more."""
        while True:
            if self._consumer is not None:
                clients.check_fetching(self._consumer)
            await self._probe()
            await self._ask_ends()
            await asyncio.sleep(PROBE_S)

    async def _ask_ends(self) -> None:
        """How much waits in a partition that is not being read, paused or busy, only the broker knows."""
        owned = {source: partition for source, (partition, _) in self._owned.items()}
        if self._consumer is None or not owned or not self._reachable:
            return
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                ends = await self._consumer.end_offsets(list(owned))
        except (KafkaError, TimeoutError, OSError) as error:
            log.debug("ends_unknown", exception=repr(error))
            return
        for source, end in ends.items():
            if self._owned.get(source, (None,))[0] is owned[source]:
                owned[source].report_lag(end)

    async def _probe(self) -> None:
        """One small request to the cluster: is it there, does it let us in, and are our topics there?"""
        if self._consumer is None:
            return
        try:
            async with asyncio.timeout(PROBE_S):
                topics = await self._consumer.topics()
                missing = [topic for topic in self._topics if topic not in topics]
                hidden = await self._hidden(missing)
        except (KafkaError, TimeoutError, OSError) as error:
            refused = self._bar(await self._why(error))
            if self._reachable and not refused:
                log.warning("broker_unreachable", exception=repr(error))
            self._reachable = refused
        else:
            if not self._reachable:
                log.info("broker_reachable")
            self._reachable = True
            self._bar(hidden)
            self._missing_topics = missing if hidden is None else []

    async def _hidden(self, topics: list[str]) -> Exception | None:
        """That topics which are not listed are there, but not for us: a broker says so only if they are named."""
        if not topics or self._admin is None:
            return None
        errors = [for_code(found["error_code"])(found["topic"]) for found in await self._admin.describe_topics(topics)]
        return next((error for error in errors if _is_refusal(error)), None)

    async def _why(self, error: Exception) -> Exception:
        """What stands behind `error`: aiokafka calls a broker that refuses our password one that is not there."""
        if _is_refusal(error):
            return error
        return await clients.refusal(self._settings) or error

    def _bar(self, error: Exception | None) -> bool:
        """Note whether `error` is a refusal, for `/readyz`; whoever refuses can be reached."""
        refused = error if error is not None and _is_refusal(error) else None
        if refused is not None and repr(refused) != repr(self._barred):
            log.warning("not_authorised", exception=repr(refused))
        self._barred = refused
        return refused is not None

    async def _poll_if_idle(self) -> None:
        """A member without partitions must poll, too: to stay in the group, and to hear why it is not let in."""
        if self._consumer is None or self._owned or self._consumer.assignment():
            return
        try:
            async with asyncio.timeout(TURN_S):
                await self._consumer.getmany(timeout_ms=0, max_records=1)
            self._denied = None
        except TimeoutError:
            pass  # a rebalance is under way
        except KafkaError as error:
            if repr(error) != repr(self._denied):
                log.warning("not_in_group", exception=repr(error))
            self._denied = error

    def _shut_out(self) -> bool:
        """Whether the group itself refuses us."""
        return isinstance(self._denied, GroupAuthorizationFailedError) or any(
            owned.shut_out for owned, _ in self._owned.values()
        )

    @property
    def partitions(self) -> list[PartitionView]:
        """The assigned partitions and what each is doing."""
        return [
            PartitionView(source.topic, source.partition, owned.current.value, owned.detail)
            for source, (owned, _) in sorted(self._owned.items())
        ]

    @property
    def in_flight(self) -> int:
        """Records read and not committed yet."""
        return sum(owned.held for owned, _ in list(self._owned.values()))

    @property
    def tasks(self) -> int:
        """How many tasks the event loop has, aiokafka's included: a number that must not grow."""
        return len(asyncio.all_tasks(self._loop)) if self._loop is not None else 0

    def not_ready(self) -> list[str]:
        """Reasons of the closed set, [] when ready. Safe to call from another thread."""
        if self._draining:
            return [NotReady.DRAINING]
        reasons: list[str] = []
        if not self._reachable:
            reasons.append(NotReady.BROKER_UNREACHABLE if self._tried else NotReady.STARTING)
        if self._missing_topics:
            reasons.append(NotReady.TOPIC_MISSING)
        if self._barred is not None or (self._denied is not None and _is_refusal(self._denied)):
            reasons.append(NotReady.NOT_AUTHORISED)
        elif self._denied is not None or not self._joined:
            reasons.append(NotReady.NOT_IN_GROUP)
        for owned, _ in list(self._owned.values()):
            reason = owned.detail if owned.current is State.PAUSED else _REASON_OF_STATE.get(owned.current)
            if reason is not None and reason not in reasons:
                reasons.append(reason)
        return [str(reason) for reason in reasons]

    def standby(self) -> bool:
        """A member of the group that was given no partition."""
        return self._joined and not self._owned

    def live(self) -> list[str]:
        """What only a restart can help, [] when alive. Safe to call from another thread."""
        now = time.monotonic()
        if now - self.turned_at > LOOP_STUCK_S:
            return [f"the event loop has not turned for {now - self.turned_at:.0f} s"]
        if self.not_ready():
            return []  # what waits for a person or for the broker is not dead
        return [
            f"{owned.source.topic}-{owned.source.partition} has finished nothing for {now - owned.held_since:.0f} s"
            for owned, _ in list(self._owned.values())
            if owned.held and now - owned.held_since > BATCH_STUCK_S
        ]
