"""A bound on what a compressed batch may become: aiokafka has none, and ten kilobytes of zstd can hold 300 MB.

`install` puts bounded decoders in the place of aiokafka's. A batch that would become larger raises
`DecompressedTooLargeError` where it is read, and so its partition is quarantined like any other that cannot be read.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import cramjam
from aiokafka.codec import _detect_xerial_stream, snappy_decode

# A broker takes 1 MB in a batch, compressed, unless it is told otherwise; events become ten or twenty times smaller.
MAX_BATCH_BYTES = 64 << 20
# For most batches a small buffer is enough; one that is not filled costs nothing but its pages.
USUAL_RATIO = 16
USUAL_BYTES = 256 << 10
_READERS = ("aiokafka.record.default_records", "aiokafka.record._crecords.default_records")


class DecompressedTooLargeError(ValueError):
    """A batch that is larger, once decompressed, than anything may be here."""

    def __init__(self, codec: str) -> None:
        super().__init__(f"a {codec} batch becomes larger than {MAX_BATCH_BYTES} bytes when it is decompressed")


def install() -> None:
    """From now on nothing that aiokafka reads becomes larger than `MAX_BATCH_BYTES`. As often as one likes."""
    for name in _READERS:
        reader = importlib.import_module(name)
        for decode in (gzip, lz4, zstd, snappy):
            setattr(reader, f"{decode.__name__}_decode", decode)


def gzip(payload: bytes) -> bytes:
    """As aiokafka.codec.gzip_decode."""
    return _bounded("gzip", cramjam.gzip, payload)


def lz4(payload: bytes) -> bytes:
    """As aiokafka.codec.lz4_decode."""
    return _bounded("lz4", cramjam.lz4, payload)


def zstd(payload: bytes) -> bytes:
    """As aiokafka.codec.zstd_decode."""
    return _bounded("zstd", cramjam.zstd, payload)


def snappy(payload: bytes) -> bytes:
    """As aiokafka.codec.snappy_decode; here each block says what it becomes before it does."""
    view = memoryview(payload)
    blocks = _xerial_blocks(view) if _detect_xerial_stream(payload) else [view]
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > MAX_BATCH_BYTES:
        raise DecompressedTooLargeError("snappy")
    decoded: bytes = snappy_decode(payload)
    return decoded


def _bounded(name: str, codec: ModuleType, payload: bytes) -> bytes:
    """Decompressed into a buffer that does not grow."""
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
    """The blocks behind the 16 bytes that tell snappy-java's format: a length each, and so many bytes."""
    blocks, at = [], 16
    while at < len(stream):
        end = at + 4 + int.from_bytes(stream[at : at + 4], "big")
        blocks.append(stream[at + 4 : end])
        at = end
    return blocks
