"""A rejected record as it is in the dead-letter topic: its own bytes, its own headers, then why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from schemas import headers as h
from schemas.rejection_reasons import Rejection
from schemas.validation import Record

STUB_BYTES = 1024
# Kafka's own share of one record in a batch (lengths, varints, attributes) is below this.
RECORD_OVERHEAD = 128


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Key, value and headers to write; `spoofed` counts incoming headers in our name space that were dropped."""

    key: bytes | None
    value: bytes | None
    headers: list[h.Header]
    spoofed: int


def encoded_size(key: bytes | None, value: bytes | None, headers: Sequence[h.Header]) -> int:
    """Return an upper bound of the record's size in a Kafka batch, in bytes."""
    size = RECORD_OVERHEAD + len(key or b"") + len(value or b"")
    for name, content in headers:
        size += len(name.encode()) + len(content or b"") + 10
    return size


def dead_letter(record: Record, rejection: Rejection, stamp: h.Stamp, max_bytes: int) -> DeadLetter:
    """Return the record's key, value and headers byte for byte, followed by ours.

    If that would exceed `max_bytes`, return a stub. What is too large is cut to its first KiB (headers are dropped).
    Three headers have the parts that were cut, the original value's size and its sha256.
    """
    original, spoofed = h.without_ours(record.headers)
    ours = [
        *stamp.headers(record),
        (h.REASON, rejection.reason.encode()),
        (h.DETAIL, rejection.detail.encode()),
        (h.ATTEMPT, b"%d" % h.attempt(record.headers)),
    ]
    key, value = record.key, record.value
    if encoded_size(key, value, [*original, *ours]) <= max_bytes:
        return DeadLetter(key, value, original + ours, spoofed)
    cut: list[str] = []
    # the parts are cut in this order until the rest fits: the key last, because consumers group by it
    if value is not None and len(value) > STUB_BYTES:
        value = value[:STUB_BYTES]
        cut.append("value")
    stub_headers = [
        (h.SIZE, b"%d" % len(record.value or b"")),
        (h.SHA256, hashlib.sha256(record.value or b"").hexdigest().encode()),
    ]
    room = max_bytes - len("key,value,headers") - len(h.TRUNCATED) - 10
    if original and encoded_size(key, value, [*original, *ours, *stub_headers]) > room:
        original = []
        cut.append("headers")
    if key is not None and encoded_size(key, value, [*original, *ours, *stub_headers]) > room:
        key = key[:STUB_BYTES]
        cut.append("key")
    truncated = ",".join(part for part in ("key", "value", "headers") if part in cut)
    return DeadLetter(key, value, [*original, *ours, (h.TRUNCATED, truncated.encode()), *stub_headers], spoofed)
