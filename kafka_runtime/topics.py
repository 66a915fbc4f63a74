"""Topics on the cluster: list and create. No topic is ever changed or deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from kafka_runtime import clients
from kafka_runtime.service.settings import KafkaSettings

TIMEOUT_S = 30.0


class TopicsError(Exception):
    """The cluster could not be reached, or rejected the request; one line."""


@dataclass(frozen=True, slots=True)
class Topic:
    """partitions and replication factor (-1 = the broker's default) and the settings that are not the broker's own."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@asynccontextmanager
async def _client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = clients.admin(settings)
    where = settings.kafka_bootstrap_servers
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await clients.start(settings, client)
            try:
                yield client
            finally:
                await client.close()
    except (KafkaError, TimeoutError, OSError) as error:
        raise TopicsError(f"Kafka at {where}: {error!r}") from None


async def describe(settings: KafkaSettings, names: Sequence[str]) -> dict[str, Topic]:
    """Return those of `names` that exist and that may be described; TopicsError if their settings may not."""
    async with _client(settings) as client:
        existing = [name for name in names if name in await client.list_topics()]
        if not existing:
            return {}
        found = {}
        for topic in await client.describe_topics(existing):
            replicas = topic["partitions"][0]["replicas"] if topic["partitions"] else []
            found[topic["topic"]] = (len(topic["partitions"]), len(replicas))
        configs: dict[str, dict[str, str]] = {}
        for response in await client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in existing]
        ):
            for resource in response.resources:
                if resource[0] != 0:
                    raise TopicsError(f"{resource[3]}: its settings: {for_code(resource[0])(resource[1])!r}")
                configs[resource[3]] = {entry[0]: entry[1] for entry in resource[4]}
        return {name: Topic(name, *found[name], configs.get(name, {})) for name in existing}


async def create(settings: KafkaSettings, topics: Sequence[Topic]) -> None:
    """Create `topics`; one that appeared meanwhile is left unchanged. TopicsError if the cluster rejects it."""
    if not topics:
        return
    async with _client(settings) as client:
        new = []
        for topic in topics:
            request = NewTopic(topic.name, topic.partitions, 1, topic_configs=dict(topic.config))
            request.replication_factor = topic.replication_factor  # the constructor of aiokafka 0.14 rejects -1
            new.append(request)
        response = await client.create_topics(new)
        refused = []
        for entry in response.topic_errors:
            error = for_code(entry[1])
            if entry[1] != 0 and error is not TopicAlreadyExistsError:
                refused.append(f"{entry[0]}: {error.__name__}: {entry[2] if len(entry) > 2 else ''}".rstrip(": "))
        if refused:
            raise TopicsError("; ".join(refused))
