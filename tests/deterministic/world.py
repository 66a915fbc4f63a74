"""Scorers' processes on a simulated cluster: the services' own ownership protocol, and everything that can befall it.

What runs is `kafka_runtime.group_member.GroupMember` with all that is under it; replaced are aiokafka's three
classes, the clock, and the thread. A `World` is moved by its verbs, which a test draws; `settle` ends what was broken
and then expects that every record was answered.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from random import Random

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from deterministic.cluster import Cluster, ViolationError
from deterministic.stand_ins import PROCESS, Admin, Consumer, Producer
from deterministic.virtual import Clock, VirtualLoop

from kafka_runtime import clients, group_member, owned_partition, prefetch, sinks
from kafka_runtime.group_member import GroupMember
from kafka_runtime.processor import Policy
from kafka_runtime.service.settings import KafkaSettings
from kafka_runtime.sinks import Result

SOURCES = [TopicPartition("events", 0), TopicPartition("events", 1)]
TARGETS = {source: TopicPartition("predictions", source.partition) for source in SOURCES}
KINDS = ("init", "add", "produce", "offsets", "end", "fetch")
SESSION_S = 6.0
BARRIER_S = 30.0
SETTLE_S = 600.0


class Silent:
    """Telemetry and Work in one: reports nothing, and answers every record with its offset."""

    def __getattr__(self, name: str):
        return lambda *_args, **_options: None

    async def on_assigned(self, source: TopicPartition, position: int, metadata: str) -> None:
        """Nothing is kept."""

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result | None:  # noqa: ARG002
        outputs = [(b"%d" % record.offset, b"", []) for record in records]
        return Result({"predictions": outputs}, None) if records else None


class Counting(Silent):
    """Telemetry of one process: how many records it reported as taken back."""

    def __init__(self) -> None:
        self.taken_back = 0

    def torn(self, records: int) -> None:
        """Add them up."""
        self.taken_back += records


class Process:
    """One operating system's process: a group member, which can be killed without a word."""

    def __init__(self, world: World) -> None:
        self.cluster, self.group = world.cluster, world.group
        self.tasks: set[asyncio.Task] = set()
        self._alive = True
        self._drain = asyncio.Event()
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)
        settings = KafkaSettings.model_construct(
            kafka_bootstrap_servers="simulated:9092",
            kafka_session_timeout=timedelta(seconds=SESSION_S),
            kafka_transaction_timeout=timedelta(seconds=world.transaction_timeout_s),
        )
        policy = Policy(group="g", max_records=5, commit_interval_s=0.02)
        self.telemetry = Counting()
        self._member = GroupMember(settings, ["events"], policy, Silent(), self.telemetry)
        self.life = world.loop.create_task(self._member.run(self._drain), context=self.context)

    def is_alive(self) -> bool:
        return self._alive

    def drain(self) -> None:
        """SIGTERM."""
        self._drain.set()

    def kill(self) -> None:
        """SIGKILL: what it has sent arrives, and nothing else ever happens."""
        self._alive = False
        for task in self.tasks:
            task.cancel()


