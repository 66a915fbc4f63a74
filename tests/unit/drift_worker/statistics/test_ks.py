"""The Kolmogorov-Smirnov distance from counts, where it is easy to get wrong."""

import numpy as np
import pytest

from drift_worker.counts.bins import NumericCells
from drift_worker.statistics import ks


def _distance(reference, window):
    cells = NumericCells.of("x", np.array(reference))
    r, w = (np.cumsum(np.bincount(cells.cell_of(np.array(v)), minlength=cells.cells)) for v in (reference, window))
    return ks.distance(ks.function(r), w)


@pytest.mark.parametrize(
    ("reference", "window", "d"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.0),
        ([1.0, 1.0], [1.0], 0.0),
        ([0.0], [-0.0], 0.0),
        ([1.0, 2.0], [3.0, 4.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0], [1.5, 1.5, 1.5, 1.5], 0.75),
        ([1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 2.0, 2.0], 0.25),
    ],
)
def test_distance(reference, window, d):
    """Equal samples, constants, signed zeros, nothing in common, all between two anchors, ties."""
    assert _distance(reference, window) == pytest.approx(d, abs=1e-15)


def test_log10_p_goes_on_where_p_underflows():
    """At D = 1 with 10,000 rows p is far below the smallest double."""
    assert ks.log10_p(1.0, 2e-4) == pytest.approx((np.log(2) - 2 / 2e-4) / np.log(10), rel=1e-12)
    assert 10 ** ks.log10_p(0.05, 1 / 500) == pytest.approx(0.16407, rel=1e-4)
