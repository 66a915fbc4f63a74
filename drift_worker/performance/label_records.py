"""The records of `driftline-label-state`: facts as keys and values, placed by customer.

The topic holds facts, not results: one record per prediction, one per label. So a join is a function of the topic's
content. A key holds every field that distinguishes two facts; the key of a label is the complete label. Compaction
keeps the last record of a key, so no needed fact is dropped. Names are hashed by `label_join.identify`: a tombstone can
be written from memory, and the topic holds no customer id in clear. The records of each task have a layout and a kind
of key of their own; those of a binary model stay as they were.

The topic also holds one record per evaluated cohort, as the mark that it was evaluated, and the decisions.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from drift_worker.counts.wire_format import MAX_NUMBER, Milliseconds
from drift_worker.performance.label_join import NO_PREDICTION, identify
from schemas.performance import AnyPerformance, decode_performance
from schemas.task import Outcome, valid_class

LAYOUT, VALUE_LAYOUT, CLASS_LAYOUT = 1, 2, 3
# A version is in keys beside others.
VERSION = re.compile(r"[0-9A-Za-z.+-]{1,64}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
PREDICTION, LABEL, COHORT, DECISIONS = b"p", b"l", b"c", b"d"
VALUE_LABEL, CLASS_LABEL = b"n", b"k"
_PREDICTION_KEY = struct.Struct("<cQQ")
_LABEL_KEY = struct.Struct("<cQQq?")
_VALUE_LABEL_KEY = struct.Struct("<cQQqd")
_CLASS_LABEL_KEY = struct.Struct("<cQQq")  # the class follows, UTF-8

Pair = tuple[bytes, bytes | None]


class _Made(msgspec.Struct, array_like=True, frozen=True):
    layout: int
    model: str
    version: str
    time_ms: Milliseconds
    probability: float
    threshold: float
    positive: bool


class _MadeValue(msgspec.Struct, array_like=True, frozen=True):
    """low, high: the ends of the value's interval; None without one."""

    layout: int
    model: str
    version: str
    time_ms: Milliseconds
    value: float
    low: float | None
    high: float | None


class _MadeClass(msgspec.Struct, array_like=True, frozen=True):
    layout: int
    model: str
    version: str
    time_ms: Milliseconds
    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True, slots=True)
class PredictionFact:
    """A prediction; ids are hashed. `model` is None for a tombstone, which does not hold it."""

    customer: int
    prediction: int
    model: str | None
    version: str = ""
    time_ms: int = 0
    probability: float = 0.0
    threshold: float = 0.0
    positive: bool = False


@dataclass(frozen=True, slots=True)
class ValueFact:
    """A prediction of a regression; ids are hashed. low, high: the ends of its interval, NaN without one."""

    customer: int
    prediction: int
    model: str
    version: str
    time_ms: int
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class ClassFact:
    """A prediction of a model with several classes; ids are hashed. label: its class."""

    customer: int
    prediction: int
    model: str
    version: str
    time_ms: int
    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LabelFact:
    """A label; ids are hashed; prediction is NO_PREDICTION if it names none. gone: a tombstone.

    label: the outcome, of a regression a float, of several classes a text.
    """

    customer: int
    prediction: int
    time_ms: int
    label: Outcome
    gone: bool = False


@dataclass(frozen=True, slots=True)
class CohortFact:
    """An evaluated cohort. performance: None for a tombstone."""

    model: str
    version: str
    day: str
    performance: AnyPerformance | None = None


@dataclass(frozen=True, slots=True)
class DecisionsFact:
    """The stored lifecycle of PerformanceDrop: see drift_worker.performance.performance_drop."""

    model: str
    value: bytes


#: A prediction that is no tombstone has a type by its task.
MadeFact = PredictionFact | ClassFact | ValueFact
Fact = MadeFact | LabelFact | CohortFact | DecisionsFact


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
    """Return the customer's hash, which places the record, and (key, value)."""
    customer = identify(customer_id)
    value = _ENCODER.encode(_Made(LAYOUT, model, version, time_ms, probability, threshold, positive))
    return customer, (prediction_key(customer, identify(prediction_id)), value)


