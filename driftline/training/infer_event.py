"""A handful of real records → a proposal for `[event]` and `[features]`; `#?` marks what a person must decide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftline.errors import CommandError
from driftline.training.event_sample import RECORD_MEMBERS, SampleRecord, read_events, read_records
from schemas.bundle.inputs import EventMapping
from schemas.mapping.places import JSON_TEXT
from schemas.timestamps import TimeForm
from schemas.validation import identifier, number_of, read_json

_CUSTOMER = re.compile(r"(customer|client|user|account|subscriber|member|party|subject|msisdn)", re.IGNORECASE)
_ID = re.compile(r"(^|_|[a-z](?=I))(id|uuid|guid|key|no|number|ref)$|^subject$", re.IGNORECASE)
_EVENT = re.compile(r"(event|message|msg|record|trace|change)?_?(id|uuid|guid)$", re.IGNORECASE)
_TIME = re.compile(r"(time|date|^ts|_ts|ts_|stamp|_at$|At$|^at$|when|occurred|created|updated)", re.IGNORECASE)
# 2001 to 2100, in seconds: what a number since the epoch is in the unit that makes it a year of our time
_RECENT_S = (978_307_200, 4_102_444_800)
_BOOLEANS = ((1, 0), ("Y", "N"), ("y", "n"), ("yes", "no"), ("Yes", "No"), ("true", "false"), ("T", "F"), ("1", "0"))
MOST_CATEGORIES = 20
_BARE = re.compile(r"[A-Za-z0-9_-]+")

Path_ = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A scalar that some records have: its path and its value in each, None where it is null or absent."""

    path: Path_
    values: tuple[Any, ...]

    @property
    def present(self) -> list[Any]:
        """Return the values that are there."""
        return [value for value in self.values if value is not None]

    @property
    def everywhere(self) -> bool:
        """Return whether each record has it."""
        return len(self.present) == len(self.values)


def infer_event(path: Path) -> str:
    """Return `[event]` and `[features]` as TOML text for a file of events or of records; CommandError."""
    records = _read(path)
    events = [event for event in map(_object, records) if event is not None]
    if not events:
        raise CommandError(f"{path}: no JSON objects")
    lines = [f"# Proposed from {len(events)} of {len(records)} records. What follows a #? is a guess: decide it.", ""]
    try:
        return _proposal(lines, records, events)
    except CommandError as error:
        raise CommandError(f"{path}: {error}") from None


def infer_subject(subject: str, version: int, form: str, events: list[dict[str, Any]]) -> str:
    """Return the same for invented events of a registry's schema; CommandError. form: the `format` of `[event]`."""
    lines = [f"# Proposed from {subject} version {version}. What follows a #? is a guess: decide it."]
    lines += ["# A schema has no values: a text may be a category, an id or free text.", ""]
    records = [SampleRecord(json.dumps(event).encode(), number, -1) for number, event in enumerate(events)]
    return _proposal(lines, records, events).replace("[event]\n", f"[event]\nformat = {_text(form)}\n", 1)


def _proposal(lines: list[str], records: Sequence[SampleRecord], events: list[dict[str, Any]]) -> str:
    preset = _preset(records, events)
    if preset == "debezium":
        wrapped = any("payload" in event for event in events)
        events = [event.get("payload", event) for event in events]
        rows = [event["after"] for event in events if isinstance(event.get("after"), dict)]
        if not rows:
            raise CommandError("Debezium's change events, and none has a row in `after`")
        leaves = _leaves(rows)
        customer = _customer(leaves, _key_members(records))
        place = ".".join((*(("payload",) if wrapped else ()), "after", *(customer.path if customer else ("id",))))
        ask = "" if customer and _key_members(records) else "  #? the column with the customer's id"
        lines += ["[event]", 'preset = "debezium"', f"customer_id = {_text(place)}{ask}"]
        return _whole(lines, leaves, {customer.path} if customer else set())
    if preset == "cloudevents":
        data = [event["data"] if isinstance(event.get("data"), dict) else event for event in events]
        leaves = _leaves(data)
        ask = "" if _have(records, events, "subject") else '  #? the records have no subject: "data.…" of the customer?'
        lines += ["[event]", 'preset = "cloudevents"', f'customer_id = "subject"{ask}']
        if not _have(records, events, "time"):
            lines.append('event_time = ""  #? the records have no time: the Kafka timestamp')
        return _whole(lines, leaves, set())
    root = _root(events)
    leaves = _leaves(events)
    lines.append("[event]")
    used = set()
    event_id = _best(
        leaves, root, lambda leaf: _EVENT.fullmatch(leaf.path[-1]) and len(set(leaf.values)) > 1 and _ids(leaf)
    )
    customer = _customer([leaf for leaf in leaves if leaf is not event_id], {})
    lines.append(f"event_id = {_text(_dotted(event_id.path))}" if event_id else 'event_id = ""  # made from the offset')
    if customer:
        lines.append(f"customer_id = {_text(_dotted(customer.path))}  #? the customer's id")
    elif any(record.key for record in records):
        lines.append('customer_id = "$key"  #? the record\'s key')
    else:
        lines.append("customer_id = \"\"  #? no field looks like a customer's id: the record's key")
    time = _best(leaves, root, lambda leaf: leaf.everywhere and _time_lines(leaf) is not None)
    lines += ['event_time = ""  #? no field looks like a time: the Kafka timestamp'] if time is None else []
    for leaf in (event_id, customer, time):
        used |= {leaf.path} if leaf else set()
    if time is not None:
        lines += [f"event_time = {_text(_dotted(time.path))}", *(_time_lines(time) or [])]
    lines.append(f"features = {_text(_dotted(root))}" + ("" if root else "  # the event's top level"))
    if outside := [leaf.path for leaf in leaves if leaf.path[: len(root)] != root and _varies(leaf, used)]:
        shown = ", ".join(_text(_dotted(path)) for path in outside)
        lines.append(f'#? not among the features: {shown}; features = "" and a path for each, `from`, would reach all')
    inside = [_Leaf(leaf.path[len(root) :], leaf.values) for leaf in leaves if leaf.path[: len(root)] == root]
    return _whole(lines, inside, {path[len(root) :] for path in used if path[: len(root)] == root})


