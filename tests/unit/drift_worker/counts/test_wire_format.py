"""Records of the drift worker's own topics: what is written is read, and what stage 1 cannot have written is not."""

import msgspec
import numpy as np
import pytest

from drift_worker.counts import wire_format
from drift_worker.counts.aggregate import Sparse
from drift_worker.counts.wire_format import LAYOUT, MAX_ENTRIES, Checkpoint, Delta, Packed, Progress

NOW_MS = 1_795_327_200_000
PACKED = Packed(b"", 0, b"")
DELTA = Delta(LAYOUT, "ab", "cd", "events", 0, 100, 150, NOW_MS - 60_000, 3, 50, PACKED)
PROGRESS = Progress(
    LAYOUT, "events", 0, 100, 150, 50, 47, {"not_json": 2}, 1, NOW_MS - 1, NOW_MS - 1, False, 4, 150, {}, 5
)


@pytest.mark.parametrize("counts", [[1], [-1, 127], [128], [40_000, -7], [1 << 40]])
def test_counts_take_the_narrowest_integers_that_hold_them(counts):
    """One byte for small ones, eight for the largest, and the same numbers come back."""
    part = Sparse(np.arange(len(counts), dtype=np.uint32) * 3, np.array(counts, dtype=np.int64))
    (packed,) = wire_format.pack(part)
    assert len(packed.counts) == len(counts) * {1: 1, -1: 1, 128: 2, 40_000: 4, 1 << 40: 8}[counts[0]]
    again = wire_format.unpack(packed, 100)
    assert (again.indices.tolist(), again.counts.tolist()) == (part.indices.tolist(), counts)


def test_a_long_vector_is_several_pieces():
    """A record stays far below the broker's limit; the pieces add up to the vector."""
    part = Sparse(np.arange(MAX_ENTRIES + 1, dtype=np.uint32), np.ones(MAX_ENTRIES + 1, dtype=np.int64))
    pieces = wire_format.pack(part)
    assert [len(piece.counts) for piece in pieces] == [MAX_ENTRIES, 1]
    vector = np.zeros(MAX_ENTRIES + 1, dtype=np.int64)
    for piece in pieces:
        wire_format.unpack(piece, len(vector)).add_to(vector)
    assert (vector == 1).all()
    assert wire_format.pack(Sparse(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int64))) == []


@pytest.mark.parametrize(
    "packed", [Packed(b"123", 0, b"1"), Packed(b"\0\0\0\0", 4, b"1"), Packed(b"\0\0\0\0", 1, b"123"),
               Packed(b"\0\0\0\0", 0, b"12"), Packed(b"\x09\0\0\0", 0, b"1")]
)  # fmt: skip
def test_a_damaged_piece_is_an_error(packed):
    """Torn indices, an unknown width, torn counts, another number of counts, an index beyond the vector."""
    with pytest.raises(ValueError, match="packed counts"):
        wire_format.unpack(packed, 9)


@pytest.mark.parametrize("record", [DELTA, PROGRESS, Checkpoint(LAYOUT, "ab", 7, b"w", b"d")])
def test_a_record_is_read_as_it_was_written(record):
    """The tag names the kind; another layout is not guessed."""
    assert wire_format.decode(wire_format.encode(record)) == record
    other = msgspec.structs.replace(record, layout=LAYOUT + 1)
    with pytest.raises(ValueError, match=f"layout {LAYOUT + 1} is not known"):
        wire_format.decode(wire_format.encode(other))


@pytest.mark.parametrize("raw", [None, b"", b"{}", b"\xff\xff"])
def test_other_bytes_are_an_error(raw):
    """Anybody may write to a topic."""
    with pytest.raises(ValueError, match="not a record of the drift worker"):
        wire_format.decode(raw)


@pytest.mark.parametrize(
    ("record", "changes", "message"),
    [
        (DELTA, {"pane_ms": NOW_MS + 1}, "ahead of the clock"),
        (DELTA, {"events": 51}, "51 events in 50 records"),
        (PROGRESS, {"watermark_ms": NOW_MS + 1}, "watermark_ms"),
        (PROGRESS, {"read": 51, "counted": 48}, "51 records read of 50"),
        (PROGRESS, {"counted": 46}, "do not add up"),
        (PROGRESS, {"late": 48}, "do not add up"),
        (PROGRESS, {"accepted_next": 151}, "behind next"),
    ],
)
def test_what_stage_1_cannot_have_written_is_an_error(record, changes, message):
    """Each number alone is possible; together they contradict each other, or the clock."""
    wire_format.check(record, NOW_MS)
    with pytest.raises(ValueError, match=message):
        wire_format.check(msgspec.structs.replace(record, **changes), NOW_MS)
    with pytest.raises(ValueError, match="no record of this topic"):
        wire_format.check(Checkpoint(LAYOUT, "ab", 7, b"w", b"d"), NOW_MS)
