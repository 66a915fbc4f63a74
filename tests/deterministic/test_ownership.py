"""Every input record is answered once, in order, under assignments, revocations, fences, time-outs and kills.

Thousands of stories with `--long`. A story is its seed: `world.play(seed)` repeats it.
"""

from __future__ import annotations

import inspect
import itertools
import textwrap
from collections.abc import Callable

import pytest
from deterministic.cluster import ViolationError
from deterministic.world import KINDS, SOURCES, TARGETS, World, play, press, world
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from kafka_runtime import clients, owned_partition, sinks

FIRST_SEED = 20_261_126
STORIES, LONG_STORIES = 16, 3000
# A planted bug must show within this number of stories.
HUNT = 200


def test_stories_of_faults_leave_every_record_answered_once(long: bool) -> None:
    """Lost, late and unanswered requests, a frozen broker, kills, drains, rebalances that some hear of late."""
    for seed in range(FIRST_SEED, FIRST_SEED + (LONG_STORIES if long else STORIES)):
        tell = press if seed % 4 == 0 else play
        try:
            tell(seed)
        except ViolationError as error:
            raise AssertionError(f"world.{tell.__name__}({seed}): {error}") from error


@pytest.mark.parametrize("records", [1, 4, 5, 7])
def test_commits_that_the_broker_takes_back_are_answered_again_and_counted(records: int) -> None:
    """The owner counts whole batches, of which the last may have been taken back in part: never too few records.

    Nothing of them is left open on the broker, so that only what was acknowledged shows it.
    """
    with world(FIRST_SEED) as made:
        made.start()
        made.send(0, 10)
        made.run(6.0)
        assert made.cluster.committed[SOURCES[0]] == 10
        made.cluster.take_back(SOURCES[0], TARGETS[SOURCES[0]], records)
        made.fault("produce", "refused")
        made.send(0, 3)
        made.run(6.0)
        made.settle()
        assert made.cluster.committed[SOURCES[0]] == 13
        counted = made.processes[0].telemetry.taken_back
        assert records <= counted < records + 5


def test_a_partition_that_starts_over_without_a_loss_counts_nothing_as_taken_back() -> None:
    """A refused batch was never acknowledged."""
    with world(FIRST_SEED) as made:
        made.start()
        made.send(0, 10)
        made.run(6.0)
        made.fault("produce", "refused")
        made.send(0, 3)
        made.run(6.0)
        made.settle()
        assert made.cluster.committed[SOURCES[0]] == 13
        assert made.processes[0].telemetry.taken_back == 0


class Ownership(RuleBasedStateMachine):
    """The same verbs, in an order that hypothesis draws, and shrinks where it finds something."""

    def __init__(self) -> None:
        super().__init__()
        self._context = world(FIRST_SEED)
        self.made: World = self._context.__enter__()
        self.made.start()
        self.made.start()

    @rule(partition=st.integers(0, 1), records=st.integers(1, 12))
    def send(self, partition: int, records: int) -> None:
        self.made.send(partition, records)

    @precondition(lambda self: len(self.made.processes) < 3)
    @rule()
    def start(self) -> None:
        self.made.start()

    @precondition(lambda self: len(self.made.processes) > 1)
    @rule(number=st.integers(0, 2), gently=st.booleans())
    def end(self, number: int, gently: bool) -> None:
        (self.made.drain if gently else self.made.kill)(number)

    @rule(deaf_s=st.sampled_from([0.0, 1.0, 8.0, 30.0]))
    def rebalance(self, deaf_s: float) -> None:
        self.made.rebalance(deaf_s)

    @rule(kind=st.sampled_from(KINDS), what=st.sampled_from(["lost", "late", "unanswered"]), times=st.integers(1, 3))
    def fault(self, kind: str, what: str, times: int) -> None:
        for _ in range(times):
            self.made.fault(kind, what)

    @rule()
    def refuse(self) -> None:
        self.made.fault("produce", "refused")

    @rule(seconds=st.sampled_from([1.0, 5.0, 12.0, 45.0]))
    def freeze(self, seconds: float) -> None:
        self.made.freeze(seconds)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 3.0, 15.0]))
    def run(self, seconds: float) -> None:
        self.made.run(seconds)

    def teardown(self) -> None:
        """Every fault is repaired, and then everything is answered."""
        try:
            self.made.settle()
        finally:
            self._context.__exit__(None, None, None)


