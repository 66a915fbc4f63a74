"""An estimator that takes its time, for the bundles of tests: the scorer unpickles it like any other."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin


class SlowClassifier(ClassifierMixin, BaseEstimator):
    """Says 0.25 for everybody, and sleeps for every row."""

    def __init__(self, seconds_per_row: float) -> None:
        self.seconds_per_row = seconds_per_row
        self.classes_ = np.array(["No", "Yes"])

    def predict_proba(self, frame: Any) -> NDArray[np.float64]:
        time.sleep(self.seconds_per_row * len(frame))
        return np.tile([0.75, 0.25], (len(frame), 1))
