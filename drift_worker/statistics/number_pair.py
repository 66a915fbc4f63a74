"""What a statistic of numbers is computed from: the reference's distribution and the window's, over the same cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class NumberPair:
    """One number in one window, with c cells in ascending order."""

    #: float64 (c,): the reference's distribution function at the end of each cell.
    reference: NDArray[np.float64]
    #: (c,): the window's cumulative counts; there is at least one value.
    window: NDArray[Any]
    #: float64 (c,): the value that represents each cell, never descending.
    positions: NDArray[np.float64]
    #: The standard deviation of the reference's values.
    spread: float