def _read(path: Path) -> list[SampleRecord]:
    """Return the file's records: whole ones if each line is one, else events."""
    return read_records(path) if is_whole(path) else read_events(path)


def is_whole(path: Path) -> bool:
    """Return whether each line of a file is a whole record, with key and headers; CommandError."""
    lines = [_object(event) for event in read_events(path)]
    return all(line is not None and "value" in line and line.keys() <= RECORD_MEMBERS for line in lines)


def _object(record: SampleRecord) -> dict[str, Any] | None:
    found, _ = read_json(record.value or b"null")
    return found if isinstance(found, dict) else None


def _preset(records: Sequence[SampleRecord], events: Sequence[Mapping[str, Any]]) -> str | None:
    if any(EventMapping(preset="cloudevents").form_of(record.value, record.headers) for record in records):
        return "cloudevents"
    if all("specversion" in event and "type" in event for event in events):
        return "cloudevents"
    bodies = [event["payload"] if isinstance(event.get("payload"), dict) else event for event in events]
    return "debezium" if all({"op", "after"} <= body.keys() for body in bodies) else None


def _have(records: Sequence[SampleRecord], events: Sequence[Mapping[str, Any]], attribute: str) -> bool:
    headers = [{name for name, _ in record.headers} for record in records]
    return all(f"ce_{attribute}" in names for names in headers if "ce_specversion" in names) and all(
        attribute in event for event in events if "specversion" in event
    )


def _key_members(records: Sequence[SampleRecord]) -> dict[str, Any]:
    """Return the members of a key that is JSON."""
    found, _ = read_json(records[0].key or b"null")
    if isinstance(found, dict) and isinstance(found.get("payload"), dict):
        found = found["payload"]
    return found if isinstance(found, dict) else {}


