"""The topic that a name refers to. Kafka gives every topic an id, so a deleted and recreated topic is another one.

aiokafka 0.14 requests topics by name only. If the input was replaced unnoticed, a process would continue at the old
topic's offset, and silently skip as many records of the new one. So the id is requested here with version 12 of the
metadata request (Kafka 2.8 and later). Only the beginning of the answer is parsed.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Hashable
from io import BytesIO
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

# A request waits so long for the one before, which may never be answered.
PATIENCE_S = 0.05
NIL = uuid.UUID(int=0)


class TopicReplacedError(KafkaError):  # type: ignore[misc] # the base class has no types
    """The topic of this name is not the one that was read."""


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


class _Answer(Response):  # type: ignore[misc]
    """The answer up to the first topic's id; the rest is not parsed."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        ("topics", CompactArray(("error_code", Int16), ("name", CompactString("utf-8")), ("topic_id", _Uuid))),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Ask(Request[_Question]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_Question]) -> Any:
        return request_struct_class([(NIL, self._topic, {})], False, False, {})


class SharedRequests:
    """One request after another for each key. Callers that wait for the same request share its answer.

    Nobody gets the answer to a request that was sent before they called: it could describe the time before their own
    writes.
    """

    def __init__(self) -> None:
        self._sent: dict[Hashable, asyncio.Task[uuid.UUID]] = {}
        self._next: dict[Hashable, asyncio.Task[uuid.UUID]] = {}

    async def ask(self, key: Hashable, send: Callable[[], Awaitable[uuid.UUID]]) -> uuid.UUID:
        """Return the answer to a request that is sent after this call; raise what `send` raises."""
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._in_turn(key, send), name=f"topic id {key}")
            # where every caller was cancelled, nobody else looks at it
            self._next[key].add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        return await asyncio.shield(self._next[key])

    async def _in_turn(self, key: Hashable, send: Callable[[], Awaitable[uuid.UUID]]) -> uuid.UUID:
        if key in self._sent:
            await asyncio.wait((self._sent[key],), timeout=PATIENCE_S)
        self._sent[key] = self._next.pop(key)
        return await send()


async def topic_id(admin: AIOKafkaAdminClient, topic: str, node: int | None) -> uuid.UUID:
    """Return the id of `topic`, from broker `node` (None: any). KafkaError if it is missing or not authorised."""
    try:
        answer = await admin._send_request(_Ask(topic), node)  # noqa: SLF001 - what all its public calls go through
    except (KafkaConnectionError, NodeNotReadyError):
        await admin._client.force_metadata_update()  # noqa: SLF001 - it looks again every five minutes by itself
        raise
    ((error_code, _, found),) = answer.topics
    if error_code:
        raise for_code(error_code)(topic)
    identity: uuid.UUID = found
    return identity
