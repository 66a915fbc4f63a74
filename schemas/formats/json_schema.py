"""JSON behind a schema id: the value is JSON as ever, and its JSON Schema shows once whether it can be the spec's.

Records are not validated against their schema: the spec decides about each. A field that the schema neither lists nor
excludes may be in a record, so that only what cannot be there does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats.registered import MisfitError, Registered, UnreadableSchemaError
from schemas.mapping.places import JSON_TEXT, Source, place_of, position, steps_of
from schemas.validation import boolean_values, parse_json

# References that are followed for one part of an event: more than any schema needs, and no circle has an end.
MOST_REFERENCES = 50
_NUMBERS = frozenset({"number", "integer"})
_BRANCHES = ("allOf", "anyOf", "oneOf")


class JsonSchema:
    """Reads the records of one JSON Schema for one spec."""

    def __init__(self, registered: Registered, features: Sequence[Feature], mapping: EventMapping) -> None:
        """Compile; UnreadableSchemaError."""
        try:
            self.root = json.loads(registered.text)
            self._others = {name: json.loads(text) for name, text in registered.references}
        except (ValueError, RecursionError):
            raise UnreadableSchemaError("no JSON") from None
        if not isinstance(self.root, dict | bool):
            raise UnreadableSchemaError("no JSON Schema")
        self.misfit = next((text for text in self._misfits(features, mapping) if text is not None), None)

    def misfit_of(self, _body: bytes) -> str | None:
        """Return why a record is no event of the spec: of all records the same."""
        return self.misfit

    def event(self, body: bytes) -> object:
        """Return a record as the JSON value that it is; RejectedError."""
        return parse_json(body)

    def rows(self, bodies: Sequence[bytes]) -> None:
        """Leave the batch to the reader of JSON."""

    def _misfits(self, features: Sequence[Feature], mapping: EventMapping) -> Iterator[str | None]:
        for path in (mapping.event_id, mapping.customer_id):
            if path and not path.startswith("$"):
                yield self._misfit(steps_of(path), {"string", "integer", "number"}, "a string or an integer")
        place = place_of(mapping.event_time)
        if mapping.event_time and place.source is Source.VALUE:
            text = mapping.time_unit == "rfc3339"
            kinds = {"string"} if text else {"string", *_NUMBERS}
            yield self._misfit(place.steps, kinds, "a string" if text else f"a number of {mapping.time_unit}")
        above = steps_of(mapping.features)
        yield self._misfit(above, {"object", "array"}, "an object")
        for feature in features:
            kinds, expected = _kinds(feature)
            yield self._misfit((*above, *feature.path), kinds, expected, optional=feature.nullable)

    def _misfit(self, steps: Sequence[str], kinds: set[str], expected: str, *, optional: bool = False) -> str | None:
        """Return why a part cannot be in a record, None if it can."""
        name = ".".join(steps).replace(f".{JSON_TEXT}", JSON_TEXT) or "the event"
        try:
            found = self._types(self.root, self.root, tuple(steps), MOST_REFERENCES)
        except MisfitError as error:
            return f"{name}: {error}"
        if found is None:
            return None if optional else f"{name}: the schema excludes this field"
        if found and not found & kinds:
            return f"{name}: expected {expected}, the schema has {' or '.join(sorted(found))}"
        return None

    def _types(self, schema: Any, document: Any, steps: tuple[str, ...], left: int) -> frozenset[str] | None:
        """Return the types at the end of a path: empty for any type, None for nothing at all."""
        if not isinstance(schema, dict):
            return None if schema is False else frozenset()
        if left == 0:
            return frozenset()
        if isinstance(schema.get("$ref"), str):
            schema, document = self.referred(schema["$ref"], document)
            return self._types(schema, document, steps, left - 1)
        of_branches = [
            found
            for word in _BRANCHES
            for branch in _listed(schema.get(word))
            if (found := self._types(branch, document, steps, left - 1)) is not None
        ]
        own = self._own_types(schema, document, steps, left)
        if not of_branches:
            return own
        known = [found for found in (*of_branches, own) if found]
        return frozenset().union(*known) if known else frozenset()

    def _own_types(
        self, schema: Mapping[str, Any], document: Any, steps: tuple[str, ...], left: int
    ) -> frozenset[str] | None:
        if not steps:
            return _stated(schema)
        step, rest = steps[0], steps[1:]
        if step == JSON_TEXT:
            return frozenset()  # what is in a text, the schema does not have
        properties = schema.get("properties")
        if isinstance(properties, dict) and step in properties:
            return self._types(properties[step], document, rest, left)
        stated = _stated(schema)
        if position(step) is not None and "array" in stated:
            return self._types(schema.get("items", True), document, rest, left)
        if stated and "object" not in stated:
            raise MisfitError(f"expected an object around {step}, the schema has {' or '.join(sorted(stated))}")
        if schema.get("patternProperties"):
            return frozenset()
        return self._types(schema.get("additionalProperties", True), document, rest, left)

    def referred(self, reference: str, document: Any) -> tuple[Any, Any]:
        """Return the schema that a reference names, and the document that it is in; any schema if there is none."""
        where, _, pointer = reference.partition("#")
        if where:
            document = self._others.get(where, True)
        node = document
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or name not in node:
                return True, document
            node = node[name]
        return node, document


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _stated(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the types that a schema states, without null; empty if it states none."""
    found = schema.get("type")
    names = found if isinstance(found, list) else [found]
    kinds = {name for name in names if isinstance(name, str)}
    if not kinds:
        values = (
            schema["enum"] if isinstance(schema.get("enum"), list) else [schema["const"]] if "const" in schema else []
        )
        kinds = {_KIND[type(value)] for value in values if value is not None}
    return frozenset(kinds - {"null"})


_KIND = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def _kinds(feature: Feature) -> tuple[set[str], str]:
    """Return the types that a feature's values may have, and how they are named."""
    if feature.kind == "numeric":
        return ({*_NUMBERS, "string"} if feature.parse else set(_NUMBERS)), "a number"
    if feature.kind == "categorical":
        return ({"string", *_NUMBERS} if feature.integers else {"string"}), "a string"
    of = {"boolean": {"boolean"}, "number": set(_NUMBERS), "string": {"string"}}
    kinds = set().union(*(of[one[0]] for one in boolean_values(feature) if one is not None))
    return kinds, " or ".join(sorted(kinds))
