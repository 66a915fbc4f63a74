"""The facts of the label state in memory: one row per waiting prediction and per label, in arrays. Pure.

A waiting prediction costs PREDICTION.itemsize bytes (43), and up to 160 for the moment in which it is joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from drift_worker.facts import (
    CohortFact,
    LabelFact,
    PredictionFact,
    cohort_key,
    decode,
    label_key,
    prediction_key,
)
from drift_worker.join import LABEL, PREDICTION, Labels, Predictions, distinct
from schemas.performance import Performance

DAY_MS = 86_400_000
# Facts are kept so much longer than the horizon: whoever evaluates late, or again by hand, finds them.
GRACE_MS = 7 * DAY_MS
# A cohort that was never evaluated keeps its facts, so that a replay of a year gives what the year gave. Beyond this
# nothing is evaluated any more, and the record that a cohort was evaluated may go, too.
FORGOTTEN_MS = 400 * DAY_MS
MAX_VERSIONS = 65_535
_ODD = np.uint64(0x9E3779B97F4A7C15)


class _Parts:
    """Rows as they came, and the marks of those that went: put together only when somebody looks."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        self._came: list[tuple[NDArray[np.void], NDArray[np.uint64]]] = []  # rows, and what went after them

    def add(self, rows: NDArray[np.void]) -> None:
        self._came.append((rows, np.empty(0, dtype=np.uint64)))

    def remove(self, marks: NDArray[np.uint64]) -> None:
        """Of all rows up to now."""
        if len(marks) and self._came:
            rows, gone = self._came[-1]
            self._came[-1] = rows, np.concatenate([gone, marks])

    def replace(self, rows: NDArray[np.void]) -> None:
        self._came = [(rows, np.empty(0, dtype=np.uint64))]

    def merged(
        self,
        mark: Callable[[NDArray[np.void]], NDArray[np.uint64]],
        once: Callable[[NDArray[np.void]], NDArray[np.void]],
    ) -> NDArray[np.void]:
        """All that are left, as `once` makes them distinct. mark: of each row, what `remove` knows it by."""
        if len(self._came) != 1 or len(self._came[0][1]):
            gone, kept = np.empty(0, dtype=np.uint64), [np.empty(0, dtype=self._dtype)]
            for rows, after in reversed(self._came):
                if len(after):
                    gone = np.union1d(gone, after)
                kept.append(rows[~np.isin(mark(rows), gone)] if len(gone) else rows)
            self.replace(once(np.concatenate(kept[::-1])))
        return self._came[0][0]


