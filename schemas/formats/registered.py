"""A schema as a registry has it, and the framing in front of every record that uses one.

Framing, as Confluent's serializers write it: a zero byte, the schema's id as four bytes (big-endian), the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.rejection_reasons import Reason, RejectedError

PREFIX_BYTES = 5


class Registered(Protocol):
    """A schema of a registry; kafka_runtime's RegisteredSchema is one."""

    @property
    def kind(self) -> str:
        """Return `AVRO`, `PROTOBUF` or `JSON`."""

    @property
    def text(self) -> str:
        """Return the schema itself."""

    @property
    def references(self) -> tuple[tuple[str, str], ...]:
        """Return name and text of each schema that it refers to, those first that the others need."""


class Schemas(Protocol):
    """The schemas of a registry that are known here."""

    def schema(self, schema_id: int) -> Registered | None:
        """Return the schema of an id, None if the registry has none of it."""


class UnreadableSchemaError(ValueError):
    """A schema that cannot be used: the text is why."""


class MisfitError(ValueError):
    """A schema from which the spec's event cannot be read. The text names the field and what was expected."""


def schema_id(value: bytes | None) -> int | None:
    """Return the schema id in front of a record, None if it is not framed.

    >>> schema_id(bytes([0, 0, 0, 1, 2]) + b"...")
    258
    """
    if value is None or len(value) < PREFIX_BYTES or value[0] != 0:
        return None
    return int.from_bytes(value[1:PREFIX_BYTES], "big")


def schema_ids(values: Sequence[bytes | None]) -> set[int]:
    """Return all schema ids in front of records."""
    prefixes = {value[:PREFIX_BYTES] for value in values if value}
    return {found for prefix in prefixes if (found := schema_id(prefix)) is not None}


def unframed(value: bytes) -> tuple[int, bytes]:
    """Return the schema id and the record behind it; RejectedError."""
    found = schema_id(value)
    if found is None:
        detail = f"value: expected a zero byte and a schema id of 4 bytes, got {len(value)} bytes that begin "
        raise RejectedError(Reason.NOT_DECODABLE, f"{detail}with {value[:PREFIX_BYTES].hex(' ')}")
    return found, value[PREFIX_BYTES:]
