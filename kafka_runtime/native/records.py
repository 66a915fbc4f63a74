"""Whether the library reads the record batches that a process fetches, whatever its model is."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from kafka_runtime.fetched import Library
from kafka_runtime.native.library import Wanted, find, refused, state_of

_SOURCE = TopicPartition("t", 3)
_FIELDS = ("topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers")
_BY_BROKER = 0x08


@dataclass(frozen=True, slots=True)
class Reader:
    """What reads fetched batches: the library, or None, and then why aiokafka does it."""

    library: Library | None
    why_not: str | None = None

    def state(self) -> dict[str, str | None]:
        """Return the member `records` of `lane` in `/health`."""
        return state_of(self.library, self.why_not)


def reader_for(wanted: Wanted) -> Reader:
    """Return the library, if it is there, wanted, and reads batches as aiokafka does; a failure is logged."""
    library = find(wanted)
    if isinstance(library, str):
        return Reader(None, library)
    why_not = refused(differs_on_records(library))
    return Reader(library if why_not is None else None, why_not)


def differs_on_records(library: Library) -> str | None:
    """Return None if batches with plain and odd records are read as aiokafka reads them, else one line."""
    rows: list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
        (1_795_327_200_000, b"7590-VHVEG", b'{"event_id":"e-1"}', []),
        (1_795_327_100_000, None, b"", []),
        (0, b"", None, [("traceparent", b"00"), ("é", None), ("", b"")]),
        (1_795_327_200_001, b"k" * 200, b"v" * 70_000, []),
    ]
    for attributes in (0, _BY_BROKER):
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
        for offset, row in enumerate(rows):
            builder.append(offset, *row)
        batch = bytearray(builder.build())
        batch[:8] = struct.pack(">q", 1 << 40)
        batch[22] |= attributes
        batch[17:21] = struct.pack(">I", calc_crc32c(bytes(batch[21:])))
        raw = bytes(batch)
        if not library.is_whole(raw) or library.is_whole(raw[:-1] + bytes([raw[-1] ^ 1])):
            return "driftline-native checks the checksum of a batch differently"
        found = library.records_of(_SOURCE.topic, _SOURCE.partition, raw)
        wanted = PartitionRecords(_SOURCE, MemoryRecords(raw), [], 0, None, None, True, READ_COMMITTED)
        if found is None:
            return "driftline-native does not take a plain batch"
        if [_fields(one) for one in found] != [_fields(one) for one in wanted]:
            return "driftline-native reads the records of a batch differently"
    return None


def _fields(record: object) -> list[object]:
    return [getattr(record, name) for name in _FIELDS]
