"""The group member: its assigned partitions, one task for each, and the health of the process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    BrokerResponseError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    for_code,
)
from aiokafka.structs import OffsetAndMetadata

from kafka_runtime import clients
from kafka_runtime.errors import Action, classify
from kafka_runtime.owned_partition import CALL_TIMEOUT_S, Committed, OwnedPartition
from kafka_runtime.processor import PartitionProcessor, Policy, State, Telemetry
from kafka_runtime.readiness import REASON_OF_STATE, NotReady
from kafka_runtime.service import logs
from kafka_runtime.service.process import few_descriptors_left
from kafka_runtime.service.settings import KafkaSettings
from kafka_runtime.topic_id import SharedRequests, topic_id

log = logs.get(__name__)

PROBE_S = 5.0
TURN_S = 0.5
# A revoked partition must be released well before the group removes this member (max.poll.interval, 5 minutes).
REVOKE_DEADLINE_S = 15.0
LOOP_STUCK_S = 30.0
# Each partition opens separate connections while it starts.
STARTS_AT_ONCE = 8
BATCH_STUCK_S = 60.0


def _is_refusal(error: Exception) -> bool:
    return classify(error, reading=False) is Action.STOP_NOT_AUTHORISED


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One assigned partition, as /health shows it."""

    topic: str
    partition: int
    state: str
    detail: str


