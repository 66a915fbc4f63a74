"""Customers beside a model and its drift reference: missing and unseen values, and whether the data is broken. No I/O.

The drift worker's rules decide whether data is broken. Drift is not a defect: a new model is for changed customers.
Defects are values that are missing more often, unknown categories, a constant feature, and another unit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drift_worker.alerting.limits import MISSING_WARNING, UNSEEN_WARNING
from drift_worker.counts.bins import Cells, NumericCells
from drift_worker.statistics import data_quality, rates
from drift_worker.statistics.baseline import Columns as Counted
from drift_worker.statistics.self_check import unwatched_sentence
from schemas.features import MISSING, UNSEEN, Columns
from schemas.reference import MAX_ROWS, Reference

# p < 1e-4 for each of some 50 tests: a sound file counts as broken once in 200 times at most, and only with a large
# effect.
LOG10_P = -4.0


def shares(columns: Columns) -> dict[str, dict[str, float]]:
    """Return by feature the shares of rows with a missing value, and with a category that is unknown to the model.

    >>> from schemas.bundle.inputs import Feature
    >>> from schemas.features import Layout
    >>> layout = Layout([Feature(name="plan", kind="categorical", categories=("1", "2"))])
    >>> shares(layout.columns([["1", "1.0", "2.0", None]]))
    {'plan': {'missing': 0.25, 'unseen': 0.5}}
    """
    layout, found = columns.layout, {}
    for at, values in zip(layout.numeric, columns.numeric.T, strict=True):
        found[layout.names[at]] = {"missing": float(np.isnan(values).mean()), "unseen": 0.0}
    for at, codes in zip(layout.categorical, columns.codes.T, strict=True):
        missing, unseen = float((codes == MISSING).mean()), float((codes == UNSEEN).mean())
        found[layout.names[at]] = {"missing": missing, "unseen": unseen}
    return {name: found[name] for name in layout.names}


def remarks(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return `shares` as at most two lines: the features with unseen categories, and those with missing values.

    >>> remarks({"plan": {"missing": 0.25, "unseen": 0.5}, "age": {"missing": 0.0, "unseen": 0.0}})
    ['unseen categories: plan in 50.0 % of the rows', 'missing values: plan in 25.0 % of the rows']
    """
    lines = []
    for what, title in (("unseen", "unseen categories"), ("missing", "missing values")):
        some = sorted(((one[what], name) for name, one in found.items() if one[what]), key=lambda pair: -pair[0])
        if some:
            lines.append(f"{title}: {', '.join(f'{name} in {_percent(share)}' for share, name in some)} of the rows")
    return lines


def _percent(share: float) -> str:
    """Return a share in percent; one that is above 0 never reads as 0."""
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def bundle_remarks(
    unused: Sequence[str], unwatched: Mapping[str, int], features: int, reference_rows: int
) -> list[str]:
    """Return notes about a new bundle: columns that it leaves out, features whose drift cannot be measured.

    features, reference_rows: how many there are. unwatched: drift_worker.statistics.self_check.unwatched.
    """
    lines = []
    if unused:
        columns = "1 column" if len(unused) == 1 else f"{len(unused)} columns"
        names = ", ".join(name or '""' for name in unused)
        lines.append(f"left out: {columns} of the file, which the spec does not name: {names}")
    sentence = unwatched_sentence(unwatched, features, reference_rows)
    return lines if sentence is None else [*lines, f"warning: {sentence}"]


def defects(
    reference: Reference, columns: Columns, customers: NDArray[np.int64], accepted: Collection[str] = ()
) -> list[str]:
    """Return one sentence per defect, in the features' order.

    columns: in the reference's features. customers: int64 (n,), equal for rows of one customer, who are one draw.
    accepted: features whose missing values or categories are intended; they may not be constant or in another unit.
    Of more than 10,000 rows the last ones are examined.
    """
    layout = columns.layout
    recent = slice(max(0, columns.n - MAX_ROWS), None)
    numeric, codes = columns.numeric[recent], columns.codes[recent]
    cells = Cells(layout.features, layout.categories, reference)
    rows = Reference(numeric, codes, np.zeros(len(numeric)), np.zeros(codes.shape[1], dtype=np.int64))
    share = len(np.unique(customers[recent])) / len(numeric)
    found = []
    for name, before, now in zip(
        layout.names, Counted(cells, reference).features, Counted(cells, rows).features, strict=True
    ):
        m_all = now.present + now.missing
        m_eff = m_all * share
        was, rate = before.missing / reference.rows, now.missing / m_all
        told = rates.log10_p_two_sided(before.missing, reference.rows, now.missing, m_all, m_eff)
        if not now.present:
            if name not in accepted and told <= data_quality.BROKEN_LOG10_P:
                found.append(f"{name}: missing in every row")
            continue
        if name not in accepted and abs(rate - was) >= MISSING_WARNING and told <= LOG10_P:
            found.append(f"{name}: missing in {rate:.1%} of the rows, in the reference in {was:.1%}")
        m_eff = now.present * share
        if isinstance(before.cells, NumericCells):
            log_p = (
                data_quality.constant_log10_p(before.cells, before.vector, now.vector, m_eff)
                if before.present
                else None
            )
            if log_p is not None and log_p <= data_quality.BROKEN_LOG10_P:
                found.append(f"{name}: the same value in every row")
            elif jump := data_quality.unit_jump(before.cells, before.vector, now.vector):
                found.append(f"{name}: looks like the reference's in another unit ({jump})")
            continue
        unseen, expected = before.cells.unseen(now.vector), before.unseen / max(1, before.present)
        told = rates.log10_p_more(before.unseen, before.present, unseen, now.present, m_eff)
        if name not in accepted and unseen / now.present >= expected + UNSEEN_WARNING and told <= LOG10_P:
            found.append(f"{name}: a category that is unknown to the model in {unseen / now.present:.1%} of the rows")
    return found
