"""The PSI cells of all subjects against those before: design effects, PSI, shares that moved, the score's shift."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drift_worker import psi, repeats
from drift_worker.cells import GROUPS
from drift_worker.subjects import Before, Floats, Subjects


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Of F subjects, the first N of them numbers, with C cells: (F,) but where something else is said.

    effective: events as independent ones; most: the same, or without the dominant groups if that is more. h: 1/n +
    1/effective. counts: (C,). one_cell: bool, all events are in one. log_psi: (N,), log10 p. ks_h: (N,), as h. moved:
    L∞, the largest share that moved. null_999: the PSI that one window in a thousand exceeds without drift.
    score_shift: how far the mean score moves with the shares of the cells, Σ (p_w - p_r)·s̄; no join is needed.
    """

    events: Floats
    effective: Floats
    most: Floats
    h: Floats
    counts: Floats
    one_cell: NDArray[np.bool_]
    psi: Floats
    psi_corrected: Floats
    log_psi: Floats
    ks_h: Floats
    moved: Floats
    null_999: Floats
    score_shift: Floats


def compare(subjects: Subjects, before: Before, table: repeats.Table, repeat: float) -> Compared:
    """table: (GROUPS, C). repeat: m/m_kish. Where there are no events, or nothing before, numbers mean nothing."""
    whole = _groups(subjects, before, table, repeat, GROUPS)
    kept = repeats.without_dominant(subjects.spans.sums(table))
    if kept.all():
        return whole
    # one customer must not make an alert: it has to hold without the dominant groups as well
    groups = np.count_nonzero(kept, axis=0)
    rest = _groups(subjects, before, table * subjects.spans.each(kept), repeat, groups)
    n = subjects.numbers
    identical = (_inverse(before.effective) + repeat * _inverse(whole.events))[:n]
    return dataclasses.replace(
        whole,
        most=np.maximum(whole.effective, rest.effective),
        psi_corrected=np.minimum(whole.psi_corrected, rest.psi_corrected),
        log_psi=np.maximum(whole.log_psi, rest.log_psi),
        ks_h=np.where(groups[:n] < GROUPS, identical, whole.ks_h),
        moved=np.minimum(whole.moved, rest.moved),
    )


def _groups(
    subjects: Subjects, before: Before, table: repeats.Table, repeat: float, groups: NDArray[np.intp] | int
) -> Compared:
    """`groups`: how many are compared, of each subject or of all; those left out are rows of zeros."""
    spans, n = subjects.spans, subjects.numbers
    counts = table.sum(axis=0)
    events = spans.sums(counts)
    effective = events / repeats.deff_cells(table, spans, repeat, groups)
    h = _inverse(before.effective) + _inverse(effective)
    value = psi.psis_of(spans, before.smoothed, psi.smoothed(spans, counts, before.used), before.used)
    change = spans.shares(counts) - before.cells
    numbers = table[:, : len(subjects.number_spans.feature)]
    ks_deff = repeats.deff_thresholds(numbers, subjects.number_spans, repeat)
    return Compared(
        events=events,
        effective=effective,
        most=effective,
        h=h,
        counts=counts,
        one_cell=spans.largest(counts) == events,
        psi=value,
        psi_corrected=psi.psi_corrected(value, before.sizes, h),
        log_psi=psi.log10_p(value[:n] / before.by_psi, before.sizes[:n], h[:n]),
        ks_h=_inverse(before.effective[:n]) + ks_deff * _inverse(events[:n]),
        moved=spans.largest(np.abs(change)),
        null_999=h * before.null_limit,
        score_shift=spans.sums(change * subjects.score_of),
    )


def _inverse(x: Floats) -> Floats:
    """1/x, and 1 where there is nothing."""
    return 1.0 / np.where(x > 0.0, x, 1.0)
