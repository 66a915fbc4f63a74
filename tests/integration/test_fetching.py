"""aiokafka's fetch routine ends by a defect: it logs that, and without us nothing would ever come again."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaError
from confluent_kafka import Consumer
from deterministic.world import Silent
from support.brokers import Broker
from support.oracle import Names, create_topics

from kafka_runtime import clients, group_member
from kafka_runtime.group_member import GroupMember
from kafka_runtime.owned_partition import OwnedPartition
from kafka_runtime.processor import Policy
from kafka_runtime.service.settings import KafkaSettings
from kafka_runtime.topic_reader import reader


@pytest.fixture
def settings(broker: Broker, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """Of a client that fetches nothing."""

    def defect(*_: object) -> None:
        raise ValueError("a defect")

    create_topics(broker.bootstrap_servers, Names(topic_prefix))
    monkeypatch.setattr(Fetcher, "_get_actions_per_node", defect)
    return KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)


def test_a_member_that_fetches_no_more_ends(settings: KafkaSettings, topic_prefix: str) -> None:
    """Exit code 1, and a restart: it would else be ready for ever, with a lag that only grows."""
    names = Names(topic_prefix)
    policy = Policy(group=names.group, max_records=5, commit_interval_s=0.02)
    member = GroupMember(settings, [names.events], policy, Silent(), Silent())
    with pytest.raises(KafkaError, match="does not fetch any more") as raised:
        asyncio.run(asyncio.wait_for(member.run(asyncio.Event()), 60))
    assert "a defect" in repr(raised.value.__cause__ and raised.value.__cause__.__cause__)


def test_who_follows_a_topic_is_told(settings: KafkaSettings, topic_prefix: str) -> None:
    """The caller of `follow` catches KafkaError, and starts again."""

    async def follow() -> None:
        async with reader(settings) as reading:
            async for _ in reading.follow(Names(topic_prefix).events, from_start=True):
                pass

    with pytest.raises(KafkaError, match="does not fetch any more"):
        asyncio.run(asyncio.wait_for(follow(), 60))


def test_a_group_with_a_member_of_another_protocol_does_not_admit_this_one(broker: Broker, topic_prefix: str) -> None:
    """The broker is there: not_in_group alone, with its words, until the stranger has left."""
    names = Names(topic_prefix)
    create_topics(broker.bootstrap_servers, names)
    settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
    policy = Policy(group=names.group, max_records=5, commit_interval_s=0.02)
    seen: list[tuple[list[str], str | None]] = []

    async def watch(stranger: Consumer) -> None:
        drain, member = asyncio.Event(), GroupMember(settings, [names.events], policy, Silent(), Silent())
        running = asyncio.create_task(member.run(drain))
        async with asyncio.timeout(120):
            while not (refusals := [words for _, words in seen if words]) or len(refusals) < 5:
                seen.append((member.not_ready(), member.refusal))
                await asyncio.sleep(0.2)
            await asyncio.to_thread(stranger.close)
            while member.not_ready():  # noqa: ASYNC110 - nothing reports it
                await asyncio.sleep(0.1)
        assert member.refusal is None
        drain.set()
        await running

    stranger = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": names.group,
            "partition.assignment.strategy": "range",
        }
    )
    stranger.subscribe([names.events])
    while not stranger.assignment():
        stranger.poll(0.1)
    try:
        asyncio.run(watch(stranger))
    finally:
        stranger.close()
    refused = seen[next(i for i, (_, words) in enumerate(seen) if words) :]
    assert [reasons for reasons, _ in refused] == [["not_in_group"]] * len(refused)
    assert {words.partition(":")[0] for _, words in refused} == {"InconsistentGroupProtocolError"}
    assert all("broker_unreachable" not in reasons for reasons, _ in seen)


def test_a_member_whose_start_took_too_long_joins_again(
    broker: Broker, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No poll within max.poll.interval: it leaves the group, and is ready as soon as its partitions start in time."""
    names = Names(topic_prefix)
    create_topics(broker.bootstrap_servers, names)
    monkeypatch.setattr(clients, "MAX_POLL_INTERVAL_MS", 5000)
    monkeypatch.setattr(group_member, "REVOKE_DEADLINE_S", 1.0)
    run, starts = OwnedPartition.run, Counter[int]()

    async def slow_at_first(owned: OwnedPartition) -> None:
        starts[owned.source.partition] += 1
        if starts[owned.source.partition] == 1:
            await asyncio.sleep(3600)
        await run(owned)

    monkeypatch.setattr(OwnedPartition, "run", slow_at_first)

    async def watch() -> None:
        settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers, kafka_session_timeout="3s")
        policy = Policy(group=names.group, max_records=5, commit_interval_s=0.02)
        drain, member = asyncio.Event(), GroupMember(settings, [names.events], policy, Silent(), Silent())
        running = asyncio.create_task(member.run(drain))
        async with asyncio.timeout(120):
            while not starts or member.not_ready():  # noqa: ASYNC110 - nothing reports it
                await asyncio.sleep(0.1)
        drain.set()
        await running

    asyncio.run(watch())
    assert min(starts.values()) >= 2
