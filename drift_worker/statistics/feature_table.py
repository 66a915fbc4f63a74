"""The features side by side, or the score alone: one table of a window for all, and what it is compared with.

Numbers come first, then categories. F: subjects, the first N of them numbers. C: their PSI cells. K: the most
categories that one of them has, and at the end one for unseen ones; the rest of a shorter row stays 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import GROUPS, CategoryCells, NumericCells, Vector
from drift_worker.statistics import calm_past, psi
from drift_worker.statistics.baseline import Column, Distribution
from drift_worker.statistics.stacked import Spans
from schemas.bundle.manifest import Inflation
from schemas.measurement import TRAINING

AnyColumn = Column[NumericCells] | Column[CategoryCells]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """A window's counts, float64."""

    #: (GROUPS, C), by customer group.
    cells: Floats
    #: (GROUPS, F), by customer group.
    missing: Floats
    #: (GROUPS, F-N), by customer group.
    unseen: Floats
    #: (F-N, K), in all.
    categories: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What the subjects of a window are compared with."""

    #: Of every subject.
    each: Sequence[Distribution]
    #: (F,).
    effective: Floats
    #: (C,), shares.
    cells: Floats
    #: (C,), 1 for a cell that PSI is made of, else 0.
    used: Floats
    #: (C,), the p of those cells.
    smoothed: Floats
    #: (F,), how many of those cells there are.
    sizes: Floats
    #: (F,), the PSI over h that one window in a thousand exceeds.
    null_limit: Floats
    #: (N, bins).
    textbook: NDArray[np.int64]
    #: (F-N, K), as independent ones.
    categories: Floats
    #: (N,), the λ of this reference that PSI is divided by.
    by_psi: Floats
    #: (N,), the λ that D is divided by.
    by_ks: Floats
    #: (F-N,), the λ that χ² is divided by.
    by_chi2: Floats
    #: Of each, for a picture.
    shares: list[list[float]]


class Subjects:
    """Some series of a bundle, and where their counts are: what depends on the reference only, made once."""

    def __init__(self, columns: Mapping[int, AnyColumn], inflations: Mapping[int, Mapping[str, Inflation]]) -> None:
        """Take columns and λ (by statistic) by series."""
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
        self.profiles = self._profiles()

    def _lay_out(self) -> None:
        """Order the groups' columns: those of a PSI cell go together, behind them missing, then unseen."""
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

    def _profiles(self) -> calm_past.Layout:
        """Return what the calm past keeps of these subjects: distributions first, then pairs of counts."""
        everything, numbers = range(len(self.columns)), range(self.numbers)
        pairs = [
            *((at, calm_past.MISSING) for at in everything),
            *((at, calm_past.UNSEEN) for at in everything[self.numbers :]),
            *((at, calm_past.OUT_OF_RANGE) for at in numbers),
            *((at, calm_past.SPIKE) for at in numbers),
        ]
        return calm_past.Layout(
            [*((at, calm_past.DISTRIBUTION) for at in everything), *pairs],
            [*self.spans.sizes.tolist(), *([2] * len(pairs))],
            np.concatenate([self.training.used, np.ones(2 * len(pairs))]),
        )

    def tables(self, window: Mapping[int, Vector]) -> Tables:
        """Return the tables of a window's vectors by series; an absent series has no counts."""
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

    def sizes(self, window: Mapping[int, Vector]) -> list[tuple[int, int]]:
        """Return how many values of each subject are present and missing: what `tables` adds up to."""
        found = []
        for column, series in zip(self.columns, self.series, strict=True):
            groups = column.cells.groups(window[series]) if series in window else None
            missing = 0 if groups is None else int(groups[:, -1].sum())
            found.append((0 if groups is None else int(groups.sum()) - missing, missing))
        return found

    def before(self, slots: Mapping[int, Distribution]) -> Before:
        """Return the reference's rows, but for the series that have a slot."""
        if not slots:
            return self.training
        pairs = zip(self.series, self.columns, strict=True)
        return self._before([slots.get(series, column.training) for series, column in pairs])

    def _before(self, each: Sequence[Distribution]) -> Before:
        n = self.numbers
        counted = [before.psi_counts for before in each]
        # Unseen values where none are expected have a test and an alert for themselves. As a PSI cell that is empty in
        # the reference, 2 % of them would be drift as well.
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
        """Return λ of the reference; it does not apply to past weeks."""
        return np.array(
            [
                of[statistic].divisor if before.against == TRAINING and statistic in of else 1.0
                for of, before in zip(self._inflations, each, strict=True)
            ]
        )


def shares(counts: NDArray[np.int64] | Floats) -> list[list[float]]:
    """Return the shares of each row; six digits are enough for a picture."""
    rows: list[list[float]] = np.round(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), 6).tolist()
    return rows


def _names(column: AnyColumn) -> list[float | str]:
    """Return the names of the bins that are shown: a number's inner edges, or the categories and `unseen`."""
    if isinstance(column.cells, NumericCells):
        return list(column.cells.edges())
    return [*column.cells.categories, *(["unseen"] if column.cells.open else [])]
