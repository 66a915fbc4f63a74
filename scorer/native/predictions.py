"""A batch's predictions → record batches in one call of the library, byte for byte as Python and aiokafka make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas import headers as h
from schemas import timestamps
from schemas.event import DecodedBatch
from schemas.prediction import ModelRef
from schemas.task import SHOWN_CLASSES, Binary, Multiclass, Regression
from schemas.validation import Record
from scorer.model import Model
from scorer.pipeline import Output, encoder_for, predictions_of


class SealedBatch:
    """A record batch with the methods of aiokafka's BatchBuilder that a producer calls; nothing can be appended."""

    def __init__(self, opened: Any, timestamp_ms: int, *, transactional: bool) -> None:
        """Take an OpenBatch of the library."""
        self._opened = opened
        self._timestamp_ms = timestamp_ms
        self._transactional = transactional
        self._producer = (-1, -1, 0)  # id, epoch, first sequence number: of a producer that is not idempotent

    def record_count(self) -> int:
        """Return the number of records."""
        count: int = self._opened.records
        return count

    def size(self) -> int:
        """Return the number of bytes."""
        size: int = self._opened.size
        return size

    def close(self) -> None:
        """Do nothing: it is closed."""

    def closed(self) -> bool:
        """Return true."""
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        """Return the bytes to send, the same at every retry."""
        sealed: bytes = self._opened.seal(self._timestamp_ms, self._transactional, *self._producer)
        return sealed


class EncodedPredictions(Sequence[Output]):
    """Predictions as record batches (kafka_runtime.sinks.Encoded), and one by one for whoever looks at them."""

    def __init__(self, opened: Sequence[Any], count: int, definition: Callable[[], list[Output]]) -> None:
        """Take the library's batches of `count` predictions. definition: returns the same from Python, when called."""
        self._opened = opened
        self._count = count
        self._definition = definition

    def batches(self, timestamp_ms: int, *, transactional: bool) -> list[SealedBatch]:
        """Return the batches in order."""
        return [SealedBatch(opened, timestamp_ms, transactional=transactional) for opened in self._opened]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Output: ...
    @overload
    def __getitem__(self, at: slice) -> list[Output]: ...
    def __getitem__(self, at: int | slice) -> Output | list[Output]:
        return self._definition()[at]


class NativePredictions:
    """Encodes the predictions of one model (scorer.pipeline.Lane). No state between batches; thread-safe."""

    def __init__(self, library: ModuleType, model: Model, limit: int) -> None:
        """Take the library. limit: the most bytes of a record batch, unless a single record is larger."""
        self._library = library
        self._model = model
        self._limit = limit
        self._encoder = _encoder(library, model)

    def encode(
        self,
        records: Sequence[Record],
        batch: DecodedBatch,
        scores: NDArray[np.float64],
        stamp: h.Stamp,
        now_ms: int,
    ) -> tuple[EncodedPredictions, int] | None:
        """Return what `scorer.pipeline.predictions_of` returns; None for a batch that the library does not take."""
        before, (created, appended) = stamp.constant(h.CONTENT_TYPE)
        headers = self._library.Headers(before, h.SOURCE_OFFSET, h.SOURCE_TIMESTAMP, created, appended)
        encoded = self._encoder.encode(
            records if isinstance(records, list) else list(records),
            [batch.event_ids, batch.customer_ids, batch.event_times],
            scores.tobytes(),
            f"{stamp.topic}-{stamp.partition}-",
            timestamps.render(now_ms),
            headers,
            h.carried,
            self._limit,
        )
        if encoded is None:
            return None
        opened, spoofed = encoded

        def definition() -> list[Output]:
            return predictions_of(encoder_for(self._model), records, batch, scores, stamp, now_ms)[0]

        return EncodedPredictions(opened, len(records), definition), spoofed


def _encoder(library: ModuleType, model: Model) -> Any:
    """Return the library's encoder of a model's predictions."""
    json = msgspec.json.encode
    task, written = model.manifest.predicts, json(ModelRef(model.manifest.name, model.manifest.version))
    if isinstance(task, Regression):
        around = task.interval
        interval = None if around is None else (around.low, around.high, json(around.level))
        return library.Encoder.value(interval, written)
    if isinstance(task, Multiclass):
        return library.Encoder.classes([json(name) for name in task.classes], SHOWN_CLASSES, written)
    assert isinstance(task, Binary), "there are no other tasks"  # noqa: S101
    return library.Encoder.binary(task.threshold, json(task.threshold), written)
