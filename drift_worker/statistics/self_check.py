"""How far each statistic differs from its null distribution on *this* reference: simulated once per bundle.

A reference R* and a window W* are both drawn from the reference's rows, with replacement and as whole rows. (Windows
drawn alone and compared with the reference itself would leave out the reference's own sampling error.) Without repeated
customers the design effect is 1. λ is the observed 99 % point of a statistic over its nominal one. Its lower bound
comes from drawing the R* again (Efron's bootstrap over clusters, 1979: windows of one R* are not independent). The
window size with the largest lower bound counts.

The simulation covers atoms, heavy tails and small samples. It does not cover repeated customers, a season, or a stream
that differs from the reference from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import CategoryCells, Cells, NumericCells
from drift_worker.statistics import chi2, ks, psi
from drift_worker.statistics.baseline import Column, Columns
from drift_worker.statistics.catalogue import EXACT, TESTS
from drift_worker.statistics.tail_probability import chi2_limit
from schemas.bundle.inputs import Feature
from schemas.bundle.manifest import Inflation, SelfCheck
from schemas.features import MISSING, Layout
from schemas.reference import Reference

SIZES = (500, 1_500, 10_000)  # events of a window
REFERENCES, WINDOWS = 40, 50
BOOTSTRAPS = 200
TAIL = 0.01
CONFIDENCE = 0.95

# DRIFT_MIN_EVENTS where it is not set: a reference with fewer values of a feature measures no drift of it.
MIN_EVENTS = 500

Weights = NDArray[np.float32]  # (n, draws): how often each row of the reference was drawn


def self_check(features: Sequence[Feature], reference: Reference, seed: int) -> SelfCheck:
    """Return λ of each of the catalogue's tests that are not exact, per feature and of the score.

    A statistic that never could be computed (a column without values, one category) is left out. The same arguments
    give the same result. It takes some seconds for 10,000 rows and 25 features.
    """
    draw = np.random.default_rng(seed)
    layout = Layout(features)
    kinds = [*(feature.kind for feature in features), "score"]
    ordered = [_Ordered(column) for column in (*reference.numeric.T, reference.score)]
    # (n, cells of all categorical features): which cell each row falls into, missing values into none
    codes = np.column_stack(
        [np.empty((reference.rows, 0), dtype=np.float32)]
        + [
            (column[:, None] == np.arange(len(known) + 1)).astype(np.float32)
            for column, known in zip(reference.codes.T, layout.categories, strict=True)
        ]
    )
    found: dict[tuple[int, str], NDArray[np.float64]] = {}
    for r in range(REFERENCES):
        rows = draw.integers(reference.rows, size=reference.rows)
        drawn = Reference(reference.numeric[rows], reference.codes[rows], reference.score[rows], reference.singletons)
        columns = Columns(Cells(features, layout.categories, drawn), drawn)
        weights = _weights(rows[None, :], reference.rows)
        for s, size in enumerate(SIZES):
            windows = _weights(draw.integers(reference.rows, size=(WINDOWS, size)), reference.rows)
            for key, ratios in _ratios(kinds, columns, ordered, codes, weights, windows):
                found.setdefault(key, np.full((len(SIZES), REFERENCES, WINDOWS), np.nan))[s, r] = ratios
    again = draw.integers(REFERENCES, size=(BOOTSTRAPS, REFERENCES))
    checked: list[dict[str, Inflation]] = [{} for _ in range(len(features) + 1)]
    for (series, statistic), values in found.items():
        bounds = [_bounds(of_size, again) for of_size in values]
        if known := [(lower, ratio, size) for (ratio, lower), size in zip(bounds, SIZES, strict=True) if ratio > 0.0]:
            lower, ratio, size = max(known)
            checked[series][statistic] = Inflation(ratio=round(ratio, 4), lower=round(lower, 4), events=size)
    names = [feature.name for feature in features]
    return SelfCheck(windows=REFERENCES * WINDOWS, features=dict(zip(names, checked, strict=False)), score=checked[-1])


def unwatched(features: Sequence[Feature], reference: Reference, min_events: int = MIN_EVENTS) -> dict[str, int]:
    """Return the features whose drift cannot be measured, with how many values of each the reference has.

    The drift worker compares a window with at least `min_events` reference values; missing ones do not count.
    """
    layout = Layout(features)
    present = [0] * len(layout.names)
    for at, column in zip(layout.numeric, reference.numeric.T, strict=True):
        present[at] = int(np.count_nonzero(~np.isnan(column)))
    for at, codes in zip(layout.categorical, reference.codes.T, strict=True):
        present[at] = int(np.count_nonzero(codes != MISSING))
    return {name: count for name, count in zip(layout.names, present, strict=True) if count < min_events}


def unwatched_sentence(found: Mapping[str, int], features: int, rows: int, min_events: int = MIN_EVENTS) -> str | None:
    """Return one line about the result of `unwatched`, and a remedy; None if the result is empty.

    features: how many there are. rows: of the reference.
    """
    if not found:
        return None
    if len(found) == features:
        what = f"drift of no feature can be watched: the reference has {rows} rows"
    else:
        shown = ", ".join(f"{name} ({count} values)" for name, count in found.items())
        what = f"drift of {len(found)} of {features} features cannot be watched: {shown}"
    return (
        f"{what}, and DRIFT_MIN_EVENTS requires {min_events} values; more customers in the reference help (driftline "
        "rebaseline takes recent ones), or a smaller DRIFT_MIN_EVENTS with longer windows"
    )


class _Ordered:
    """A numeric column in ascending order. `rows`: where its values are; `ends`: the last of each distinct one."""

    def __init__(self, column: NDArray[np.float64]) -> None:
        present = np.flatnonzero(~np.isnan(column))
        self.rows = present[np.argsort(column[present], kind="stable")]
        self.values = column[self.rows]
        self.ends = np.flatnonzero(np.append(np.diff(self.values) > 0.0, True)) if len(present) else present


def _weights(rows: NDArray[np.int64], n: int) -> Weights:
    """Return float32 (n, draws), exact, of int64 (draws, size) row numbers: half of float64's memory and time."""
    draws = len(rows)
    place = rows * draws + np.arange(draws)[:, None]
    return np.bincount(place.ravel(), minlength=n * draws).reshape(n, draws).astype(np.float32)


