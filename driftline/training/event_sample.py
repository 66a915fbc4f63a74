"""Records from a file or a topic → what a scorer would make of each: accepted, ignored or refused."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from driftline.errors import CommandError
from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.formats.registered import Schemas
from schemas.validation import Record, Rules

ACCEPTED, IGNORED, REFUSED = "accepted", "ignored", "refused"
_BATCH = 5000


@dataclass(slots=True)
class SampleRecord:
    """A record of a file (schemas.validation.Record). offset: the number of its line, from 1."""

    value: bytes | None
    offset: int
    timestamp: int
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    topic: str = "sample"
    partition: int = 0
    timestamp_type: int = 0


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    """A record as a line of `--records` has it. timestamp: milliseconds since the epoch; absent: now.

    value_base64, key_base64: instead of value and key, where they are no text.
    """

    value: str | msgspec.UnsetType | None = msgspec.UNSET
    value_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    key_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str] = {}
    timestamp: int | None = None

    def __post_init__(self) -> None:
        if (self.value is msgspec.UNSET) == (self.value_base64 is msgspec.UNSET):
            raise ValueError("expected one of value and value_base64")
        if msgspec.UNSET not in (self.key, self.key_base64):
            raise ValueError("expected key or key_base64, not both")


#: What a line of `--records` may have.
RECORD_MEMBERS = frozenset(_Written.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record. reason, detail: why it is ignored or refused; the others of an accepted one."""

    verdict: str
    reason: str | None = None
    detail: str | None = None
    event_id: str | None = None
    customer_id: str | None = None
    event_time: str | None = None


@dataclass(slots=True)
class Outcomes:
    """The outcomes of all records, in their order. where: how each record is named to a person."""

    records: list[Outcome] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    unknown_fields: int = 0
    key_mismatches: int = 0

    def count(self, verdict: str) -> int:
        """Return how many records have this outcome."""
        return sum(one.verdict == verdict for one in self.records)

    def reasons(self) -> dict[str, dict[str, Any]]:
        """Return by reason, the most frequent first: the outcome, how often, and the first example."""
        counts = Counter(one.reason for one in self.records if one.reason is not None)
        found: dict[str, dict[str, Any]] = {}
        for reason, count in counts.most_common():
            first = next(i for i, one in enumerate(self.records) if one.reason == reason)
            one = self.records[first]
            found[reason] = {"verdict": one.verdict, "count": count, "record": self.where[first], "detail": one.detail}
        return found

    def summary(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        return {
            "records": len(self.records),
            ACCEPTED: self.count(ACCEPTED),
            IGNORED: self.count(IGNORED),
            REFUSED: self.count(REFUSED),
            "reasons": self.reasons(),
            "unknown_fields": self.unknown_fields,
            "key_mismatches": self.key_mismatches,
        }


def read_events(path: Path, *, framed: bool = False) -> list[SampleRecord]:
    """Return the lines of a file as the values of records; CommandError. framed: they are Base64."""
    now_ms = time.time_ns() // 1_000_000
    found = []
    for number, line in _lines(path):
        try:
            value = base64.b64decode(line, validate=True) if framed else line
        except binascii.Error as error:
            raise CommandError(f"{path}: line {number}: expected Base64: {error}") from None
        found.append(SampleRecord(value, number, now_ms))
    return found


def read_records(path: Path) -> list[SampleRecord]:
    """Return the records of a JSON Lines file; CommandError names the line that is none."""
    now_ms = time.time_ns() // 1_000_000
    found = []
    for number, line in _lines(path):
        try:
            one = msgspec.json.decode(line, type=_Written)
            key, value = _bytes(one.key, one.key_base64), _bytes(one.value, one.value_base64)
            headers = [(name, text.encode()) for name, text in one.headers.items()]
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise CommandError(f"{path}: line {number}: {error}") from None
        found.append(SampleRecord(value, number, now_ms if one.timestamp is None else one.timestamp, key, headers))
    return found


def _bytes(text: str | msgspec.UnsetType | None, raw: bytes | msgspec.UnsetType) -> bytes | None:
    """Return what a record has, in one of its two forms; null if it has neither."""
    if isinstance(raw, bytes):
        return raw
    return text.encode() if isinstance(text, str) else None


def _lines(path: Path) -> list[tuple[int, bytes]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = [(number, line.strip(b" \t\r")) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise CommandError(f"{path}: no records")
    return found


async def read_topic(topic: str, last: int) -> list[Record]:
    """Return the newest records of a topic, by time; CommandError."""
    from driftline.settings import read_settings
    from kafka_runtime.topic_reader import READ_ERRORS, reader

    settings = read_settings()
    records: list[Record] = []
    try:
        async with reader(settings) as reading:
            for partition in await reading.partitions(topic):
                records += (await reading.tail(partition, last))[-last:]
    except READ_ERRORS as error:
        raise CommandError(f"{topic}: {error!r}", 1) from None
    if not records:
        raise CommandError(f"{topic}: no records", 1)
    return sorted(records, key=lambda record: record.timestamp)[-last:]


def newest(topic: str, last: int) -> list[Record]:
    """Return the last so many records of a topic; CommandError."""
    return asyncio.run(read_topic(topic, last))


def outcomes(
    records: Sequence[Record],
    features: Sequence[Feature],
    mapping: EventMapping,
    rules: Rules,
    now_ms: int,
    schemas: Schemas | None = None,
) -> Outcomes:
    """Return what a scorer with this spec would make of each record. now_ms: wall clock. schemas: of the registry."""
    decoder = EventDecoder(features, mapping, rules, schemas)
    found = Outcomes()
    for start in range(0, len(records), _BATCH):
        part = records[start : start + _BATCH]
        batch = decoder.decode(part, now_ms)
        rows = {record: row for row, record in enumerate(batch.accepted.tolist())}
        found.unknown_fields += batch.unknown_fields
        found.key_mismatches += batch.key_mismatches
        for i, (record, rejection) in enumerate(zip(part, batch.rejections, strict=True)):
            found.where.append(_where(record))
            if rejection is not None:
                found.records.append(Outcome(REFUSED, rejection.reason.value, rejection.detail))
            elif i in batch.ignored:
                found.records.append(Outcome(IGNORED, batch.ignored[i].value, batch.ignored[i].text))
            else:
                row = rows[i]
                ids = (batch.event_ids[row], batch.customer_ids[row], batch.event_times[row])
                found.records.append(Outcome(ACCEPTED, None, None, *ids))
    return found


def _where(record: Record) -> str:
    if isinstance(record, SampleRecord):
        return f"line {record.offset}"
    return f"{record.topic}-{record.partition} offset {record.offset}"


def as_json(found: Outcomes) -> Mapping[str, Any]:
    """Return the outcomes and their summary, JSON-ready."""
    return {"records": [asdict(one) for one in found.records], "summary": found.summary()}
