"""Labels: what became of a customer, written upstream on `labels`. Every record gets a verdict, and none raises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from schemas import rfc3339
from schemas.verdict import read_json, valid_identifier

# A topic's name has at most 249 characters; `-{partition}-{offset}` follows.
MAX_PREDICTION_ID_LENGTH = 300


class LabelReason(StrEnum):
    """Why a label is not used: the metric's label. The words are those of events where they mean the same."""

    EMPTY = "empty"
    NOT_JSON = "not_json"
    ENVELOPE = "envelope"
    LABEL_TIME_IN_FUTURE = "label_time_in_future"


class Label(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One label, as docs/contracts.md gives it. label: whether the customer belongs to the positive class.

    label_time: when that was known, RFC 3339. prediction_id: the prediction it is about; without it, the customer's
    latest one before label_time.
    """

    customer_id: str
    label: bool
    label_time: str
    prediction_id: str | None = None

    def encode(self) -> bytes:
        """The record's value, JSON."""
        return msgspec.json.encode(self)


@dataclass(frozen=True, slots=True)
class LabelVerdict:
    """`label` and its time in epoch ms, or the reason against it."""

    label: Label | None
    time_ms: int = 0
    reason: LabelReason | None = None


def decode_label(raw: bytes | None, now_ms: int, max_future_skew_ms: int) -> LabelVerdict:
    """The verdict on one record's value. now_ms: the wall clock; a label may be ahead of it by the skew at most.

    >>> raw = b'{"customer_id": "7590-VHVEG", "label": true, "label_time": "1970-01-01T00:00:01Z"}'
    >>> decode_label(raw, now_ms=0, max_future_skew_ms=1000).time_ms
    1000
    >>> decode_label(raw, now_ms=0, max_future_skew_ms=999).reason
    <LabelReason.LABEL_TIME_IN_FUTURE: 'label_time_in_future'>
    """
    if not raw:
        return LabelVerdict(None, reason=LabelReason.EMPTY)
    value, defect = read_json(raw)
    if defect is not None:
        return LabelVerdict(None, reason=LabelReason.NOT_JSON)
    try:
        label = msgspec.convert(value, Label)
    except msgspec.ValidationError:
        return LabelVerdict(None, reason=LabelReason.ENVELOPE)
    time_ms = rfc3339.parse(label.label_time)
    about = label.prediction_id
    named = about is None or 1 <= len(about) <= MAX_PREDICTION_ID_LENGTH
    if time_ms is None or not named or not valid_identifier(label.customer_id):
        return LabelVerdict(None, reason=LabelReason.ENVELOPE)
    if time_ms > now_ms + max_future_skew_ms:
        return LabelVerdict(None, reason=LabelReason.LABEL_TIME_IN_FUTURE)
    return LabelVerdict(label, time_ms)
