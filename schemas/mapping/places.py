"""Where the parts of an event are in a record: in its value, its key, a header, or its Kafka timestamp.

A path is written as in a spec. `a.b.0` leads through JSON objects and arrays. `a|json.b` reads the text at `a` as JSON
and goes on within it. `$key` is the record's key as text, `$key.a` a member of a key that is JSON, `$header.NAME` a
header, `$timestamp` the Kafka timestamp.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import msgspec

# A step of a path that reads the text found so far as JSON. No JSON key of a path can be written so.
JSON_TEXT = "|json"
_POSITION = re.compile("0|[1-9][0-9]{0,8}")


class Source(StrEnum):
    """The part of a record that a path leads into."""

    VALUE = "value"
    KEY = "key"
    HEADER = "header"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True)
class Place:
    """A path that was read. steps: JSON keys, array positions and JSON_TEXT; of a header its name.

    text: as it was written.
    """

    source: Source
    steps: tuple[str, ...]
    text: str


def steps_of(dotted: str) -> tuple[str, ...]:
    """Return the steps of a path within JSON; none for the empty path. ValueError if a part of it is empty.

    >>> steps_of("payload.after|json.items.0")
    ('payload', 'after', '|json', 'items', '0')
    """
    steps: list[str] = []
    for part in dotted.split(".") if dotted else ():
        name = part.removesuffix(JSON_TEXT)
        if not name:
            raise ValueError(f"{dotted!r} has an empty part")
        steps += [name] if name == part else [name, JSON_TEXT]
    return tuple(steps)


def place_of(text: str) -> Place:
    """Return the place that a path names; ValueError if it is none."""
    if not text.startswith("$"):
        return Place(Source.VALUE, steps_of(text), text)
    if text == "$timestamp":
        return Place(Source.TIMESTAMP, (), text)
    if text == "$key":
        return Place(Source.KEY, (), text)
    if text.startswith("$key.") and len(text) > len("$key."):
        return Place(Source.KEY, steps_of(text.removeprefix("$key.")), text)
    if text.startswith("$header.") and len(text) > len("$header."):
        return Place(Source.HEADER, (text.removeprefix("$header."),), text)
    raise ValueError(f"{text!r}: expected a path, $key, $key.PATH, $header.NAME or $timestamp")


def position(step: str) -> int | None:
    """Return a step as the position in an array, counted from 0; None if it can only be a key.

    >>> position("12"), position("01"), position("price")
    (12, None, None)
    """
    return int(step) if _POSITION.fullmatch(step) else None


def is_plain(steps: Sequence[str]) -> bool:
    """Return whether a path leads through JSON objects only."""
    return not any(step == JSON_TEXT or position(step) is not None for step in steps)


def scalar(value: object) -> tuple[str, object] | None:
    """Return a JSON scalar in a form that is equal for equal JSON values; None for null, objects and arrays.

    >>> scalar(1) == scalar(1.0), scalar(1) == scalar(True), scalar(1) == scalar("1")
    (True, False, False)
    """
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, int | float):
        return "number", value
    return ("string", value) if isinstance(value, str) else None


def header(headers: Sequence[tuple[str, bytes | None]], name: str) -> bytes | None:
    """Return the last header of this name, as Kafka's clients do; None if there is none, or it is null."""
    for found, value in reversed(headers):
        if found == name:
            return value
    return None


class _Array(dict[str, Any]):
    """An array that is being made, by position."""


class _Text(dict[str, Any]):
    """A text that will be the JSON of what is in it."""


def put(event: dict[str, Any], steps: Sequence[str], value: object) -> None:
    """Put a value at the end of a path, and make what is missing on the way; `written` makes JSON of it.

    >>> event = {}
    >>> put(event, ("data", "|json", "items", "1"), 5)
    >>> written(event)
    {'data': '{"items":[null,5]}'}
    """
    node = event
    for step, following in pairwise(steps):
        kind = _Text if following == JSON_TEXT else _Array if position(following) is not None else dict
        node = node.setdefault(step, kind())
    node[steps[-1]] = value


def written(node: object) -> Any:
    """Return what `put` has made as JSON values."""
    if isinstance(node, _Text):
        return msgspec.json.encode(written(node[JSON_TEXT])).decode()
    if isinstance(node, _Array):
        found = {int(at): written(inner) for at, inner in node.items()}
        return [found.get(at) for at in range(max(found) + 1)]
    return {name: written(inner) for name, inner in node.items()} if isinstance(node, dict) else node
