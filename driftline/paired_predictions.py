"""Labels, shadow predictions and predictions, read in this order → the rows on which two models are compared. No I/O.

Predictions of two models on one event have the same source position. drift_worker/performance/label_join.py decides
which label belongs to which prediction, from all predictions of the customer by any model. Only labelled customers take
memory, apart from the positions themselves (8 bytes each): they give the share of the stream with both.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance import label_join
from drift_worker.performance.classification_metrics import Rows
from schemas import timestamps
from schemas.headers import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC, whole
from schemas.label import decode_label
from schemas.prediction import OtherTaskError, Prediction, decode_prediction

ModelName = tuple[str, str]  # name and version
Header = tuple[str, bytes]
# Why a prediction of a regression is left out.
OTHER_TASK = "the task of its model is another one"
_OFFSET_BITS = 48  # an offset below, the partition above


@dataclass(slots=True, eq=False)
class _Rows:
    """Rows of labelled customers, and the positions of all customers' events, by model."""

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
        """Return only these rows."""
        r = self.rows
        rows = Rows(r.outcome[which], r.probability[which], r.predicted[which], r.customer[which])
        return Labelled(rows, self.time_ms[which])


@dataclass(frozen=True, slots=True)
class Coverage:
    """Source positions that the champion answered since the challenger's first in each partition, and those of both."""

    champion: int
    both: int


