"""Callers that wait for the same request share its answer, and none gets an answer that is older than its call."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from kafka_runtime import topic_id
from kafka_runtime.topic_id import SharedRequests


class Cluster:
    """Answers a request when it is allowed to, with the id that the topic has at the moment of the request."""

    def __init__(self) -> None:
        self.identity = uuid.uuid4()
        self.sent = 0
        self.allowed = asyncio.Event()

    async def send(self) -> uuid.UUID:
        self.sent += 1
        found = self.identity
        await self.allowed.wait()
        return found


async def turns() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_callers_that_wait_for_one_request_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundred callers take two requests: one that was not sent yet, and the next."""

    async def scenario() -> None:
        cluster, shared = Cluster(), SharedRequests()
        monkeypatch.setattr(topic_id, "PATIENCE_S", 60.0)  # a busy machine may pause between two lines
        asking = [asyncio.ensure_future(shared.ask("t", cluster.send)) for _ in range(50)]
        await turns()
        later = [asyncio.ensure_future(shared.ask("t", cluster.send)) for _ in range(50)]
        await turns()
        assert cluster.sent == 1
        cluster.allowed.set()
        assert set(await asyncio.gather(*asking, *later)) == {cluster.identity}
        assert cluster.sent == 2

    asyncio.run(scenario())


def test_nobody_gets_an_answer_to_a_request_before_its_call() -> None:
    """The second caller gets the id that the topic has at its call."""

    async def scenario() -> None:
        cluster, shared = Cluster(), SharedRequests()
        before = cluster.identity
        first = asyncio.ensure_future(shared.ask("t", cluster.send))
        await turns()
        cluster.identity = uuid.uuid4()  # the topic is deleted and created again while the request is under way
        second = asyncio.ensure_future(shared.ask("t", cluster.send))
        cluster.allowed.set()
        assert await first == before
        assert await second == cluster.identity

    asyncio.run(scenario())


def test_keys_do_not_wait_for_each_other() -> None:
    """A slow request of one topic holds up no other topic."""

    async def scenario() -> None:
        slow, quick, shared = Cluster(), Cluster(), SharedRequests()
        quick.allowed.set()
        waiting = asyncio.ensure_future(shared.ask("a", slow.send))
        async with asyncio.timeout(5):
            assert await shared.ask("b", quick.send) == quick.identity
        slow.allowed.set()
        assert await waiting == slow.identity

    asyncio.run(scenario())


def test_a_cancelled_caller_takes_the_answer_from_nobody() -> None:
    """Another caller of the same request gets its answer."""

    async def scenario() -> None:
        cluster, shared = Cluster(), SharedRequests()
        gone, stays = (asyncio.ensure_future(shared.ask("t", cluster.send)) for _ in range(2))
        await turns()
        gone.cancel()
        await turns()
        cluster.allowed.set()
        assert await stays == cluster.identity
        assert gone.cancelled()

    asyncio.run(scenario())


def test_an_error_reaches_all_who_waited_and_not_the_next_caller() -> None:
    """An error is the answer to one request."""

    async def scenario() -> None:
        shared, failing = SharedRequests(), [True]

        async def send() -> uuid.UUID:
            if failing:
                raise ConnectionError("away")
            return uuid.UUID(int=7)

        outcomes = await asyncio.gather(*(shared.ask("t", send) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
        failing.clear()
        assert await shared.ask("t", send) == uuid.UUID(int=7)

    asyncio.run(scenario())


def test_a_request_that_is_never_answered_holds_up_no_other() -> None:
    """The next request is sent after a moment, and its caller gets its answer."""

    async def scenario() -> None:
        silent, answering, shared = Cluster(), Cluster(), SharedRequests()
        answering.allowed.set()
        lost = asyncio.ensure_future(shared.ask("t", silent.send))
        await turns()
        async with asyncio.timeout(30):
            assert await shared.ask("t", answering.send) == answering.identity
        lost.cancel()

    asyncio.run(scenario())
