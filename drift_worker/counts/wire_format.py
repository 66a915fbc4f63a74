"""Counts and progress as bytes on `drift-panes`; merged counts, hours and the checkpoint on `drift-measurements`.

Internal to the drift worker, and versioned. Every record names the layout. Records with counts also name the reference
and the key of the customer hash: vectors of different references must never be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from drift_worker.counts.aggregate import Sparse

LAYOUT = 1
# A record must stay far below the broker's limit of 1 MB; a longer vector is sent in pieces, which are added again.
MAX_ENTRIES = 60_000
# Rejections that only a prediction can meet; all others are schemas.rejection_reasons.Reason.
NOT_A_PREDICTION = "not_a_prediction"
OTHER_MODEL = "other_model"
_TYPES = ("<i1", "<i2", "<i4", "<i8")
_RANGES = tuple((int(np.iinfo(name).min), int(np.iinfo(name).max)) for name in _TYPES)

# Every partition of a topic is checked again and again: a number from an unknown producer must not cause unlimited
# work.
MAX_PARTITIONS = 10_000
PartitionNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTITIONS)]
# Sums are in 64 bits: the largest number of a single record must leave room. Every offset, and every millisecond of the
# years 1 to 9999, is below.
MAX_NUMBER = 1 << 48
Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_NUMBER)]
# Largest number of records behind one delta or progress record: twenty times what stage 1 gathers before it writes.
MAX_READ = 100_000
Read = Annotated[int, msgspec.Meta(ge=0, le=MAX_READ)]
# Largest number of records behind the counts of one unit or one hour: a million a second for a quarter of an hour.
# Their sums of squares still fit 64 bits.
MAX_OF_UNIT = 1_000_000_000
Milliseconds = Annotated[int, msgspec.Meta(gt=-MAX_NUMBER, lt=MAX_NUMBER)]

Ranges = dict[str, dict[int, tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Identity:
    """The values that vectors must share to be added."""

    reference: str
    key_id: str


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """A `Sparse` as bytes: uint32 indices, and counts in the smallest integer that holds them."""

    indices: bytes
    width: int
    counts: bytes


class Delta(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The counts that records [first, next) of a partition add to one series of one pane.

    events: number of them that were counted in this pane (the same in every series of the pane).
    """

    layout: int
    reference: str
    key_id: str
    topic: str
    partition: PartitionNumber
    first: Number
    next: Number
    pane_ms: Milliseconds
    series: int
    events: Read
    packed: Packed


class Progress(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The progress of a partition, after the deltas of the same records. read = counted + refused + future.

    watermark_ms, event_ms: as in counts.watermark.Watermark, None before the first event. partitions: number in the
    topic. accepted_next: of events, the offset after the last valid one. answered: of predictions, by input partition,
    the offset after the last input record with a prediction. late: number of counted records that are in no delta,
    because they are older than any open window (see counts.watermark.TooOld).
    """

    layout: int
    topic: str
    partition: PartitionNumber
    first: Number
    next: Number
    read: Read
    counted: Read
    refused: dict[str, Read]
    future: Read
    watermark_ms: Milliseconds | None
    event_ms: Milliseconds | None
    at_end: bool
    partitions: Annotated[int, msgspec.Meta(ge=0, le=MAX_PARTITIONS)]
    accepted_next: Number
    answered: dict[PartitionNumber, Number]
    late: Read = 0


class Merged(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Counts of one series in the unit that begins at start_ms, for the windows that are still open.

    Several records of the same start are added: long vectors are cut into pieces, and late deltas follow.
    """

    layout: int
    reference: str
    key_id: str
    start_ms: Milliseconds
    series: int
    packed: Packed


class Checkpoint(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """The evaluator's state at a commit.

    position: offset in drift-panes. windows, decisions: encoded by their owners.
    """

    layout: int
    reference: str
    position: int
    windows: bytes
    decisions: bytes


class Hour(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """One series in the hour that begins at start_ms, for later weeks (`statistics.seasonal_baseline`).

    Several records of the same start are added: long vectors are cut into pieces.
    """

    layout: int
    reference: str
    key_id: str
    start_ms: Milliseconds
    series: int
    packed: Packed


Record = Delta | Progress | Merged | Checkpoint | Hour
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """Return the record's value."""
    return _ENCODER.encode(record)


def decode(raw: bytes | None) -> Record:
    """Return the record of a value; ValueError if it is not one of this layout."""
    try:
        record: Record = _DECODER.decode(raw or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"not a record of the drift worker: {error}") from None
    if record.layout != LAYOUT:
        raise ValueError(f"layout {record.layout} is not known, only {LAYOUT}")
    return record


def check(record: Record, latest_ms: int) -> None:
    """Raise ValueError if stage 1 cannot have written a delta or progress record. latest_ms: the clock plus the skew.

    Any producer with write access may write any number. One record from the future would end detection permanently.
    """
    if not isinstance(record, Delta | Progress):
        raise ValueError(f"{type(record).__name__} is no record of this topic")  # noqa: TRY004 - bad data
    if record.next < record.first:
        raise ValueError(f"records from {record.first} to {record.next}")
    if isinstance(record, Delta):
        if record.pane_ms > latest_ms:
            raise ValueError(f"pane_ms {record.pane_ms} is ahead of the clock")
        if record.events > record.next - record.first:
            raise ValueError(f"{record.events} events in {record.next - record.first} records")
        return
    for name, value in (("watermark_ms", record.watermark_ms), ("event_ms", record.event_ms)):
        if value is not None and value > latest_ms:
            raise ValueError(f"{name} {value} is ahead of the clock")
    if record.read > record.next - record.first:
        raise ValueError(f"{record.read} records read of {record.next - record.first}")
    if record.read != record.counted + sum(record.refused.values()) + record.future or record.late > record.counted:
        raise ValueError("counted, refused and future do not add up to read")
    if record.accepted_next > record.next:
        raise ValueError(f"accepted_next {record.accepted_next} is behind next {record.next}")


def pack(part: Sparse) -> list[Packed]:
    """Return the pieces: one, or several for a very long vector; none for an empty one."""
    pieces = []
    for at in range(0, len(part.indices), MAX_ENTRIES):
        counts = part.counts[at : at + MAX_ENTRIES]
        low, high = int(counts.min()), int(counts.max())
        width = next(i for i, (least, most) in enumerate(_RANGES) if least <= low and high <= most)
        indices = part.indices[at : at + MAX_ENTRIES].astype("<u4").tobytes()
        pieces.append(Packed(indices, width, counts.astype(_TYPES[width]).tobytes()))
    return pieces


def unpack(packed: Packed, size: int) -> Sparse:
    """Return the part of a piece; ValueError if it does not fit a vector of `size`."""
    if not 0 <= packed.width < len(_TYPES) or len(packed.indices) % 4:
        raise ValueError("packed counts: unknown width or torn indices")
    indices = np.frombuffer(packed.indices, dtype="<u4")
    try:
        counts = np.frombuffer(packed.counts, dtype=_TYPES[packed.width])
    except ValueError:
        raise ValueError("packed counts: torn counts") from None
    if len(indices) != len(counts) or (len(indices) and int(indices.max()) >= size):
        raise ValueError(f"packed counts: {len(indices)} indices and {len(counts)} counts for a vector of {size}")
    return Sparse(indices.astype(np.uint32), counts.astype(np.int64))
