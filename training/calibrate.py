"""Out-of-sample scores and labels → the bundle's calibration: what a score means as a frequency, and how surely.

The curve is an isotonic regression (Zadrozny & Elkan 2002) of the labels on the scores of all rows. How far estimates
from such a curve are off is measured on rows that it has not seen: five curves, each fitted without one fifth. A
curve is right on average over the customers it was fitted on, and need not be for a part of them; so each part of at
least a twentieth (by category, or on one side of a numeric feature's median) is counted four times in turn, and the
estimate is held against what those customers really did.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedKFold

from drift_worker.estimate import METRICS, metrics
from schemas.bundle import Calibration
from schemas.features import Columns
from schemas.reference import MAX_ROWS

FOLDS = 5
# A part of the customers that is rarer says too little, and has too little weight to move a metric by much.
MIN_SHARE = 0.05
# One half counted four times as often as the other is a shift of about 0.3: far above DRIFT_EFFECT_CRITICAL.
ODDS = 4.0
# Of the errors of all shifts, the one that 95 % of them do not exceed.
COVERED = 0.95

Floats = NDArray[np.float64]


def calibrate(
    positive: NDArray[np.bool_], score: Floats, columns: Columns, threshold: float, seed: int
) -> Calibration | None:
    """The calibration of a model whose scores of these rows are out of sample; None with fewer than 5 of a class.

    positive, score: (n,), row for row as `columns`. At most 10,000 rows, drawn at random, measure the band.
    """
    if min(positive.sum(), (~positive).sum()) < FOLDS:
        return None
    curve = _curve(positive, score)
    return Calibration(
        x=tuple(curve.X_thresholds_.tolist()),
        y=tuple(curve.y_thresholds_.tolist()),
        rows=len(score),
        band=_band(positive, score, columns, threshold, seed),
    )


def _curve(positive: NDArray[np.bool_], score: Floats) -> IsotonicRegression:
    return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(score, positive.astype(np.float64))


def _band(
    positive: NDArray[np.bool_], score: Floats, columns: Columns, threshold: float, seed: int
) -> dict[str, float]:
    """Per metric the error that 95 % of the shifts do not exceed; a metric without any is left out."""
    expected = np.empty(len(score), dtype=np.float64)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for others, fold in folds.split(score, positive):
        expected[fold] = _curve(positive[others], score[others]).predict(score[fold])
    rows = np.arange(len(score))
    if len(rows) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))
    outcome = positive[rows].astype(np.float64)
    errors: dict[str, list[float]] = {name: [] for name in METRICS}
    for weight in _shifts(columns.numeric[rows], columns.codes[rows]):
        estimated = metrics(expected[rows], score[rows], threshold, weight)
        realised = metrics(outcome, score[rows], threshold, weight)
        for name in METRICS:
            one, other = estimated[name], realised[name]
            if one is not None and other is not None:
                errors[name].append(abs(one[0] - other[0]))
    return {name: float(np.quantile(found, COVERED)) for name, found in errors.items() if found}


def _shifts(numeric: Floats, codes: NDArray[np.int32]) -> Iterator[Floats]:
    """Weights (n,): no shift at all, then each part of the customers more frequent in turn."""
    n = len(numeric)
    yield np.ones(n)
    parts: list[NDArray[np.bool_]] = []
    for column in numeric.T:
        known = column[~np.isnan(column)]
        if len(known):
            middle = np.median(known)
            parts += [column > middle, column <= middle]
    for codes_of_one in codes.T:
        parts += [codes_of_one == code for code in np.unique(codes_of_one)]
    for part in parts:
        if MIN_SHARE <= part.mean() <= 1.0 - MIN_SHARE:
            yield np.where(part, ODDS, 1.0)