def of_value(
    customer_id: str,
    prediction_id: str,
    model: str,
    version: str,
    time_ms: int,
    value: float,
    interval: tuple[float, float] | None,
) -> tuple[int, Pair]:
    """Return the customer's hash, which places the record, and (key, value) of a regression's prediction."""
    customer = identify(customer_id)
    made = _MadeValue(VALUE_LAYOUT, model, version, time_ms, value, *(interval or (None, None)))
    return customer, (prediction_key(customer, identify(prediction_id)), _ENCODER.encode(made))


def of_class(
    customer_id: str,
    prediction_id: str,
    model: str,
    version: str,
    time_ms: int,
    label: str,
    probabilities: Mapping[str, float],
) -> tuple[int, Pair]:
    """Return the customer's hash, which places the record, and (key, value) of a prediction of a class."""
    customer = identify(customer_id)
    made = _MadeClass(CLASS_LAYOUT, model, version, time_ms, label, dict(probabilities))
    return customer, (prediction_key(customer, identify(prediction_id)), _ENCODER.encode(made))


def of_label(customer_id: str, prediction_id: str | None, time_ms: int, label: Outcome) -> tuple[int, Pair]:
    """Return the customer's hash, which places the record, and (key, value)."""
    customer = identify(customer_id)
    prediction = NO_PREDICTION if prediction_id is None else identify(prediction_id)
    return customer, (label_key(customer, prediction, time_ms, label), bytes([LAYOUT]))


def prediction_key(customer: int, prediction: int) -> bytes:
    """Return the record's key; with a null value it is a tombstone."""
    return _PREDICTION_KEY.pack(PREDICTION, customer, prediction)


def label_key(customer: int, prediction: int, time_ms: int, label: Outcome) -> bytes:
    """Return the record's key; with a null value it is a tombstone."""
    if isinstance(label, bool):
        return _LABEL_KEY.pack(LABEL, customer, prediction, time_ms, label)
    if isinstance(label, str):
        return _CLASS_LABEL_KEY.pack(CLASS_LABEL, customer, prediction, time_ms) + label.encode()
    # 0.0 and -0.0 are the same outcome and must be the same key
    return _VALUE_LABEL_KEY.pack(VALUE_LABEL, customer, prediction, time_ms, float(label) + 0.0)


def cohort_key(model: str, version: str, day: str) -> bytes:
    """Return the record's key; with a null value it is a tombstone."""
    return COHORT + f"{model}/{version}/{day}".encode()


def decisions_key(model: str) -> bytes:
    """Return the record's key."""
    return DECISIONS + model.encode()


def is_decision(key: bytes | None) -> bool:
    """Return whether a record holds a cohort or decisions instead of a fact."""
    return (key or b"")[:1] in {COHORT, DECISIONS}


def decode(key: bytes | None, value: bytes | None) -> Fact:
    """Return the fact in a record; ValueError if this worker did not write the record."""
    kind = (key or b"")[:1]
    try:
        if key is not None and kind == PREDICTION:
            return _made_fact(key, value)
        if key is not None and kind == LABEL:
            _, customer, prediction, time_ms, label = _LABEL_KEY.unpack(key)
            if value is not None:
                _known(value[0] if len(value) == 1 else -1)
                _check_time(time_ms)
            return LabelFact(customer, prediction, time_ms, label, gone=value is None)
        if key is not None and kind == VALUE_LABEL:
            return _value_label(key, value)
        if key is not None and kind == CLASS_LABEL:
            return _class_label(key, value)
        if key is not None and kind == COHORT:
            model, version, day = key[1:].decode().split("/")
            cohort = None if value is None else decode_performance(value)
            if cohort is not None:
                _check_cohort(cohort, (model, version, day))
            return CohortFact(model, version, day, cohort)
        if key is not None and kind == DECISIONS and value is not None:
            return DecisionsFact(key[1:].decode(), value)
    except (struct.error, msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"not a fact of the label state: {error}") from None
    raise ValueError("not a fact of the label state")


