"""A batch of event records → columns, with a verdict per record.

Every record is decoded on its own with a decoder made for the bundle's features (joining records into one array would
be faster and wrong: neighbouring poison can merge and split into the right count). What can be checked per batch in
arrays is: identifiers, times, numeric ranges. Whatever is not plainly valid is put before `schemas.verdict`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas import rfc3339
from schemas.bundle import EventMapping, Feature
from schemas.features import Columns, Layout, Value
from schemas.verdict import (
    MAX_DEPTH,
    MAX_ID_LENGTH,
    NUMERIC_LIMIT,
    Defect,
    Examiner,
    Record,
    Rules,
    Shape,
    customer_id_from_key,
    record_size,
    shape_of,
)

_VALUE_TYPES: dict[str, Any] = {"numeric": float, "categorical": str, "boolean": bool}


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What a batch of records holds. `defects` has one entry per record, None for an accepted one.

    All other sequences have one entry per accepted record, in the records' order; `accepted` (int64) says which records
    those are. `event_time_ms`: int64, milliseconds since the epoch. `unknown_fields` and `key_mismatches` are counts
    over the accepted records.
    """

    defects: list[Defect | None]
    accepted: NDArray[np.int64]
    event_ids: Sequence[str]
    customer_ids: Sequence[str]
    event_times: Sequence[str]
    event_time_ms: NDArray[np.int64]
    columns: Columns
    unknown_fields: int
    key_mismatches: int

    def take(self, rows: NDArray[np.int64]) -> DecodedBatch:
        """The same batch with only these of its accepted rows."""
        kept = rows.tolist()
        return replace(
            self,
            accepted=self.accepted[rows],
            event_ids=[self.event_ids[row] for row in kept],
            customer_ids=[self.customer_ids[row] for row in kept],
            event_times=[self.event_times[row] for row in kept],
            event_time_ms=self.event_time_ms[rows],
            columns=self.columns.take(rows),
        )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Records that decoded, before the checks of the batch. structs[j] was decoded from records[indices[j]].

    `unknown`: record index → number of its unknown fields, where there are any.
    """

    records: Sequence[Record]
    now_ms: int
    defects: list[Defect | None]
    structs: list[Any]
    indices: list[int]
    unknown: dict[int, int]


class EventDecoder:
    """Decodes the events of one bundle. Made once per bundle; holds no state between batches."""

    def __init__(self, features: Sequence[Feature], mapping: EventMapping, rules: Rules | None = None) -> None:
        self.layout = Layout(features)
        self._mapping = mapping
        self._rules = rules or Rules()
        self._examiner = Examiner(features, mapping, self._rules)
        self._shape = shape_of(features, mapping)
        self._tree = _Tree(features, mapping, self._shape)
        numeric = [features[i] for i in self.layout.numeric]
        # inclusive bounds; without one in the spec, the largest double inside ±2^53
        self._low = np.array([-_INNERMOST if f.min is None else max(f.min, -_INNERMOST) for f in numeric])
        self._high = np.array([_INNERMOST if f.max is None else min(f.max, _INNERMOST) for f in numeric])

    def decode(self, records: Sequence[Record], now_ms: int) -> DecodedBatch:
        """Columns of the accepted records and a defect for every other one. Raises nothing for what a record holds."""
        return self.assemble(self.read(records, now_ms))

    def read(self, records: Sequence[Record], now_ms: int) -> Candidates:
        """Decode each record on its own: first half of `decode`."""
        defects: list[Defect | None] = [None] * len(records)
        structs: list[Any] = []
        indices: list[int] = []
        unknown: dict[int, int] = {}
        limit = self._rules.max_event_bytes
        known = self._tree.known.decode
        for i, record in enumerate(records):
            value = record.value
            small = bool(value) and record_size(record) <= limit
            if small and value is not None:
                try:
                    structs.append(known(value))
                    indices.append(i)
                    continue
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    # whatever was wrong, the second look below names it or finds that the record is valid after all
                    pass
            struct, defects[i], unknown[i] = self._second_look(record, now_ms, small=small)
            if struct is not None:
                structs.append(struct)
                indices.append(i)
        return Candidates(records, now_ms, defects, structs, indices, unknown)

    def assemble(self, candidates: Candidates) -> DecodedBatch:
        """Columns of the candidates, after the checks that are done per batch: second half of `decode`."""
        records, now_ms, defects = candidates.records, candidates.now_ms, candidates.defects
        structs, indices = candidates.structs, candidates.indices
        parts = self._parts([records[i] for i in indices], structs)
        refused = set()
        for row in self._doubtful(parts, now_ms):
            verdict = self._examiner.examine(records[indices[row]], now_ms)
            if verdict.defect is not None:
                defects[indices[row]] = verdict.defect
                refused.add(int(row))
        if refused:
            kept = [row for row in range(len(structs)) if row not in refused]
            structs = [structs[row] for row in kept]
            indices = [indices[row] for row in kept]
            parts = self._parts([records[i] for i in indices], structs)
        return DecodedBatch(
            defects=defects,
            accepted=np.array(indices, dtype=np.int64),
            event_ids=parts.event_ids,
            customer_ids=parts.customer_ids,
            event_times=parts.event_times,
            event_time_ms=parts.event_time_ms,
            columns=parts.columns,
            unknown_fields=sum(count for i, count in candidates.unknown.items() if defects[i] is None),
            key_mismatches=_key_mismatches([records[i].key for i in indices], parts.customer_ids),
        )

    def _second_look(self, record: Record, now_ms: int, *, small: bool) -> tuple[Any, Defect | None, int]:
        """The struct of a record that the first decoder refused, or its defect; and how many fields are unknown."""
        if small and record.value:
            # a category that training did not see is as valid as any
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._tree.strict.decode(record.value), None, 0
        if small and not self._rules.reject_unknown_fields and record.value:
            # the next most common cause is a field that is not ours: skip it, but make sure that it is valid JSON
            try:
                struct = self._tree.lenient.decode(record.value)
                generic = msgspec.json.decode(record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # examined below
            else:
                if record.value.count(b"[") + record.value.count(b"{") <= MAX_DEPTH:
                    return struct, None, _count_unknown(generic, self._shape)
        verdict = self._examiner.examine(record, now_ms)
        if verdict.defect is not None:
            return None, verdict.defect, 0
        return msgspec.convert(verdict.known, self._tree.lenient_type), None, verdict.unknown_fields

    def _parts(self, records: Sequence[Record], structs: Sequence[Any]) -> _Parts:
        fields = self._tree.explode(structs)
        mapping = self._mapping
        if mapping.event_id:
            event_ids: Sequence[str] = fields[mapping.event_id]
        else:
            event_ids = [f"{r.topic}-{r.partition}-{r.offset}" for r in records]
        if mapping.customer_id:
            customer_ids: Sequence[str] = fields[mapping.customer_id]
        else:
            # an unusable key becomes the empty string, which the checks of the batch put before the examiner
            customer_ids = [customer_id_from_key(r.key) or "" for r in records]
        if mapping.event_time:
            event_times: Sequence[str] = fields[mapping.event_time]
            event_time_ms = rfc3339.parse_batch(event_times)
        else:
            event_time_ms = np.array([r.timestamp for r in records], dtype=np.int64)
            event_times = [rfc3339.render(r.timestamp) for r in records]
        values: list[Sequence[Value]] = [fields[path] for path in self._tree.feature_paths]
        return _Parts(event_ids, customer_ids, event_times, event_time_ms, self.layout.columns(values))

    def _doubtful(self, parts: _Parts, now_ms: int) -> NDArray[np.int64]:
        """Rows that some check of the batch does not find plainly valid."""
        doubt = parts.event_time_ms == rfc3339.INVALID
        doubt |= parts.event_time_ms > now_ms + self._rules.max_future_skew_ms
        doubt |= parts.event_time_ms < rfc3339.EARLIEST_MS
        numeric = parts.columns.numeric
        # NaN stands for a missing value and compares false
        doubt |= ((numeric < self._low) | (numeric > self._high)).any(axis=1)
        for texts in (parts.event_ids, parts.customer_ids):
            if not _plain("".join(texts)) or not set(map(len, texts)) <= _ID_LENGTHS:
                doubt |= np.fromiter((not _plain(t) or len(t) not in _ID_LENGTHS for t in texts), bool, len(texts))
        return np.flatnonzero(doubt)


@dataclass(frozen=True, slots=True)
class _Parts:
    event_ids: Sequence[str]
    customer_ids: Sequence[str]
    event_times: Sequence[str]
    event_time_ms: NDArray[np.int64]
    columns: Columns


_INNERMOST = float(np.nextafter(NUMERIC_LIMIT, 0.0))
_ID_LENGTHS = frozenset(range(1, MAX_ID_LENGTH + 1))


def _plain(text: str) -> bool:
    """Printable ASCII only: certainly free of control characters (other text may be, too)."""
    return text.isascii() and text.isprintable()


class _Tree:
    """msgspec decoders for an event's known fields, and the way from decoded structs to columns.

    `strict` refuses an unknown field (so that it has looked at every byte when it accepts), `lenient` skips it. `known`
    is as strict, and refuses unknown categories as well: one that it knows comes out as the same object every time,
    its hash already computed, and nothing is allocated.
    """

    def __init__(self, features: Sequence[Feature], mapping: EventMapping, shape: Shape) -> None:
        types: dict[str, tuple[Any, ...]] = {}
        for dotted in (mapping.event_id, mapping.customer_id, mapping.event_time):
            if dotted:
                types[dotted] = (str,)
        if mapping == EventMapping():
            types["schema_version"] = (Literal[1], 1)
        prefix = f"{mapping.features}." if mapping.features else ""
        self.feature_paths = [prefix + f.source for f in features]
        closed = dict(types)
        for path, feature in zip(self.feature_paths, features, strict=True):
            kind = _VALUE_TYPES[feature.kind]
            types[path] = (kind | None, None) if feature.nullable else (kind,)
            if feature.kind == "categorical" and feature.categories:
                kind = Literal[feature.categories]
            closed[path] = (kind | None, None) if feature.nullable else (kind,)
        known, self._plan = _struct(shape, split_prefix="", types=closed, forbid=True)
        strict, _ = _struct(shape, split_prefix="", types=types, forbid=True)
        self.lenient_type, _ = _struct(shape, split_prefix="", types=types, forbid=False)
        self.known = msgspec.json.Decoder(known)
        self.strict = msgspec.json.Decoder(strict)
        self.lenient = msgspec.json.Decoder(self.lenient_type)

    def explode(self, structs: Sequence[Any]) -> dict[str, Sequence[Any]]:
        """Dotted path → one value per struct."""
        out: dict[str, Sequence[Any]] = {}
        _explode(structs, self._plan, out)
        return out


# per struct, in field order: the dotted path of a leaf, or the plan of an object within
_Plan = list["str | _Plan"]


def _struct(shape: Shape, *, split_prefix: str, types: dict[str, tuple[Any, ...]], forbid: bool) -> tuple[Any, _Plan]:
    fields: list[Any] = []
    rename: dict[str, str] = {}
    plan: _Plan = []
    for name in sorted(shape.leaves):
        field = f"f{len(fields)}"
        rename[field] = name
        fields.append((field, *types[split_prefix + name]))
        plan.append(split_prefix + name)
    for name, inner in sorted(shape.objects.items()):
        field = f"f{len(fields)}"
        rename[field] = name
        inner_type, inner_plan = _struct(inner, split_prefix=f"{split_prefix}{name}.", types=types, forbid=forbid)
        fields.append((field, inner_type))
        plan.append(inner_plan)
    struct = msgspec.defstruct("Known", fields, rename=rename, kw_only=True, gc=False, forbid_unknown_fields=forbid)
    return struct, plan


def _explode(structs: Sequence[Any], plan: _Plan, out: dict[str, Sequence[Any]]) -> None:
    astuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
    columns = zip(*map(astuple, structs), strict=True) if structs else iter([()] * len(plan))
    for entry, column in zip(plan, columns, strict=True):
        if isinstance(entry, str):
            out[entry] = column
        else:
            _explode(column, entry, out)


def _count_unknown(event: object, shape: Shape) -> int:
    if not isinstance(event, dict):
        return 0
    count = 0
    for name, value in event.items():
        if name in shape.objects:
            count += _count_unknown(value, shape.objects[name])
        elif name not in shape.leaves:
            count += 1
    return count


def _key_mismatches(keys: Sequence[bytes | None], customer_ids: Sequence[str]) -> int:
    present = [k for k in keys if k is not None]
    # no customer id holds a NUL, so that two joins are equal only where every part is
    if len(present) == len(keys) and b"\0".join(present) == "\0".join(customer_ids).encode():
        return 0
    return sum(key is not None and key != text.encode() for key, text in zip(keys, customer_ids, strict=True))