class LabelStore:
    """What is known of one model. Not for two threads at a time."""

    def __init__(self, model: str, horizon_ms: int) -> None:
        self._model = model
        self._horizon_ms = horizon_ms
        self._predictions = _Parts(PREDICTION)
        self._labels = _Parts(LABEL)
        self.versions: list[str] = []
        self._index: dict[str, int] = {}  # of each version
        self.cohorts: dict[tuple[str, str], Performance] = {}  # evaluated ones, by (day, version)
        self.decisions: bytes | None = None
        self.latest_ms = 0  # the largest time of any fact
        self.revision = 0  # grows with every change

    def take(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> list[ValueError]:
        """Take in records (key, value) in the order of their partition; what could not be read."""
        wrong: list[ValueError] = []
        # of one key the last record counts
        made: dict[tuple[int, int], PredictionFact] = {}
        said: dict[tuple[int, int, int, bool], LabelFact] = {}
        for key, value in records:
            try:
                fact = decode(key, value)
            except ValueError as error:
                wrong.append(error)
                continue
            self.revision += 1
            if isinstance(fact, PredictionFact):
                made[fact.customer, fact.prediction] = fact
            elif isinstance(fact, LabelFact):
                said[fact.customer, fact.prediction, fact.time_ms, fact.label] = fact
            elif isinstance(fact, CohortFact):
                self._note_cohort(fact)
            elif fact.model == self._model:
                self.decisions = fact.value
        self._take_predictions(made)
        self._take_labels(said)
        return wrong

    def _note_cohort(self, fact: CohortFact) -> None:
        if fact.model != self._model:
            return
        if fact.performance is None:
            self.cohorts.pop((fact.day, fact.version), None)
        else:
            self.cohorts[fact.day, fact.version] = fact.performance

    def _take_predictions(self, made: dict[tuple[int, int], PredictionFact]) -> None:
        ours = [fact for fact in made.values() if fact.model == self._model]
        rows = [
            (f.customer, f.prediction, f.time_ms, f.probability, f.threshold, self._version(f.version), f.positive)
            for f in ours
        ]
        if rows:
            self._predictions.add(np.array(rows, dtype=PREDICTION))
            self.latest_ms = max(self.latest_ms, *(f.time_ms for f in ours))
        self._predictions.remove(_mix([key for key, fact in made.items() if fact.model is None]))

    def _take_labels(self, said: dict[tuple[int, int, int, bool], LabelFact]) -> None:
        rows = [key for key, fact in said.items() if not fact.gone]
        if rows:
            self._labels.add(np.array(rows, dtype=LABEL))
            self.latest_ms = max(self.latest_ms, *(time_ms for _, _, time_ms, _ in rows))
        self._labels.remove(_label_marks(np.array([key for key, fact in said.items() if fact.gone], dtype=LABEL)))

    def _version(self, version: str) -> int:
        """Its index. The last one stands for all that come when there are too many."""
        if version not in self._index and len(self.versions) < MAX_VERSIONS:
            self._index[version] = len(self.versions)
            self.versions.append(version)
        return self._index.get(version, MAX_VERSIONS - 1)

    # -- what is known ------------------------------------------------------------------------------------------------

    def predictions(self) -> Predictions:
        """Every prediction once."""
        return self._predictions.merged(_mixed, lambda rows: rows[distinct(rows)])

    def labels(self) -> Labels:
        """Every label once."""
        return self._labels.merged(_label_marks, np.unique)

    def days(self) -> list[tuple[int, int]]:
        """(start of the UTC day, index of the version) of every cohort with predictions, in order."""
        held = self.predictions()
        pairs = np.unique(held["time_ms"] // DAY_MS * MAX_VERSIONS + held["version"])
        return [(int(pair) // MAX_VERSIONS * DAY_MS, int(pair) % MAX_VERSIONS) for pair in pairs]

    def open_days(self, now_ms: int) -> list[tuple[int, int]]:
        """Those that were not evaluated yet and are not forgotten."""
        return [
            (start, version)
            for start, version in self.days()
            if (day_name(start), self.versions[version]) not in self.cohorts and start >= now_ms - FORGOTTEN_MS
        ]

    def due(self, now_ms: int) -> list[tuple[int, int]]:
        """Those of `open_days` of which every prediction is older than the horizon."""
        return [one for one in self.open_days(now_ms) if one[0] + DAY_MS + self._horizon_ms <= now_ms]

    # -- what may go --------------------------------------------------------------------------------------------------

    def evict(self, now_ms: int, most: int) -> Iterator[tuple[int | None, bytes]]:
        """Forget at most so many of what is not needed any more: keys, with the customer's hash (None: no customer's).

        Facts older than the horizon and GRACE_MS, but nothing that an open cohort may need; records of cohorts that
        are forgotten.
        """
        before = min([now_ms - self._horizon_ms - GRACE_MS, *(start for start, _ in self.open_days(now_ms))])
        held, said = self.predictions(), self.labels()
        old = np.flatnonzero(held["time_ms"] < before)[:most]
        old_said = np.flatnonzero(said["time_ms"] < before)[: most - len(old)]
        if len(old) or len(old_said):
            self._predictions.replace(np.delete(held, old))
            self._labels.replace(np.delete(said, old_said))
            for customer, prediction in held[old][["customer", "prediction"]].tolist():
                yield customer, prediction_key(customer, prediction)
            for customer, prediction, time_ms, label in said[old_said].tolist():
                yield customer, label_key(customer, prediction, time_ms, label)
        for day, version in [one for one in self.cohorts if one[0] < day_name(now_ms - FORGOTTEN_MS)]:
            del self.cohorts[day, version]
            yield None, cohort_key(self._model, version, day)


def day_name(at_ms: int) -> str:
    """The UTC day.

    >>> day_name(86_400_000)
    '1970-01-02'
    """
    return str(np.datetime64(at_ms, "ms").astype("datetime64[D]"))


def _mix(pairs: list[tuple[int, int]]) -> NDArray[np.uint64]:
    """One number per (customer, prediction)."""
    first, second = np.array(pairs, dtype=np.uint64).reshape(-1, 2).T
    mixed: NDArray[np.uint64] = first * _ODD + second
    return mixed


def _mixed(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = rows["customer"] * _ODD + rows["prediction"]
    return mixed


def _label_marks(rows: Labels) -> NDArray[np.uint64]:
    """One number per label."""
    marks: NDArray[np.uint64] = (_mixed(rows) * _ODD + rows["time_ms"].astype(np.uint64)) * _ODD + rows["label"]
    return marks