class Group:
    """The group coordinator: eager rebalances, with members that may hear of them late."""

    def __init__(self, cluster: Cluster, draw: Random) -> None:
        self._cluster, self._draw = cluster, draw
        self._members: list[Consumer] = []
        self._deaf: dict[Consumer, float] = {}
        self._locks: dict[Consumer, asyncio.Lock] = {}
        self._generation = 0
        self._revoked: set[Consumer] = set()

    def join(self, member: Consumer) -> None:
        self._members.append(member)
        self._locks[member] = asyncio.Lock()
        self.rebalance()

    def leave(self, member: Consumer) -> None:
        if member.process.is_alive():
            self._remove(member)

    def died(self, process: Process) -> None:
        """It is noticed only after the session's time-out."""
        for member in [m for m in self._members if m.process is process]:
            self._cluster.loop.call_later(SESSION_S, self._remove, member)

    def rebalance(self, deaf_s: float = 0.0) -> None:
        """Partitions are assigned again; with `deaf_s`, some member learns of it this late, and is not waited for."""
        self._generation += 1
        self._revoked = set()
        members = list(self._members)
        self._draw.shuffle(members)
        now = self._cluster.loop.time()
        if deaf_s and len(members) > 1:
            self._deaf[members[0]] = now + deaf_s
            members.append(members.pop(0))
        shares: dict[Consumer, set[TopicPartition]] = {member: set() for member in members}
        for i, source in enumerate(sorted(self._cluster.inputs) if members else ()):
            shares[members[i % len(members)]].add(source)
        for member in members:
            tell = self._tell(member, self._generation, shares[member])
            self._cluster.loop.create_task(tell, context=member.process.context)

    def _remove(self, member: Consumer) -> None:
        if member in self._members:
            self._members.remove(member)
            self.rebalance()

    async def _tell(self, member: Consumer, generation: int, share: set[TopicPartition]) -> None:
        loop = self._cluster.loop
        await asyncio.sleep(max(self._deaf.get(member, 0.0) - loop.time(), self._draw.uniform(0.001, 2.0)))
        async with self._locks[member]:
            if generation != self._generation:
                return
            self._deaf.pop(member, None)
            await member.listener.on_partitions_revoked(set(member.positions))
            if generation != self._generation:
                return
            self._revoked.add(member)
            until = loop.time() + BARRIER_S
            while not self._revoked >= {m for m in self._members if m not in self._deaf} and loop.time() < until:
                await asyncio.sleep(0.05)
                if generation != self._generation:
                    return
            member.give(share)
            await member.listener.on_partitions_assigned(share)


