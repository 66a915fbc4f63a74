"""Predictions: the value of `predictions`, encoded in batches and decoded for those who read them back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import msgspec

from schemas.task import Binary, Multiclass, Regression, Task, TaskName


class ModelRef(msgspec.Struct, frozen=True, gc=False):
    """Which model made a prediction."""

    name: str
    version: str


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One prediction, field by field as docs/contracts.md gives it.

    probability: of the positive class, 0 to 1. event_time is the event's own text; scored_at is UTC with milliseconds.
    """

    schema_version: int
    prediction_id: str
    event_id: str
    customer_id: str
    event_time: str
    scored_at: str
    probability: float
    label: bool
    threshold: float
    model: ModelRef

    @property
    def score(self) -> float:
        """Return the number whose drift is measured."""
        return self.probability

    @property
    def positive(self) -> bool:
        """Return whether the label is true."""
        return self.label

    @property
    def valid(self) -> bool:
        """Return whether the probability is one."""
        return 0.0 <= self.probability <= 1.0


class ValueInterval(msgspec.Struct, frozen=True, gc=False):
    """Where the outcome is, in a share `level` of customers like those of the training."""

    low: float
    high: float
    level: float


class ValuePrediction(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One prediction of a regression. interval: absent if the model has no calibration."""

    schema_version: int
    prediction_id: str
    event_id: str
    customer_id: str
    event_time: str
    scored_at: str
    value: float
    interval: ValueInterval | None = None
    model: ModelRef

    @property
    def score(self) -> float:
        """Return the number whose drift is measured."""
        return self.value

    @property
    def positive(self) -> bool:
        """Return false: a number has no label."""
        return False

    @property
    def valid(self) -> bool:
        """Return whether the value is finite."""
        return math.isfinite(self.value)


class ClassPrediction(msgspec.Struct, frozen=True, gc=False):
    """One prediction of a model with several classes.

    label: the likeliest class. probability: of it. probabilities: by class; of more than ten classes the likeliest ten.
    """

    schema_version: int
    prediction_id: str
    event_id: str
    customer_id: str
    event_time: str
    scored_at: str
    label: str
    probability: float
    probabilities: dict[str, float]
    model: ModelRef

    @property
    def score(self) -> float:
        """Return the number whose drift is measured."""
        return self.probability

    @property
    def positive(self) -> bool:
        """Return false: a class is neither true nor false."""
        return False

    @property
    def valid(self) -> bool:
        """Return whether the probabilities are some, and the label is one of them."""
        return self.probabilities.get(self.label) == self.probability and all(
            0.0 <= p <= 1.0 for p in self.probabilities.values()
        )


AnyPrediction: TypeAlias = Prediction | ClassPrediction | ValuePrediction


class Encoder(Protocol):
    """Encodes the predictions of one model version."""

    def encode(
        self,
        prediction_ids: Sequence[str],
        event_ids: Sequence[str],
        customer_ids: Sequence[str],
        event_times: Sequence[str],
        scored_at: str,
        scores: Sequence[Any],
        /,
    ) -> list[bytes]:
        """Return one JSON document per row. The sequences are of equal length; scores are as `tolist` has them."""


class PredictionEncoder:
    """Encodes the predictions of one binary model version."""

    def __init__(self, model: ModelRef, threshold: float) -> None:
        self._model = model
        self._threshold = threshold
        self._encode = msgspec.json.Encoder().encode

    def encode(
        self,
        prediction_ids: Sequence[str],
        event_ids: Sequence[str],
        customer_ids: Sequence[str],
        event_times: Sequence[str],
        scored_at: str,
        probabilities: Sequence[float],
    ) -> list[bytes]:
        """Return one JSON document per row. The sequences are of equal length; probabilities are Python floats."""
        encode, model, threshold = self._encode, self._model, self._threshold
        return [
            encode(
                Prediction(
                    1, prediction_id, event_id, customer_id, time, scored_at, p, p >= threshold, threshold, model
                )
            )
            for prediction_id, event_id, customer_id, time, p in zip(
                prediction_ids, event_ids, customer_ids, event_times, probabilities, strict=True
            )
        ]


class ValueEncoder:
    """Encodes the predictions of one regression's version."""

    def __init__(self, model: ModelRef, task: Regression) -> None:
        self._model = model
        self._interval = task.interval
        self._encode = msgspec.json.Encoder().encode

    def encode(
        self,
        prediction_ids: Sequence[str],
        event_ids: Sequence[str],
        customer_ids: Sequence[str],
        event_times: Sequence[str],
        scored_at: str,
        values: Sequence[float],
    ) -> list[bytes]:
        """Return one JSON document per row. The sequences are of equal length; values are Python floats."""
        around = self._interval
        return [
            self._encode(
                ValuePrediction(
                    schema_version=1,
                    prediction_id=prediction_id,
                    event_id=event_id,
                    customer_id=customer_id,
                    event_time=time,
                    scored_at=scored_at,
                    value=value,
                    interval=None
                    if around is None
                    else ValueInterval(value + around.low, value + around.high, around.level),
                    model=self._model,
                )
            )
            for prediction_id, event_id, customer_id, time, value in zip(
                prediction_ids, event_ids, customer_ids, event_times, values, strict=True
            )
        ]


class ClassEncoder:
    """Encodes the predictions of one version of a model with several classes."""

    def __init__(self, model: ModelRef, task: Multiclass) -> None:
        self._model = model
        self._task = task
        self._encode = msgspec.json.Encoder().encode

    def encode(
        self,
        prediction_ids: Sequence[str],
        event_ids: Sequence[str],
        customer_ids: Sequence[str],
        event_times: Sequence[str],
        scored_at: str,
        scores: Sequence[Sequence[float]],
    ) -> list[bytes]:
        """Return one JSON document per row. The sequences are of equal length; scores are lists of probabilities."""
        encode, model, classes, shown = self._encode, self._model, self._task.classes, self._task.shown
        documents = []
        for prediction_id, event_id, customer_id, time, score in zip(
            prediction_ids, event_ids, customer_ids, event_times, scores, strict=True
        ):
            probability = max(score)
            label = classes[score.index(probability)]
            documents.append(
                encode(
                    ClassPrediction(
                        *(1, prediction_id, event_id, customer_id, time, scored_at, label, probability),
                        *(shown(score), model),
                    )
                )
            )
        return documents


def encoder_of(model: ModelRef, task: Task) -> Encoder:
    """Return the encoder of a model's predictions."""
    if isinstance(task, Regression):
        return ValueEncoder(model, task)
    if isinstance(task, Multiclass):
        return ClassEncoder(model, task)
    assert isinstance(task, Binary), "there are no other tasks"  # noqa: S101
    return PredictionEncoder(model, task.threshold)


class OtherTaskError(ValueError):
    """A prediction of a model with another task. `model`: which one."""

    def __init__(self, prediction: ValuePrediction | ClassPrediction) -> None:
        task = "regression" if isinstance(prediction, ValuePrediction) else "multiclass"
        super().__init__(f"task of {prediction.model.name} {prediction.model.version} is {task}")
        self.model = prediction.model


_decode = msgspec.json.Decoder(Prediction).decode
_decode_value = msgspec.json.Decoder(ValuePrediction).decode
_decode_class = msgspec.json.Decoder(ClassPrediction).decode


def decode_prediction(raw: bytes) -> Prediction:
    """Return the prediction of a binary model in `raw`; OtherTaskError if it is another task's, else ValueError."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        why = error
    for decode in (decode_value, decode_class):
        try:
            other = decode(raw)
        except ValueError:
            continue
        raise OtherTaskError(other)
    raise ValueError(f"not a prediction: {why}") from None


def decode_value(raw: bytes) -> ValuePrediction:
    """Return the prediction of a regression in `raw`; ValueError if it is not one."""
    try:
        return _decode_value(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a prediction of a number: {error}") from None


def decode_class(raw: bytes) -> ClassPrediction:
    """Return the prediction of a model with several classes in `raw`; ValueError if it is not one."""
    try:
        return _decode_class(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a prediction of a class: {error}") from None


_DECODERS: Mapping[TaskName, Callable[[bytes], AnyPrediction]] = {
    "binary": decode_prediction,
    "multiclass": decode_class,
    "regression": decode_value,
}


def decoder_of(task: Task) -> Callable[[bytes], AnyPrediction]:
    """Return the function that decodes a model's predictions."""
    return _DECODERS[task.name]


class PlainDecoder:
    """Decodes the predictions of one model in batches, checks included.

    A prediction is plain if it is one of this model and valid, and its customer id has 1 to 128 characters. All of that
    is checked in C while it is decoded. What is not plain is for `decoder_of` and its reasons.
    """

    def __init__(self, task: Task, model: ModelRef) -> None:
        kind, self._score = _SCORES[task.name]
        types: dict[str, Any] = {
            "customer_id": Annotated[str, msgspec.Meta(min_length=1, max_length=128)],
            "model": msgspec.defstruct(
                "Ours", [("name", Literal[model.name]), ("version", Literal[model.version])], frozen=True, gc=False
            ),
        }
        if isinstance(task, Binary):
            types["probability"] = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
        if isinstance(task, Multiclass):
            types["label"] = Literal[task.classes]
        fields = [
            (f.name, types.get(f.name, f.type)) if f.required else (f.name, f.type, f.default)
            for f in msgspec.structs.fields(kind)
        ]
        plain: Any = msgspec.defstruct("Plain", fields, bases=(kind,), frozen=True, gc=False, kw_only=True)
        self._decode = msgspec.json.Decoder(plain).decode
        self._checked = isinstance(task, Binary)  # by the types alone

    def decode(self, values: Sequence[bytes], second_look: Callable[[int], AnyPrediction | None]) -> list[Any]:
        """Return the predictions among some records' values, in their order.

        second_look: gets the index of a value that is not plain, and may find a prediction in it all the same.
        """
        found: list[Any] = []
        refused, rest = 0, iter(values)
        append = found.append
        while True:
            try:
                for prediction in map(self._decode, rest):
                    if self._checked or prediction.valid:
                        append(prediction)
                    else:
                        refused += not _looked(second_look(len(found) + refused), found)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                refused += not _looked(second_look(len(found) + refused), found)
                continue
            return found

    def scores(self, predictions: Sequence[Any]) -> list[float]:
        """Return the number of each prediction whose drift is measured."""
        name = self._score
        return [getattr(prediction, name) for prediction in predictions]


def _looked(prediction: AnyPrediction | None, found: list[Any]) -> bool:
    """Add what a second look found; return whether it found something."""
    if prediction is not None:
        found.append(prediction)
    return prediction is not None


# the struct of a task, and its field whose drift is measured
_SCORES: Mapping[TaskName, tuple[type[msgspec.Struct], str]] = {
    "binary": (Prediction, "probability"),
    "multiclass": (ClassPrediction, "probability"),
    "regression": (ValuePrediction, "value"),
}
