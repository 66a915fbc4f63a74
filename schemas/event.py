"""A batch of event records → columns of the valid ones, and a rejection of every other one.

Every record is decoded separately with a decoder for the bundle's features. (Joining records into one array would be
faster and wrong: neighbouring poison can merge and split into the right count.) Identifiers, times and numeric ranges
are checked per batch in arrays. Every record that is not plainly valid is passed to `schemas.validation`.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas import timestamps
from schemas.bundle.inputs import EventMapping, Feature
from schemas.features import Columns, Layout
from schemas.formats.reader import FormatReader
from schemas.formats.registered import Schemas
from schemas.mapping.places import Place, Source, is_plain, place_of, scalar, steps_of
from schemas.rejection_reasons import Rejection
from schemas.validation import (
    ABSENT,
    MAX_DEPTH,
    MAX_ID_LENGTH,
    NO_TIMESTAMP,
    NUMERIC_LIMIT,
    FormValidator,
    Ignored,
    Reading,
    Record,
    Rules,
    Shape,
    boolean_values,
    customer_id_from_key,
    identifier,
    leaves_of,
    number_of,
    record_size,
    shape_of,
)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What a batch of records holds. `rejections` has one entry per record, None unless it is rejected.

    `ignored` has the records that are no events, by their position. All other sequences have one entry per accepted
    record, in the records' order; `accepted` (int64) says which records those are. `event_time_ms`: int64, milliseconds
    since the epoch. `unknown_fields` and `key_mismatches` are counts over the accepted records. `unseen`: the values
    without a category, each with the position of its feature; `take` leaves them as they are.
    """

    rejections: list[Rejection | None]
    accepted: NDArray[np.int64]
    event_ids: Sequence[str]
    customer_ids: Sequence[str]
    event_times: Sequence[str]
    event_time_ms: NDArray[np.int64]
    columns: Columns
    unknown_fields: int
    key_mismatches: int
    ignored: dict[int, Ignored] = field(default_factory=dict)
    unseen: Sequence[tuple[int, Any]] = ()

    def take(self, rows: NDArray[np.int64]) -> DecodedBatch:
        """Return the same batch with only these of its accepted rows."""
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
    """Records of one form that decoded, before the checks of the batch. structs[j] is records[indices[j]] decoded.

    `unknown`: record index → number of its unknown fields, where there are any.
    """

    records: Sequence[Record]
    now_ms: int
    rejections: list[Rejection | None]
    structs: list[Any]
    indices: list[int]
    unknown: dict[int, int]
    ignored: dict[int, Ignored]


@dataclass(frozen=True, slots=True)
class _Share:
    """The records of a batch that are written in one form. rows: which they are; None: all of them."""

    decoder: _FormDecoder
    rows: list[int] | None
    candidates: Candidates


class EventDecoder:
    """Decodes the events of one bundle. Made once per bundle; between batches it keeps compiled schemas only.

    schemas: of the registry, where the mapping's format has one. It has the schema of every id in a batch.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        mapping: EventMapping,
        rules: Rules | None = None,
        schemas: Schemas | None = None,
    ) -> None:
        self.layout = Layout(features)
        self._mapping = mapping
        self._forms = [_FormDecoder(self.layout, form, rules or Rules(), schemas) for form in mapping.forms()]

    def decode(self, records: Sequence[Record], now_ms: int) -> DecodedBatch:
        """Return columns of the accepted records, and a rejection for every other one; no record's content raises."""
        return self.assemble(self.read(records, now_ms))

    def read(self, records: Sequence[Record], now_ms: int) -> list[_Share]:
        """Decode each record on its own: first half of `decode`."""
        if len(self._forms) == 1:
            return [_Share(self._forms[0], None, self._forms[0].read(records, now_ms))]
        rows: list[list[int]] = [[] for _ in self._forms]
        for i, record in enumerate(records):
            rows[self._mapping.form_of(record.value, record.headers)].append(i)
        written = [(form, own) for form, own in zip(self._forms, rows, strict=True) if own]
        if len(written) < 2:  # as a rule
            form = written[0][0] if written else self._forms[0]
            return [_Share(form, None, form.read(records, now_ms))]
        return [_Share(form, own, form.read([records[i] for i in own], now_ms)) for form, own in written]

    def assemble(self, shares: Sequence[_Share]) -> DecodedBatch:
        """Return columns of the candidates, after the checks that are done per batch: second half of `decode`."""
        if len(shares) == 1:
            return shares[0].decoder.assemble(shares[0].candidates)
        return merged([(share.rows or [], share.decoder.assemble(share.candidates)) for share in shares])


