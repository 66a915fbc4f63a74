"""aiokafka's producer, consumer and admin client as the services use them, against a `Cluster`.

The producer keeps aiokafka 0.14's habits. One transactional request at a time; a request that times out is repeated on
a new connection. A failed future does not fail the commit. Commit and abort continue when their caller is cancelled.
After a final error its state machine raises. `stop` waits for requests in progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import defaultdict
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.structs import OffsetAndMetadata
from deterministic.cluster import OK, RETRY, Connection

# Whose code runs: an operating system's process, with `cluster`, `group` and `alive`.
PROCESS: contextvars.ContextVar[Any] = contextvars.ContextVar("process")


class _Stopped(Exception):  # noqa: N818 - no error: the sender ends
    pass


class Batch:
    """What `create_batch` gives: takes a few records and then no more."""

    def __init__(self, room: int) -> None:
        self.offsets: list[int] = []
        self._room = room

    def append(self, *, key: bytes, value: bytes, timestamp: int, headers: list) -> object | None:  # noqa: ARG002
        if len(self.offsets) >= self._room:
            return None
        self.offsets.append(int(key))
        return OK


class Producer:
    """AIOKafkaProducer with a transactional id."""

    def __init__(self, *, transactional_id: str, request_timeout_ms: int, retry_backoff_ms: int, **_: object) -> None:
        process = PROCESS.get()
        self._cluster, self._alive, self._name = process.cluster, process.is_alive, transactional_id
        self._request_timeout_s, self._backoff_s = request_timeout_ms / 1000, retry_backoff_ms / 1000
        self._connections: dict[str, Connection] = defaultdict(Connection)
        self._epoch = -1
        self._state = "ready"
        self._fatal: KafkaError | None = None
        self._added: set[object] = set()
        self._sequences: dict[TopicPartition, int] = defaultdict(int)
        self._deliveries: set[asyncio.Future[object]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._muted: dict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stopping = False

    async def start(self) -> None:
        self._epoch = await self._request("init", "coordinator", lambda: self._cluster.init(self._name))  # type: ignore[assignment]

    async def partitions_for(self, topic: str) -> set[int]:  # noqa: ARG002
        return {0, 1}

    async def begin_transaction(self) -> None:
        self._raise_if_fatal()
        assert self._state == "ready"
        self._state, self._added = "in", set()

    def create_batch(self) -> Batch:
        return Batch(self._cluster.draw.choice((2, 100)))

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[object]:
        self._raise_if_fatal()
        assert self._state == "in"
        target = TopicPartition(topic, partition)
        sequence = self._sequences[target]
        self._sequences[target] += len(batch.offsets)  # counted for every outcome
        delivery: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._deliveries.add(delivery)
        delivery.add_done_callback(lambda done: (self._deliveries.discard(done), done.cancelled() or done.exception()))
        self._spawn(self._produce(target, sequence, batch.offsets), delivery)
        return delivery

    async def send_offsets_to_transaction(self, offsets: dict[TopicPartition, OffsetAndMetadata], group: str) -> None:  # noqa: ARG002
        self._raise_if_fatal()
        assert self._state == "in"
        ((source, found),) = offsets.items()
        await self._done(self._commit_offset(source, found.offset))

    async def commit_transaction(self) -> None:
        await self._finish("Commit")

    async def abort_transaction(self) -> None:
        await self._finish("Abort")

    async def stop(self) -> None:
        """The sender runs on until everything is delivered; then it ends with the requests that are under way."""
        try:
            if self._deliveries and self._fatal is None:
                await asyncio.wait(self._deliveries)
            self._stopping = True
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._stopping = True
            for task in self._tasks:
                task.cancel()

    # -- within -------------------------------------------------------------------------------------------------------

    async def _finish(self, outcome: str) -> None:
        self._raise_if_fatal(AssertionError if outcome == "Abort" else None)
        assert self._state == "in"
        self._state = "ending"
        await self._done(self._end(outcome))

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        """Shielded: it continues when its caller is cancelled."""
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._spawn(work, done)
        await asyncio.shield(done)

    def _spawn(self, work: Coroutine[Any, Any, None], done: asyncio.Future[object]) -> None:
        async def run() -> None:
            try:
                await work
            except KafkaError as error:
                if isinstance(error, ProducerFenced | OutOfOrderSequenceNumber):
                    self._fatal = error
                if not done.done():
                    done.set_exception(error)
            except _Stopped:
                done.cancel()
            else:
                if not done.done():
                    done.set_result(None)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # killed before it began

    async def _produce(self, target: TopicPartition, sequence: int, offsets: list[int]) -> None:
        await self._add(target)
        cluster, name, epoch = self._cluster, self._name, self._epoch
        async with self._muted[target]:  # one batch of a partition at a time
            await self._request("produce", "leader", lambda: cluster.produce(name, epoch, target, sequence, offsets))

    async def _commit_offset(self, source: TopicPartition, offset: int) -> None:
        await self._add("offsets")
        cluster, name, epoch = self._cluster, self._name, self._epoch
        async with self._turn:
            await self._request("offsets", "coordinator", lambda: cluster.commit_offset(name, epoch, source, offset))

    async def _add(self, member: object) -> None:
        cluster, name, epoch = self._cluster, self._name, self._epoch
        async with self._turn:
            if member not in self._added:
                await self._request("add", "coordinator", lambda: cluster.add(name, epoch, member))
                self._added.add(member)

    async def _end(self, outcome: str) -> None:
        while self._deliveries:
            await asyncio.wait(self._deliveries)
        cluster, name, epoch = self._cluster, self._name, self._epoch
        async with self._turn:
            if self._added:
                await self._request("end", "coordinator", lambda: cluster.end(name, epoch, outcome))
        self._state = "ready"

    async def _request(self, kind: str, to: str, effect: Callable[[], object]) -> object:
        """Repeated until there is an answer."""
        while True:
            if self._fatal is not None:
                raise self._fatal
            try:
                async with asyncio.timeout(self._request_timeout_s):
                    answer = await self._cluster.ask(self._alive, self._connections[to], kind, effect)
            except TimeoutError:
                self._connections.pop(to, None)
                answer = RETRY
            if isinstance(answer, KafkaError):
                raise answer
            if answer is not RETRY:
                return answer
            if self._stopping:
                raise _Stopped
            await asyncio.sleep(self._backoff_s)

    def _raise_if_fatal(self, kind: type[Exception] | None = None) -> None:
        if self._fatal is not None:
            raise self._fatal if kind is None else kind(repr(self._fatal))


class Consumer:
    """AIOKafkaConsumer as a group member. Where a partition begins is what was committed when it was assigned."""

    def __init__(self, **_: object) -> None:
        self.process = PROCESS.get()
        self.listener: Any = None
        self.positions: dict[TopicPartition, int] = {}
        self._cluster, self._group = self.process.cluster, self.process.group
        self._paused: set[TopicPartition] = set()
        self._client = SimpleNamespace(cluster=SimpleNamespace(leader_for_partition=lambda _: 1))
        self._subscription = SimpleNamespace(fetch_context=contextlib.nullcontext)  # no member is idle too long here
        never = self._cluster.loop.create_future()
        self._fetcher = SimpleNamespace(error_future=never, end_offsets=lambda sources, _: self.end_offsets(sources))

    def subscribe(self, topics: object, listener: Any) -> None:  # noqa: ARG002
        self.listener = listener

    def give(self, sources: set[TopicPartition]) -> None:
        """The group's assignment."""
        self.positions = {source: self._cluster.committed.get(source, 0) for source in sources}
        self._paused = set()

    async def start(self) -> None:
        self._group.join(self)

    async def stop(self) -> None:
        self._group.leave(self)

    async def topics(self) -> set[str]:
        return {source.topic for source in self._cluster.inputs}

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    async def beginning_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(sources, 0)

    async def end_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {source: self._cluster.inputs[source] for source in sources}

    def last_stable_offset(self, source: TopicPartition) -> int:
        return self._cluster.inputs[source]

    def highwater(self, source: TopicPartition) -> int:
        return self._cluster.inputs[source]

    async def position(self, source: TopicPartition) -> int:
        self._must_hold(source)
        return self.positions[source]

    def seek(self, source: TopicPartition, offset: int) -> None:
        self._must_hold(source)
        self.positions[source] = offset

    def pause(self, source: TopicPartition) -> None:
        self._must_hold(source)
        self._paused.add(source)

    def resume(self, source: TopicPartition) -> None:
        self._must_hold(source)
        self._paused.discard(source)

    async def getmany(
        self, source: TopicPartition | None = None, *, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        if source is None:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        self._must_hold(source)
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.001, self._cluster.frozen_until - now))
        if source in self.positions and source not in self._paused:
            first = self.positions[source]
            following = min(self._cluster.inputs[source], first + max_records)
            if following > first:
                self.positions[source] = following
                return {source: [_record(source, offset) for offset in range(first, following)]}
        await asyncio.sleep(timeout_ms / 1000)
        return {}

    def _must_hold(self, source: TopicPartition) -> None:
        if source not in self.positions:
            raise IllegalStateError(f"{source} is not assigned")


class Admin:
    """AIOKafkaAdminClient, for the committed offsets and for the id of a topic, which is never made again here."""

    def __init__(self, **_: object) -> None:
        process = PROCESS.get()
        self._cluster, self._alive = process.cluster, process.is_alive
        self._client = self

    async def start(self) -> None:
        pass

    async def force_metadata_update(self) -> None:
        pass

    async def _send_request(self, request: Any, node: int | None) -> SimpleNamespace:  # noqa: ARG002
        topics = [(0, request._topic, UUID(int=1))]
        return await self._cluster.ask(self._alive, Connection(), "fetch", lambda: SimpleNamespace(topics=topics))

    async def close(self) -> None:
        pass

    async def list_consumer_group_offsets(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:  # noqa: ARG002
        committed = self._cluster.committed
        answer = await self._cluster.ask(self._alive, Connection(), "fetch", lambda: dict(committed))
        return {source: OffsetAndMetadata(offset, "") for source, offset in answer.items()}  # type: ignore[attr-defined]


def _record(source: TopicPartition, offset: int) -> ConsumerRecord:
    return ConsumerRecord(source.topic, source.partition, offset, 0, 0, b"%d" % offset, b"{}", None, 0, 2, ())