def test_any_order_of_verbs_leaves_every_record_answered_once(long: bool) -> None:
    """Hypothesis draws the order, and would shrink it."""
    run_state_machine_as_test(
        Ownership,
        settings=settings(
            max_examples=500 if long else 10,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate, Phase.shrink) if long else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- planted bugs -----------------------------------------------------------------------------------------------------


def _rewritten(owner: object, name: str, old: str, new: str) -> Callable[..., object]:
    """A function of ours with some of its text replaced."""
    function = getattr(owner, name)
    text = textwrap.dedent(inspect.getsource(function))
    assert text.count(old) == 1, f"{name} has changed: {old!r} is not there once"
    space: dict[str, Callable[..., object]] = {}
    exec(compile(text.replace(old, new), f"<{name}, rewritten>", "exec"), function.__globals__, space)  # noqa: S102
    return space[name]


SERVE = (owned_partition.OwnedPartition, "_serve")
ANSWER = (owned_partition.OwnedPartition, "_answer")
WRITE = (sinks.TransactionalSink, "write")
PRODUCER = (clients, "transactional_producer")
FENCE = """    await self._start(sink)
    async with asyncio.timeout(CALL_TIMEOUT_S):
        self._identity = await self._topic_id(self.source)
    position, metadata, placed = await self._position()
"""
BUGS = {
    "the offset is read before the fence": (
        *SERVE,
        FENCE,
        FENCE.removeprefix("    await self._start(sink)\n") + "    await self._start(sink)\n",
    ),
    "the gate is open before the seek": (*SERVE, "    self._consumer.seek(self.source, position)\n", ""),
    "a transactional id of its own for every owner": (
        *PRODUCER,
        "transactional_id=transactional_id",
        "transactional_id=f'{transactional_id}.{id(object())}.{__import__(\"time\").perf_counter_ns()}'",
    ),
    "requests are repeated within a transaction": (
        *PRODUCER,
        'options["request_timeout_ms"] = transaction_ms + 1000',
        'options["request_timeout_ms"] = transaction_ms // 4',
    ),
    "nobody looks at what became of a produce": (
        *WRITE,
        " deliver(producer, self._source.partition, result, transactional=True)",
        " _deliver_unseen(producer, self._source.partition, result, transactional=True)",
    ),
    "the offset of the batch before is committed": (
        *WRITE,
        "OffsetAndMetadata(offset, result.metadata)",
        "OffsetAndMetadata(max(0, offset - 1), result.metadata)",
    ),
    "after a failure it goes on from memory": (
        *SERVE,
        "    restored = await self._work.on_assigned(self.source, position, metadata)\n",
        "    position = self._read_to or position\n    restored = None\n",
    ),
}


async def _deliver_unseen(producer: object, input_partition: int, result: object, *, transactional: bool) -> None:
    """As `kafka_runtime.sinks.deliver`, and the futures are forgotten."""
    for to, outputs in result.outputs.items():  # type: ignore[attr-defined]
        target = sinks.TopicPartition(to, input_partition % 2)
        await sinks._send(producer, target, outputs, transactional=transactional)


def _hunt(seeds: int) -> int | None:
    """The first story that finds something; None if none does."""
    for seed in itertools.islice(itertools.count(FIRST_SEED), seeds):
        for tell in (play, press):
            try:
                tell(seed)
            except ViolationError:
                return seed
    return None


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What protects is taken out of the code, and some story shows it: a record twice, or never, or out of order."""
    owner, name, old, new = BUGS[bug]
    monkeypatch.setattr(sinks, "_deliver_unseen", _deliver_unseen, raising=False)
    monkeypatch.setattr(owner, name, _rewritten(owner, name, old, new))
    assert _hunt(HUNT) is not None


def test_a_producer_that_is_used_again_after_a_failed_produce_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sequence numbers have counted what was lost: nothing more is ever taken from it."""
    kept: dict[object, sinks.TransactionalSink] = {}
    made = owned_partition.OwnedPartition._sink

    def sink(self: owned_partition.OwnedPartition) -> sinks.Sink:
        return kept.setdefault(self, made(self))  # type: ignore[return-value]

    async def start_once(self: sinks.TransactionalSink) -> None:
        if self._producer._epoch < 0:
            await self._producer.start()

    async def only_abort(self: sinks.TransactionalSink) -> None:
        if self._abortable:
            await self._producer.abort_transaction()

    monkeypatch.setattr(owned_partition.OwnedPartition, "_sink", sink)
    monkeypatch.setattr(sinks.TransactionalSink, "start", start_once)
    monkeypatch.setattr(sinks.TransactionalSink, "stop", only_abort)
    assert _hunt(HUNT) is not None


def test_a_broker_that_does_not_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol depends on the epoch: without the broker's check a zombie answers twice."""
    monkeypatch.setattr("deterministic.cluster.Cluster._fenced", lambda *_: None)
    assert _hunt(HUNT) is not None


def test_the_same_seed_is_the_same_story() -> None:
    """The seed of a failing run repeats it."""
    first, again = (play(FIRST_SEED + 1) for _ in range(2))
    assert first.cluster.requests == again.cluster.requests
    assert first.loop.time() == again.loop.time()