def merged(parts: Sequence[tuple[list[int], DecodedBatch]]) -> DecodedBatch:
    """Return one batch of several, each with the rows that its records have in it.

    The columns keep their original values where all parts do.
    """
    rejections: list[Rejection | None] = [None] * sum(len(rows) for rows, _ in parts)
    ignored: dict[int, Ignored] = {}
    for rows, batch in parts:
        for row, rejection in zip(rows, batch.rejections, strict=True):
            rejections[row] = rejection
        ignored |= {rows[i]: why for i, why in batch.ignored.items()}
    batches = [batch for _, batch in parts]
    accepted = np.concatenate([np.array(rows, dtype=np.int64)[batch.accepted] for rows, batch in parts])
    order = np.argsort(accepted, kind="stable")

    def ordered(name: str) -> list[str]:
        texts = [text for batch in batches for text in getattr(batch, name)]
        return [texts[i] for i in order.tolist()]

    values = [batch.columns.values for batch in batches]
    columns = Columns(
        batches[0].columns.layout,
        len(order),
        np.concatenate([batch.columns.numeric for batch in batches]),
        np.concatenate([batch.columns.codes for batch in batches]),
        tuple([v for part in column for v in part] for column in zip(*values, strict=True)) if all(values) else (),
    )
    return DecodedBatch(
        rejections=rejections,
        accepted=accepted[order],
        event_ids=ordered("event_ids"),
        customer_ids=ordered("customer_ids"),
        event_times=ordered("event_times"),
        event_time_ms=np.concatenate([batch.event_time_ms for batch in batches])[order],
        columns=columns.take(order),
        unknown_fields=sum(batch.unknown_fields for batch in batches),
        key_mismatches=sum(batch.key_mismatches for batch in batches),
        ignored=ignored,
        unseen=[value for batch in batches for value in batch.unseen],
    )


