"""The reference as it is compared with: counts, distribution, mean scores and positions."""

import numpy as np
import pytest

from drift_worker.counts.bins import GROUPS, Cells
from drift_worker.statistics.baseline import Columns, mean_score
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

FEATURES = [
    Feature(name="amount", kind="numeric", nullable=True),
    Feature(name="plan", kind="categorical", categories=("a", "b", "rare"), nullable=True),
    Feature(name="senior", kind="boolean", nullable=True),
]
AMOUNT = np.array([1.0, 1.0, 2.0, 4.0, np.nan])
SCORE = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def _columns(singletons=0):
    codes = np.array([[0, 0], [0, 1], [1, 1], [2, 0], [-1, -1]], dtype=np.int32)
    reference = Reference(AMOUNT[:, None], codes, SCORE, np.array([singletons, 0], dtype=np.int64))
    cells = Cells(FEATURES, [("a", "b", "rare"), ("false", "true")], reference)
    return Columns(cells, reference)


def test_values_and_gaps_are_counted_apart():
    """A missing value is no value."""
    amount, plan, senior = _columns().features
    assert [(c.present, c.missing) for c in (amount, plan, senior)] == [(4, 1), (4, 1), (4, 1)]
    assert amount.training.effective == 4.0
    assert int(amount.training.psi_counts.sum()) == 4
    assert amount.training.function[-1] == pytest.approx(1.0)


def test_a_cell_knows_the_mean_score_of_its_rows():
    """So a movement of cells is a movement of the score, without a join."""
    amount, plan, _ = _columns().features
    cell = amount.psi_cell[amount.cells.cell_of(np.array([1.0, 2.0, 4.0]))]
    assert amount.score_of[cell] == pytest.approx([0.2, 0.5, 0.7])
    assert plan.score_of[plan.psi_cell[:3]] == pytest.approx([0.2, 0.5, 0.7])


def test_positions_are_anchors_or_between_them():
    """They never descend: the Wasserstein distance adds up along them."""
    amount = _columns().features[0]
    assert amount.positions[amount.cells.cell_of(np.array([1.0, 2.0, 4.0]))].tolist() == [1.0, 2.0, 4.0]
    assert (np.diff(amount.positions) >= 0).all()
    assert (np.diff(amount.psi_positions) >= 0).all()
    assert amount.spread == pytest.approx(np.nanstd(AMOUNT))


def test_categories_seen_once_share_the_cell_of_unseen_ones():
    """In a separate cell each would be missing from nearly every window."""
    apart, pooled = _columns(0).features[1], _columns(1).features[1]
    assert len(set(apart.psi_cell.tolist())) == 4
    assert pooled.psi_cell[2] == pooled.psi_cell[3]
    assert (apart.unseen, pooled.unseen) == (0, 1)


def test_groups_are_summed_by_psi_cell():
    """Without missing values; a boolean's unseen cell is never used."""
    plan = _columns(1).features[1]
    groups = np.ones((GROUPS, 5), dtype=np.int64)
    summed = plan.by_psi_cell(groups)
    assert summed.shape == (GROUPS, len(plan.training.psi_counts))
    assert summed.sum() == 4 * GROUPS


def test_the_score_has_a_mean():
    """From the sums that windows have, too."""
    assert _columns().score.training.mean == pytest.approx(SCORE.mean(), abs=1e-9)
    assert mean_score(3 << 30, 2) == 0.375
    assert mean_score(0, 0) == 0.0
