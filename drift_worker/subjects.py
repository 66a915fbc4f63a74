"""The features side by side, or the score alone: one table of a window for all, and what it is compared with.

Numbers come first, then categories. F: subjects, the first N of them numbers. C: their PSI cells. K: the most
categories that one of them has, and at the end one for unseen ones; what others do not need of them stays 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker import psi
from drift_worker.cells import GROUPS, CategoryCells, NumericCells, Vector
from drift_worker.columns import Column, Distribution
from drift_worker.spans import Spans
from schemas.bundle import Inflation
from schemas.measurement import TRAINING

AnyColumn = Column[NumericCells] | Column[CategoryCells]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """A window's counts, float64.

    By customer group: cells (GROUPS, C), missing (GROUPS, F), unseen (GROUPS, F-N). In all: categories (F-N, K).
    """

    cells: Floats
    missing: Floats
    unseen: Floats
    categories: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What the subjects of a window are compared with.

    each: of every subject. effective: (F,). cells: (C,), shares. used: (C,), 1 for a cell that PSI is made of, else 0;
    smoothed: (C,), its p; sizes: (F,), how many. null_limit: (F,), the PSI over h that one window in a thousand
    exceeds. textbook: (N, bins). categories: (F-N, K), as independent ones. by_psi, by_ks: (N,), by_chi2: (F-N,),
    the λ of this reference that statistics are divided by. shares: of each, for a picture.
    """

    each: Sequence[Distribution]
    effective: Floats
    cells: Floats
    used: Floats
    smoothed: Floats
    sizes: Floats
    null_limit: Floats
    textbook: NDArray[np.int64]
    categories: Floats
    by_psi: Floats
    by_ks: Floats
    by_chi2: Floats
    shares: list[list[float]]