def _ratios(
    kinds: Sequence[str],
    columns: Columns,
    ordered: Sequence[_Ordered],
    codes: NDArray[np.float32],
    weights: Weights,
    windows: Weights,
) -> Iterator[tuple[tuple[int, str], NDArray[np.float64]]]:
    """Yield ((series, test), observed over nominal 99 % point of every window); the score is the last series."""
    numeric = iter(ordered)
    coded, first = (windows.T @ codes).astype(np.float64), 0
    for series, (kind, column) in enumerate(zip(kinds, (*columns.features, columns.score), strict=True)):
        tests = [test for test in TESTS[kind] if test not in EXACT]
        if isinstance(column.cells, NumericCells):
            found = _numeric(tests, column, next(numeric), weights, windows)
        else:
            size = column.cells.cells - 1
            found = _categorical(tests, column, coded[:, first : first + size])
            first += size
        for test, ratios in found:
            yield (series, test), ratios


@dataclass(frozen=True, slots=True)
class _Windows:
    """Windows of a numeric column beside a drawn reference of it."""

    column: Column[NumericCells]
    ordered: _Ordered
    #: float32 (distinct values,): the reference's cumulated counts.
    reference: NDArray[np.float32]
    #: float32 (present rows, windows): how often each row was drawn.
    drawn: Weights
    #: float64 (windows,): values of each window.
    values: NDArray[np.float64]

    @property
    def h(self) -> NDArray[np.float64]:
        """Return 1/n + 1/m of each window."""
        return 1.0 / self.column.present + 1.0 / self.values


def _numeric(
    tests: Sequence[str], column: Column[NumericCells], ordered: _Ordered, weights: Weights, windows: Weights
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    drawn = windows[ordered.rows]
    values = drawn.sum(axis=0, dtype=np.float64)
    if not column.present or not values.all():
        return
    drawn_windows = _Windows(column, ordered, np.cumsum(weights[ordered.rows, 0])[ordered.ends], drawn, values)
    for test in tests:
        if (ratios := _OF_NUMBERS[test](drawn_windows)) is not None:
            yield test, ratios


def _psi(windows: _Windows) -> NDArray[np.float64] | None:
    column, cells = windows.column, windows.column.cells.psi_cells
    if cells <= 1:
        return None
    cell = column.psi_cell[column.cells.cell_of(windows.ordered.values)]
    counts = windows.drawn.T @ (cell[:, None] == np.arange(cells)).astype(np.float32)
    return psi.psis(column.training.psi_counts, counts) / (windows.h * psi.null_limit(cells, 1.0, TAIL))


def _ks(windows: _Windows) -> NDArray[np.float64]:
    reference = windows.reference / np.float32(windows.column.present)
    distance = np.cumsum(windows.drawn, axis=0)[windows.ordered.ends]
    distance /= windows.values.astype(np.float32)
    distance -= reference[:, None]
    largest: NDArray[np.float64] = np.abs(distance, out=distance).max(axis=0)
    return largest / (np.sqrt(windows.h) * ks.null_limit(1.0, TAIL))


def _categorical(
    tests: Sequence[str], column: Column[CategoryCells], drawn: NDArray[np.float64]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    known = drawn.shape[1] if column.cells.open else drawn.shape[1] - 1
    drawn = drawn[:, :known]
    if not column.present or not drawn.sum(axis=1).all():
        return
    for test in tests:
        yield test, _OF_CATEGORIES[test](column, drawn)


def _chi2(column: Column[CategoryCells], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    expected = column.training.shown[: drawn.shape[1]]
    statistic, df = chi2.chi2s(expected, drawn, drawn.sum(axis=1), rare_last=column.cells.open)
    limits = np.array([chi2_limit(TAIL, cells) if cells else np.nan for cells in range(int(df.max()) + 1)])
    ratios: NDArray[np.float64] = statistic / limits[df]
    return ratios


# How each of the catalogue's tests is simulated.
_OF_NUMBERS: Mapping[str, Callable[[_Windows], NDArray[np.float64] | None]] = {"psi": _psi, "ks": _ks}
_OF_CATEGORIES: Mapping[str, Callable[[Column[CategoryCells], NDArray[np.float64]], NDArray[np.float64]]] = {
    "chi2": _chi2
}


def _bounds(ratios: NDArray[np.float64], again: NDArray[np.int64]) -> tuple[float, float]:
    """Return λ and its one-sided 95 % lower bound of (references, windows) ratios; zeros where there are none."""
    if np.isnan(ratios).any():
        return 0.0, 0.0
    drawn = ratios[again].reshape(len(again), -1)
    points = np.quantile(drawn, 1.0 - TAIL, axis=1)
    return float(np.quantile(ratios, 1.0 - TAIL)), float(np.quantile(points, 1.0 - CONFIDENCE))
