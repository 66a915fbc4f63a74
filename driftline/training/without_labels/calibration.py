"""Out-of-sample scores and labels → the bundle's calibration: the frequency that a score means, with its error.

The curve is an isotonic regression (Zadrozny & Elkan 2002) of the labels on the scores of all rows. The error of such
curves is measured on unseen rows: five curves, each fitted without one fifth. A curve is right on average over the
customers it was fitted on, but not necessarily for a part of them. So each part of at least a twentieth (by category,
or on one side of a numeric feature's median) is counted four times in turn. A new group of customers moves several
features at once, so random combinations of features are tilted, too (exponential tilting). Each time, the estimate is
compared with the real outcomes of those customers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedKFold

from drift_worker.performance.label_free_estimate import METRICS, metrics
from schemas.bundle.manifest import Calibration
from schemas.features import Columns
from schemas.reference import MAX_ROWS

FOLDS = 5
# A rarer part of the customers holds too little information, and has too little weight to move a metric by much.
MIN_SHARE = 0.05
# One half counted four times as often as the other is a shift of about 0.3: far above DRIFT_EFFECT_CRITICAL.
ODDS = 4.0
# Joint shifts: this number of random tilts, each of 2 to 4 features, by up to e per standard deviation and feature.
JOINT = 60
MOST_TILTED = 4
LARGEST_TILT = 4.0  # natural logarithm of the largest weight: no single row decides
# Of the errors of the shifts of one kind, the one that 95 % of them do not exceed.
COVERED = 0.95

Floats = NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)


def calibrate(
    positive: NDArray[np.bool_], score: Floats, columns: Columns, threshold: float, seed: int
) -> Calibration | None:
    """Return the calibration of a model from out-of-sample scores of these rows; None with fewer than 5 of a class.

    positive, score: (n,), row for row as `columns`. At most 10,000 rows, drawn at random, measure the band.
    """
    if min(positive.sum(), (~positive).sum()) < FOLDS:
        return None
    curve = curve_of(positive, score)
    return Calibration(
        x=tuple(curve.X_thresholds_.tolist()),
        y=tuple(curve.y_thresholds_.tolist()),
        rows=len(score),
        band=_band(positive, score, columns, threshold, seed),
    )


def curve_of(positive: NDArray[np.bool_] | Floats, score: Floats) -> IsotonicRegression:
    """Return the fitted curve of the frequency of `positive` at a score."""
    return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(score, positive.astype(np.float64))


def _band(
    positive: NDArray[np.bool_], score: Floats, columns: Columns, threshold: float, seed: int
) -> dict[str, float]:
    """Return the band of each metric; one that is never defined is left out."""
    expected = np.empty(len(score), dtype=np.float64)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for others, fold in folds.split(score, positive):
        expected[fold] = curve_of(positive[others], score[others]).predict(score[fold])
    outcome = positive.astype(np.float64)

    def errors(rows: NDArray[np.int64], weight: Floats) -> dict[str, float]:
        estimated = metrics(expected[rows], score[rows], threshold, weight)
        realised = metrics(outcome[rows], score[rows], threshold, weight)
        return {
            name: abs(one[0] - other[0])
            for name in METRICS
            if (one := estimated[name]) is not None and (other := realised[name]) is not None
        }

    band = band_of(errors, len(score), columns, seed)
    return {name: band[name] for name in METRICS if name in band}


def measuring_rows(n: int, seed: int) -> NDArray[np.int64]:
    """Return the rows by which a band is measured: at most 10,000 of n, in order."""
    return _drawn(n, np.random.default_rng(seed))


def _drawn(n: int, random: np.random.Generator) -> NDArray[np.int64]:
    rows = np.arange(n)
    return np.sort(random.choice(rows, MAX_ROWS, replace=False)) if n > MAX_ROWS else rows


def band_of(
    errors: Callable[[NDArray[np.int64], Floats], Mapping[Name, float]], n: int, columns: Columns, seed: int
) -> dict[Name, float]:
    """Return by name the error that 95 % of the shifts do not exceed, of the kind of shift with the larger error.

    errors: `measuring_rows`, and how often each of these rows counts → the error of each estimate that is defined. The
    kinds are parts of the customers, and joint tilts.
    """
    random = np.random.default_rng(seed)
    rows = _drawn(n, random)
    numeric, codes = columns.numeric[rows], columns.codes[rows]
    band: dict[Name, float] = {}
    for shifts in (_parts(numeric, codes), _joint_tilts(numeric, codes, random)):
        found: dict[Name, list[float]] = {}
        for weight in shifts:
            for name, error in errors(rows, weight).items():
                found.setdefault(name, []).append(error)
        for name, of_shifts in found.items():
            band[name] = max(band.get(name, 0.0), float(np.quantile(of_shifts, COVERED)))
    return band


def _joint_tilts(numeric: Floats, codes: NDArray[np.int32], random: np.random.Generator) -> Iterator[Floats]:
    """Yield weights (n,): exp of a random linear combination of several standardised features."""
    scaled: list[Floats] = []
    for column in (*numeric.T, *codes.T.astype(np.float64)):
        known = ~np.isnan(column)
        spread = column[known].std() if known.any() else 0.0
        if spread > 0.0:
            scaled.append(np.where(known, (column - column[known].mean()) / spread, 0.0))
    if len(scaled) < 2:
        return  # with one feature, no shift is a joint one
    for _ in range(JOINT):
        number = int(random.integers(2, min(MOST_TILTED, len(scaled)) + 1))
        chosen = random.choice(len(scaled), number, replace=False)
        tilt = sum((random.uniform(-1.0, 1.0) * scaled[i] for i in chosen), np.zeros(len(numeric)))
        yield np.exp(np.clip(tilt, -LARGEST_TILT, LARGEST_TILT))


def _parts(numeric: Floats, codes: NDArray[np.int32]) -> Iterator[Floats]:
    """Yield weights (n,): no shift at all, then each part of the customers more frequent in turn."""
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
