"""Record batches as they lie on a broker's disk (format 2), to look at them and to spoil them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CODECS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
# base offset, length of the rest, leader epoch, magic, checksum of what follows
_HEAD = struct.Struct(">qiibI")
# attributes, last offset delta, first and last timestamp, producer id and epoch, first sequence, count; then records
_BODY = struct.Struct(">hiqqqhii")


@dataclass
class Batch:
    """One batch; `seal` makes its checksum right again after a change."""

    base_offset: int
    magic: int
    crc: int
    attributes: int
    count: int
    records: bytearray
    _leader_epoch: int
    _between: bytes  # from the last offset delta to the first sequence

    @property
    def codec(self) -> str:
        return CODECS[self.attributes & 7]

    def seal(self) -> None:
        self.crc = crc32c(self._body())

    def _body(self) -> bytes:
        return struct.pack(">h", self.attributes) + self._between + struct.pack(">i", self.count) + bytes(self.records)

    def encode(self) -> bytes:
        body = self._body()
        length = len(body) + _HEAD.size - 12  # counted from the leader epoch on
        return _HEAD.pack(self.base_offset, length, self._leader_epoch, self.magic, self.crc) + body


def batches(segment: Path) -> Iterator[Batch]:
    """Return the batches of one segment file."""
    data = segment.read_bytes()
    at = 0
    while at < len(data):
        base_offset, length, epoch, magic, crc = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + 12 + length]
        (attributes,) = struct.unpack_from(">h", body)
        (count,) = struct.unpack_from(">i", body, _BODY.size - 4)
        batch = Batch(
            base_offset, magic, crc, attributes, count, bytearray(body[_BODY.size :]), epoch, body[2 : _BODY.size - 4]
        )
        assert batch.encode() == data[at : at + 12 + length]
        yield batch
        at += 12 + length


def rewrite(segment: Path, base_offset: int, change: Callable[[Batch], None]) -> None:
    """Change the batch that begins at `base_offset`, in place; the broker must be stopped."""
    found = list(batches(segment))
    (batch,) = [batch for batch in found if batch.base_offset == base_offset]
    size = len(batch.encode())
    change(batch)
    assert len(batch.encode()) == size, "the index of the segment counts bytes"
    segment.write_bytes(b"".join(batch.encode() for batch in found))


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    rows = []
    for row in range(256):
        crc = row
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        rows.append(crc)
    return tuple(rows)


_TABLE = _table()
