"""A bound on the decompressed size of a batch: aiokafka has none, and ten kilobytes of zstd can hold 300 MB.

`install` replaces aiokafka's decoders by bounded ones. A batch that would become larger raises
`DecompressedTooLargeError` where it is read. So its partition is quarantined like any other unreadable one.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import cramjam
from aiokafka.codec import _detect_xerial_stream, snappy_decode

# A broker accepts 1 MB in a batch, compressed, unless it is configured otherwise; events become ten to twenty times
# smaller.
MAX_BATCH_BYTES = 64 << 20
# For most batches a small buffer is enough; an unfilled one takes only its pages.
USUAL_RATIO = 16
USUAL_BYTES = 256 << 10
_READERS = ("aiokafka.record.default_records", "aiokafka.record._crecords.default_records")


class DecompressedTooLargeError(ValueError):
    """A batch whose decompressed size is above the limit."""

    def __init__(self, codec: str) -> None:
        super().__init__(f"a {codec} batch becomes larger than {MAX_BATCH_BYTES} bytes when it is decompressed")


def install() -> None:
    """Limit every batch that aiokafka decompresses to `MAX_BATCH_BYTES`. Repeated calls have no further effect."""
    for name in _READERS:
        reader = importlib.import_module(name)
        for decode in (gzip, lz4, zstd, snappy):
            setattr(reader, f"{decode.__name__}_decode", decode)


def gzip(payload: bytes) -> bytes:
    """Decompress as aiokafka.codec.gzip_decode does."""
    return _bounded("gzip", cramjam.gzip, payload)


def lz4(payload: bytes) -> bytes:
    """Decompress as aiokafka.codec.lz4_decode does."""
    return _bounded("lz4", cramjam.lz4, payload)


def zstd(payload: bytes) -> bytes:
    """Decompress as aiokafka.codec.zstd_decode does."""
    return _bounded("zstd", cramjam.zstd, payload)


def snappy(payload: bytes) -> bytes:
    """Decompress as aiokafka.codec.snappy_decode does; here the size in each block's header is checked first."""
    view = memoryview(payload)
    blocks = _xerial_blocks(view) if _detect_xerial_stream(payload) else [view]
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > MAX_BATCH_BYTES:
        raise DecompressedTooLargeError("snappy")
    decoded: bytes = snappy_decode(payload)
    return decoded


def _bounded(name: str, codec: ModuleType, payload: bytes) -> bytes:
    """Return the data decompressed into a buffer that does not grow."""
    for size in (min(MAX_BATCH_BYTES, max(USUAL_BYTES, USUAL_RATIO * len(payload))), MAX_BATCH_BYTES):
        buffer = bytearray(size)
        try:
            length: int = codec.decompress_into(payload, buffer)
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise  # damaged
        else:
            return bytes(memoryview(buffer)[:length])
    raise DecompressedTooLargeError(name)


def _xerial_blocks(stream: memoryview) -> list[memoryview]:
    """Yield the blocks after the 16 bytes of snappy-java's format: each is a length and that number of bytes."""
    blocks, at = [], 16
    while at < len(stream):
        end = at + 4 + int.from_bytes(stream[at : at + 4], "big")
        blocks.append(stream[at + 4 : end])
        at = end
    return blocks
