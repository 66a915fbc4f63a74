"""JSON Schemas (draft 2020-12) of records: for a bundle's own features, or for any bundle's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.bundle.inputs import Feature
from schemas.validation import MAX_ID_LENGTH, NUMERIC_LIMIT

Schema = dict[str, Any]

IDENTIFIER: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
    "description": "no control characters",
}
EVENT_IDENTIFIER: Schema = {
    **IDENTIFIER,
    "type": ["string", "integer"],
    "exclusiveMinimum": -NUMERIC_LIMIT,
    "exclusiveMaximum": NUMERIC_LIMIT,
    "description": "no control characters; an integer is an id as its decimal text",
}
WIDE_TIME: Schema = {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-5][0-9]([.][0-9]{1,9})?)?"
    "([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$",
    "description": "RFC 3339 with an offset or Z, also as Java, Jackson and PostgreSQL write it",
}
EVENT_TIME: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9]([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
    "description": "RFC 3339 with an offset or Z",
}


def features_schema(features: Sequence[Feature] | None) -> Schema:
    """Return the object of features. None: of any bundle, where only the kinds of values are known."""
    if features is None:
        values = {"type": ["number", "string", "boolean", "null"]}
        return {
            "type": "object",
            "description": "names, kinds, ranges and categories are the model bundle's",
            "additionalProperties": values,
        }
    return _object([(feature.path, feature) for feature in features])


def _object(places: Sequence[tuple[Sequence[str], Feature]]) -> Schema:
    """Return the object that holds features at these paths."""
    within: dict[str, list[tuple[Sequence[str], Feature]]] = {}
    for (name, *inner), feature in places:
        within.setdefault(name, []).append((inner, feature))
    return {
        "type": "object",
        "properties": {
            name: _object(inside) if inside[0][0] else _feature(inside[0][1]) for name, inside in within.items()
        },
        "required": [name for name, inside in within.items() if not all(feature.nullable for _, feature in inside)],
    }


def event_schema(features: Sequence[Feature] | None) -> Schema:
    """Return an event in Driftline's own envelope. Unknown fields are ignored unless a setting rejects them."""
    return {
        "type": "object",
        "properties": {
            "schema_version": {"const": 1, "default": 1},
            "event_id": EVENT_IDENTIFIER,
            "customer_id": EVENT_IDENTIFIER,
            "event_time": WIDE_TIME,
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
    if feature.parse or feature.integers:
        schema["type"] = ["number", "string"] if feature.parse else ["string", "integer"]
    if feature.true is not None and feature.false is not None:
        listed = [*feature.true, *feature.false, *([None] if feature.nullable else [])]
        return {"enum": listed}
    if feature.nullable:
        kinds = schema["type"]
        schema["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
    return schema


def _bound(exclusive: str, inclusive: str, bound: float | None, limit: float) -> Schema:
    if bound is None or abs(bound) >= NUMERIC_LIMIT:
        return {f"exclusive{exclusive}": limit}
    return {inclusive: bound}
