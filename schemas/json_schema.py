"""JSON Schemas (draft 2020-12) of records: for a bundle's own features, or for any bundle's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.bundle import Feature
from schemas.verdict import MAX_ID_LENGTH, NUMERIC_LIMIT

Schema = dict[str, Any]

IDENTIFIER: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
    "description": "no control characters",
}
EVENT_TIME: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9]([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
    "description": "RFC 3339 with an offset or Z",
}


def features_schema(features: Sequence[Feature] | None) -> Schema:
    """The object of features. None: of any bundle, where only the kinds of values are known."""
    if features is None:
        values = {"type": ["number", "string", "boolean", "null"]}
        return {
            "type": "object",
            "description": "names, kinds, ranges and categories are the model bundle's",
            "additionalProperties": values,
        }
    return {
        "type": "object",
        "properties": {feature.source: _feature(feature) for feature in features},
        "required": [feature.source for feature in features if not feature.nullable],
    }


def event_schema(features: Sequence[Feature] | None) -> Schema:
    """An event in Driftline's own envelope. Unknown fields are ignored, unless the scorer is told to refuse them."""
    return {
        "type": "object",
        "properties": {
            "schema_version": {"const": 1, "default": 1},
            "event_id": IDENTIFIER,
            "customer_id": IDENTIFIER,
            "event_time": EVENT_TIME,
            "features": features_schema(features),
        },
        "required": ["event_id", "customer_id", "event_time", "features"],
    }


def _feature(feature: Feature) -> Schema:
    types = {"numeric": "number", "categorical": "string", "boolean": "boolean"}
    schema: Schema = {"type": types[feature.kind]}
    if feature.kind == "numeric":
        schema |= _bound("Minimum", "minimum", feature.min, -NUMERIC_LIMIT)
        schema |= _bound("Maximum", "maximum", feature.max, NUMERIC_LIMIT)
        if feature.unit:
            schema["description"] = feature.unit
    if feature.categories:
        # no enum: another category is legal, scored and counted
        schema["examples"] = list(feature.categories[:20])
    if feature.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


def _bound(exclusive: str, inclusive: str, bound: float | None, limit: float) -> Schema:
    if bound is None or abs(bound) >= NUMERIC_LIMIT:
        return {f"exclusive{exclusive}": limit}
    return {inclusive: bound}
