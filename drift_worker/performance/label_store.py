"""The facts of the label state in memory: one row per waiting prediction and per label, in arrays. Pure.

A waiting prediction of a binary model takes PREDICTION.itemsize bytes (43), and up to 160 while it is joined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance.label_join import Labels, Predictions, distinct
from drift_worker.performance.label_records import (
    CohortFact,
    Fact,
    LabelFact,
    MadeFact,
    cohort_key,
    decode,
    label_key,
    prediction_key,
)
from drift_worker.performance.task_facts import BinaryFacts, TaskFacts
from schemas.performance import AnyPerformance
from schemas.task import Outcome

DAY_MS = 86_400_000
# Facts are kept this much longer than the horizon, for a late evaluation or a manual one.
GRACE_MS = 7 * DAY_MS
# A cohort that was never evaluated keeps its facts, so that a replay of a year gives the year's result. Older cohorts
# are never evaluated, and the mark that a cohort was evaluated may be deleted, too.
FORGOTTEN_MS = 400 * DAY_MS
MAX_VERSIONS = 65_535
_ODD = np.uint64(0x9E3779B97F4A7C15)
# A cohort: the start of its UTC day, epoch ms, and the index of its version.
DayVersion = tuple[int, int]


class _Parts:
    """Rows in order of arrival, and the marks of removed rows; they are merged only when they are read."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        self._came: list[tuple[NDArray[np.void], NDArray[np.uint64]]] = []  # rows, and marks removed after them

    def add(self, rows: NDArray[np.void]) -> None:
        self._came.append((rows, np.empty(0, dtype=np.uint64)))

    def remove(self, marks: NDArray[np.uint64]) -> None:
        """Remove these from all rows up to now."""
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
        """Return the remaining rows, made distinct by `once`. mark: the value of each row that `remove` takes."""
        if len(self._came) != 1 or len(self._came[0][1]):
            gone, kept = np.empty(0, dtype=np.uint64), [np.empty(0, dtype=self._dtype)]
            for rows, after in reversed(self._came):
                if len(after):
                    gone = np.union1d(gone, after)
                kept.append(rows[~np.isin(mark(rows), gone)] if len(gone) else rows)
            self.replace(once(np.concatenate(kept[::-1])))
        return self._came[0][0]


