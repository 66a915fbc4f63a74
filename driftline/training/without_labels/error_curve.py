"""Out-of-fold values and outcomes → the bundle's `error_curve`: the size of the error to expect at a value.

The values are cut into at most 20 groups of equal size; each is a point of the curve: the mean value, the mean size of
its errors, and their standard deviation. The band is measured as that of a calibration: curves fitted without one fifth
of the rows, on customers that are tilted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from driftline.training.without_labels.calibration import FOLDS, band_of
from schemas.bundle.manifest import ErrorCurve
from schemas.features import Columns

GROUPS = 20
# Fewer errors have no reliable mean: their size is skewed.
LEAST = 50

Floats = NDArray[np.float64]


def error_curve(outcome: Floats, value: Floats, columns: Columns, seed: int) -> ErrorCurve | None:
    """Return the curve of these out-of-sample values, float64 (n,), row for row as `columns`.

    None with fewer than 50 rows, or errors beyond the double range.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(outcome - value)
    if len(size) < LEAST or not np.isfinite(size).all():
        return None
    expected = np.empty(len(size))
    for others, fold in KFold(FOLDS, shuffle=True, random_state=seed).split(value):
        x, y, _ = _points(value[others], size[others])
        expected[fold] = np.interp(value[fold], x, y)
    unit = float(size.max()) or 1.0  # sums of weighted errors stay within the double range

    def errors(rows: NDArray[np.int64], weight: Floats) -> dict[str, float]:
        promised, found = float(weight @ (expected[rows] / unit)), float(weight @ (size[rows] / unit))
        return {"mae": abs(found - promised) / promised} if promised > 0.0 else {}

    x, y, spread = _points(value, size)
    band = band_of(errors, len(size), columns, seed).get("mae", 0.0)
    return ErrorCurve(
        x=tuple(x.tolist()), y=tuple(y.tolist()), spread=tuple(spread.tolist()), rows=len(size), band=band
    )


def _points(value: Floats, size: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the points of a curve: values, mean sizes there, standard deviations of the sizes."""
    groups = min(GROUPS, len(value) // LEAST) or 1
    edges = np.unique(np.quantile(value, np.linspace(0.0, 1.0, groups + 1)))
    # equal values are of one group
    group = np.searchsorted(edges[1:-1], value, side="right")
    _, group = np.unique(group, return_inverse=True)
    rows = np.bincount(group)
    unit = float(np.abs(value).max()) or 1.0
    x = np.bincount(group, weights=value / unit) / rows * unit
    scale = float(size.max()) or 1.0
    mean = np.bincount(group, weights=size / scale) / rows
    variance = np.bincount(group, weights=(size / scale - mean[group]) ** 2) / rows
    return x, mean * scale, np.sqrt(variance) * scale
