"""Exact values for seeded samples: a change in any of them is a change in what the statistics mean."""

import numpy as np
import pytest

from drift_worker.counts.bins import NumericCells
from drift_worker.statistics import ks, psi


@pytest.fixture(scope="module")
def samples():
    """Reference, a window of the same law, a window that moved."""
    draw = np.random.RandomState(42)
    return draw.normal(45000, 15000, 5000), draw.normal(45000, 15000, 1000), draw.normal(55000, 18000, 1000)


def _count(cells, values):
    return np.cumsum(np.bincount(cells.cell_of(values), minlength=cells.cells))


@pytest.mark.parametrize(
    ("window", "psi_textbook", "d", "p"),
    [
        (1, 0.006704099466690063, 0.0522, 0.021316922667497174),
        (2, 0.31052820908706974, 0.2314, 3.492784051379009e-39),
    ],
    ids=["same distribution", "moved distribution"],
)
def test_golden_psi_and_ks(samples, window, psi_textbook, d, p):
    """Textbook PSI, D and the asymptotic p-value of the two windows, to the last digit that can be asked for."""
    cells = NumericCells.of("x", samples[0])
    reference, counts = _count(cells, samples[0]), _count(cells, samples[window])
    assert psi.psi_textbook(cells, reference, counts) == pytest.approx(psi_textbook, abs=1e-14)
    assert ks.distance(ks.function(reference), counts) == pytest.approx(d, abs=1e-15)
    assert 10 ** ks.log10_p(ks.distance(ks.function(reference), counts), 1 / 5000 + 1 / 1000) == pytest.approx(
        p, rel=1e-10
    )
