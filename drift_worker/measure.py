"""Window counts × reference → numbers. No verdicts: what is too much is decided in `drift_worker.decide`.

A distribution may be compared with that of past weeks instead of the reference's. Missing, unseen and broken values are
held against the reference always: what training never saw and what a producer breaks knows no season.

All features are computed side by side, because a window has a thousand small sums and a call of numpy's costs more than
most of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from drift_worker import categories, counts, ks, psi, quality, rates, repeats
from drift_worker.cells import Cells, NumericCells, Vector
from drift_worker.columns import Columns, Distribution, mean_score
from drift_worker.compare import Compared, compare
from drift_worker.subjects import AnyColumn, Before, Subjects, Tables, shares
from schemas.bundle import SelfCheck
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
        self.columns = Columns(cells, reference)
        self._min_events = min_events
        checked = self_check if self_check is not None else SelfCheck()
        names = [feature.name for feature in cells.features]
        self._names = dict(enumerate(names))
        self._features = Subjects(
            dict(enumerate(self.columns.features)),
            {series: checked.features.get(name, {}) for series, name in enumerate(names)},
        )
        self._score = Subjects({counts.SCORE: self.columns.score}, {counts.SCORE: checked.score})

    @property
    def tests(self) -> int:
        """Tests of one window: three per feature and two of the score; one that could not be made counts, too."""
        return 3 * len(self.columns.features) + 2

    def features(self, window: Window, slots: Slots = _NO_SLOTS) -> dict[str, FeatureMeasurement]:
        """Every feature by name."""
        measured = self._measure(self._features, window, slots, counts.CUSTOMERS)
        return {name: measured[series] for series, name in self._names.items()}

    def score(self, window: Window, slots: Slots = _NO_SLOTS) -> FeatureMeasurement:
        """The score, with its mean and the share of positive labels."""
        column = self.columns.score
        measured = self._measure(self._score, window, slots, counts.SCORED_CUSTOMERS)[counts.SCORE]
        if not measured.events:
            return measured
        total, labels = column.cells.score_sums(window[counts.SCORE])
        return replace(
            measured,
            mean=mean_score(total, measured.events),
            reference_mean=slots.get(counts.SCORE, column.training).mean,
            positive_ratio=labels / measured.events,
        )

    def _measure(self, subjects: Subjects, window: Window, slots: Slots, sketch: int) -> dict[int, FeatureMeasurement]:
        """Every subject by series."""
        tables, before = subjects.tables(window), subjects.before(slots)
        sizes = subjects.spans.sums(tables.cells)
        m = int((sizes + tables.missing).sum(axis=0).max())  # of every subject, but for one without counts
        # m/m_kish, at least 1: the design effect if all repeats of a customer were identical
        repeat = counts.sum_of_squares(window[sketch], m) / m if m and sketch in window else 1.0
        measured = _rates(subjects, tables, sizes, repeat, self._min_events)
        compared = compare(subjects, before, tables.cells, repeat)
        for at, (one, m_eff, most, n) in enumerate(
            zip(measured, compared.effective.tolist(), compared.most.tolist(), before.effective.tolist(), strict=True)
        ):
            if one.reason is None and (reason := self._too_little(most, n)) is not None:
                measured[at] = replace(one, effective=m_eff, reason=reason)
        known = np.array([one.reason is None for one in measured])
        distributions = [
            *_numbers(subjects, before, compared, known, window),
            *_categories(subjects, before, compared, known, tables),
        ]
        for at, found in enumerate(distributions):
            if known[at]:
                tests = {**found.pop("tests"), **measured[at].tests}
                measured[at] = replace(measured[at], tests=tests, **found)
        return dict(zip(subjects.series, measured, strict=True))

    def _too_little(self, m_eff: float, n: float) -> str | None:
        if n < self._min_events:
            return REFERENCE_TOO_SMALL
        return NOT_ENOUGH if m_eff < self._min_events else None


def _rates(
    subjects: Subjects, tables: Tables, sizes: repeats.Table, repeat: float, min_events: int
) -> list[FeatureMeasurement]:
    """Sizes, missing and unseen rates and their tests; `reason` is set where no distribution can be measured."""
    present, missing = (table.sum(axis=0).astype(np.int64).tolist() for table in (sizes, tables.missing))
    unseen = [0] * subjects.numbers + tables.unseen.sum(axis=0).astype(np.int64).tolist()
    groups_missing = np.count_nonzero(tables.missing, axis=0).tolist()
    groups_unseen = [0] * subjects.numbers + np.count_nonzero(tables.unseen, axis=0).tolist()
    deff_missing = repeats.deff_rate(tables.missing, sizes + tables.missing, repeat).tolist()
    deff_unseen = [1.0] * subjects.numbers
    deff_unseen += repeats.deff_rate(tables.unseen, sizes[:, subjects.numbers :], repeat).tolist()
    measured = []
    for at, column in enumerate(subjects.columns):
        events, gone = present[at], missing[at]
        m, n = events + gone, column.present + column.missing
        one = FeatureMeasurement(
            kind=_kind(column, subjects.series[at]),
            events=events,
            reference=column.present,
            reference_missing_ratio=column.missing / n,
            reference_unseen_ratio=column.unseen / max(1, column.present) if column.cells.open else None,
        )
        if m < min_events:
            measured.append(replace(one, reason=NOT_ENOUGH))
            continue
        tests: dict[str, float] = {}
        grew = gone * n > column.missing * m
        if gone + column.missing and not (grew and groups_missing[at] < LEAST_GROUPS):
            tests["missing"] = rates.log10_p_two_sided(column.missing, n, gone, m, m / deff_missing[at])
        if column.cells.open and events and groups_unseen[at] >= LEAST_GROUPS:
            m_eff = events / deff_unseen[at]
            tests["unseen"] = rates.log10_p_more(column.unseen, column.present, unseen[at], events, m_eff)
        no_reference = REFERENCE_TOO_SMALL if not column.present else None
        measured.append(
            replace(
                one,
                missing_ratio=gone / m,
                unseen_ratio=unseen[at] / events if column.cells.open and events else None,
                tests=tests,
                quality=ALL_MISSING if not events and column.present else None,
                reason=no_reference if events else ALL_MISSING,
            )
        )
    return measured


def _kind(column: AnyColumn, series: int) -> str:
    if isinstance(column.cells, NumericCells):
        return "score" if series == counts.SCORE else "numeric"
    return "categorical" if column.cells.open else "boolean"


def _numbers(
    subjects: Subjects, before: Before, compared: Compared, known: NDArray[np.bool_], window: Window
) -> list[dict[str, Any]]:
    """What is measured of each number, with no meaning where it is not known."""
    n = subjects.numbers
    distance, outside = np.zeros(n), [0.0] * n
    broken: list[tuple[str | None, str | None]] = [(None, None)] * n
    ends = np.zeros((n, psi.TEXTBOOK_BINS), dtype=np.int64)
    for at in np.flatnonzero(known[:n]).tolist():
        column, vector = subjects.columns[at], window[subjects.series[at]]
        cells = column.cells
        assert isinstance(cells, NumericCells), "numbers come first"  # noqa: S101
        values = cells.values(vector)
        cumulative = np.cumsum(values)
        events = int(cumulative[-1])
        ends[at] = cumulative[subjects.textbook_ends[at]]
        # of past weeks only the PSI cells are kept
        weeks = before.each[at].against != TRAINING
        compared_with = subjects.number_spans.of_feature(compared.counts, at).cumsum() if weeks else cumulative
        distance[at] = ks.distance(before.each[at].function, compared_with)
        outside[at] = int(values[0] + values[-1]) / events
        jump = quality.unit_jump(cells, column.logs, vector, events)
        m_eff = float(compared.effective[at])
        constant = compared.one_cell[at] and quality.constant(cells, column.vector, vector, m_eff)
        broken[at] = ("constant" if constant else "unit_jump" if jump else None), jump
    textbook = np.diff(ends, axis=1, prepend=0)
    log_ks = ks.log10_p(distance / before.by_ks, compared.ks_h)
    return [
        {
            **own,
            "ks": d,
            "psi_textbook": by_textbook,
            "log10_p": min(log_psi, log),
            "effect": max(own["psi_corrected"], d),
            "tests": {"psi": log_psi, "ks": log},
            "null_999": null,
            "out_of_range_ratio": out,
            "quality": what,
            "quality_detail": detail,
            "bins": Bins(names, was, now),
        }
        for own, d, by_textbook, log_psi, log, null, out, (what, detail), names, was, now in zip(
            _shared(before, compared)[:n],
            distance.tolist(),
            psi.psis(before.textbook, textbook).tolist(),
            compared.log_psi.tolist(),
            log_ks.tolist(),
            (compared.null_999[:n] * before.by_psi).tolist(),
            outside,
            broken,
            subjects.names[:n],
            before.shares[:n],
            shares(textbook),
            strict=True,
        )
    ]


def _categories(
    subjects: Subjects, before: Before, compared: Compared, known: NDArray[np.bool_], tables: Tables
) -> list[dict[str, Any]]:
    """What is measured of each category, with no meaning where it is not known."""
    n = subjects.numbers
    rows = np.flatnonzero(known[n:])
    if not len(rows):
        return []
    log_chi2, df = np.zeros(len(known) - n), np.zeros(len(known) - n, dtype=np.int64)
    statistic, df[rows] = categories.chi2s(
        before.categories[rows], tables.categories[rows], compared.effective[n:][rows], rare_last=True
    )
    log_chi2[rows] = categories.log10_p(statistic / before.by_chi2[rows], df[rows])
    return [
        {
            **own,
            "linf": moved,
            "log10_p": log if tested else None,
            "effect": max(own["psi_corrected"], moved),
            "tests": {"chi2": log} if tested else {},
            "null_999": null if size > 1 else None,
            "bins": Bins(names, was, [*now[: len(column.cells.categories)], *now[-1:]][: len(names)]),
        }
        for own, moved, log, tested, null, size, column, names, was, now in zip(
            _shared(before, compared)[n:],
            compared.moved[n:].tolist(),
            log_chi2.tolist(),
            (df > 0).tolist(),
            compared.null_999[n:].tolist(),
            before.sizes[n:].tolist(),
            subjects.columns[n:],
            subjects.names[n:],
            before.shares[n:],
            shares(tables.categories),
            strict=True,
        )
    ]


def _shared(before: Before, compared: Compared) -> list[dict[str, Any]]:
    """What is measured of numbers and categories alike."""
    return [
        {
            "against": b.against,
            "reference": int(b.effective),
            "effective": effective,
            "psi": value,
            "psi_corrected": corrected,
            "score_shift": shift,
        }
        for b, effective, value, corrected, shift in zip(
            before.each,
            compared.effective.tolist(),
            compared.psi.tolist(),
            compared.psi_corrected.tolist(),
            compared.score_shift.tolist(),
            strict=True,
        )
    ]