class GroupMember(ConsumerRebalanceListener):  # type: ignore[misc] # the base class has no types
    """Serves the partitions that the group assigns, until it is drained."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        policy: Policy,
        work: PartitionProcessor[Any],
        telemetry: Telemetry,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._policy = policy
        self._work = work
        self._telemetry = telemetry
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._topic_ids = SharedRequests()
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._owned: dict[TopicPartition, tuple[OwnedPartition, asyncio.Task[None]]] = {}
        self._joined = False
        self._draining = False
        self._reachable = False
        self._tried = False
        self._missing_topics: list[str] = []
        self._barred: Exception | None = None  # the cluster rejects this client, or its topics
        self._denied: Exception | None = None  # the group rejects this member
        self._credentials = b""  # credentials with which the clients were made
        self._outdated = False  # the clients fail, and their credentials have been replaced
        self._fatal: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.turned_at = time.monotonic()  # when the event loop last ran
        self.loop_lag_s = 0.0

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self, drain: asyncio.Event) -> None:
        """Serve until `drain` is set. Raises only for an internal error; an unreachable broker is waited for."""
        self._loop = asyncio.get_running_loop()
        turning = asyncio.create_task(self._turn(), name="turn")
        try:
            while not drain.is_set() and self._fatal is None:
                await self._start(drain)
                await self._belong(drain)
                if self._outdated:
                    log.info("credentials_changed", detail="the Kafka clients are made again")
                    await self._leave()
                elif self._shut_out():
                    # aiokafka's consumer repeats the group's rejection forever, even once access is granted; a new one
                    # sends a new request
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
        """Be a member until it is drained, until an internal error, or until the group rejects this member."""
        # in a separate task: a broker that does not answer must not delay draining
        watching = asyncio.create_task(self._watch(), name="watch")
        watching.add_done_callback(self._ended)
        try:
            while not (drain.is_set() or self._fatal is not None or self._shut_out() or self._outdated):
                await self._poll_if_idle()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TURN_S):
                        await drain.wait()
        finally:
            watching.cancel()

    async def _start(self, drain: asyncio.Event) -> None:
        failures = 0
        while not drain.is_set():
            self._credentials, self._outdated = clients.credentials(self._settings), False
            self._admin, self._topic_ids = clients.admin(self._settings), SharedRequests()
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
                self._tried, self._reachable = True, self._bar(why) or self._deny(why)
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
        """Release the partitions that the group is about to reassign, perhaps to this member again.

        Called by aiokafka.
        """
        self._joined = False
        self._telemetry.revoked(sorted(revoked))
        await self._release(REVOKE_DEADLINE_S)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start the tasks and return, because records may be fetched while this runs. Called by aiokafka."""
        if self._consumer is None or self._draining:
            return
        await self._release(REVOKE_DEADLINE_S)  # a generation may have passed without a revocation
        sources = sorted(assigned)
        # look this up once, before any of these partitions has committed: which are new to a group that is not new
        before = asyncio.ensure_future(self._all_committed())
        before.add_done_callback(lambda asked: asked.cancelled() or asked.exception())  # looked up where it is needed
        for source in sources:
            owned = OwnedPartition(
                source,
                consumer=self._consumer,
                read_committed=functools.partial(self._read_committed, before),
                topic_id=self._topic_id,
                settings=self._settings,
                policy=self._policy,
                work=self._work,
                telemetry=self._telemetry,
                executor=self._executor,
                starting=self._starting,
            )
            owned.siblings = len(sources)
            task = asyncio.create_task(owned.run(), name=f"partition {source.topic}-{source.partition}")
            task.add_done_callback(self._ended)
            self._owned[source] = (owned, task)
        self._joined, self._denied = True, None
        self._telemetry.assigned(sources)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", task=task.get_name(), exc_info=error)
            self._fatal = error

    async def _release(self, deadline_s: float) -> None:
        """Let open batches finish within the deadline; after it, commit no more."""
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
        if (admin := self._admin) is None or self._consumer is None:
            raise KafkaConnectionError("not connected")
        # the broker that is read from: it has the current assignment, and without it no record can be answered
        leader = self._consumer._client.cluster.leader_for_partition(source)  # noqa: SLF001 - nothing public says it
        node = None if leader in {None, -1} else leader
        return await self._topic_ids.ask((source.topic, node), lambda: topic_id(admin, source.topic, node))

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
        """Note that the loop runs, and how late it is."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TURN_S)
            self.turned_at = time.monotonic()
            self.loop_lag_s = max(0.0, self.turned_at - before - TURN_S)

    async def _watch(self) -> None:
        """Check the cluster every few seconds. Raises if no record can arrive any more."""
        while True:
            if self._consumer is not None:
                clients.check_fetching(self._consumer)
            await self._probe()
            known = await self._ask_ends()
            # only after failures: a new password may be in its file before it is valid on the broker
            if not known or self.not_ready():
                self._outdated = clients.credentials(self._settings) != self._credentials
            await asyncio.sleep(PROBE_S)

    async def _ask_ends(self) -> bool:
        """Report the waiting records of each partition, also of one that is not read; return False if unknown."""
        owned = {source: partition for source, (partition, _) in self._owned.items()}
        if self._consumer is None or not owned:
            return True
        high: dict[TopicPartition, int] = {}
        stable: dict[TopicPartition, int] = {}
        asked = self._reachable
        if asked:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    high = await clients.high_watermarks(self._consumer, list(owned))
                    stable = await self._consumer.end_offsets(list(owned))
            except (KafkaError, TimeoutError, OSError) as error:
                log.debug("ends_unknown", exception=repr(error))
        for source, partition in owned.items():
            if self._owned.get(source, (None,))[0] is not partition:
                continue  # it was revoked meanwhile
            if source in stable:
                partition.observe(high[source], stable[source])
            else:
                partition.ends_unknown()
        return bool(stable) or not asked

    async def _probe(self) -> None:
        """Send one small request: is the cluster reachable, does it accept this client, and do the topics exist?"""
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
        """Return whether unlisted topics exist but are not authorised. A broker reports that only if they are named."""
        if not topics or self._admin is None:
            return None
        errors = [for_code(found["error_code"])(found["topic"]) for found in await self._admin.describe_topics(topics)]
        return next((error for error in errors if _is_refusal(error)), None)

    async def _why(self, error: Exception) -> Exception:
        """Return the cause of `error`: aiokafka reports a broker that rejects the password as an unreachable one."""
        if _is_refusal(error):
            return error
        return await clients.refusal(self._settings) or error

    def _bar(self, error: Exception | None) -> bool:
        """Note whether `error` is a rejection, for `/readyz`. A broker that rejects is reachable."""
        refused = error if error is not None and _is_refusal(error) else None
        if refused is not None and repr(refused) != repr(self._barred):
            log.warning("not_authorised", exception=repr(refused))
        self._barred = refused
        return refused is not None

    async def _poll_if_idle(self) -> None:
        """Poll without partitions, too: to stay in the group, and to receive the reason of a rejection."""
        if self._consumer is None or self._owned:
            return
        if self._consumer.assignment():
            # Revoked, perhaps because the start of its partitions took longer than max.poll.interval. aiokafka joins
            # again only for a consumer that polls; a real poll could take a record of the next assignment.
            with self._consumer._subscription.fetch_context():  # noqa: SLF001 - nothing public resets the idle time
                return
        try:
            async with asyncio.timeout(TURN_S):
                await self._consumer.getmany(timeout_ms=0, max_records=1)
            if self._joined:  # until then, each attempt to join may be rejected again
                self._denied = None
        except TimeoutError:
            pass  # a rebalance is in progress
        except KafkaError as error:
            self._note_denied(error)

    def _deny(self, error: Exception) -> bool:
        """Return whether a broker answered, and its answer is final: the group does not admit this member."""
        if not isinstance(error, BrokerResponseError) or error.retriable:
            return False
        self._note_denied(error)
        return True

    def _note_denied(self, error: Exception) -> None:
        if repr(error) != repr(self._denied):
            log.warning("not_in_group", exception=repr(error))
        self._denied = error

    def _shut_out(self) -> bool:
        """Return whether the group itself rejects this member."""
        return isinstance(self._denied, GroupAuthorizationFailedError) or any(
            owned.shut_out for owned, _ in self._owned.values()
        )

    @property
    def partitions(self) -> list[PartitionView]:
        """Return the assigned partitions and the state of each."""
        return [
            PartitionView(
                source.topic, source.partition, owned.current.value, owned.detail or owned.open_transaction.text
            )
            for source, (owned, _) in sorted(self._owned.items())
        ]

    @property
    def in_flight(self) -> int:
        """Return the number of records that are read and not committed yet."""
        return sum(owned.held for owned, _ in list(self._owned.values()))

    @property
    def tasks(self) -> int:
        """Return the number of tasks of the event loop, aiokafka's included: it must not grow."""
        return len(asyncio.all_tasks(self._loop)) if self._loop is not None else 0

    def not_ready(self) -> list[str]:
        """Return reasons of the closed set, [] when ready. Safe to call from another thread."""
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
            reason = owned.detail if owned.current is State.PAUSED else REASON_OF_STATE.get(owned.current)
            if reason is not None and reason not in reasons:
                reasons.append(reason)
        if reasons and few_descriptors_left():
            reasons.append(NotReady.TOO_MANY_OPEN_FILES)
        return [str(reason) for reason in reasons]

    @property
    def refusal(self) -> str | None:
        """Return the error with which the cluster, group or token issuer rejects this process; None if it does not."""
        refused = next((error for error in (self._barred, self._denied) if error is not None), None)
        return None if refused is None else f"{type(refused).__name__}: {refused}"

    def degraded(self) -> list[str]:
        """Return words for what limits a member that is ready; [] if nothing does. Safe to call from another thread."""
        blocked = any(owned.open_transaction.lasts for owned, _ in list(self._owned.values()))
        return [NotReady.INPUT_BLOCKED.value] if blocked else []

    def standby(self) -> bool:
        """Return whether this is a member of the group without any partition."""
        return self._joined and not self._owned

    def live(self) -> list[str]:
        """Return the problems that only a restart can solve, [] when alive. Safe to call from another thread."""
        now = time.monotonic()
        if now - self.turned_at > LOOP_STUCK_S:
            return [f"the event loop has not run for {now - self.turned_at:.0f} s"]
        if self.not_ready():
            return []  # a partition that waits for a person or for the broker is alive
        return [
            f"{owned.source.topic}-{owned.source.partition} has finished no batch for {now - owned.held_since:.0f} s"
            for owned, _ in list(self._owned.values())
            if owned.held and now - owned.held_since > BATCH_STUCK_S
        ]
