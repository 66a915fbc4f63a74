"""Customers and their outcomes, oldest first: from a file, or from events and the labels that arrived later.

Models are measured on them, retrained with them and promoted by them. Rows of one customer belong together: they are
never on both sides of a hold-out, and a metric's interval counts customers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance import label_join
from drift_worker.performance.task_facts import facts_of
from driftline.training.dataset import DatasetError, Label, Table, customer_ids, read_outcomes, read_table, typed_values
from schemas.bundle.inputs import DataFormat, EventMapping, Feature
from schemas.event import EventDecoder
from schemas.features import Columns, Layout
from schemas.formats.registered import Schemas
from schemas.label import LabelReason, known_outcome
from schemas.task import Binary, Outcome, Task, TaskName
from schemas.validation import Record, Rules


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled customers; row i of every part is the same customer's."""

    #: Features by name, untyped, as a file of customers has them.
    table: Table
    #: (n,): bool of a binary model, of others as `read_outcomes` has them.
    outcome: NDArray[Any]
    #: Ids, one per row.
    customers: tuple[str, ...]
    #: Events or labels that are no row, by reason.
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Return the outcomes of a binary model."""
        return self.outcome

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.table.rows

    @property
    def codes(self) -> NDArray[np.int64]:
        """Return the customers as numbers, int64 (n,)."""
        _, codes = np.unique(np.array(self.customers, dtype=object), return_inverse=True)
        return codes.astype(np.int64)

    def columns(self, features: Sequence[Feature]) -> Columns:
        """Return a model's columns of all rows; DatasetError where an event could not have the value."""
        return Layout(features).columns(typed_values(self.table, features))

    def take(self, rows: NDArray[np.int64]) -> Labelled:
        """Return only these rows, in this order."""
        kept = rows.tolist()
        return replace(
            self,
            table=self.table.take(kept),
            outcome=self.outcome[rows],
            customers=tuple(self.customers[row] for row in kept),
        )

    def then(self, newer: Labelled) -> Labelled:
        """Return these rows and the newer ones after them; both have the same columns."""
        cells = tuple([*self.table.column(n), *newer.table.column(n)] for n in self.table.names)
        sha256 = hashlib.sha256(f"{self.table.sha256}\n{newer.table.sha256}\n".encode()).hexdigest()
        return Labelled(
            replace(self.table, sha256=sha256, rows=self.rows + newer.rows, cells=cells),
            np.concatenate([self.outcome, newer.outcome]),
            (*self.customers, *newer.customers),
            dict(Counter(self.left_out) + Counter(newer.left_out)),
        )

    def with_labels(self, target: str, names: tuple[Label, Label] | None, customer: str | None) -> Table:
        """Return the table as training reads it: the label, and the id.

        names: of a binary model, those of the (negative, positive) label; None: an outcome is its own label.
        """
        told = self.outcome.tolist()
        labels: list[object] = told if names is None else [names[int(one)] for one in told]
        more: dict[str, list[object]] = {target: labels}
        if customer is not None and customer not in self.table.names:
            more[customer] = list(self.customers)
        names_of_all = (*self.table.names, *more)
        return replace(self.table, names=names_of_all, cells=(*self.table.cells, *more.values()))


def read_labelled(
    path: Path,
    names: Sequence[str],
    target: str,
    positive: Label | float | None,
    customer: str | None,
    form: DataFormat | None = None,
    task: TaskName = "binary",
) -> Labelled:
    """Return the file's rows in its order; DatasetError.

    names: the features' columns. customer: the column of the id; None: each row is another customer. form: how the file
    writes its cells. positive: None unless the task is binary; then the file must hold both labels.
    """
    wanted = [*names, target, *([customer] if customer else [])]
    table = read_table(path, list(dict.fromkeys(wanted)), form)
    try:
        labels = read_outcomes(table.column(target), target, positive, table.form, task)
        ids = customer_ids(table, customer) if customer else tuple(str(row) for row in range(1, table.rows + 1))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    cells = tuple(table.column(name) for name in names)
    features = replace(table, names=tuple(names), cells=cells)
    return Labelled(features, labels if positive is None else labels == positive, ids)


