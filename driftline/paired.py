"""Labels, shadow predictions and predictions, read in this order → the rows on which two models are compared. No I/O.

Predictions of two models on one event stand at the same source position; which label belongs to which prediction is
drift_worker/join.py's to say, asked of all predictions of the customer, whoever made them. Only customers who have a
label take memory, but for the positions themselves (8 bytes each), which say how much of the stream has both.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drift_worker import join
from drift_worker.performance import Rows
from schemas import rfc3339
from schemas.headers import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC
from schemas.label import decode_label
from schemas.prediction import Prediction, decode_prediction

ModelName = tuple[str, str]  # name and version
Header = tuple[str, bytes]
_OFFSET_BITS = 48  # an offset below, the partition above


@dataclass(slots=True, eq=False)
class _Rows:
    """Rows of labelled customers, and where the events of all customers stood, by model."""

    made: list[tuple[int, int, int, float, float, int, bool]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    everywhere: dict[int, array[int]] = field(default_factory=dict)
    newest: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One model's rows and the event time of each, int64 (n,), epoch ms."""

    rows: Rows
    time_ms: NDArray[np.int64]

    def take(self, which: NDArray[np.bool_]) -> Labelled:
        """Only these rows."""
        r = self.rows
        rows = Rows(r.outcome[which], r.probability[which], r.predicted[which], r.customer[which])
        return Labelled(rows, self.time_ms[which])


@dataclass(frozen=True, slots=True)
class Coverage:
    """Source positions: those the champion answered since the challenger's first in each partition, and with both."""

    champion: int
    both: int


