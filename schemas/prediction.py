"""Predictions: the value of `predictions`, encoded in batches and decoded for those who read them back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class ModelRef(msgspec.Struct, frozen=True, gc=False):
    """Which model answered."""

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


class PredictionEncoder:
    """Encodes the predictions of one model version."""

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
        """One JSON document per row. The sequences are of equal length; probabilities are Python floats."""
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


_decode = msgspec.json.Decoder(Prediction).decode


def decode_prediction(raw: bytes) -> Prediction:
    """The prediction in `raw`; ValueError if it is not one."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a prediction: {error}") from None
