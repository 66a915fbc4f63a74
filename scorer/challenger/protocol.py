"""Messages between the scorer and its challenger's process: frames in, one JSON line each out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from schemas.validation import Record

# Why an accepted event has no shadow prediction; the label of driftline_scorer_shadow_dropped_total.
QUEUE_FULL = "queue_full"  # the challenger does not keep up
NO_MODEL = "no_model"  # there is none, it was rejected, or its process starts
NOT_SCORED = "not_scored"  # it rejected the event or raised on it
NOT_WRITTEN = "not_written"  # the broker did not acknowledge the prediction
ENDED = "ended"  # its process ended before the event had an outcome
# Why the champion answered in a split; the label of driftline_scorer_challenger_fallbacks_total.
FALLBACKS = (NOT_SCORED, NO_MODEL)
DROPPED = (QUEUE_FULL, NO_MODEL, NOT_SCORED, NOT_WRITTEN, ENDED)

# A frame is its length in this number of bytes, and then the content.
LENGTH_BYTES = 4


class Handed(msgspec.Struct, array_like=True, gc=False):
    """An accepted input record (schemas.validation.Record)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Champion(msgspec.Struct, array_like=True, tag="champion"):
    """The manifest of the model that answers from now on."""

    manifest: bytes


class Events(msgspec.Struct, array_like=True, tag="events"):
    """Records of one partition, in order, whose answers are committed."""

    records: list[Handed]


class Served(msgspec.Struct, frozen=True):
    """The challenger's model."""

    name: str
    version: str
    sha256: str
    form: str


class Condition(msgspec.Struct, frozen=True):
    """The state of the challenger. state, reason, since: as of a reloader (scorer.reload)."""

    served: Served | None
    state: str
    reason: str | None
    since: str | None


class Said(msgspec.Struct, omit_defaults=True):
    """The outcome of events (`dropped` by reason), or the state of the challenger."""

    produced: int = 0
    dropped: dict[str, int] = {}
    condition: Condition | None = None


_encode = msgspec.msgpack.Encoder().encode
_frame = msgspec.msgpack.Decoder(Champion | Events)
_said = msgspec.json.Decoder(Said)


def frame(content: Champion | Events) -> bytes:
    """Return `content` with its length in front."""
    raw = _encode(content)
    return len(raw).to_bytes(LENGTH_BYTES, "big") + raw


def events(records: Sequence[Record]) -> Events:
    """Return records of one partition as a frame's content."""
    return Events(
        [
            Handed(r.topic, r.partition, r.offset, r.timestamp, r.timestamp_type, r.key, r.value, _pairs(r.headers))
            for r in records
        ]
    )


def _pairs(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(name, value or b"") for name, value in headers]  # a header's value may be null


def read_frame(raw: bytes) -> Champion | Events:
    """Return the content of a frame, which comes without its length."""
    content: Champion | Events = _frame.decode(raw)
    return content


def line(said: Said) -> bytes:
    """Return a message of the challenger's process as one line."""
    return msgspec.json.encode(said) + b"\n"


def read_line(raw: bytes) -> Said:
    """Return the message in a line; raise ValueError if it is not one of ours."""
    try:
        said: Said = _said.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    return said
