"""Window counts × reference → numbers. No verdicts: what is too much is decided in `drift_worker.decide`.

A distribution may be compared with that of past weeks instead of the reference's. Missing, unseen and broken values are
held against the reference always: what training never saw and what a producer breaks knows no season.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from drift_worker import categories, counts, ks, psi, quality, rates, repeats
from drift_worker.cells import CategoryCells, Cells, NumericCells, Vector
from drift_worker.columns import Column, Columns, Distribution, mean_score
from schemas.bundle import Inflation, SelfCheck
from schemas.measurement import TRAINING, Bins, FeatureMeasurement
from schemas.reference import Reference

# A rate that grew must be seen in this many customer groups: one customer's habit is no drift.
LEAST_GROUPS = 3
NOT_ENOUGH = "not_enough_data"
REFERENCE_TOO_SMALL = "reference_too_small"
ALL_MISSING = "all_missing"

Window = Mapping[int, Vector]
Slots = Mapping[int, Distribution]  # by series: what it is compared with instead of the reference's rows
_NO_SLOTS: Slots = {}


class Measurer:
    """Measures windows against one reference. Made once per bundle; keeps nothing between windows.

    A window maps a series to its vector; a series without counts may be absent.
    """

    def __init__(
        self, cells: Cells, reference: Reference, min_events: int, self_check: SelfCheck | None = None
    ) -> None:
        """`min_events`: fewer effective events in the window, or fewer reference rows, are not enough data.

        self_check: of this reference (None: none was made); a statistic that strays from its null distribution is
        divided by its λ before it is tested.
        """
        self._cells = cells
        self.columns = Columns(cells, reference)
        self._min_events = min_events
        self._self_check = self_check if self_check is not None else SelfCheck()

    @property
    def tests(self) -> int:
        """Tests of one window: three per feature and two of the score; one that could not be made counts, too."""
        return 3 * len(self.columns.features) + 2

    def features(self, window: Window, slots: Slots = _NO_SLOTS) -> dict[str, FeatureMeasurement]:
        """Every feature by name."""
        repeat = self._repeat(window, 0, counts.CUSTOMERS)
        measured = {}
        for series, column in enumerate(self.columns.features):
            vector = window.get(series)
            if vector is None:
                vector = np.zeros(column.cells.size, dtype=np.int64)
            before = slots.get(series, column.training)
            inflation = self._self_check.features.get(column.cells.name, {})
            if isinstance(column.cells, NumericCells):
                measurement = self._numeric(column, column.cells, before, vector, repeat, "numeric", inflation)
            else:
                measurement = self._categorical(column, column.cells, before, vector, repeat, inflation)
            measured[column.cells.name] = measurement
        return measured

    def score(self, window: Window, slots: Slots = _NO_SLOTS) -> FeatureMeasurement:
        """The score, with its mean and the share of positive labels."""
        column, cells = self.columns.score, self._cells.score
        before = slots.get(counts.SCORE, column.training)
        vector = window.get(counts.SCORE)
        if vector is None:
            vector = np.zeros(cells.size, dtype=np.int64)
        repeat = self._repeat(window, counts.SCORE, counts.SCORED_CUSTOMERS)
        measured = self._numeric(column, cells, before, vector, repeat, "score", self._self_check.score)
        if not measured.events:
            return measured
        total, labels = cells.score_sums(vector)
        return replace(
            measured,
            mean=mean_score(total, measured.events),
            reference_mean=before.mean,
            positive_ratio=labels / measured.events,
        )

    def _repeat(self, window: Window, series: int, sketch: int) -> float:
        """m/m_kish, at least 1: the design effect if all repeats of a customer were identical."""
        vector = window.get(series)
        if vector is None or sketch not in window:
            return 1.0
        cells = self._cells.score if series == counts.SCORE else self._cells.features[series]
        m = int(cells.values(vector).sum()) + cells.missing(vector)
        return counts.sum_of_squares(window[sketch], m) / m if m else 1.0

    def _numeric(
        self,
        column: Column[NumericCells],
        cells: NumericCells,
        before: Distribution,
        vector: Vector,
        repeat: float,
        kind: str,
        inflation: Mapping[str, Inflation],
    ) -> FeatureMeasurement:
        values, table = cells.values(vector), cells.groups(vector)
        measured = self._rates(column, values, cells.missing(vector), table, repeat, kind)
        if measured.reason is not None:
            return measured
        m, n = measured.events, before.effective
        present = column.by_psi_cell(table)
        m_eff = m / repeats.deff_cells(present, repeat)
        rest = repeats.without_dominant(present)
        rest_m_eff = 0.0 if rest is None else float(rest.sum()) / repeats.deff_cells(rest, repeat)
        if (reason := self._too_little(max(m_eff, rest_m_eff), n)) is not None:
            return replace(measured, effective=m_eff, reason=reason)
        h = 1.0 / n + 1.0 / m_eff
        size = cells.psi_cells
        window_counts = present.sum(axis=0).astype(np.int64)
        value = psi.psi(before.psi_counts, window_counts)
        by_psi, by_ks = _divisor(inflation, "psi", before), _divisor(inflation, "ks", before)
        corrected, log_psi = psi.psi_corrected(value, size, h), psi.log10_p(value / by_psi, size, h)
        ks_deff = repeats.deff_thresholds(present, repeat)
        if rest is not None:
            # one customer must not make an alert: it has to hold without the dominant groups as well
            ks_deff = repeat
            rest_h = 1.0 / n + 1.0 / rest_m_eff
            rest_value = psi.psi(before.psi_counts, rest.sum(axis=0).astype(np.int64))
            corrected = min(corrected, psi.psi_corrected(rest_value, size, rest_h))
            log_psi = max(log_psi, psi.log10_p(rest_value / by_psi, size, rest_h))
        cumulative = np.cumsum(values)
        # of past weeks only the PSI cells are kept
        compared = cumulative if before.against == TRAINING else np.cumsum(window_counts)
        distance = ks.distance(before.cumulative, compared)
        log_ks = ks.log10_p(distance / by_ks, 1.0 / n + ks_deff / m)
        jump = quality.unit_jump(cells, column.vector, vector)
        constant = quality.constant(cells, column.vector, vector, m_eff)
        textbook = psi.textbook_counts(cells, cumulative)
        return replace(
            measured,
            against=before.against,
            reference=int(n),
            effective=m_eff,
            psi=value,
            psi_textbook=psi.psi(before.shown, textbook),
            psi_corrected=corrected,
            ks=distance,
            log10_p=min(log_psi, log_ks),
            effect=max(corrected, distance),
            tests={"psi": log_psi, "ks": log_ks, **measured.tests},
            null_999=psi.null_limit(size, h) * by_psi,
            score_shift=column.score_shift(before, window_counts),
            out_of_range_ratio=float(values[0] + values[-1]) / m,
            quality="constant" if constant else "unit_jump" if jump else None,
            quality_detail=jump,
            bins=Bins(list(cells.edges()), _shares(before.shown), _shares(textbook)),
        )

    def _categorical(
        self,
        column: Column[CategoryCells],
        cells: CategoryCells,
        before: Distribution,
        vector: Vector,
        repeat: float,
        inflation: Mapping[str, Inflation],
    ) -> FeatureMeasurement:
        values, table = cells.values(vector), cells.groups(vector)
        measured = self._rates(column, values, cells.missing(vector), table, repeat, "categorical")
        if measured.reason is not None:
            return measured
        n, reference, present = before.effective, before.psi_counts, column.by_psi_cell(table)
        # Unseen values where none are expected have a test and an alert of their own; as a cell of PSI, empty in the
        # reference, 2 % of them would be drift as well.
        size = len(reference) - int(cells.open and reference[-1] == 0)
        m_eff = measured.events / repeats.deff_cells(present, repeat)
        rest = repeats.without_dominant(present)
        rest_m_eff = 0.0 if rest is None else float(rest.sum()) / repeats.deff_cells(rest, repeat)
        if (reason := self._too_little(max(m_eff, rest_m_eff), n)) is not None:
            return replace(measured, effective=m_eff, reason=reason)
        h = 1.0 / n + 1.0 / m_eff
        window_counts = present.sum(axis=0).astype(np.int64)
        value = psi.psi(reference[:size], window_counts[:size])
        corrected = psi.psi_corrected(value, size, h)
        moved = categories.largest_move(reference, window_counts)
        if rest is not None:
            rest_counts = rest.sum(axis=0).astype(np.int64)
            rest_h = 1.0 / n + 1.0 / rest_m_eff
            rest_value = psi.psi(reference[:size], rest_counts[:size])
            corrected = min(corrected, psi.psi_corrected(rest_value, size, rest_h))
            moved = min(moved, categories.largest_move(reference, rest_counts))
        known = len(cells.categories) + int(cells.open)
        independent = before.shown[:known] * (n / before.shown.sum())
        chi2 = categories.chi2(independent, values[:known], m_eff, rare_last=cells.open)
        log_chi2 = None if chi2 is None else categories.log10_p(chi2[0] / _divisor(inflation, "chi2", before), chi2[1])
        names: list[float | str] = [*cells.categories, *(["unseen"] if cells.open else [])]
        return replace(
            measured,
            against=before.against,
            reference=int(n),
            effective=m_eff,
            psi=value,
            psi_corrected=corrected,
            linf=moved,
            log10_p=log_chi2,
            effect=max(corrected, moved),
            tests=measured.tests if log_chi2 is None else {"chi2": log_chi2, **measured.tests},
            null_999=psi.null_limit(size, h) if size > 1 else None,
            score_shift=column.score_shift(before, window_counts),
            bins=Bins(names, _shares(before.shown[:known]), _shares(values[:known])),
        )

    def _too_little(self, m_eff: float, n: float) -> str | None:
        if n < self._min_events:
            return REFERENCE_TOO_SMALL
        return NOT_ENOUGH if m_eff < self._min_events else None

    def _rates(
        self,
        column: Column[NumericCells] | Column[CategoryCells],
        values: Vector,
        missing: int,
        table: NDArray[np.int64],
        repeat: float,
        kind: str,
    ) -> FeatureMeasurement:
        """Sizes, missing and unseen rates and their tests; `reason` is set where no distribution can be measured."""
        present = int(values.sum())
        m, n = present + missing, column.present + column.missing
        is_open = isinstance(column.cells, CategoryCells) and column.cells.open
        measured = FeatureMeasurement(
            kind="boolean" if kind == "categorical" and not is_open else kind,
            events=present,
            reference=column.present,
            reference_missing_ratio=column.missing / n,
            reference_unseen_ratio=column.unseen / max(1, column.present) if is_open else None,
        )
        if m < self._min_events:
            return replace(measured, reason=NOT_ENOUGH)
        tests: dict[str, float] = {}
        grew = missing * n > column.missing * m
        if missing + column.missing and not (grew and np.count_nonzero(table[:, -1]) < LEAST_GROUPS):
            m_eff = m / repeats.deff_cells(_marked(table, -1), repeat)
            tests["missing"] = rates.log10_p_two_sided(column.missing, n, missing, m, m_eff)
        if is_open and present and np.count_nonzero(table[:, -2]) >= LEAST_GROUPS:
            m_eff = present / repeats.deff_cells(_marked(table[:, :-1], -1), repeat)
            tests["unseen"] = rates.log10_p_more(column.unseen, column.present, int(values[-1]), present, m_eff)
        no_reference = REFERENCE_TOO_SMALL if not column.present else None
        return replace(
            measured,
            missing_ratio=missing / m,
            unseen_ratio=float(values[-1]) / present if is_open and present else None,
            tests=tests,
            quality=ALL_MISSING if not present and column.present else None,
            reason=no_reference if present else ALL_MISSING,
        )


def _divisor(inflation: Mapping[str, Inflation], statistic: str, before: Distribution) -> float:
    """λ of the reference; past weeks are another one."""
    return inflation[statistic].divisor if before.against == TRAINING and statistic in inflation else 1.0


def _marked(table: NDArray[np.int64], cell: int) -> repeats.Table:
    """float64 (groups, 2): events outside and inside one cell."""
    inside = table[:, cell]
    return np.column_stack([table.sum(axis=1) - inside, inside]).astype(np.float64)


def _shares(vector: Vector) -> list[float]:
    """Six digits are enough for a picture."""
    total = int(vector.sum())
    return np.round(vector / total, 6).tolist() if total else [0.0] * len(vector)
