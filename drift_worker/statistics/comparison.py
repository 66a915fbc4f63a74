"""The PSI cells of all subjects against those before: design effects, PSI, shares that moved, the score's shift."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import GROUPS
from drift_worker.statistics import design_effect, psi
from drift_worker.statistics.feature_table import Before, Floats, Subjects


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Of F subjects, the first N of them numbers, with C cells: arrays of (F,) unless noted otherwise."""

    #: Values present.
    events: Floats
    #: The same as independent ones.
    effective: Floats
    #: The same, or without the dominant groups if that is more.
    most: Floats
    #: `effective` over the natural variation: as how many independent events the tests count them.
    independent: Floats
    #: 1/n + 1/independent.
    h: Floats
    #: (C,).
    counts: Floats
    #: PSI on cells that do not collapse.
    psi: Floats
    #: PSI*.
    psi_corrected: Floats
    #: (N,), log10 p.
    log_psi: Floats
    #: (N,), as h.
    ks_h: Floats
    #: L∞, the largest share that moved.
    moved: Floats
    #: The PSI that one window in a thousand exceeds without drift.
    null_999: Floats
    #: How far the mean score moves with the shares of the cells, Σ (p_w - p_r)·s̄; no join is needed.
    score_shift: Floats


def compare(
    subjects: Subjects, before: Before, table: design_effect.Table, repeat: float, varies: Floats | None = None
) -> Compared:
    """Compare a window, table: (GROUPS, C), repeat: m/m_kish. Without events on a side its numbers have no meaning.

    varies: (F,), the natural variation of the stream, where it is known; at least 1.
    """
    phi = np.ones(len(subjects.series)) if varies is None else varies
    whole = _groups(subjects, before, table, repeat, GROUPS, phi)
    kept = design_effect.without_dominant(subjects.spans.sums(table))
    if kept.all():
        return whole
    # one customer must not make an alert: it has to hold without the dominant groups as well
    groups = np.count_nonzero(kept, axis=0)
    rest = _groups(subjects, before, table * subjects.spans.each(kept), repeat, groups, phi)
    n = subjects.numbers
    identical = (_inverse(before.effective) + repeat * phi * _inverse(whole.events))[:n]
    return dataclasses.replace(
        whole,
        most=np.maximum(whole.effective, rest.effective),
        psi_corrected=np.minimum(whole.psi_corrected, rest.psi_corrected),
        log_psi=np.maximum(whole.log_psi, rest.log_psi),
        ks_h=np.where(groups[:n] < GROUPS, identical, whole.ks_h),
        moved=np.minimum(whole.moved, rest.moved),
    )


def _groups(
    subjects: Subjects,
    before: Before,
    table: design_effect.Table,
    repeat: float,
    groups: NDArray[np.intp] | int,
    phi: Floats,
) -> Compared:
    """Compare some `groups`, given as their number for each subject or for all; the others are rows of zeros."""
    spans, n = subjects.spans, subjects.numbers
    counts = table.sum(axis=0)
    events = spans.sums(counts)
    effective = events / design_effect.deff_cells(table, spans, repeat, groups)
    independent = effective / phi
    h = _inverse(before.effective) + _inverse(independent)
    value = psi.psis_of(spans, before.smoothed, psi.smoothed(spans, counts, before.used), before.used)
    change = spans.shares(counts) - before.cells
    numbers = table[:, : len(subjects.number_spans.feature)]
    ks_deff = design_effect.deff_thresholds(numbers, subjects.number_spans, repeat)
    return Compared(
        events=events,
        effective=effective,
        most=effective,
        independent=independent,
        h=h,
        counts=counts,
        psi=value,
        psi_corrected=psi.psi_corrected(value, before.sizes, h),
        log_psi=psi.log10_p(value[:n] / before.by_psi, before.sizes[:n], h[:n]),
        ks_h=_inverse(before.effective[:n]) + ks_deff * phi[:n] * _inverse(events[:n]),
        moved=spans.largest(np.abs(change)),
        null_999=h * before.null_limit,
        score_shift=spans.sums(change * subjects.score_of),
    )


def _inverse(x: Floats) -> Floats:
    """Return 1/x, and 1 where x is 0."""
    return 1.0 / np.where(x > 0.0, x, 1.0)
