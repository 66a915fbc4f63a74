"""Fetched batches → records, without aiokafka's two objects for each and without reading their headers.

A reader of predictions needs the headers of one record in a thousand, and aiokafka reads all of them. Here the fields
of a whole batch are found in arrays, and headers are read when they are asked for. Or a library reads them (`Library`).
What is not plainly a batch of whole records is left to aiokafka, with its errors.

`install` replaces names in aiokafka's fetcher, as `kafka_runtime.decompression` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import repeat
from typing import Any, Protocol

import msgspec
import numpy as np
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from numpy.typing import NDArray

_PARTITION_RECORDS, _FETCH_RESULT = fetcher.PartitionRecords, fetcher.FetchResult
Headers = tuple[tuple[str, bytes], ...]

# Fewer records are read faster one by one.
FEWEST_RECORDS = 16
MOST_HEADERS = 64
# Bytes of a number that are read in arrays. The longest is the distance between two timestamps.
_VARINT_BYTES = 6
_LENGTH_END = 12
_RECORDS_AT = 61  # what is in front of them: Kafka's protocol guide, record batch
_WORD = 8
# Records whose headers are compared at a time: what that takes stays in the processor's cache.
_AT_ONCE = 128


class Library(Protocol):
    """Reads batches in native code (driftline-native), with the results of this module and of aiokafka."""

    def is_whole(self, raw: bytes, /) -> bool:
        """Return whether the checksum of a batch is right."""

    def records_of(self, topic: str, partition: int, raw: bytes, /) -> list[Any] | None:
        """Return the records of one batch, whose checksum is right; None if it is not plain."""


class Record(msgspec.Struct, gc=False):
    """A record as it was read from Kafka (schemas.validation.Record). size: of key, value and headers, in bytes."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    size: int
    held: Headers | bytes
    headers_at: int = 0

    @property
    def headers(self) -> Headers:
        """Return the headers. They are read at each call."""
        return _headers(self.held, self.headers_at) if isinstance(self.held, bytes) else self.held


def _headers(raw: bytes, at: int) -> Headers:
    """Return the headers whose number is at `at`, of a batch that was found to be whole."""
    count, at = _varint(raw, at)
    found: list[Any] = []
    for _ in range(count):
        length, at = _varint(raw, at)
        name = raw[at : at + length].decode()
        length, at = _varint(raw, at + length)
        found.append((name, raw[at : at + length] if length >= 0 else None))
        at += max(0, length)
    return tuple(found)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return a zigzag number and the place behind it."""
    number = shift = 0
    while True:
        byte = raw[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at


class NotPlainError(Exception):
    """A batch that only aiokafka can read, or refuse."""


def records_of(source: TopicPartition, raw: bytes) -> list[Record]:
    """Return the records of one uncompressed batch of the current format, whose checksum is right; NotPlainError."""
    try:
        return _records_of(source, raw)
    except (IndexError, OverflowError, ValueError) as error:
        raise NotPlainError from error


def _records_of(source: TopicPartition, raw: bytes) -> list[Record]:
    count = int.from_bytes(raw[57:_RECORDS_AT], "big", signed=True)
    attributes = raw[22]
    if raw[16] != 2 or attributes & 0x07 or count < FEWEST_RECORDS or not _has_headers(raw):
        raise NotPlainError
    starts, ends = _bounds(raw, count)
    buffer = np.frombuffer(raw, dtype=np.uint8)
    if buffer[starts].any():  # attributes of a record: none is used
        raise NotPlainError
    deltas, at = _varints(buffer, starts + 1)
    offsets, at = _varints(buffer, at)
    if (offsets[1:] <= offsets[:-1]).any():
        raise NotPlainError
    key_lengths, keys_at = _varints(buffer, at)
    value_lengths, values_at = _varints(buffer, keys_at + _sizes(key_lengths))
    headers_at = values_at + _sizes(value_lengths)
    sizes = _sizes(key_lengths) + _sizes(value_lengths) + _header_sizes(raw, headers_at, ends)
    base = int.from_bytes(raw[:8], "big", signed=True)
    first, latest = (int.from_bytes(raw[i : i + 8], "big", signed=True) for i in (27, 35))
    return list(
        map(
            Record,
            repeat(source.topic, count),
            repeat(source.partition),
            (offsets + base).tolist(),
            repeat(latest) if attributes & 0x08 else (deltas + first).tolist(),
            repeat(1 if attributes & 0x08 else 0),
            _parts(raw, keys_at, key_lengths),
            _parts(raw, values_at, value_lengths),
            sizes.tolist(),
            repeat(raw),
            headers_at.tolist(),
        )
    )


def _has_headers(raw: bytes) -> bool:
    """Return whether the first record has headers. Without them aiokafka reads a batch faster."""
    _, at = _varint(raw, _RECORDS_AT)
    _, at = _varint(raw, at + 1)
    _, at = _varint(raw, at)
    for _ in range(2):  # key and value
        length, at = _varint(raw, at)
        at += max(0, length)
    return _varint(raw, at)[0] != 0


def _bounds(raw: bytes, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each record begins, behind its length, and where it ends."""
    starts, at = [], _RECORDS_AT
    ends = []
    for _ in range(count):
        length = raw[at]
        at += 1
        if length >= 0x80:
            more = raw[at]
            at += 1
            length += (more << 7) - 0x80
            if more >= 0x80:
                more = raw[at]
                at += 1
                length += (more << 14) - 0x4000
                if more >= 0x80:
                    raise NotPlainError
        if length & 1:  # negative
            raise NotPlainError
        starts.append(at)
        at += length >> 1
        ends.append(at)
    if at != len(raw):
        raise NotPlainError
    return np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)


