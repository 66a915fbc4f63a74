"""Labels: outcomes of customers, written upstream on `labels`. Every record is decoded or rejected, and none raises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from schemas import timestamps
from schemas.validation import read_json, valid_identifier

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

    label_time: when the outcome was known, RFC 3339. prediction_id: the prediction that it belongs to; without it, the
    customer's latest one before label_time.
    """

    customer_id: str
    label: bool
    label_time: str
    prediction_id: str | None = None

    def encode(self) -> bytes:
        """Return the record's value, JSON."""
        return msgspec.json.encode(self)


@dataclass(frozen=True, slots=True)
class DecodedLabel:
    """`label` and its time in epoch ms, or the reason against it."""

    label: Label | None
    time_ms: int = 0
    reason: LabelReason | None = None


def decode_label(raw: bytes | None, now_ms: int, max_future_skew_ms: int) -> DecodedLabel:
    """Return the label in one record's value, or the reason why it is rejected.

    now_ms: the wall clock, which a label may be ahead of by the skew.

    >>> raw = b'{"customer_id": "7590-VHVEG", "label": true, "label_time": "1970-01-01T00:00:01Z"}'
    >>> decode_label(raw, now_ms=0, max_future_skew_ms=1000).time_ms
    1000
    >>> decode_label(raw, now_ms=0, max_future_skew_ms=999).reason
    <LabelReason.LABEL_TIME_IN_FUTURE: 'label_time_in_future'>
    """
    if not raw:
        return DecodedLabel(None, reason=LabelReason.EMPTY)
    value, rejection = read_json(raw)
    if rejection is not None:
        return DecodedLabel(None, reason=LabelReason.NOT_JSON)
    try:
        label = msgspec.convert(value, Label)
    except msgspec.ValidationError:
        return DecodedLabel(None, reason=LabelReason.ENVELOPE)
    time_ms = timestamps.parse(label.label_time)
    about = label.prediction_id
    named = about is None or 1 <= len(about) <= MAX_PREDICTION_ID_LENGTH
    if time_ms is None or not named or not valid_identifier(label.customer_id):
        return DecodedLabel(None, reason=LabelReason.ENVELOPE)
    if time_ms > now_ms + max_future_skew_ms:
        return DecodedLabel(None, reason=LabelReason.LABEL_TIME_IN_FUTURE)
    return DecodedLabel(label, time_ms)
