"""What `driftline-label-state` holds: facts as keys and values, placed by customer.

Facts, not results: one record per prediction, one per label, so that what is joined is a function of what stands on the
topic. The key says everything that tells two facts apart; of a label that is all of it, so that compaction, which keeps
the last record of a key, can drop nothing that is still needed. Names stand in it as `join.identify` hashes them: a
tombstone can be written from memory, and the topic holds no customer id in clear.

Beside the facts: one record per evaluated cohort, by which it is known that it was, and the decisions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgspec

from drift_worker.join import NO_PREDICTION, identify
from schemas.performance import Performance, decode_performance

LAYOUT = 1
PREDICTION, LABEL, COHORT, DECISIONS = b"p", b"l", b"c", b"d"
_PREDICTION_KEY = struct.Struct("<cQQ")
_LABEL_KEY = struct.Struct("<cQQq?")

Pair = tuple[bytes, bytes | None]


class _Made(msgspec.Struct, array_like=True, frozen=True):
    layout: int
    model: str
    version: str
    time_ms: int
    probability: float
    threshold: float
    positive: bool


@dataclass(frozen=True, slots=True)
class PredictionFact:
    """A prediction; ids hashed. `model` is None for a tombstone: it is not known any more."""

    customer: int
    prediction: int
    model: str | None
    version: str = ""
    time_ms: int = 0
    probability: float = 0.0
    threshold: float = 0.0
    positive: bool = False


@dataclass(frozen=True, slots=True)
class LabelFact:
    """A label; ids hashed, prediction NO_PREDICTION if it names none. gone: a tombstone."""

    customer: int
    prediction: int
    time_ms: int
    label: bool
    gone: bool = False


@dataclass(frozen=True, slots=True)
class CohortFact:
    """An evaluated cohort. performance: None for a tombstone."""

    model: str
    version: str
    day: str
    performance: Performance | None = None


@dataclass(frozen=True, slots=True)
class DecisionsFact:
    """What is remembered of PerformanceDrop's lifecycle: see drift_worker.performance_drop."""

    model: str
    value: bytes


Fact = PredictionFact | LabelFact | CohortFact | DecisionsFact


def of_prediction(
    customer_id: str,
    prediction_id: str,
    model: str,
    version: str,
    time_ms: int,
    probability: float,
    threshold: float,
    positive: bool,
) -> tuple[int, Pair]:
    """The customer's hash, by which the record is placed, and (key, value)."""
    customer = identify(customer_id)
    value = _ENCODER.encode(_Made(LAYOUT, model, version, time_ms, probability, threshold, positive))
    return customer, (prediction_key(customer, identify(prediction_id)), value)


def of_label(customer_id: str, prediction_id: str | None, time_ms: int, label: bool) -> tuple[int, Pair]:
    """The customer's hash, by which the record is placed, and (key, value)."""
    customer = identify(customer_id)
    prediction = NO_PREDICTION if prediction_id is None else identify(prediction_id)
    return customer, (label_key(customer, prediction, time_ms, label), bytes([LAYOUT]))


def prediction_key(customer: int, prediction: int) -> bytes:
    """The record's key; with a null value its tombstone."""
    return _PREDICTION_KEY.pack(PREDICTION, customer, prediction)


def label_key(customer: int, prediction: int, time_ms: int, label: bool) -> bytes:
    """The record's key; with a null value its tombstone."""
    return _LABEL_KEY.pack(LABEL, customer, prediction, time_ms, label)


def cohort_key(model: str, version: str, day: str) -> bytes:
    """The record's key; with a null value its tombstone."""
    return COHORT + f"{model}/{version}/{day}".encode()


def decisions_key(model: str) -> bytes:
    """The record's key."""
    return DECISIONS + model.encode()


def is_decision(key: bytes | None) -> bool:
    """Whether a record says what was evaluated or decided, and is no fact."""
    return (key or b"")[:1] in {COHORT, DECISIONS}


def decode(key: bytes | None, value: bytes | None) -> Fact:
    """What a record says; ValueError if it is none of ours."""
    kind = (key or b"")[:1]
    try:
        if key is not None and kind == PREDICTION:
            _, customer, prediction = _PREDICTION_KEY.unpack(key)
            if value is None:
                return PredictionFact(customer, prediction, None)
            made = _DECODER.decode(value)
            _known(made.layout)
            return PredictionFact(
                customer,
                prediction,
                made.model,
                made.version,
                made.time_ms,
                made.probability,
                made.threshold,
                made.positive,
            )
        if key is not None and kind == LABEL:
            _, customer, prediction, time_ms, label = _LABEL_KEY.unpack(key)
            if value is not None:
                _known(value[0] if len(value) == 1 else -1)
            return LabelFact(customer, prediction, time_ms, label, gone=value is None)
        if key is not None and kind == COHORT:
            model, version, day = key[1:].decode().split("/")
            return CohortFact(model, version, day, None if value is None else decode_performance(value))
        if key is not None and kind == DECISIONS and value is not None:
            return DecisionsFact(key[1:].decode(), value)
    except (struct.error, msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"not a fact of the label state: {error}") from None
    raise ValueError("not a fact of the label state")


def _known(layout: int) -> None:
    if layout != LAYOUT:
        raise ValueError(f"layout {layout} is not known, only {LAYOUT}")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Made)
