"""The headers of every written record, and the treatment of the input record's headers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from schemas.validation import Record

Header = tuple[str, bytes]

OURS = "driftline-"
SOURCE_TOPIC = "driftline-source-topic"
SOURCE_PARTITION = "driftline-source-partition"
SOURCE_OFFSET = "driftline-source-offset"
SOURCE_TIMESTAMP = "driftline-source-timestamp"
SOURCE_TIMESTAMP_TYPE = "driftline-source-timestamp-type"
MODEL_VERSION = "driftline-model-version"
GROUP = "driftline-group"
REASON = "driftline-reason"
DETAIL = "driftline-detail"
ATTEMPT = "driftline-attempt"
TRUNCATED = "driftline-truncated"
SIZE = "driftline-size"
SHA256 = "driftline-sha256"
CONTENT_TYPE = ("content-type", b"application/json")
TRACEPARENT = "traceparent"
# version ff and ids of zeros only are no trace context (W3C Trace Context, 3.2.2)
_TRACEPARENT_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TIMESTAMP_TYPES = {0: b"create", 1: b"append"}


class Stamp:
    """Writes the source headers for the records of one input partition; what is constant is encoded once."""

    def __init__(self, topic: str, partition: int, model_version: str, group: str) -> None:
        self.topic = topic
        self.partition = partition
        self._topic = (SOURCE_TOPIC, topic.encode())
        self._partition = (SOURCE_PARTITION, b"%d" % partition)
        self._model = (MODEL_VERSION, model_version.encode())
        self._group = (GROUP, group.encode())

    def headers(self, record: Record) -> list[Header]:
        """Return seven headers: which record was scored or rejected, by which model version and consumer group."""
        return self.batch([record])[0]

    def batch(self, records: Sequence[Record], *more: Header) -> list[list[Header]]:
        """Return `headers` of every record, each followed by `more`."""
        topic, partition, model, group = self._topic, self._partition, self._model, self._group
        kinds = {kind: (SOURCE_TIMESTAMP_TYPE, text) for kind, text in _TIMESTAMP_TYPES.items()}
        created = kinds[0]
        return [
            [
                topic,
                partition,
                (SOURCE_OFFSET, b"%d" % record.offset),
                (SOURCE_TIMESTAMP, b"%d" % record.timestamp),
                kinds.get(record.timestamp_type, created),
                model,
                group,
                *more,
            ]
            for record in records
        ]

    def constant(self, *more: Header) -> tuple[list[Header], tuple[list[Header], list[Header]]]:
        """Return what `batch` writes around a record's offset and timestamp.

        That is: the headers before the offset, and those after the timestamp, of a producer's and of a broker's.
        """
        after = [self._model, self._group, *more]
        created, appended = ((SOURCE_TIMESTAMP_TYPE, text) for text in _TIMESTAMP_TYPES.values())
        return [self._topic, self._partition], ([created, *after], [appended, *after])

    def stub(self, offset: int, timestamp_ms: int, reason: str, detail: bytes) -> list[Header]:
        """Return the headers of a stub for an offset whose record could not be read, so that its fields are unknown."""
        return [
            self._topic,
            self._partition,
            (SOURCE_OFFSET, b"%d" % offset),
            (SOURCE_TIMESTAMP, b"%d" % timestamp_ms),
            (SOURCE_TIMESTAMP_TYPE, _TIMESTAMP_TYPES[0]),
            self._model,
            self._group,
            (REASON, reason.encode()),
            (DETAIL, detail),
            (ATTEMPT, b"0"),
            (TRUNCATED, b"key,value,headers"),
            (SIZE, b"0"),
            (SHA256, hashlib.sha256(b"").hexdigest().encode()),
        ]


def traceparent(headers: Sequence[Header]) -> Header | None:
    """Return the record's W3C trace context, if it has a valid one; of several the last."""
    for name, value in reversed(headers):
        if name == TRACEPARENT:
            return (name, value) if _TRACEPARENT_FORM.fullmatch(value or b"") else None
    return None


def without_ours(headers: Sequence[Header]) -> tuple[list[Header], int]:
    """Return the headers outside Driftline's name space, in order, and the number of dropped ones.

    `driftline-attempt` is not counted as dropped: redriving writes it.
    """
    kept = [header for header in headers if not header[0].startswith(OURS)]
    spoofed = sum(name.startswith(OURS) and name != ATTEMPT for name, _ in headers)
    return kept, spoofed


def carried(headers: Sequence[Header]) -> tuple[int, Header | None]:
    """Return the number of a record's headers that its prediction drops as forged, and the one that it gets."""
    return without_ours(headers)[1], traceparent(headers)


def whole(value: bytes | None) -> int | None:
    """Return a partition, an offset or a timestamp of a header; None if it is no whole number of 18 digits at most.

    >>> whole(b"42"), whole(b"-1"), whole(b"9" * 5000), whole(None)
    (42, None, None, None)
    """
    return int(value) if value and value.isdigit() and len(value) <= 18 else None


def attempt(headers: Sequence[Header]) -> int:
    """Return how often the record has been redriven: the last `driftline-attempt`, 0 if absent or not a number."""
    for name, value in reversed(headers):
        if name == ATTEMPT:
            text = (value or b"").decode("ascii", "replace")
            return int(text) if text.isdecimal() and text.isascii() and len(text) <= 9 else 0
    return 0