class _FormDecoder:
    """Decodes events that are written in one form."""

    def __init__(self, layout: Layout, mapping: EventMapping, rules: Rules, schemas: Schemas | None) -> None:
        features = layout.features
        self._reader = None if mapping.format == "json" else FormatReader(features, mapping, schemas or _NoSchemas())
        self.layout = layout
        self._mapping = mapping
        self._rules = rules
        self._validator = FormValidator(features, mapping, rules, self._reader)
        self._shape = shape_of(features, mapping)
        self._tree: _Tree | _Rows = (
            _Rows(features, mapping) if mapping.format in _IN_ROWS else _Tree(features, mapping, self._shape)
        )
        self._event_id, self._customer_id = place_of(mapping.event_id), place_of(mapping.customer_id)
        self._event_time = place_of(mapping.event_time)
        self._time = timestamps.TimeForm(mapping.time_unit, mapping.time_zone)
        self._only = [(place_of(path), frozenset(map(scalar, values))) for path, values in mapping.only.items()]
        self._converters = {i: made for i, f in enumerate(features) if (made := _converter(f)) is not None}
        numeric = [features[i] for i in self.layout.numeric]
        self._low, self._high = number_bounds(numeric)

    def read(self, records: Sequence[Record], now_ms: int) -> Candidates:
        """Decode each record on its own."""
        found = Candidates(records, now_ms, [None] * len(records), [], [], {}, {})
        values: Sequence[bytes | None] = [record.value for record in records]
        if self._reader is not None:
            most = self._rules.max_event_bytes
            framed = [r.value if r.value and record_size(r) <= most else b"" for r in records]
            if isinstance(self._tree, _Rows):
                self._read_rows(self._reader.rows(framed), found)
                return found
            values = self._reader.texts(framed)
        structs, indices = found.structs, found.indices
        limit = self._rules.max_event_bytes
        closed = self._tree.closed.decode if isinstance(self._tree, _Tree) and self._tree.plain else None
        if closed is not None and self._mapping.preset is None and _all_small(records, limit) and all(values):
            self._read_plain(closed, cast("Sequence[bytes]", values), found)
            return found
        # whether a record probably has fields that are not ours: all of a preset do, and others if the one before did
        lenient = preset = self._mapping.preset is not None
        for i, record in enumerate(records):
            value = values[i]
            small = bool(value) and record_size(record) <= limit
            if closed is not None and small and value is not None and not lenient:
                try:
                    structs.append(closed(value))
                    indices.append(i)
                    continue
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    # for any fault: the second look below names it, or finds that the record is valid
                    pass
            text = value if small and closed is not None else None
            struct, unknown = self._second_look(i, found, text, lenient=lenient)
            lenient = preset or unknown > 0
            if struct is not None:
                structs.append(struct)
                indices.append(i)
                found.unknown[i] = unknown
        return found

    def _read_plain(self, closed: Callable[[bytes], Any], values: Sequence[bytes], found: Candidates) -> None:
        """Decode records of which each has a value and none is too large, as `read` does: in C, up to an odd one."""
        structs, indices, rest = found.structs, found.indices, iter(values)
        append, at, lenient = structs.append, 0, False
        while at < len(values):
            if lenient:
                next(rest)
            else:
                before = len(structs)
                try:
                    for struct in map(closed, rest):
                        append(struct)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    pass  # as in `read`
                plain = len(structs) - before
                indices.extend(range(at, at + plain))
                at += plain
                if at == len(values):
                    return
            struct, unknown = self._second_look(at, found, values[at], lenient=lenient)
            lenient = unknown > 0
            if struct is not None:
                append(struct)
                indices.append(at)
                found.unknown[at] = unknown
            at += 1

    def _read_rows(self, read: tuple[list[tuple[Any, ...] | None], list[int]], found: Candidates) -> None:
        """Take the rows of a batch, and decode what is not plainly valid one by one."""
        for i, (row, unknown) in enumerate(zip(*read, strict=True)):
            struct, surplus = row, unknown
            if row is None or (surplus and self._rules.reject_unknown_fields):
                struct, surplus = self._second_look(i, found, None, lenient=False)
            if struct is not None:
                found.structs.append(struct)
                found.indices.append(i)
                found.unknown[i] = surplus

    def assemble(self, candidates: Candidates) -> DecodedBatch:
        """Return columns of the candidates, after the checks that are done per batch."""
        records, now_ms, rejections = candidates.records, candidates.now_ms, candidates.rejections
        structs, indices = candidates.structs, candidates.indices
        ignored = dict(candidates.ignored)
        parts = self._parts([records[i] for i in indices], structs)
        left_out = set()
        for row in np.flatnonzero(self._doubtful(parts, now_ms)).tolist():
            validation = self._validator.validate(records[indices[row]], now_ms)
            if validation.rejection is not None:
                rejections[indices[row]] = validation.rejection
                left_out.add(row)
            elif validation.ignored is not None:
                ignored[indices[row]] = validation.ignored
                left_out.add(row)
        if left_out:
            kept = [row for row in range(len(structs)) if row not in left_out]
            structs = [structs[row] for row in kept]
            indices = [indices[row] for row in kept]
            parts = self._parts([records[i] for i in indices], structs)
        by_key = self._customer_id.source is Source.KEY or not self._mapping.customer_id
        return DecodedBatch(
            rejections=rejections,
            accepted=np.array(indices, dtype=np.int64),
            event_ids=parts.event_ids,
            customer_ids=parts.customer_ids,
            event_times=parts.event_times,
            event_time_ms=parts.event_time_ms,
            columns=parts.columns,
            unknown_fields=sum(candidates.unknown.get(i, 0) for i in indices) if candidates.unknown else 0,
            key_mismatches=0 if by_key else _key_mismatches([records[i].key for i in indices], parts.customer_ids),
            ignored=ignored,
            unseen=parts.columns.unseen(),
        )

    def _second_look(self, i: int, found: Candidates, text: bytes | None, *, lenient: bool) -> tuple[Any, int]:
        """Return the struct of a record that `closed` rejected, and its number of unknown fields.

        text: its JSON, None if only the validator can read it.

        None and 0 if it is no event: why is then in `found`.
        """
        record = found.records[i]
        tree = self._tree
        if text and not lenient and isinstance(tree, _Tree):
            # a category that training did not see is as valid as any
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return tree.strict.decode(text), 0
        if text and not self._rules.reject_unknown_fields and isinstance(tree, _Tree):
            # the next most common cause is an unknown field: skip it, but check that it is valid JSON
            try:
                struct = tree.lenient.decode(text)
                generic = msgspec.json.decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # validated below
            else:
                if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
                    return struct, _count_unknown(generic, self._shape)
        validation = self._validator.validate(record, found.now_ms)
        if validation.rejection is not None:
            found.rejections[i] = validation.rejection
            return None, 0
        if validation.ignored is not None:
            found.ignored[i] = validation.ignored
            return None, 0
        return self._tree.of_known(validation.known), validation.unknown_fields

    def _parts(self, records: Sequence[Record], structs: Sequence[Any]) -> _Parts:
        fields = self._tree.explode(structs)
        mapping = self._mapping
        if mapping.event_id:
            event_ids = _identifiers(_at(self._event_id, fields, records))
        else:
            event_ids = [f"{r.topic}-{r.partition}-{r.offset}" for r in records]
        if mapping.customer_id not in {"", "$key"}:
            customer_ids = _identifiers(_at(self._customer_id, fields, records))
        else:
            # an unusable key becomes the empty string, which the checks of the batch put before the validator
            customer_ids = [customer_id_from_key(r.key) or "" for r in records]
        if mapping.event_time not in {"", "$timestamp"}:
            event_time_ms, event_times = self._time.read_batch(_at(self._event_time, fields, records))
        else:
            event_time_ms = np.array([r.timestamp for r in records], dtype=np.int64)
            event_times = timestamps.render_batch(event_time_ms)
        values: list[Sequence[Any]] = [fields[path] for path in self._tree.feature_paths]
        doubt = np.zeros(len(records), dtype=np.bool_)
        for i, convert in self._converters.items():
            values[i], doubtful = convert(values[i])
            doubt[doubtful] = True
        for place, listed in self._only:
            found = _at(place, fields, records)
            doubt |= np.fromiter((scalar(value) not in listed for value in found), np.bool_, len(records))
        if isinstance(self._tree, _Rows) and mapping.is_envelope:
            versions = fields["schema_version"]
            doubt |= np.fromiter((v is not None and scalar(v) != _VERSION for v in versions), np.bool_, len(records))
        return _Parts(event_ids, customer_ids, event_times, event_time_ms, self.layout.columns(values), doubt)

    def _doubtful(self, parts: _Parts, now_ms: int) -> NDArray[np.bool_]:
        """Return bool (n,): rows that some check of the batch does not find plainly valid."""
        doubt = parts.doubt | (parts.event_time_ms == timestamps.INVALID)
        doubt |= parts.event_time_ms > now_ms + self._rules.max_future_skew_ms
        doubt |= parts.event_time_ms < timestamps.EARLIEST_MS
        if self._mapping.event_time in {"", "$timestamp"}:
            doubt |= parts.event_time_ms == NO_TIMESTAMP
        numeric = parts.columns.numeric
        # NaN is a missing value and compares false
        doubt |= ((numeric < self._low) | (numeric > self._high)).any(axis=1)
        for texts in (parts.event_ids, parts.customer_ids):
            if not _plain("".join(texts)) or not set(map(len, texts)) <= _ID_LENGTHS:
                doubt |= np.fromiter((not _plain(t) or len(t) not in _ID_LENGTHS for t in texts), bool, len(texts))
        found: NDArray[np.bool_] = doubt
        return found


