"""A batch of records → exactly one outcome each: a prediction or a dead letter, in the records' order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas import headers as h
from schemas import rfc3339
from schemas.dead_letter import dead_letter
from schemas.event import DecodedBatch, EventDecoder
from schemas.features import UNSEEN
from schemas.prediction import ModelRef, PredictionEncoder
from schemas.verdict import Defect, Reason, Record, Rules
from scorer.model import Model
from scorer.score import predict_each
from scorer.split import Split

Output = tuple[bytes | None, bytes | None, list[h.Header]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcomes of one batch, and what is worth counting about it once they are committed.

    accepted: int64, which of the records have a prediction. probabilities: float64, one per prediction. unseen:
    records with an unknown category, per feature name. challenged: predictions that are the challenger's, None
    without one; fallbacks: the champion's, because the challenger had none for a customer of its own. seconds: time
    spent per stage.
    """

    predictions: list[Output]
    dead_letters: list[Output]
    reasons: Counter[Reason]
    accepted: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    labels: int
    unseen: dict[str, int]
    challenged: int | None
    fallbacks: int
    unknown_fields: int
    key_mismatches: int
    spoofed_headers: int
    event_time_ms: NDArray[np.int64]
    seconds: dict[str, float] = field(default_factory=dict)


class Pipeline:
    """Answers batches with one model, or with two that have customers of their own. Holds nothing between batches."""

    def __init__(
        self, model: Model, rules: Rules, group: str, max_dead_letter_bytes: int, split: Split | None = None
    ) -> None:
        manifest = model.manifest
        self.model = model
        self._group = group
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._decoder = EventDecoder(manifest.features, manifest.event, rules)
        self._encoder = _encoder(model)
        self._split = split

    def answer(
        self,
        records: Sequence[Record],
        topic: str,
        partition: int,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
    ) -> Answer:
        """`records` are of one partition, in offset order. now_ms: wall clock; clock: monotonic seconds, for timing."""
        times = [clock()]
        candidates = self._decoder.read(records, now_ms())
        times.append(clock())
        batch = self._decoder.assemble(candidates)
        del candidates  # megabytes, and copied into columns
        times.append(clock())
        probabilities, wrong = predict_each(self.model.predict, batch.columns)
        times.append(clock())

        stamp = h.Stamp(topic, partition, self.model.manifest.version, self._group)
        defects = batch.defects
        if wrong:
            for row, cause in wrong.items():
                defects[batch.accepted[row]] = Defect(Reason.MODEL_ERROR, f"the model failed on this record: {cause}")
            rows = np.array([row for row in range(len(probabilities)) if row not in wrong], dtype=np.int64)
            batch, probabilities = batch.take(rows), probabilities[rows]
        answered = records if len(batch.accepted) == len(records) else [records[i] for i in batch.accepted.tolist()]
        predictions, spoofed = self._predictions(answered, batch, probabilities, stamp, now_ms(), self._encoder)
        positive = probabilities >= self.model.manifest.threshold
        challenged: int | None = None
        fallbacks = 0
        if self._split is not None:
            rows = self._split.rows_of(batch.customer_ids)
            theirs = self._split.score([answered[row] for row in rows.tolist()], now_ms())
            scored = ~np.isnan(theirs)
            challenged, fallbacks = int(scored.sum()), int((~scored).sum())
            rows, theirs = rows[scored], theirs[scored]
            for row, output in zip(
                rows.tolist(), self._challengers(answered, batch, rows, theirs, stamp, now_ms()), strict=True
            ):
                predictions[row] = output
            probabilities[rows], positive[rows] = theirs, theirs >= self._split.model.manifest.threshold
        dead_letters: list[Output] = []
        reasons: Counter[Reason] = Counter()
        for record, defect in zip(records, defects, strict=True):
            if defect is not None:
                letter = dead_letter(record, defect, stamp, self._max_dead_letter_bytes)
                dead_letters.append((letter.key, letter.value, letter.headers))
                reasons[defect.reason] += 1
                spoofed += letter.spoofed
        times.append(clock())
        if len(predictions) + len(dead_letters) != len(records):
            raise RuntimeError(f"{len(records)} records have {len(predictions)} + {len(dead_letters)} outcomes")
        layout = batch.columns.layout
        unseen = (batch.columns.codes == UNSEEN).sum(axis=0)
        return Answer(
            predictions=predictions,
            dead_letters=dead_letters,
            reasons=reasons,
            accepted=batch.accepted,
            probabilities=probabilities,
            labels=int(positive.sum()),
            challenged=challenged,
            fallbacks=fallbacks,
            unseen={layout.names[i]: int(n) for i, n in zip(layout.categorical, unseen, strict=True) if n},
            unknown_fields=batch.unknown_fields,
            key_mismatches=batch.key_mismatches,
            spoofed_headers=spoofed,
            event_time_ms=batch.event_time_ms,
            seconds=dict(
                zip(("decode", "columns", "predict", "encode"), np.diff(np.array(times)).tolist(), strict=True)
            ),
        )

    def _challengers(
        self,
        answered: Sequence[Record],
        batch: DecodedBatch,
        rows: NDArray[np.int64],
        probabilities: NDArray[np.float64],
        stamp: h.Stamp,
        now_ms: int,
    ) -> list[Output]:
        """The challenger's outputs for these rows of the batch."""
        assert self._split is not None, "the caller has looked"  # noqa: S101
        model = self._split.model
        own = h.Stamp(stamp.topic, stamp.partition, model.manifest.version, self._group)
        records = [answered[row] for row in rows.tolist()]
        return self._predictions(records, batch.take(rows), probabilities, own, now_ms, _encoder(model))[0]

    def _predictions(
        self,
        records: Sequence[Record],
        batch: DecodedBatch,
        probabilities: NDArray[np.float64],
        stamp: h.Stamp,
        now_ms: int,
        encoder: PredictionEncoder,
    ) -> tuple[list[Output], int]:
        """One output per record (those of the batch's rows), and how many headers in our name space were dropped."""
        prefix = f"{stamp.topic}-{stamp.partition}-"
        values = encoder.encode(
            [f"{prefix}{record.offset}" for record in records],
            batch.event_ids,
            batch.customer_ids,
            batch.event_times,
            rfc3339.render(now_ms),
            probabilities.tolist(),
        )
        headers = stamp.batch(records, h.CONTENT_TYPE)
        spoofed = 0
        for record, ours in zip(records, headers, strict=True):
            if record.headers:
                spoofed += h.without_ours(record.headers)[1]
                if (trace := h.traceparent(record.headers)) is not None:
                    ours.append(trace)
        return [(r.key, value, ours) for r, value, ours in zip(records, values, headers, strict=True)], spoofed


def _encoder(model: Model) -> PredictionEncoder:
    return PredictionEncoder(ModelRef(model.manifest.name, model.manifest.version), model.manifest.threshold)