def _made_fact(key: bytes, value: bytes | None) -> MadeFact:
    _, customer, prediction = _PREDICTION_KEY.unpack(key)
    if value is None:
        return PredictionFact(customer, prediction, None)
    if value[1:2] == bytes([VALUE_LAYOUT]):
        return _value_fact(customer, prediction, value)
    if value[1:2] == bytes([CLASS_LAYOUT]):
        return _class_fact(customer, prediction, value)
    made = _DECODER.decode(value)
    _known(made.layout)
    _check_prediction(made)
    return PredictionFact(
        *(customer, prediction, made.model, made.version, made.time_ms),
        *(made.probability, made.threshold, made.positive),
    )


def _value_fact(customer: int, prediction: int, value: bytes) -> ValueFact:
    made = _VALUE_DECODER.decode(value)
    _check_model(made.model, made.version)
    ends = (made.value, made.value) if made.low is None or made.high is None else (made.low, made.high)
    if not all(map(math.isfinite, (made.value, *ends))) or ends[0] > ends[1]:
        raise ValueError("no finite value, or no interval")
    if made.low is None or made.high is None:
        return ValueFact(customer, prediction, made.model, made.version, made.time_ms, made.value)
    return ValueFact(customer, prediction, made.model, made.version, made.time_ms, made.value, made.low, made.high)


def _value_label(key: bytes, value: bytes | None) -> LabelFact:
    _, customer, prediction, time_ms, label = _VALUE_LABEL_KEY.unpack(key)
    if value is not None:
        _known(value[0] if len(value) == 1 else -1)
        _check_time(time_ms)
        if not math.isfinite(label):
            raise ValueError("no finite outcome")
    return LabelFact(customer, prediction, time_ms, label, gone=value is None)


def _class_fact(customer: int, prediction: int, value: bytes) -> ClassFact:
    made = _CLASS_DECODER.decode(value)
    _check_model(made.model, made.version)
    shares = made.probabilities
    if made.label not in shares or not all(0.0 <= p <= 1.0 for p in shares.values()):
        raise ValueError("no probability of its class, or one that is none")
    return ClassFact(customer, prediction, made.model, made.version, made.time_ms, made.label, shares)


def _class_label(key: bytes, value: bytes | None) -> LabelFact:
    _, customer, prediction, time_ms = _CLASS_LABEL_KEY.unpack_from(key)
    label = key[_CLASS_LABEL_KEY.size :].decode()
    if value is not None:
        _known(value[0] if len(value) == 1 else -1)
        _check_time(time_ms)
        if not valid_class(label):
            raise ValueError("no text of a class")
    return LabelFact(customer, prediction, time_ms, label, gone=value is None)


def _check_prediction(made: _Made) -> None:
    """Raise ValueError if stage 1 cannot have written it; NaN is not a probability either."""
    if not (0.0 <= made.probability <= 1.0 and 0.0 <= made.threshold <= 1.0):
        raise ValueError("probability and threshold must be 0 to 1")
    _check_model(made.model, made.version)


def _check_model(model: str, version: str) -> None:
    if not model or VERSION.fullmatch(version) is None:
        raise ValueError("no model, or no version")


def _check_time(time_ms: int) -> None:
    if not -MAX_NUMBER < time_ms < MAX_NUMBER:
        raise ValueError(f"time_ms {time_ms} is no time")


def _check_cohort(cohort: AnyPerformance, named: tuple[str, str, str]) -> None:
    """Raise ValueError if a cohort differs from its key, or has impossible numbers."""
    if (cohort.model, cohort.model_version, cohort.cohort.day) != named or _DAY.fullmatch(named[2]) is None:
        raise ValueError("another cohort than its key names")
    known = cohort.labels.known
    numbers = (*cohort.labels.counts(), cohort.customers)
    if not 0 <= cohort.predictions < MAX_NUMBER or known > cohort.predictions:
        raise ValueError(f"{known} outcomes of {cohort.predictions} predictions")
    if any(not 0 <= number <= cohort.predictions for number in numbers):
        raise ValueError(f"a count outside 0 to {cohort.predictions}")


def _known(layout: int) -> None:
    if layout != LAYOUT:
        raise ValueError(f"layout {layout} is not known, only {LAYOUT}")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Made)
_VALUE_DECODER = msgspec.msgpack.Decoder(_MadeValue)
_CLASS_DECODER = msgspec.msgpack.Decoder(_MadeClass)