def number_bounds(features: Sequence[Feature]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the inclusive bounds of numeric features; without one in the spec, the largest double inside ±2^53."""
    low = np.array([-_INNERMOST if f.min is None else max(f.min, -_INNERMOST) for f in features])
    high = np.array([_INNERMOST if f.max is None else min(f.max, _INNERMOST) for f in features])
    return low, high


@dataclass(frozen=True, slots=True)
class _Parts:
    event_ids: Sequence[str]
    customer_ids: Sequence[str]
    event_times: Sequence[str]
    event_time_ms: NDArray[np.int64]
    columns: Columns
    doubt: NDArray[np.bool_]


def _all_small(records: Sequence[Record], limit: int) -> bool:
    """Return whether every record is certainly within the limit; false says nothing."""
    if any(record.headers for record in records):
        return False
    keys = [record.key for record in records if record.key]
    values = [record.value for record in records if record.value]
    return max(map(len, keys), default=0) + max(map(len, values), default=0) <= limit


def _at(place: Place, fields: dict[str, Sequence[Any]], records: Sequence[Record]) -> Sequence[Any]:
    """Return what each record has at a place; None where nothing is, or something that only the validator can name."""
    if place.source is Source.VALUE:
        return fields[place.text]
    found = (Reading(record).peek(place, None) for record in records)
    return [None if value is ABSENT else value for value in found]


def _identifiers(values: Sequence[Any]) -> Sequence[str]:
    """Return ids as text. What is no id becomes the empty string, which the checks of the batch doubt."""
    if set(map(type, values)) <= {str}:
        return values
    return [value if type(value) is str else identifier(value) or "" for value in values]


_Converter = Callable[[Sequence[Any]], tuple[Sequence[Any], list[int]]]


def _converter(feature: Feature) -> _Converter | None:
    """Return what makes values of a feature's raw ones, and the rows that are doubtful; None if they are the values."""
    if feature.parse is not None:
        return _numbers
    if feature.integers:
        return _category_texts
    return None if feature.true is None else _booleans(feature)


def _numbers(raw: Sequence[Any]) -> tuple[Sequence[Any], list[int]]:
    """Return the numbers that strings are."""
    kinds = set(map(type, raw))
    if str in kinds and kinds <= {str, type(None)}:
        joined = ",".join(["null" if value is None else value for value in raw] if len(kinds) > 1 else raw)
        # a string that is no number makes no part of this list, or more than one; that `null` is no string is counted
        if not _SPACE.search(joined):
            with contextlib.suppress(msgspec.MsgspecError):
                numbers = _NUMBERS.decode(f"[{joined}]")
                if len(numbers) == len(raw) and numbers.count(None) == raw.count(None):
                    return numbers, []
    values: list[float | None] = []
    doubtful = []
    for row, value in enumerate(raw):
        number = number_of(value) if isinstance(value, str) else value
        usable = number is None or abs(number) < NUMERIC_LIMIT
        values.append(float(number) if number is not None and usable else None)
        if not usable or (number is None and value is not None):
            doubtful.append(row)
    return values, doubtful


_NUMBERS = msgspec.json.Decoder(list[float | None])
_SPACE = re.compile(r"\s")


def _category_texts(raw: Sequence[Any]) -> tuple[Sequence[Any], list[int]]:
    """Return integers as their decimal text."""
    doubtful = [row for row, value in enumerate(raw) if isinstance(value, int) and abs(value) >= NUMERIC_LIMIT]
    return [str(value) if isinstance(value, int) else value for value in raw], doubtful


def _booleans(feature: Feature) -> _Converter:
    meaning: dict[tuple[str, object] | None, bool | None] = {None: None, **boolean_values(feature)}
    kinds = {one[0] for one in meaning if one is not None}
    # 1 and true are one key to Python, so that only without both kinds the values themselves can be looked up
    plain = None if kinds >= {"boolean", "number"} else {one and one[1]: truth for one, truth in meaning.items()}

    def convert(raw: Sequence[Any]) -> tuple[Sequence[Any], list[int]]:
        if plain is not None:
            values = [plain.get(value, _UNLISTED) for value in raw]
        else:
            values = [meaning.get(scalar(value), _UNLISTED) for value in raw]
        doubtful = [row for row, value in enumerate(values) if value is _UNLISTED]
        for row in doubtful:
            values[row] = None
        return values, doubtful

    return convert


_UNLISTED: Any = object()
_INNERMOST = float(np.nextafter(NUMERIC_LIMIT, 0.0))
_ID_LENGTHS = frozenset(range(1, MAX_ID_LENGTH + 1))


def _plain(text: str) -> bool:
    """Return whether a text is printable ASCII: then it has no control characters (other text may have none, too)."""
    return text.isascii() and text.isprintable()


_VERSION = scalar(1)


# Formats that are read field by field.
_IN_ROWS = frozenset({"avro", "protobuf"})


class _NoSchemas:
    """Of a decoder that is made to see that it can be made."""

    def schema(self, schema_id: int) -> None:
        """Refuse: without a registry no record can be read."""
        raise RuntimeError(f"schema id {schema_id}: no schema registry")


class _Rows:
    """Events as rows of their values at the paths of a spec, and the conversion to columns: as `_Tree` for JSON."""

    def __init__(self, features: Sequence[Feature], mapping: EventMapping) -> None:
        self._paths = list(leaves_of(features, mapping))
        prefix = f"{mapping.features}." if mapping.features else ""
        self.feature_paths = [prefix + f.source for f in features]
        self._numeric = [p for p, f in zip(self.feature_paths, features, strict=True) if f.kind == "numeric"]

    def of_known(self, known: dict[str, Any]) -> tuple[Any, ...]:
        """Return the row of an event that was validated."""
        return tuple(known.get(path) for path in self._paths)

    def explode(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, Sequence[Any]]:
        """Return path → one value per row."""
        columns = zip(*rows, strict=True) if rows else iter([()] * len(self._paths))
        out: dict[str, Sequence[Any]] = dict(zip(self._paths, columns, strict=True))
        for path in self._numeric:
            if int in set(map(type, out[path])):
                out[path] = [float(value) if isinstance(value, int) else value for value in out[path]]
        return out


class _Tree:
    """msgspec decoders for an event's known fields, and the conversion from decoded structs to columns.

    `strict` rejects an unknown field (so that it has checked every byte when it accepts), `lenient` skips it.
    `closed` is as strict, and rejects unknown categories as well: a known one is the same object every time, its hash
    already computed, and nothing is allocated.

    A path through an array or a text that is JSON has no struct, nor has a name that JSON escapes. `plain` is then
    false, and the rows are what the validator found.
    """

    def __init__(self, features: Sequence[Feature], mapping: EventMapping, shape: Shape) -> None:
        self._leaves = leaves_of(features, mapping)
        written = [*mapping.only, mapping.event_id, mapping.customer_id, mapping.event_time, mapping.features]
        written += [feature.from_ for feature in features if feature.from_ is not None]
        self.plain = all(path.startswith("$") or is_plain(steps_of(path)) for path in written) and not any(
            _ESCAPED.search(path) for path in self._leaves
        )
        types: dict[str, tuple[Any, ...]] = {
            path: (int | float | str | bool | None, None) for path in mapping.only if not path.startswith("$")
        }
        types |= {path: (int | str,) for path in (mapping.event_id, mapping.customer_id) if path}
        if mapping.event_time:
            types[mapping.event_time] = (str if mapping.time_unit == "rfc3339" else int | float | str,)
        if mapping.is_envelope:
            types["schema_version"] = (Literal[1], 1)
        prefix = f"{mapping.features}." if mapping.features else ""
        self.feature_paths = [prefix + f.source for f in features]
        self._numeric = [p for p, f in zip(self.feature_paths, features, strict=True) if f.kind == "numeric"]
        # an object within the features may be missing if every feature in it may
        free = {path for path, feature in zip(self.feature_paths, features, strict=True) if feature.nullable}
        closed = dict(types)
        for path, feature in zip(self.feature_paths, features, strict=True):
            kind, known = _types(feature)
            types[path] = (kind | None, None) if feature.nullable else (kind,)
            closed[path] = (known | None, None) if feature.nullable else (known,)
        if self.plain:
            closed_type, self._plan = _struct(shape, "", closed, (prefix, free), forbid=True)
            strict, _ = _struct(shape, "", types, (prefix, free), forbid=True)
            self.lenient_type, _ = _struct(shape, "", types, (prefix, free), forbid=False)
            self.closed = msgspec.json.Decoder(closed_type)
            self.strict = msgspec.json.Decoder(strict)
            self.lenient = msgspec.json.Decoder(self.lenient_type)

    def of_known(self, known: dict[str, Any]) -> Any:
        """Return the struct of an event that was validated."""
        if not self.plain:
            return known
        nested: dict[str, Any] = {}
        for path, value in known.items():
            *outer, last = self._leaves[path]
            node = nested
            for step in outer:
                node = node.setdefault(step, {})
            node[last] = value
        return msgspec.convert(nested, self.lenient_type)

    def explode(self, structs: Sequence[Any]) -> dict[str, Sequence[Any]]:
        """Return path → one value per struct."""
        out: dict[str, Sequence[Any]] = {}
        if self.plain:
            _explode(structs, self._plan, out)
            return out
        for path in self._leaves:
            out[path] = [known.get(path) for known in structs]
        for path in self._numeric:
            out[path] = [float(value) if isinstance(value, int) else value for value in out[path]]
        return out


# msgspec takes no such name for a field.
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_INTEGER = re.compile("0|-?[1-9][0-9]{0,15}")


def _types(feature: Feature) -> tuple[Any, Any]:
    """Return the type of a feature's JSON values, and the narrower one of those that training saw."""
    if feature.kind == "numeric":
        kind: Any = float if feature.parse is None else float | str
        return kind, kind
    if feature.kind == "categorical":
        known: tuple[Any, ...] = feature.categories or ()
        kind = str
        if feature.integers:
            kind = int | str
            known += tuple(int(text) for text in known if _INTEGER.fullmatch(text))
        return kind, Literal[known] if known else kind
    kinds = {one[0] for one in boolean_values(feature) if one is not None}
    of: dict[str, Any] = {"boolean": bool, "number": int | float, "string": str}
    kind = functools.reduce(operator.or_, [of[name] for name in sorted(kinds)])
    return kind, kind


# per struct, in field order: the dotted path of a leaf, or the plan of an object within
_Plan = list["str | _Plan"]


def _struct(
    shape: Shape, outer: str, types: dict[str, tuple[Any, ...]], optional: tuple[str, set[str]], *, forbid: bool
) -> tuple[Any, _Plan]:
    """Make the struct of an object. optional: where the features are, and the paths of those that may be missing."""
    fields: list[Any] = []
    rename: dict[str, str] = {}
    plan: _Plan = []
    for name in sorted(shape.leaves):
        field = f"f{len(fields)}"
        rename[field] = name
        fields.append((field, *types[outer + name]))
        plan.append(outer + name)
    for name, inner in sorted(shape.objects.items()):
        field = f"f{len(fields)}"
        rename[field] = name
        inner_type, inner_plan = _struct(inner, f"{outer}{name}.", types, optional, forbid=forbid)
        default = (msgspec.field(default_factory=inner_type),) if _may_be_missing(inner_plan, outer, *optional) else ()
        fields.append((field, inner_type, *default))
        plan.append(inner_plan)
    struct = msgspec.defstruct("Known", fields, rename=rename, kw_only=True, gc=False, forbid_unknown_fields=forbid)
    return struct, plan


def _may_be_missing(plan: _Plan, outer: str, features: str, free: set[str]) -> bool:
    """Return whether an object in `outer` lies below the features, and everything in it may be missing."""
    inside = outer.startswith(features)
    return inside and all(p in free if isinstance(p, str) else _may_be_missing(p, outer, features, free) for p in plan)


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
        elif name not in shape.leaves and not shape.open:
            count += 1
    return count


def _key_mismatches(keys: Sequence[bytes | None], customer_ids: Sequence[str]) -> int:
    present = [k for k in keys if k is not None]
    # no customer id holds a NUL, so that two joins are equal only where every part is
    if len(present) == len(keys) and b"\0".join(present) == "\0".join(customer_ids).encode():
        return 0
    return sum(key is not None and key != text.encode() for key, text in zip(keys, customer_ids, strict=True))
