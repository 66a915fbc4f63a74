"""aiokafka's fetch routine ends by a defect: it logs that, and without us nothing would ever come again."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaError
from brokers import Broker
from oracle import Names, create_topics
from world import Silent

from streaming.consumer import GroupMember
from streaming.reading import reader
from streaming.settings import KafkaSettings
from streaming.work import Policy


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
    """Whoever follows catches KafkaError, and begins anew."""

    async def follow() -> None:
        async with reader(settings) as reading:
            async for _ in reading.follow(Names(topic_prefix).events, from_start=True):
                pass

    with pytest.raises(KafkaError, match="does not fetch any more"):
        asyncio.run(asyncio.wait_for(follow(), 60))