class Subjects:
    """Some series of a bundle, and where their counts stand: what depends on the reference only, made once.

    columns, series: of each subject. numbers: N. spans: of the C cells; number_spans: of those of the numbers.
    score_of: (C,), mean score of the reference per PSI cell. names: of each one's bins. textbook_ends: of each number.
    training: what a window is compared with if it has no slots.
    """

    def __init__(self, columns: Mapping[int, AnyColumn], inflations: Mapping[int, Mapping[str, Inflation]]) -> None:
        """Columns and λ (by statistic) by series."""
        self.series = sorted(columns, key=lambda series: isinstance(columns[series].cells, CategoryCells))
        self.columns = [columns[series] for series in self.series]
        self.numbers = sum(isinstance(column.cells, NumericCells) for column in self.columns)
        sizes = [len(column.training.psi_counts) for column in self.columns]
        self.spans, self.number_spans = Spans.of(sizes), Spans.of(sizes[: self.numbers])
        self.score_of = np.concatenate([column.score_of for column in self.columns])
        self.textbook_ends = [
            psi.textbook_ends(column.cells) for column in self.columns if isinstance(column.cells, NumericCells)
        ]
        self.names = [_names(column) for column in self.columns]
        self._widths = [column.cells.groups(column.vector).shape[1] for column in self.columns]
        self._lay_out()
        self._inflations = [inflations.get(series, {}) for series in self.series]
        self.training = self._before([column.training for column in self.columns])

    def _lay_out(self) -> None:
        """Of the groups' columns side by side: those of a PSI cell go together, behind them missing, then unseen."""
        ends = np.cumsum(self._widths)
        order, cells = [], []
        for column, start, width, end in zip(self.columns, self.spans.starts, self._widths, ends, strict=True):
            # a number's groups are counted by PSI cell
            cell = np.arange(width - 1) if isinstance(column.cells, NumericCells) else column.psi_cell
            order.append(end - width + np.argsort(cell, kind="stable"))
            cells.append(start + np.sort(cell))
        values = sum(self._widths) - len(ends)
        self._order = np.concatenate([*order, ends - 1, ends[self.numbers :] - 2])
        self._parts = (values, values + len(ends))
        self._cell_starts = np.flatnonzero(np.diff(np.concatenate(cells), prepend=-1))
        known = [len(column.cells.categories) for column in self.columns if isinstance(column.cells, CategoryCells)]
        # of the categories' counts one after the other, and a 0 behind them all
        self._category_at = np.full((len(known), max(known, default=0) + 1), sum(known) + len(known))
        for row, size, end in zip(
            self._category_at, known, np.cumsum(known) + np.arange(1, len(known) + 1), strict=True
        ):
            row[:size], row[-1] = np.arange(end - size - 1, end - 1), end - 1

    def tables(self, window: Mapping[int, Vector]) -> Tables:
        """Of a window's vectors by series; one that is absent has no counts."""
        parts = [
            column.cells.groups(window[series]) if series in window else np.zeros((GROUPS, width), dtype=np.int64)
            for column, series, width in zip(self.columns, self.series, self._widths, strict=True)
        ]
        groups = np.concatenate(parts, axis=1, dtype=np.float64)
        cells, missing, unseen = np.split(groups.take(self._order, axis=1), self._parts, axis=1)
        if len(self._cell_starts) < cells.shape[1]:
            cells = np.add.reduceat(cells, self._cell_starts, axis=1)
        counted = [
            column.cells.values(window[series]) if series in window else np.zeros(column.cells.cells - 1)
            for column, series in zip(self.columns[self.numbers :], self.series[self.numbers :], strict=True)
        ]
        return Tables(cells, missing, unseen, np.concatenate([*counted, [0.0]])[self._category_at])

    def before(self, slots: Mapping[int, Distribution]) -> Before:
        """The reference's rows, but for the series that have a slot."""
        if not slots:
            return self.training
        pairs = zip(self.series, self.columns, strict=True)
        return self._before([slots.get(series, column.training) for series, column in pairs])

    def _before(self, each: Sequence[Distribution]) -> Before:
        n = self.numbers
        counted = [before.psi_counts for before in each]
        # Unseen values where none are expected have a test and an alert of their own; as a cell of PSI, empty in the
        # reference, 2 % of them would be drift as well.
        alone = [column.cells.open and counts[-1] == 0 for column, counts in zip(self.columns, counted, strict=True)]
        used = np.ones(len(self.score_of))
        used[(self.spans.starts + self.spans.sizes - 1)[alone]] = 0.0
        categories = np.zeros(self._category_at.shape)
        for row, column, before in zip(categories, self.columns[n:], each[n:], strict=True):
            independent = before.shown * (before.effective / max(1, before.shown.sum()))
            row[: len(independent) - 1] = independent[:-1]
            row[-1] = independent[-1] if column.cells.open else 0.0
        sizes = self.spans.sums(used)
        psi_counts = np.concatenate(counted).astype(np.float64)
        return Before(
            each=each,
            effective=np.array([before.effective for before in each]),
            cells=self.spans.shares(psi_counts),
            used=used,
            smoothed=psi.smoothed(self.spans, psi_counts, used),
            sizes=sizes,
            null_limit=psi.null_limit(sizes, 1.0),
            textbook=np.array([before.shown for before in each[:n]], dtype=np.int64).reshape(n, psi.TEXTBOOK_BINS),
            categories=categories,
            by_psi=self._divisors("psi", each)[:n],
            by_ks=self._divisors("ks", each)[:n],
            by_chi2=self._divisors("chi2", each)[n:],
            shares=[
                shares(before.shown[: len(names) + 1 if at < n else len(names)][None, :])[0]
                for at, (before, names) in enumerate(zip(each, self.names, strict=True))
            ],
        )

    def _divisors(self, statistic: str, each: Sequence[Distribution]) -> Floats:
        """λ of the reference; past weeks are another one."""
        return np.array(
            [
                of[statistic].divisor if before.against == TRAINING and statistic in of else 1.0
                for of, before in zip(self._inflations, each, strict=True)
            ]
        )


def shares(counts: NDArray[np.int64] | Floats) -> list[list[float]]:
    """Shares of each row; six digits are enough for a picture."""
    rows: list[list[float]] = np.round(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), 6).tolist()
    return rows


def _names(column: AnyColumn) -> list[float | str]:
    """Of the bins that are shown: a number's inner edges, or the categories and `unseen`."""
    if isinstance(column.cells, NumericCells):
        return list(column.cells.edges())
    return [*column.cells.categories, *(["unseen"] if column.cells.open else [])]