def _varints(buffer: NDArray[np.uint8], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a zigzag number at each place, and the places behind them."""
    byte = buffer[at].astype(np.int64)
    number, at = byte & 0x7F, at + 1
    more = byte >= 0x80
    for i in range(1, _VARINT_BYTES + 1):
        if not more.any():
            return (number >> 1) ^ -(number & 1), at
        byte = np.where(more, buffer[at], 0).astype(np.int64)
        number |= (byte & 0x7F) << (7 * i)
        at = at + more
        more = byte >= 0x80
    raise NotPlainError


def _sizes(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bytes that a key or a value takes; NotPlainError for a length below -1, which is null."""
    if (lengths < -1).any():
        raise NotPlainError
    return np.maximum(lengths, 0)


def _header_sizes(raw: bytes, at: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bytes of each record's headers; NotPlainError unless all have the same names, up to the ends."""
    # behind the last byte, because whole words are read
    words: NDArray[np.uint64] = np.ndarray(len(raw) + 1, "<u8", raw + bytes(_WORD), 0, (1,))
    lengths, sizes = ends - at, np.zeros(len(at), dtype=np.int64)
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        first = int(at[rows[0]])
        size, fixed = _template(raw, first, first + length)
        sizes[rows] = size
        within, mask = np.arange(0, len(fixed), _WORD), np.frombuffer(fixed, dtype="<u8")
        expected = words[first + within] & mask
        # wherever bytes are not of a value, they are those of the first record
        for some in range(0, len(rows), _AT_ONCE):
            places = at[rows[some : some + _AT_ONCE], np.newaxis] + within
            if (words[places] & mask != expected).any():
                raise NotPlainError
    return sizes


def _template(raw: bytes, at: int, end: int) -> tuple[int, bytes]:
    """Return the size of the headers between two places, and a mask of whole words: FF for what is not of a value."""
    start, size = at, 0
    fixed = bytearray()
    count, at = _varint(raw, at)
    if not 0 <= count <= MOST_HEADERS:
        raise NotPlainError
    for _ in range(count):
        length, at = _varint(raw, at)
        if not 0 <= length <= end - at:
            raise NotPlainError
        raw[at : at + length].decode()
        size, at = size + length, at + length
        length, at = _varint(raw, at)
        if not -1 <= length <= end - at:
            raise NotPlainError
        fixed += b"\xff" * (at - start - len(fixed)) + bytes(max(0, length))
        size, at = size + max(0, length), at + max(0, length)
    if at != end:
        raise NotPlainError
    fixed += b"\xff" * (at - start - len(fixed))
    return size, bytes(fixed) + bytes(-len(fixed) % _WORD)


def _parts(raw: bytes, at: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[bytes | None]:
    parts: list[bytes | None] = [raw[a:b] for a, b in zip(at.tolist(), (at + lengths).tolist(), strict=True)]
    for row in np.flatnonzero(lengths < 0).tolist():
        parts[row] = None
    return parts


class _KeptRecords:
    """aiokafka's MemoryRecords, which keeps the bytes of the batch that it gave last."""

    def __init__(self, raw: bytes) -> None:
        self._inner = MemoryRecords(raw)
        self._raw = raw
        self._next = 0
        self.size_in_bytes = self._inner.size_in_bytes
        self.has_next = self._inner.has_next
        self.last = b""

    def next_batch(self) -> Any:
        """Return aiokafka's next batch."""
        batch = self._inner.next_batch()
        start = self._next
        self._next += _LENGTH_END + int.from_bytes(self._raw[start + 8 : start + _LENGTH_END], "big")
        self.last = self._raw[start : self._next]
        return batch


class _Batches:
    """Batches of a fetched partition that are aiokafka's, except that their records are ours."""

    def __init__(self, source: TopicPartition, kept: _KeptRecords) -> None:
        self._source = source
        self._kept = kept
        self.has_next = kept.has_next

    def next_batch(self) -> _Batch:
        """Return the next batch."""
        return _Batch(self._source, self._kept.next_batch(), self._kept.last)


class _Batch:
    """One of them. Its records are given as one `_Whole`."""

    def __init__(self, source: TopicPartition, batch: Any, raw: bytes) -> None:
        self._source = source
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # the record of a control batch

    def validate_crc(self) -> bool:
        """Return whether the checksum is right, as aiokafka's batch does."""
        if _library is not None and self._raw[16] == 2:
            return _library.is_whole(self._raw)
        right: bool = self._batch.validate_crc()
        return right

    def __iter__(self) -> Iterator[_Whole]:
        error: Exception | None = None
        topic, partition = self._source
        records = None if _library is None else _library.records_of(topic, partition, self._raw)
        if records is None:
            try:
                records = records_of(self._source, self._raw)
            except NotPlainError:
                records, error = self._one_by_one()
        if records:
            yield _Whole(records)
        if error is not None:
            raise error

    def _one_by_one(self) -> tuple[list[Record], Exception | None]:
        """Return the records as aiokafka reads them, and what it raises behind the last one of them."""
        topic, partition = self._source
        records: list[Record] = []
        last = -1
        try:
            for found in self._batch:
                if found.offset <= last:
                    continue  # as aiokafka does
                last = found.offset
                key, value, headers = found.key, found.value, tuple(found.headers)
                size = len(key or b"") + len(value or b"")
                for name, text in headers:
                    size += len(name.encode()) + len(text or b"")
                records.append(
                    Record(
                        *(topic, partition, found.offset, found.timestamp, found.timestamp_type),
                        *(key, value, size, headers),
                    )
                )
        except Exception as error:  # noqa: BLE001 - the caller raises it
            return records, error
        return records, None


class _Whole:
    """All records of a batch, in the place of the last one."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.offset = records[-1].offset


class _PartitionRecords(_PARTITION_RECORDS):  # type: ignore[misc, valid-type] # aiokafka has no types
    """aiokafka's, which decides what is read of a fetched partition; of some topics the records are ours."""

    def __init__(self, tp: TopicPartition, records: _KeptRecords, *rest: Any, **named: Any) -> None:
        self.ours = tp.topic in _topics
        self._left: list[Record] = []  # of the last batch, not taken yet
        super().__init__(tp, _Batches(tp, records) if self.ours else records, *rest, **named)

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        if type(record) is not _Whole:
            return super()._consumer_record(tp, record)
        found = record.records
        # a batch may begin before the place that was asked for
        return (
            found
            if found[0].offset >= self.next_fetch_offset
            else [r for r in found if r.offset >= self.next_fetch_offset]
        )

    def __next__(self) -> Any:
        if not self.ours:
            return super().__next__()
        if records := self.take(1)[0]:
            return records[0]
        raise StopIteration

    def take(self, limit: int | None) -> tuple[list[Record], bool]:
        """Return the next records, at most `limit`, and whether there may be more."""
        found, self._left, more = self._left, [], True
        while limit is None or len(found) < limit:
            batch: list[Record] | None = next(self._records_iterator, None)
            if batch is None:
                more = False
                break
            found = found + batch if found else batch
        if limit is not None and len(found) > limit:
            self._left = found[limit:]
            found = found[:limit]
        if found and more:
            self.next_fetch_offset = found[-1].offset + 1
        return found, more


class _FetchResult(_FETCH_RESULT):  # type: ignore[misc, valid-type] # aiokafka has no types
    """aiokafka's, which takes whole batches of ours."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        """Return the next records, at most so many."""
        records: Any = self._partition_records
        if records is None or not records.ours:
            given: list[Any] = super().getall(max_records)
            return given
        if not self.check_assignment(self._topic_partition):
            return []
        found, more = records.take(max_records)
        self._update_position()
        if not more:
            self._partition_records = None
        taken: list[Any] = found
        return taken


_topics: set[str] = set()
_library: Library | None = None


def install(topics: Collection[str], library: Library | None = None) -> None:
    """Read these topics as this module does, in every consumer of the process without deserialisers.

    library: what reads a batch first, if there is one.
    """
    global _library  # noqa: PLW0603 - of the process, as what it replaces
    _topics.update(topics)
    _library = library
    fetcher.MemoryRecords, fetcher.PartitionRecords = _KeptRecords, _PartitionRecords
    fetcher.FetchResult = _FetchResult
