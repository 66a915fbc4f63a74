"""Out-of-fold probabilities of several classes → the bundle's `class_calibration`.

As for one score: an isotonic regression per class, of whether a customer has it on its probability, and a band per
metric, measured out of fold on customers that are tilted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from drift_worker.performance.class_estimate import OF_A_CLASS, calibrated, metrics, ranked
from driftline.training.without_labels.calibration import FOLDS, band_of, curve_of, measuring_rows
from schemas.bundle.manifest import ClassCalibration, Curve
from schemas.features import Columns
from schemas.task import SHOWN_CLASSES

Floats = NDArray[np.float64]


def calibrate_classes(
    outcome: NDArray[np.int64], probabilities: Floats, classes: Sequence[str], columns: Columns, seed: int
) -> ClassCalibration | None:
    """Return the calibration of a model from out-of-sample probabilities (n, classes), row for row as `columns`.

    outcome: int64 (n,), places in `classes`. None with fewer than 5 rows of a class, or with more than ten classes:
    predictions then hold no probability of some.
    """
    many = len(classes) > SHOWN_CLASSES
    if many or np.bincount(outcome, minlength=len(classes)).min() < FOLDS:
        return None
    is_of = np.eye(len(classes))[outcome]
    expected = np.empty(probabilities.shape)
    for others, fold in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(outcome, outcome):
        expected[fold] = calibrated(probabilities[fold], _curves(is_of[others], probabilities[others]))
    ranks = ranked(probabilities[measuring_rows(len(outcome), seed)])

    def errors(rows: NDArray[np.int64], weight: Floats) -> dict[tuple[str, str], float]:
        told, promised = (metrics(y[rows], probabilities[rows], weight, ranks) for y in (is_of, expected))
        found = {
            ("", name): abs(one[0] - other[0])
            for name, one in promised.overall.items()
            if one is not None and (other := told.overall[name]) is not None
        }
        for k, name in enumerate(classes):
            found |= {(name, m): abs(promised.classes[k][m][0] - told.classes[k][m][0]) for m in OF_A_CLASS}
        return found

    band = band_of(errors, len(outcome), columns, seed)
    return ClassCalibration(
        curves={
            name: Curve(x=tuple(x), y=tuple(y))
            for name, (x, y) in zip(classes, _curves(is_of, probabilities), strict=True)
        },
        rows=len(outcome),
        band={name: error for (of, name), error in band.items() if not of},
        class_band={name: {m: band[name, m] for m in OF_A_CLASS} for name in classes},
    )


def _curves(is_of: Floats, probabilities: Floats) -> list[tuple[list[float], list[float]]]:
    found = [curve_of(is_of[:, k], probabilities[:, k]) for k in range(is_of.shape[1])]
    return [(curve.X_thresholds_.tolist(), curve.y_thresholds_.tolist()) for curve in found]
