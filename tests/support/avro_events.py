"""Events as Avro behind a schema id: the envelope of support.events with logical types, unions and an enum."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import fastavro

from kafka_runtime.schema_registry.client import RegisteredSchema

FIELDS: list[dict[str, Any]] = [
    {"name": "tenure", "type": "int"},
    {"name": "monthly_charges", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "total_charges", "type": ["null", "double"], "default": None},
    {
        "name": "contract",
        "type": {"type": "enum", "name": "Contract", "symbols": ["MONTHLY", "YEARLY", "OTHER"]},
    },
    {"name": "payment", "type": ["null", "string"], "default": None},
    {"name": "senior", "type": "boolean"},
    {"name": "partner", "type": ["null", "boolean"], "default": None},
]
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "namespace": "com.example",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "customer_id", "type": "long"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "features", "type": {"type": "record", "name": "Features", "fields": FIELDS}},
    ],
}

EVENT: dict[str, Any] = {
    "event_id": "e1",
    "customer_id": 17,
    "event_time": 1_795_327_199_123,
    "features": {
        "tenure": 12,
        "monthly_charges": Decimal("70.35"),
        "total_charges": None,
        "contract": "YEARLY",
        "payment": "Überweisung",
        "senior": True,
        "partner": None,
    },
}


def registered(schema: object = None, references: tuple[tuple[str, str], ...] = ()) -> RegisteredSchema:
    """Return a schema as a registry has it."""
    return RegisteredSchema("AVRO", json.dumps(SCHEMA if schema is None else schema), references)


def body(schema: object, value: object) -> bytes:
    """Return a value as fastavro writes it."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return out.getvalue()


def framed(value: bytes, schema_id: int = 7) -> bytes:
    """Return a record with the framing of a registry."""
    return b"\0" + schema_id.to_bytes(4, "big") + value


class Known:
    """A registry that has these schemas."""

    def __init__(self, schemas: dict[int, RegisteredSchema]) -> None:
        self._schemas = schemas

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema of an id."""
        return self._schemas.get(schema_id)