def _walk(node: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    if isinstance(node, dict):
        for name, inner in node.items():
            # a name with a dot cannot be written as a part of a path
            if name and "." not in name and not name.endswith(JSON_TEXT):
                yield from _walk(inner, (*path, name))
    elif isinstance(node, str) and node.lstrip()[:1] == "{":
        inner, rejection = read_json(node.encode("utf-8", "surrogatepass"))
        yield from _walk(inner, (*path, JSON_TEXT)) if rejection is None else [(path, node)]
    elif not isinstance(node, list):
        yield path, node


def _leaves(events: Sequence[Mapping[str, Any]]) -> list[_Leaf]:
    rows = [dict(_walk(event, ())) for event in events]
    paths = dict.fromkeys(path for row in rows for path in row)
    found = [_Leaf(path, tuple(row.get(path) for row in rows)) for path in paths]
    inner = {leaf.path[:at] for leaf in found for at in range(1, len(leaf.path))}
    # an object that is null in some records is no scalar
    return [leaf for leaf in found if leaf.path not in inner]


def _root(events: Sequence[Mapping[str, Any]]) -> Path_:
    """Return the object with the most scalars; of two with as many, the outer one."""
    counts: dict[Path_, int] = {}
    for leaf in _leaves(events):
        if not _TIME.search(leaf.path[-1]) and not _ID.search(leaf.path[-1]):
            counts[leaf.path[:-1]] = counts.get(leaf.path[:-1], 0) + 1
    return min(counts, key=lambda path: (-counts[path], len(path)), default=())


def _best(leaves: Sequence[_Leaf], root: Path_, fits: Any) -> _Leaf | None:
    """Return the first leaf that fits, one outside the features and nearer to the top before others."""
    found = [leaf for leaf in leaves if fits(leaf)]
    return min(found, key=lambda leaf: (bool(root) and leaf.path[: len(root)] == root, len(leaf.path)), default=None)


def _ids(leaf: _Leaf) -> bool:
    """Return whether each record has an id there."""
    return leaf.everywhere and all(identifier(value) is not None for value in leaf.values)


def _customer(leaves: Sequence[_Leaf], key: Mapping[str, Any]) -> _Leaf | None:
    ids = [leaf for leaf in leaves if _ids(leaf)]
    named = [leaf for leaf in ids if leaf.path[-1] in key]
    named += [leaf for leaf in ids if _CUSTOMER.search(".".join(leaf.path)) and _ID.search(leaf.path[-1])]
    named += [leaf for leaf in ids if _CUSTOMER.fullmatch(leaf.path[-1])]
    named += [leaf for leaf in ids if leaf.path[-1].lower() == "id"]
    return named[0] if named else None


def _time_lines(leaf: _Leaf) -> list[str] | None:
    """Return the further lines of `[event]` that such times need; None if these are no times."""
    if all(isinstance(value, str) for value in leaf.values):
        if all(TimeForm().read(value) for value in leaf.values):
            return []
        if all(TimeForm(zone="UTC").read(value) for value in leaf.values):
            return ['time_zone = "UTC"  #? the times have no offset: of which zone are they?']
    if not _TIME.search(leaf.path[-1]):
        return None
    for unit in ("s", "ms", "us", "ns"):
        form = TimeForm(unit)
        if all((ms := form.read(value)) and _RECENT_S[0] <= ms[0] / 1000 < _RECENT_S[1] for value in leaf.values):
            return [f'time_unit = "{unit}"']
    return None


def _whole(lines: list[str], leaves: Sequence[_Leaf], used: set[Path_]) -> str:
    named: dict[str, list[str]] = {}
    for leaf in leaves:
        if leaf.path not in used:
            name = leaf.path[-1] if leaf.path[-1] not in named else "_".join(leaf.path)
            named[name] = _feature(leaf, name)
    if not any(text[0].startswith("[") for text in named.values()):
        raise CommandError("no field that a model could use")
    for text in named.values():
        lines += ["", *text]
    return "\n".join([*lines, ""])


def _feature(leaf: _Leaf, name: str) -> list[str]:
    """Return a feature's table, or a comment with the reason why the field is left out."""
    if _numbered(leaf):
        large = any(identifier(value) is None for value in leaf.present)
        shown = "integers of 2^53 and more, which JSON readers round: an id only as a string" if large else "an id"
        return [f"#? {_text(_dotted(leaf.path))} is left out: {shown}"]
    found = _kind(leaf.present)
    if found is None or _time_lines(_Leaf(leaf.path, tuple(leaf.present))) is not None or not leaf.present:
        shown = "always null" if not leaf.present else "an id, a time or free text"
        return [f"#? {_text(_dotted(leaf.path))} is left out: {shown}"]
    place = [] if leaf.path == (name,) else [f"from = {_text(_dotted(leaf.path))}"]
    table = name if _BARE.fullmatch(name) else _text(name)
    nullable = [] if leaf.everywhere else ["nullable = true  #? missing in some of the records"]
    return [f"[features.{table}]", *found, *place, *nullable]


def _numbered(leaf: _Leaf) -> bool:
    """Return whether a field has the name of an id, and another integer in each record."""
    values = leaf.present
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return whole and len(values) > 2 and len(set(values)) == len(values) and _ID.search(leaf.path[-1]) is not None


def _varies(leaf: _Leaf, used: set[Path_]) -> bool:
    """Return whether a field could be a feature, and differs between the records."""
    differs = len({json.dumps(value) for value in leaf.present}) > 1
    return differs and leaf.path not in used and _feature(leaf, "x")[0].startswith("[")


def _kind(values: Sequence[Any]) -> list[str] | None:
    """Return the lines about the values of a field; None if it is no feature."""
    distinct = {json.dumps(value) for value in values}
    if all(isinstance(value, bool) for value in values):
        return ['kind = "boolean"']
    for true, false in _BOOLEANS:
        if distinct == {json.dumps(true), json.dumps(false)}:
            lists = [f"true = [{_text(true)}]", f"false = [{_text(false)}]"]
            return ['kind = "boolean"  #? or a number, or a category', *lists]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return ['kind = "numeric"']
    if not all(isinstance(value, str) for value in values):
        return None
    if all(number_of(value) is not None for value in values):
        return ['kind = "numeric"  #? texts that are numbers: an amount, or codes of categories?', 'parse = "number"']
    few = len(distinct) <= MOST_CATEGORIES and (len(distinct) < len(values) or len(values) < 3)
    return ['kind = "categorical"'] if few else None


def _dotted(path: Sequence[str]) -> str:
    return ".".join(path).replace(f".{JSON_TEXT}", JSON_TEXT)


def _text(value: object) -> str:
    return json.dumps(value)