class Paired:
    """What the three topics hold."""

    def __init__(self, events_topic: str, now_ms: int, future_skew_ms: int, *, everywhere: bool = True) -> None:
        """`everywhere`: whether positions of customers without a label are kept, for `coverage`."""
        self._events = events_topic.encode()
        self._now_ms = now_ms
        self._skew_ms = future_skew_ms
        self._everywhere_wanted = everywhere
        self._models: dict[ModelName, int] = {}
        self._labels: list[tuple[str, str | None, int, bool]] = []
        self._customers: set[int] = set()
        self._newest_ms = 0  # of any prediction or label: "now" in event time
        self._of = {"predictions": _Rows(), "shadow": _Rows()}
        self.left_out: Counter[str] = Counter()

    # -- in ------------------------------------------------------------------------------------------------------------

    def label(self, value: bytes | None) -> None:
        """A record of the labels' topic; all of them come first."""
        verdict = decode_label(value, self._now_ms, self._skew_ms)
        if verdict.label is None:
            self.left_out[f"label {verdict.reason}"] += 1
            return
        one = verdict.label
        self._labels.append((one.customer_id, one.prediction_id, verdict.time_ms, one.label))
        self._newest_ms = max(self._newest_ms, verdict.time_ms)
        self._customers.add(join.identify(one.customer_id))

    def prediction(self, value: bytes | None, headers: Sequence[Header]) -> None:
        """A record of `predictions`."""
        self._take("predictions", value, headers)

    def shadow(self, value: bytes | None, headers: Sequence[Header]) -> None:
        """A record of `predictions-shadow`."""
        self._take("shadow", value, headers)

    def _take(self, topic: str, value: bytes | None, headers: Sequence[Header]) -> None:
        position = self._position(headers)
        try:
            one = decode_prediction(value or b"")
        except ValueError:
            one = None
        time_ms = rfc3339.parse(one.event_time) if one is not None else None
        if position is None or one is None or time_ms is None:
            self.left_out[f"{topic}: not a prediction of this stream"] += 1
            return
        self._newest_ms = max(self._newest_ms, time_ms)
        found, model = self._of[topic], self._model(one)
        found.newest[model] = max(one.scored_at, found.newest.get(model, ""))
        if self._everywhere_wanted:
            found.everywhere.setdefault(model, array("q")).append(position)
        customer = join.identify(one.customer_id)
        if customer in self._customers:
            prediction = join.identify(one.prediction_id)
            found.made.append((customer, prediction, time_ms, one.probability, one.threshold, model, one.label))
            found.positions.append(position)

    def _model(self, one: Prediction) -> int:
        return self._models.setdefault((one.model.name, one.model.version), len(self._models))

    def _position(self, headers: Sequence[Header]) -> int | None:
        found = dict(headers)
        partition, offset = found.get(SOURCE_PARTITION, b""), found.get(SOURCE_OFFSET, b"")
        if found.get(SOURCE_TOPIC) != self._events or not partition.isdigit() or not offset.isdigit():
            return None
        return (int(partition) << _OFFSET_BITS) | int(offset)

    # -- out -----------------------------------------------------------------------------------------------------------

    def models(self, topic: str) -> list[ModelName]:
        """Who made predictions of this kind, `predictions` or `shadow`; the one that scored last stands first."""
        newest = self._of[topic].newest
        names = {index: name for name, index in self._models.items()}
        return [names[i] for i in sorted(newest, key=lambda i: newest[i], reverse=True)]

    def coverage(self, champion: ModelName, challenger: ModelName) -> Coverage:
        """How much of what the champion answered has the challenger's shadow, too."""
        answered = self._everywhere("predictions", champion)
        shadowed = self._everywhere("shadow", challenger)
        partitions, starts = np.unique(shadowed >> _OFFSET_BITS, return_index=True)
        first = dict(zip(partitions.tolist(), shadowed[starts].tolist(), strict=True))
        begun = np.zeros(len(answered), dtype=np.bool_)
        for partition, start in first.items():
            begun |= (answered >> _OFFSET_BITS == partition) & (answered >= start)
        return Coverage(int(begun.sum()), len(np.intersect1d(answered, shadowed, assume_unique=True)))

    def _everywhere(self, topic: str, model: ModelName) -> NDArray[np.int64]:
        """Ascending, each once."""
        found = self._of[topic].everywhere.get(self._models.get(model, -1), array("q"))
        return np.unique(np.array(found, dtype=np.int64))

    def of_both(self, champion: ModelName, challenger: ModelName, horizon_ms: int) -> tuple[Labelled, Labelled]:
        """Settled rows with a label that both models have scored, the same ones in the same order."""
        predictions, positions, outcome = self._settled(horizon_ms)
        shadow = np.array(self._of["shadow"].made, dtype=join.PREDICTION)
        shadow_at = np.array(self._of["shadow"].positions, dtype=np.int64)
        theirs = shadow["version"] == self._models.get(challenger, -1)
        shadow, shadow_at = shadow[theirs], shadow_at[theirs]
        ours = np.flatnonzero((predictions["version"] == self._models.get(champion, -1)) & (outcome >= 0))
        _, one, other = np.intersect1d(positions[ours], shadow_at, return_indices=True)
        one = ours[one]
        return (
            _labelled(predictions[one], outcome[one]),
            _labelled(shadow[other], outcome[one]),
        )

    def of_each(self, champion: ModelName, challenger: ModelName, horizon_ms: int) -> tuple[Labelled, Labelled]:
        """Settled rows with a label of either model's own customers, as a split has them."""
        predictions, _, outcome = self._settled(horizon_ms)
        sides = []
        for model in (champion, challenger):
            mine = (predictions["version"] == self._models.get(model, -1)) & (outcome >= 0)
            sides.append(_labelled(predictions[mine], outcome[mine]))
        return sides[0], sides[1]

    def outcomes(self, horizon_ms: int) -> dict[tuple[int, int], tuple[bool, int]]:
        """Source partition and offset → the outcome and when it was known, of predictions that have one."""
        _, positions, outcome, known_ms = self._joined(horizon_ms)
        has = outcome >= 0
        rows = zip(positions[has].tolist(), outcome[has].tolist(), known_ms[has].tolist(), strict=True)
        return {(at >> _OFFSET_BITS, at & ((1 << _OFFSET_BITS) - 1)): (told == 1, ms) for at, told, ms in rows}

    def _settled(self, horizon_ms: int) -> tuple[join.Predictions, NDArray[np.int64], NDArray[np.int8]]:
        """Rows, positions and outcomes; of what is not settled none is known."""
        predictions, positions, outcome, _ = self._joined(horizon_ms)
        outcome[~join.settled(predictions, horizon_ms, min(self._now_ms, self._newest_ms))] = join.UNKNOWN
        return predictions, positions, outcome

    def _joined(
        self, horizon_ms: int
    ) -> tuple[join.Predictions, NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]:
        """Every prediction of a labelled customer once: its row, position, outcome, and when its label was known."""
        predictions = np.array(self._of["predictions"].made, dtype=join.PREDICTION)
        kept = join.distinct(predictions)
        predictions = predictions[kept]
        positions = np.array(self._of["predictions"].positions, dtype=np.int64)[kept]
        labels = join.label_rows(self._labels)
        joined = join.join(predictions, labels, horizon_ms)
        known_ms = np.zeros(len(predictions), dtype=np.int64)
        has = joined.label >= 0
        known_ms[has] = labels["time_ms"][joined.label[has]]
        return predictions, positions, joined.outcome, known_ms


def _labelled(rows: join.Predictions, outcome: NDArray[np.int8]) -> Labelled:
    told = outcome == 1
    found = Rows(told, rows["probability"].copy(), rows["positive"].copy(), rows["customer"].copy())
    return Labelled(found, rows["time_ms"].copy())
