"""Counts and progress as bytes on `drift-panes`; merged counts, hours and the checkpoint on `drift-measurements`.

Internal to the drift worker and versioned: every record names the layout, and what is counted names the reference and
the key of the customer hash, for vectors of different references must never be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from drift_worker.counts import Sparse

LAYOUT = 1
# A record must stay far below the broker's limit of 1 MB; a longer vector is sent in pieces, which add up again.
MAX_ENTRIES = 60_000
# Refusals that only a prediction can meet; all others are schemas.verdict.Reason.
NOT_A_PREDICTION = "not_a_prediction"
OTHER_MODEL = "other_model"
_TYPES = ("<i1", "<i2", "<i4", "<i8")

# Every partition of a topic is looked at again and again: a number from a stranger must not keep us busy for ever.
MAX_PARTITIONS = 10_000
PartitionNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTITIONS)]
# What is added up and remembered in 64 bits: the largest number of a single record must leave room. Every offset there
# will be, and every millisecond of the years 1 to 9999, is below.
MAX_NUMBER = 1 << 48
Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_NUMBER)]
Milliseconds = Annotated[int, msgspec.Meta(gt=-MAX_NUMBER, lt=MAX_NUMBER)]

Ranges = dict[str, dict[int, tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Identity:
    """What vectors must share to be added."""

    reference: str
    key_id: str


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """A `Sparse` as bytes: uint32 indices, and counts in the smallest integer that holds them."""

    indices: bytes
    width: int
    counts: bytes


class Delta(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """What the records [first, next) of a partition add to one series of one pane.

    events: how many of them were counted in this pane (the same in every series of the pane).
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
    events: Number
    packed: Packed


class Progress(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """How far a partition has come, after the deltas of the same records. read = counted + refused + future.

    watermark_ms, event_ms: as in event_time.Watermark, None before the first event. partitions: how many the topic has.
    accepted_next: of events, the offset after the last valid one. answered: of predictions, by input partition the
    offset after the last input record that was answered.
    """

    layout: int
    topic: str
    partition: PartitionNumber
    first: Number
    next: Number
    read: Number
    counted: Number
    refused: dict[str, Number]
    future: Number
    watermark_ms: Milliseconds | None
    event_ms: Milliseconds | None
    at_end: bool
    partitions: Annotated[int, msgspec.Meta(ge=0, le=MAX_PARTITIONS)]
    accepted_next: Number
    answered: dict[PartitionNumber, Number]


class Merged(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Counts of one series in the unit that begins at start_ms, for the windows that are still open.

    Several records of the same start add up: long vectors are cut into pieces, and late deltas follow.
    """

    layout: int
    reference: str
    key_id: str
    start_ms: Milliseconds
    series: int
    packed: Packed


class Checkpoint(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """The evaluator's memory when it committed. position: of drift-panes. windows, decisions: see there."""

    layout: int
    reference: str
    position: int
    windows: bytes
    decisions: bytes


class Hour(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """What is kept of one series in the hour that begins at start_ms (see `drift_worker.season`), for later weeks.

    Several records of the same start add up: long vectors are cut into pieces.
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
    """The record's value."""
    return _ENCODER.encode(record)


def decode(raw: bytes | None) -> Record:
    """The record back; ValueError if it is not one of this layout."""
    try:
        record: Record = _DECODER.decode(raw or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"not a record of the drift worker: {error}") from None
    if record.layout != LAYOUT:
        raise ValueError(f"layout {record.layout} is not known, only {LAYOUT}")
    return record


def pack(part: Sparse) -> list[Packed]:
    """One piece, or several for a very long vector; none for an empty one."""
    pieces = []
    for at in range(0, len(part.indices), MAX_ENTRIES):
        counts = part.counts[at : at + MAX_ENTRIES]
        low, high = int(counts.min()), int(counts.max())
        width = next(i for i, t in enumerate(_TYPES) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
        indices = part.indices[at : at + MAX_ENTRIES].astype("<u4").tobytes()
        pieces.append(Packed(indices, width, counts.astype(_TYPES[width]).tobytes()))
    return pieces


def unpack(packed: Packed, size: int) -> Sparse:
    """The part back; ValueError if it does not fit a vector of `size`."""
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
