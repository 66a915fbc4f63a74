"""Compressed batches become what they were, and none becomes larger than the bound."""

import os

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record import default_records

from kafka_runtime import decompression
from kafka_runtime.decompression import DecompressedTooLargeError

CODECS = {
    "gzip": (codec.gzip_encode, decompression.gzip),
    "lz4": (codec.lz4_encode, decompression.lz4),
    "zstd": (codec.zstd_encode, decompression.zstd),
    "snappy": (codec.snappy_encode, decompression.snappy),
}


@pytest.fixture
def bound(monkeypatch):
    """A smaller one than 64 MiB."""
    monkeypatch.setattr(decompression, "MAX_BATCH_BYTES", 1_000_000)
    return 1_000_000


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("data", [b"event" * 7, os.urandom(300_000), b"event" * 200_000])
def test_a_batch_becomes_what_it_was(name, data):
    """Small, incompressible, and compressed so well that the small buffer is not enough."""
    encode, decode = CODECS[name]
    assert decode(encode(data)) == data


@pytest.mark.parametrize("name", CODECS)
def test_a_batch_larger_than_the_bound_is_refused(name, bound):
    """One byte decides."""
    encode, decode = CODECS[name]
    assert len(decode(encode(bytes(bound)))) == bound
    with pytest.raises(DecompressedTooLargeError, match=f"a {name} batch becomes larger than {bound} bytes"):
        decode(encode(bytes(bound + 1)))


def test_snappy_without_blocks_is_read_and_bounded(bound):
    """The format of other clients than Java's."""
    assert decompression.snappy(bytes(cramjam.snappy.compress_raw(b"event" * 9))) == b"event" * 9
    with pytest.raises(DecompressedTooLargeError):
        decompression.snappy(bytes(cramjam.snappy.compress_raw(bytes(bound + 1))))


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_a_damaged_batch_is_not_called_too_large(name):
    """The codec's own error."""
    encode, decode = CODECS[name]
    damaged = bytearray(encode(os.urandom(1000)))
    damaged[2] ^= 0xFF
    with pytest.raises(cramjam.DecompressionError):
        decode(bytes(damaged))


def test_aiokafkas_reader_uses_the_bounded_decoders():
    """Both of its readers, the one in C and the one in Python; a newer aiokafka may name them otherwise."""
    decompression.install()
    from aiokafka.record._crecords import default_records as fast

    for reader in (default_records, fast):
        assert [reader.gzip_decode, reader.snappy_decode, reader.lz4_decode, reader.zstd_decode] == [
            decompression.gzip,
            decompression.snappy,
            decompression.lz4,
            decompression.zstd,
        ]