class Paired:
    """The content of the three topics."""

    def __init__(self, events_topic: str, now_ms: int, future_skew_ms: int, *, everywhere: bool = True) -> None:
        """Start. `everywhere`: whether positions of customers without a label are kept, for `coverage`."""
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
        """Take in a record of the labels' topic; all of them come first."""
        decoded = decode_label(value, self._now_ms, self._skew_ms)
        if decoded.label is None:
            self.left_out[f"label {decoded.reason}"] += 1
            return
        one = decoded.label
        self._labels.append((one.customer_id, one.prediction_id, decoded.time_ms, one.label))
        self._newest_ms = max(self._newest_ms, decoded.time_ms)
        self._customers.add(label_join.identify(one.customer_id))

    def prediction(self, value: bytes | None, headers: Sequence[Header]) -> None:
        """Take in a record of `predictions`."""
        self._take("predictions", value, headers)

    def shadow(self, value: bytes | None, headers: Sequence[Header]) -> None:
        """Take in a record of `predictions-shadow`."""
        self._take("shadow", value, headers)

    def _take(self, topic: str, value: bytes | None, headers: Sequence[Header]) -> None:
        position = self._position(headers)
        try:
            one = decode_prediction(value or b"")
        except OtherTaskError:
            self.left_out[f"{topic}: {OTHER_TASK}"] += 1
            return
        except ValueError:
            one = None
        time_ms = timestamps.parse(one.event_time) if one is not None else None
        if position is None or one is None or time_ms is None:
            self.left_out[f"{topic}: not a prediction of this stream"] += 1
            return
        self._newest_ms = max(self._newest_ms, time_ms)
        found, model = self._of[topic], self._model(one)
        found.newest[model] = max(one.scored_at, found.newest.get(model, ""))
        if self._everywhere_wanted:
            found.everywhere.setdefault(model, array("q")).append(position)
        customer = label_join.identify(one.customer_id)
        if customer in self._customers:
            prediction = label_join.identify(one.prediction_id)
            found.made.append((customer, prediction, time_ms, one.probability, one.threshold, model, one.label))
            found.positions.append(position)

    def _model(self, one: Prediction) -> int:
        return self._models.setdefault((one.model.name, one.model.version), len(self._models))

    def _position(self, headers: Sequence[Header]) -> int | None:
        found = dict(headers)
        partition, offset = whole(found.get(SOURCE_PARTITION)), whole(found.get(SOURCE_OFFSET))
        if found.get(SOURCE_TOPIC) != self._events or partition is None or offset is None:
            return None
        if partition >> (63 - _OFFSET_BITS) or offset >> _OFFSET_BITS:
            return None  # no broker's: the two are one number of 64 bits here
        return (partition << _OFFSET_BITS) | offset

    # -- out -----------------------------------------------------------------------------------------------------------

    def models(self, topic: str) -> list[ModelName]:
        """Return the models with predictions of this kind, `predictions` or `shadow`; the latest to score is first."""
        newest = self._of[topic].newest
        names = {index: name for name, index in self._models.items()}
        return [names[i] for i in sorted(newest, key=lambda i: newest[i], reverse=True)]

    def coverage(self, champion: ModelName, challenger: ModelName) -> Coverage:
        """Return which share of the champion's answers has the challenger's shadow, too."""
        answered = self._everywhere("predictions", champion)
        shadowed = self._everywhere("shadow", challenger)
        partitions, starts = np.unique(shadowed >> _OFFSET_BITS, return_index=True)
        first = dict(zip(partitions.tolist(), shadowed[starts].tolist(), strict=True))
        begun = np.zeros(len(answered), dtype=np.bool_)
        for partition, start in first.items():
            begun |= (answered >> _OFFSET_BITS == partition) & (answered >= start)
        return Coverage(int(begun.sum()), len(np.intersect1d(answered, shadowed, assume_unique=True)))

    def _everywhere(self, topic: str, model: ModelName) -> NDArray[np.int64]:
        """Return the positions, ascending, each once."""
        found = self._of[topic].everywhere.get(self._models.get(model, -1), array("q"))
        return np.unique(np.array(found, dtype=np.int64))

    def of_both(self, champion: ModelName, challenger: ModelName, horizon_ms: int) -> tuple[Labelled, Labelled]:
        """Return settled rows with a label that both models have scored, the same ones in the same order."""
        predictions, positions, outcome = self._settled(horizon_ms)
        shadow = np.array(self._of["shadow"].made, dtype=label_join.PREDICTION)
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
        """Return settled rows with a label of each model's customers, as in a split."""
        predictions, _, outcome = self._settled(horizon_ms)
        sides = []
        for model in (champion, challenger):
            mine = (predictions["version"] == self._models.get(model, -1)) & (outcome >= 0)
            sides.append(_labelled(predictions[mine], outcome[mine]))
        return sides[0], sides[1]

    def outcomes(self, horizon_ms: int) -> dict[tuple[int, int], tuple[bool, int]]:
        """Return source partition and offset → the outcome and when it was known, of predictions that have one."""
        _, positions, outcome, known_ms = self._joined(horizon_ms)
        has = outcome >= 0
        rows = zip(positions[has].tolist(), outcome[has].tolist(), known_ms[has].tolist(), strict=True)
        return {(at >> _OFFSET_BITS, at & ((1 << _OFFSET_BITS) - 1)): (told == 1, ms) for at, told, ms in rows}

    def _settled(self, horizon_ms: int) -> tuple[label_join.Predictions, NDArray[np.int64], NDArray[np.int8]]:
        """Return rows, positions and outcomes; the outcome of an unsettled one is unknown."""
        predictions, positions, outcome, _ = self._joined(horizon_ms)
        outcome[~label_join.settled(predictions, horizon_ms, min(self._now_ms, self._newest_ms))] = label_join.UNKNOWN
        return predictions, positions, outcome

    def _joined(
        self, horizon_ms: int
    ) -> tuple[label_join.Predictions, NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]:
        """Return every prediction of a labelled customer once: row, position, outcome, and when its label was known."""
        predictions = np.array(self._of["predictions"].made, dtype=label_join.PREDICTION)
        kept = label_join.distinct(predictions)
        predictions = predictions[kept]
        positions = np.array(self._of["predictions"].positions, dtype=np.int64)[kept]
        labels = label_join.label_rows(self._labels)
        joined = label_join.join(predictions, labels, horizon_ms)
        known_ms = np.zeros(len(predictions), dtype=np.int64)
        has = joined.label >= 0
        known_ms[has] = labels["time_ms"][joined.label[has]]
        return predictions, positions, joined.outcome, known_ms


def _labelled(rows: label_join.Predictions, outcome: NDArray[np.int8]) -> Labelled:
    told = outcome == 1
    found = Rows(told, rows["probability"].copy(), rows["positive"].copy(), rows["customer"].copy())
    return Labelled(found, rows["time_ms"].copy())