def held_out(customers: Sequence[str], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to train on, and the rows of the most recent customers; both int64, ascending.

    `share` is the least part of all rows that is held out. A customer is as recent as their last row.

    >>> train, test = held_out(["ann", "bob", "cyd", "ann"], 0.5)
    >>> train.tolist(), test.tolist()
    ([1, 2], [0, 3])
    """
    _, codes = np.unique(np.array(customers, dtype=object), return_inverse=True)
    last, rows_of = np.zeros(codes.max() + 1, dtype=np.int64), np.bincount(codes)
    np.maximum.at(last, codes, np.arange(len(codes)))
    recent = np.argsort(-last, kind="stable")
    enough = int(np.searchsorted(np.cumsum(rows_of[recent]), share * len(codes))) + 1
    test = np.isin(codes, recent[:enough])
    return np.flatnonzero(~test), np.flatnonzero(test)


@dataclass(slots=True, eq=False)
class _Events:
    """Valid events, column by column."""

    values: tuple[list[object], ...]
    customers: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)


class EventJoin:
    """Records of `labels`, then records of `customer-events` → Labelled.

    The rule is that of the drift worker's label join. An event counts as a prediction if the scorer would have scored
    it. Features and mapping are a bundle's or a spec's; a category may be unseen. Only events of customers with a label
    are kept. With absent_negative all are: no label by the horizon is a negative one.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        mapping: EventMapping,
        rules: Rules,
        *,
        absent_negative: bool = False,
        schemas: Schemas | None = None,
        task: Task | None = None,
    ) -> None:
        """Join nothing yet. task: of the model; None: binary."""
        self._task = Binary(positive_class=True) if task is None else task
        self._facts = facts_of(self._task)
        self._features = tuple(features)
        self._decoder = EventDecoder(features, mapping, rules, schemas)
        self._rules = rules
        self._absent_negative = absent_negative
        self._events = _Events(tuple([] for _ in features))
        self._labels: list[tuple[str, str | None, int, Outcome]] = []
        self._heard_of: set[str] = set()
        self._left_out: Counter[str] = Counter()
        self.newest_ms = 0  # of any valid event or label

    def label(self, value: bytes | None, now_ms: int) -> None:
        """Add one record of the labels' topic."""
        one = known_outcome(value, now_ms, self._rules.max_future_skew_ms, self._task.outcome)
        if isinstance(one, LabelReason):
            self._left_out[f"label {one}"] += 1
            return
        self._labels.append((one.customer_id, one.prediction_id, one.time_ms, one.outcome))
        self._heard_of.add(one.customer_id)
        self.newest_ms = max(self.newest_ms, one.time_ms)

    def events(self, records: Sequence[Record], now_ms: int) -> None:
        """Add some records of the events' topic, after all labels."""
        batch = self._decoder.decode(records, now_ms)
        self._left_out.update(
            f"event {rejection.reason.value}" for rejection in batch.rejections if rejection is not None
        )
        self.newest_ms = max(self.newest_ms, int(batch.event_time_ms.max(initial=0)))
        if not self._absent_negative:
            kept = [row for row, customer in enumerate(batch.customer_ids) if customer in self._heard_of]
            self._left_out["event without a label"] += len(batch.customer_ids) - len(kept)
            batch = batch.take(np.array(kept, dtype=np.int64))
        held = self._events
        for column, values in zip(held.values, batch.columns.values, strict=True):
            column.extend(values)
        held.customers.extend(batch.customer_ids)
        held.times.extend(batch.event_time_ms.tolist())
        accepted = (records[row] for row in batch.accepted.tolist())
        held.predictions.extend(f"{r.topic}-{r.partition}-{r.offset}" for r in accepted)

    def joined(self, horizon_ms: int, now_ms: int) -> Labelled:
        """Return the events whose outcome is known and settled, by event time. now_ms: event time."""
        held = self._events
        made = zip(held.customers, held.predictions, held.times, strict=True)
        predictions = label_join.prediction_rows((c, p, t, 0.0, 0.0, 0, False) for c, p, t in made)
        kept = label_join.distinct(predictions)
        outcomes, has, unmatched = self._outcomes(predictions[kept], horizon_ms, now_ms)
        settled = label_join.settled(predictions[kept], horizon_ms, now_ms)
        known = has & settled
        rows, outcome = kept[known], outcomes[known]
        order = np.argsort(predictions["time_ms"][rows], kind="stable")
        rows, outcome = rows[order], outcome[order]
        young = int((~settled).sum())
        more = {
            "event younger than the label horizon": young,
            "event without a label": len(kept) - len(rows) - young,
            "label of no event": unmatched,
        }
        left_out = {reason: count for reason, count in (self._left_out + Counter(more)).items() if count}
        return Labelled(self._table(rows.tolist(), outcome), outcome, tuple(held.customers[r] for r in rows), left_out)

    def _outcomes(
        self, predictions: label_join.Predictions, horizon_ms: int, now_ms: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_], int]:
        """Return the outcome of each event, whether it is known, and how many labels belong to none."""
        if isinstance(self._task, Binary):
            labels = label_join.label_rows((c, p, t, bool(one)) for c, p, t, one in self._labels)
            absent = self._absent_negative
            found = label_join.join(predictions, labels, horizon_ms, absent_negative=absent, now_ms=now_ms)
            return found.outcome == 1, found.outcome != label_join.UNKNOWN, found.unmatched
        hashed = [
            (label_join.identify(c), label_join.NO_PREDICTION if p is None else label_join.identify(p), t)
            for c, p, t, _ in self._labels
        ]
        said = [self._facts.said(one) for *_, one in self._labels]
        rows = [(*key, one) for key, one in zip(hashed, said, strict=True)]
        chosen, unmatched = label_join.matched(predictions, np.array(rows, dtype=self._facts.label), horizon_ms)
        told = np.array([one for *_, one in self._labels] or [0.0])
        return told[np.maximum(chosen, 0)], chosen >= 0, unmatched

    def _table(self, rows: list[int], outcome: NDArray[Any]) -> Table:
        held = self._events
        cells = tuple([column[row] for row in rows] for column in held.values)
        names = tuple(feature.name for feature in self._features)
        return Table(_digest((held.predictions[row] for row in rows), outcome), len(rows), names, cells)


def _digest(predictions: Iterable[str], outcome: NDArray[Any]) -> str:
    """Return the identity of data that is in no file: which events, with which outcomes."""
    told = (int(one) if isinstance(one, bool) else one for one in outcome.tolist())
    lines = (f"{name} {one}\n" for name, one in zip(predictions, told, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
