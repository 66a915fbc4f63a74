"""Customers and what became of them, oldest first: out of a file, or out of events and the labels that came later.

What a model is measured on, retrained with and promoted by. Rows of one customer belong together: they are never on
both sides of a hold-out, and a metric's interval counts customers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift_worker import join
from schemas.bundle import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.features import Columns, Layout
from schemas.label import decode_label
from schemas.verdict import Record, Rules
from training.dataset import DatasetError, Label, Table, customer_ids, read_labels, read_table, typed_values


@dataclass(frozen=True, slots=True)
class Labelled:
    """Row i of every part is the same customer's. table: features by name, untyped, as a file of customers has them.

    positive: bool (n,). customers: ids, one per row. left_out: events or labels that are no row, by reason.
    """

    table: Table
    positive: NDArray[np.bool_]
    customers: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.table.rows

    @property
    def codes(self) -> NDArray[np.int64]:
        """The customers as numbers, int64 (n,)."""
        _, codes = np.unique(np.array(self.customers, dtype=object), return_inverse=True)
        return codes.astype(np.int64)

    def columns(self, features: Sequence[Feature]) -> Columns:
        """A model's columns of all rows; DatasetError where a value is none that an event may have."""
        return Layout(features).columns(typed_values(self.table, features))

    def take(self, rows: NDArray[np.int64]) -> Labelled:
        """Only these rows, in this order."""
        kept = rows.tolist()
        return replace(
            self,
            table=self.table.take(kept),
            positive=self.positive[rows],
            customers=tuple(self.customers[row] for row in kept),
        )

    def then(self, newer: Labelled) -> Labelled:
        """These rows and the newer ones after them; both have the same columns."""
        cells = tuple([*self.table.column(n), *newer.table.column(n)] for n in self.table.names)
        sha256 = hashlib.sha256(f"{self.table.sha256}\n{newer.table.sha256}\n".encode()).hexdigest()
        return Labelled(
            Table(sha256, self.rows + newer.rows, self.table.names, cells),
            np.concatenate([self.positive, newer.positive]),
            (*self.customers, *newer.customers),
            dict(Counter(self.left_out) + Counter(newer.left_out)),
        )

    def with_labels(self, target: str, names: tuple[Label, Label], customer: str | None) -> Table:
        """The table as training reads it: the label by its (negative, positive) names, and the id, in columns."""
        labels: list[object] = [names[int(one)] for one in self.positive.tolist()]
        more: dict[str, list[object]] = {target: labels}
        if customer is not None and customer not in self.table.names:
            more[customer] = list(self.customers)
        names_of_all = (*self.table.names, *more)
        return Table(self.table.sha256, self.rows, names_of_all, (*self.table.cells, *more.values()))


def read_labelled(path: Path, names: Sequence[str], target: str, positive: Label, customer: str | None) -> Labelled:
    """The file's rows, in its order; DatasetError. names: the features' columns; customer: the id's, None: row by row.

    The file must hold both labels.
    """
    wanted = [*names, target, *([customer] if customer else [])]
    table = read_table(path, list(dict.fromkeys(wanted)))
    try:
        labels = read_labels(table.column(target), target, positive)
        ids = customer_ids(table, customer) if customer else tuple(str(row) for row in range(1, table.rows + 1))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    cells = tuple(table.column(name) for name in names)
    return Labelled(Table(table.sha256, table.rows, tuple(names), cells), labels == positive, ids)


def held_out(customers: Sequence[str], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on, and the most recent customers' rows, at least `share` of all; both int64, ascending.

    A customer is as recent as their last row.

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

    The rule is drift_worker/join.py's. An event counts as a prediction if the scorer would have answered it: features
    and mapping are a bundle's or a spec's, and a category may be one that nobody has seen. Only events of customers
    who have a label are held, unless absent_negative: no label by the horizon is a negative one.
    """

    def __init__(
        self, features: Sequence[Feature], mapping: EventMapping, rules: Rules, *, absent_negative: bool = False
    ) -> None:
        self._features = tuple(features)
        self._decoder = EventDecoder(features, mapping, rules)
        self._rules = rules
        self._absent_negative = absent_negative
        self._events = _Events(tuple([] for _ in features))
        self._labels: list[tuple[str, str | None, int, bool]] = []
        self._heard_of: set[str] = set()
        self._left_out: Counter[str] = Counter()
        self.newest_ms = 0  # of any valid event or label

    def label(self, value: bytes | None, now_ms: int) -> None:
        """One record of the labels' topic."""
        verdict = decode_label(value, now_ms, self._rules.max_future_skew_ms)
        if verdict.label is None:
            self._left_out[f"label {verdict.reason}"] += 1
            return
        one = verdict.label
        self._labels.append((one.customer_id, one.prediction_id, verdict.time_ms, one.label))
        self._heard_of.add(one.customer_id)
        self.newest_ms = max(self.newest_ms, verdict.time_ms)

    def events(self, records: Sequence[Record], now_ms: int) -> None:
        """Some records of the events' topic, after all labels."""
        batch = self._decoder.decode(records, now_ms)
        self._left_out.update(f"event {defect.reason.value}" for defect in batch.defects if defect is not None)
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
        """Events whose outcome is known and settled (see join.settled), by event time. now_ms: event time."""
        held = self._events
        made = zip(held.customers, held.predictions, held.times, strict=True)
        predictions = join.prediction_rows((c, p, t, 0.0, 0.0, 0, False) for c, p, t in made)
        kept = join.distinct(predictions)
        labels = join.label_rows(self._labels)
        found = join.join(predictions[kept], labels, horizon_ms, absent_negative=self._absent_negative, now_ms=now_ms)
        settled = join.settled(predictions[kept], horizon_ms, now_ms)
        known = (found.outcome != join.UNKNOWN) & settled
        rows, outcome = kept[known], found.outcome[known] == 1
        order = np.argsort(predictions["time_ms"][rows], kind="stable")
        rows, outcome = rows[order], outcome[order]
        young = int((~settled).sum())
        more = {
            "event younger than the label horizon": young,
            "event without a label": len(kept) - len(rows) - young,
            "label of no event": found.unmatched,
        }
        left_out = {reason: count for reason, count in (self._left_out + Counter(more)).items() if count}
        return Labelled(self._table(rows.tolist(), outcome), outcome, tuple(held.customers[r] for r in rows), left_out)

    def _table(self, rows: list[int], outcome: NDArray[np.bool_]) -> Table:
        held = self._events
        cells = tuple([column[row] for row in rows] for column in held.values)
        names = tuple(feature.name for feature in self._features)
        return Table(_digest((held.predictions[row] for row in rows), outcome), len(rows), names, cells)


def _digest(predictions: Iterable[str], outcome: NDArray[np.bool_]) -> str:
    """Which events, and what became of them: the identity of data that is in no file."""
    lines = (f"{name} {int(one)}\n" for name, one in zip(predictions, outcome.tolist(), strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