class World:
    """Everything at once, from one seed."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.loop = VirtualLoop(self.draw)
        self.loop.set_task_factory(self._make_task)
        self.transaction_timeout_s = self.draw.choice((2.0, 10.0))
        self.cluster = Cluster(self.loop, self.draw, self.transaction_timeout_s)
        self.cluster.inputs = dict.fromkeys(SOURCES, 0)
        self.group = Group(self.cluster, self.draw)
        self.processes: list[Process] = []
        self.history: list[str] = []
        self.broken: list[BaseException] = []
        self.loop.set_exception_handler(self._complain)
        self._patches = pytest.MonkeyPatch()
        self._patch()

    # -- verbs --------------------------------------------------------------------------------------------------------

    def send(self, partition: int, records: int) -> None:
        """Upstream writes."""
        self.cluster.inputs[SOURCES[partition]] += records

    def start(self) -> None:
        """One more scorer."""

        async def begin() -> None:
            self.processes.append(Process(self))

        self.loop.run_until_complete(begin())

    def kill(self, number: int) -> None:
        """SIGKILL."""
        process = self.processes.pop(number % len(self.processes))
        process.kill()
        self.group.died(process)

    def drain(self, number: int) -> None:
        """SIGTERM."""
        self.processes.pop(number % len(self.processes)).drain()

    def rebalance(self, deaf_s: float) -> None:
        """The group assigns its partitions again, and one member may be informed late."""
        self.group.rebalance(deaf_s)

    def fault(self, kind: str, what: str) -> None:
        """What happens to the next request of that kind."""
        self.cluster.faults[kind].append(what)

    def freeze(self, seconds: float) -> None:
        """The broker is stopped, and wakes up."""
        self.cluster.frozen_until = self.loop.time() + seconds

    def run(self, seconds: float) -> None:
        """Time passes."""
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            self.loop.run_until_complete(asyncio.sleep(min(0.25, until - self.loop.time())))
            self.check()

    def settle(self) -> None:
        """Nothing more breaks: every record is answered, once, in order."""
        self.cluster.faults.clear()
        if not self.processes:
            self.start()
        until = self.loop.time() + SETTLE_S
        while not all(self.cluster.answered(source, target) for source, target in TARGETS.items()):
            if self.loop.time() > until:
                seen = {target: self.cluster.visible(target) for target in TARGETS.values()}
                raise ViolationError(f"not answered after {SETTLE_S:.0f} s: {seen} of {self.cluster.inputs}")
            self.run(1.0)

    def check(self) -> None:
        """Nothing is answered twice, no offset went back, and no scorer has ended by itself."""
        if self.broken:
            raise ViolationError(repr(self.broken[0])) from self.broken[0]
        self.cluster.check()
        for process in self.processes:
            if process.life.done():
                raise ViolationError(f"a scorer ended: {process.life.exception()!r}")

    def close(self) -> None:
        """All running tasks end."""
        for process in self.processes:
            process.kill()
        self.loop.set_exception_handler(lambda *_: None)
        for _ in range(3):
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(60))
        self._patches.undo()
        self.loop.close()

    # -- within -------------------------------------------------------------------------------------------------------

    def _make_task(self, loop: asyncio.AbstractEventLoop, work, **options) -> asyncio.Task:
        task = asyncio.Task(work, loop=loop, **options)
        process = (options.get("context") or contextvars.copy_context()).get(PROCESS, None)
        if process is not None:
            process.tasks.add(task)
            task.add_done_callback(process.tasks.discard)
            if not process.is_alive():
                task.cancel()
        return task

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict) -> None:  # noqa: ARG002
        if isinstance(error := context.get("exception"), ViolationError):
            self.broken.append(error)

    def _patch(self) -> None:
        for module in (owned_partition, prefetch, sinks, group_member):
            self._patches.setattr(module, "time", Clock(self.loop))
        self._patches.setattr(owned_partition, "random", self.draw)
        for module in (sinks, group_member):
            self._patches.setattr(module, "log", Silent())
        self._patches.setattr(clients, "AIOKafkaProducer", Producer)
        self._patches.setattr(clients, "AIOKafkaConsumer", Consumer)
        self._patches.setattr(group_member, "AIOKafkaConsumer", Consumer)
        self._patches.setattr(clients, "AIOKafkaAdminClient", Admin)


@contextmanager
def world(seed: int) -> Iterator[World]:
    """A World for as long as the block lasts."""
    made = World(seed)
    asyncio.set_event_loop(made.loop)
    try:
        yield made
    finally:
        made.close()
        asyncio.set_event_loop(None)


def play(seed: int, steps: int = 12) -> World:
    """A drawn story: two scorers, and at every step something happens. ViolationError if the promise is broken."""
    with world(seed) as made:
        draw = Random(seed * 2 + 1)
        made.start()
        made.start()
        made.send(0, 10)
        made.send(1, 10)
        made.run(draw.uniform(0.0, 5.0))
        for _ in range(steps):
            step(made, draw)
        made.settle()
    return made


def press(seed: int, steps: int = 12) -> World:
    """Another story: a backlog all the time, and requests that come late, so that they meet what came after them."""
    with world(seed) as made:
        draw = Random(seed * 2 + 1)
        made.start()
        for _ in range(steps):
            made.send(draw.randrange(2), 60)
            made.fault(draw.choice(("end", "end", "offsets")), draw.choice(("late", "late", "unanswered")))
            made.fault("produce", draw.choice(("late", "unanswered", "refused")))
            made.run(draw.uniform(0.1, 4.0))
        made.settle()
    return made


def step(made: World, draw: Random) -> None:
    """One thing that can befall us, and some time."""
    match draw.randrange(10):
        case 0 | 1 | 2:
            kind = draw.choice(KINDS)
            whats = ("lost", "late", "unanswered", "refused") if kind == "produce" else ("lost", "late", "unanswered")
            for _ in range(draw.choice((1, 1, 2, 4))):
                made.fault(kind, draw.choice(whats))
        case 3:
            made.freeze(draw.choice((1.0, 5.0, 12.0, 45.0)))
        case 4 if len(made.processes) > 1:
            made.kill(draw.randrange(4))
        case 5 if len(made.processes) > 1:
            made.drain(draw.randrange(4))
        case 6 | 7:
            made.rebalance(draw.choice((0.0, 1.0, 8.0, 30.0)))
        case _ if len(made.processes) < 3:
            made.start()
    made.send(draw.randrange(2), draw.choice((0, 3, 12, 80)))
    made.run(draw.choice((0.01, 0.1, 0.5, 3.0, 15.0)))
