"""Labelled customers beside a model's drift reference: is the data broken? The drift worker's own rules. No I/O.

Drift is none of it: customers who have changed are what a new model is for. Broken are values that are missing more
often, categories that nobody knew, a feature that is constant, and one in another unit.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from drift_worker import quality, rates
from drift_worker.cells import Cells, NumericCells
from drift_worker.columns import Columns as Counted
from drift_worker.decide import MISSING_WARNING, UNSEEN_WARNING
from schemas.features import Columns
from schemas.reference import MAX_ROWS, Reference

# p < 1e-4 for each of some 50 tests: a sound file is called broken once in 200 times at most, and needs the effect too.
LOG10_P = -4.0


def defects(
    reference: Reference, columns: Columns, customers: NDArray[np.int64], accepted: Collection[str] = ()
) -> list[str]:
    """One sentence per defect, in the features' order.

    columns: in the reference's features. customers: int64 (n,), equal for rows of one customer, who are one draw.
    accepted: features whose missing values or categories are meant so; they may not be constant or in another unit.
    Of more than 10,000 rows the last ones are looked at.
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
        if not now.present:
            found.append(f"{name}: missing in every row")
            continue
        told = rates.log10_p_two_sided(before.missing, reference.rows, now.missing, m_all, m_eff)
        if name not in accepted and abs(rate - was) >= MISSING_WARNING and told <= LOG10_P:
            found.append(f"{name}: missing in {rate:.1%} of the rows, in the reference in {was:.1%}")
        m_eff = now.present * share
        if isinstance(before.cells, NumericCells):
            if quality.constant(before.cells, before.vector, now.vector, m_eff):
                found.append(f"{name}: the same value in every row")
            elif jump := quality.unit_jump(
                before.cells, quality.moments(*before.cells.log_moments(before.vector)), now.vector, now.present
            ):
                found.append(f"{name}: looks like the reference's in another unit ({jump})")
            continue
        unseen, expected = before.cells.unseen(now.vector), before.unseen / max(1, before.present)
        told = rates.log10_p_more(before.unseen, before.present, unseen, now.present, m_eff)
        if name not in accepted and unseen / now.present >= expected + UNSEEN_WARNING and told <= LOG10_P:
            found.append(f"{name}: a category that the model does not know in {unseen / now.present:.1%} of the rows")
    return found