class LabelStore:
    """The known facts of one model. Facts of another task are passed over. Not thread-safe."""

    def __init__(self, model: str, horizon_ms: int, facts: TaskFacts | None = None) -> None:
        """Hold nothing yet. facts: of the model's task; None: of a binary model."""
        self._model = model
        self._horizon_ms = horizon_ms
        #: Of the model's task.
        self.facts: TaskFacts = BinaryFacts() if facts is None else facts
        self._predictions = _Parts(self.facts.prediction)
        self._labels = _Parts(self.facts.label)
        self.versions: list[str] = []
        self._index: dict[str, int] = {}  # names of the versions, by index
        self.cohorts: dict[tuple[str, str], AnyPerformance] = {}  # evaluated cohorts, by (day, version)
        self.decisions: bytes | None = None
        self.latest_ms = 0  # largest time of any fact
        self.revision = 0  # grows with every change

    def add(
        self, records: Iterable[tuple[bytes | None, bytes | None]], latest_ms: float = math.inf
    ) -> list[ValueError]:
        """Take in records (key, value) in the order of their partition. Return the errors of skipped records.

        latest_ms: no fact may be later, nor a cohort of a later day. One record from the future would make every cohort
        due.
        """
        wrong: list[ValueError] = []
        # the last record of a key is the valid one
        made: dict[tuple[int, int], MadeFact] = {}
        said: dict[tuple[int, int, int, Outcome], LabelFact] = {}
        for key, value in records:
            try:
                fact = decode(key, value)
                _check_time(fact, latest_ms)
            except ValueError as error:
                wrong.append(error)
                continue
            self.revision += 1
            if isinstance(fact, MadeFact):
                made[fact.customer, fact.prediction] = fact
            elif isinstance(fact, LabelFact):
                if self.facts.said(fact.label) is not None:
                    said[fact.customer, fact.prediction, fact.time_ms, fact.label] = fact
            elif isinstance(fact, CohortFact):
                self._set_cohort(fact)
            elif fact.model == self._model:
                self.decisions = fact.value
        self._add_predictions(made)
        self._add_labels(said)
        return wrong

    def _set_cohort(self, fact: CohortFact) -> None:
        if fact.model != self._model:
            return
        if fact.performance is None:
            self.cohorts.pop((fact.day, fact.version), None)
        else:
            self.cohorts[fact.day, fact.version] = fact.performance

    def _add_predictions(self, made: dict[tuple[int, int], MadeFact]) -> None:
        ours = [fact for fact in made.values() if fact.model == self._model]
        rows = [row for f in ours if (row := self.facts.made(f, self._version(f.version))) is not None]
        if rows:
            self._predictions.add(np.array(rows, dtype=self.facts.prediction))
            self.latest_ms = max(self.latest_ms, *(f.time_ms for f in ours))
        self._predictions.remove(_mix([key for key, fact in made.items() if fact.model is None]))

    def _add_labels(self, said: dict[tuple[int, int, int, Outcome], LabelFact]) -> None:
        rows = [(*key[:3], self.facts.said(key[3])) for key, fact in said.items() if not fact.gone]
        if rows:
            self._labels.add(np.array(rows, dtype=self.facts.label))
            self.latest_ms = max(self.latest_ms, *(time_ms for _, _, time_ms, _ in rows))
        gone = [(*key[:3], self.facts.said(key[3])) for key, fact in said.items() if fact.gone]
        self._labels.remove(self._label_marks(np.array(gone, dtype=self.facts.label)))

    def _version(self, version: str) -> int:
        """Return the version's index. Versions beyond MAX_VERSIONS share the last one."""
        if version not in self._index and len(self.versions) < MAX_VERSIONS:
            self._index[version] = len(self.versions)
            self.versions.append(version)
        return self._index.get(version, MAX_VERSIONS - 1)

    # -- what is known ------------------------------------------------------------------------------------------------

    def predictions(self) -> Predictions:
        """Return every prediction once."""
        return self._predictions.merged(_mixed, lambda rows: rows[distinct(rows)])

    def labels(self) -> Labels:
        """Return every label once."""
        return self._labels.merged(self._label_marks, np.unique)

    def _label_marks(self, rows: Labels) -> NDArray[np.uint64]:
        """Return one number per label."""
        timed: NDArray[np.uint64] = (_mixed(rows) * _ODD + rows["time_ms"].astype(np.uint64)) * _ODD
        return timed + self.facts.bits(rows)

    def days(self) -> list[DayVersion]:
        """Return (start of the UTC day, index of the version) of every cohort with predictions, in order."""
        held = self.predictions()
        pairs = np.unique(held["time_ms"] // DAY_MS * MAX_VERSIONS + held["version"])
        return [(int(pair) // MAX_VERSIONS * DAY_MS, int(pair) % MAX_VERSIONS) for pair in pairs]

    def open_days(self, now_ms: int) -> list[DayVersion]:
        """Return the cohorts of `days` that are not evaluated yet and not too old."""
        return [
            (start, version)
            for start, version in self.days()
            if (day_name(start), self.versions[version]) not in self.cohorts and start >= now_ms - FORGOTTEN_MS
        ]

    def due(self, now_ms: int) -> list[DayVersion]:
        """Return the cohorts of `open_days` of which every prediction is older than the horizon."""
        return [one for one in self.open_days(now_ms) if one[0] + DAY_MS + self._horizon_ms <= now_ms]

    # -- what may go --------------------------------------------------------------------------------------------------

    def evict(self, now_ms: int, most: int) -> Iterator[tuple[int | None, bytes]]:
        """Drop at most `most` facts that are no longer needed. Yield their customer hashes (None: none) and keys.

        These are facts older than the horizon and GRACE_MS that no open cohort needs, and the marks of cohorts that are
        too old.
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
                yield customer, label_key(customer, prediction, time_ms, self.facts.outcome(label))
        for day, version in [one for one in self.cohorts if one[0] < day_name(now_ms - FORGOTTEN_MS)]:
            del self.cohorts[day, version]
            yield None, cohort_key(self._model, version, day)


def _check_time(fact: Fact, latest_ms: float) -> None:
    if isinstance(fact, MadeFact | LabelFact) and fact.time_ms > latest_ms:
        raise ValueError(f"not a fact of the label state: time_ms {fact.time_ms} is ahead of the clock")
    if isinstance(fact, CohortFact) and latest_ms < math.inf and fact.day > day_name(int(latest_ms)):
        raise ValueError(f"not a fact of the label state: day {fact.day} is ahead of the clock")


def day_name(at_ms: int) -> str:
    """Return the UTC day.

    >>> day_name(86_400_000)
    '1970-01-02'
    """
    return str(np.datetime64(at_ms, "ms").astype("datetime64[D]"))


def _mix(pairs: list[tuple[int, int]]) -> NDArray[np.uint64]:
    """Return one number per (customer, prediction)."""
    first, second = np.array(pairs, dtype=np.uint64).reshape(-1, 2).T
    mixed: NDArray[np.uint64] = first * _ODD + second
    return mixed


def _mixed(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = rows["customer"] * _ODD + rows["prediction"]
    return mixed
