"""Labels: outcomes of customers, written upstream on `labels`. Every record is decoded or rejected, and none raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from schemas import timestamps
from schemas.task import Outcome
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


class ValueLabel(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One label of a regression. label: the outcome, a number. The other members are those of `Label`."""

    customer_id: str
    label: float
    label_time: str
    prediction_id: str | None = None

    def encode(self) -> bytes:
        """Return the record's value, JSON."""
        return msgspec.json.encode(self)


class ClassLabel(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One label of a model with several classes. label: the class. The other members are those of `Label`."""

    customer_id: str
    label: str
    label_time: str
    prediction_id: str | None = None

    def encode(self) -> bytes:
        """Return the record's value, JSON."""
        return msgspec.json.encode(self)


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    """A label of any task."""

    customer_id: str
    label: Any
    label_time: str
    prediction_id: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What a label of any task states: the outcome of a customer, and the prediction that it names, if any.

    label_time: as the label has it; time_ms: the same in epoch ms.
    """

    customer_id: str
    prediction_id: str | None
    label_time: str
    time_ms: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DecodedLabel:
    """`label` and its time in epoch ms, or the reason against it."""

    label: Label | None
    time_ms: int = 0
    reason: LabelReason | None = None


def decode_label(raw: bytes | None, now_ms: int, max_future_skew_ms: int) -> DecodedLabel:
    """Return the label of a binary model in one record's value, or the reason why it is rejected.

    now_ms: the wall clock, which a label may be ahead of by the skew.

    >>> raw = b'{"customer_id": "7590-VHVEG", "label": true, "label_time": "1970-01-01T00:00:01Z"}'
    >>> decode_label(raw, now_ms=0, max_future_skew_ms=1000).time_ms
    1000
    >>> decode_label(raw, now_ms=0, max_future_skew_ms=999).reason
    <LabelReason.LABEL_TIME_IN_FUTURE: 'label_time_in_future'>
    """
    found = known_outcome(raw, now_ms, max_future_skew_ms, lambda value: value if isinstance(value, bool) else None)
    if isinstance(found, LabelReason):
        return DecodedLabel(None, reason=found)
    assert isinstance(found.outcome, bool), "no other outcome is accepted"  # noqa: S101
    return DecodedLabel(Label(found.customer_id, found.outcome, found.label_time, found.prediction_id), found.time_ms)


def known_outcome(
    raw: bytes | None, now_ms: int, max_future_skew_ms: int, outcome: Callable[[object], Outcome | None]
) -> Known | LabelReason:
    """Return what a label of any task states, or the reason why it is rejected.

    outcome: the model's `Task.outcome`.
    """
    if not raw:
        return LabelReason.EMPTY
    value, rejection = read_json(raw)
    if rejection is not None:
        return LabelReason.NOT_JSON
    try:
        label = msgspec.convert(value, _Envelope)
    except msgspec.ValidationError:
        return LabelReason.ENVELOPE
    time_ms = timestamps.parse(label.label_time)
    known = outcome(label.label)
    about = label.prediction_id
    named = about is None or 1 <= len(about) <= MAX_PREDICTION_ID_LENGTH
    if time_ms is None or known is None or not named or not valid_identifier(label.customer_id):
        return LabelReason.ENVELOPE
    if time_ms > now_ms + max_future_skew_ms:
        return LabelReason.LABEL_TIME_IN_FUTURE
    return Known(label.customer_id, about, label.label_time, time_ms, known)
