"""Estimators that take their time, or raise, for the bundles of tests: the scorer unpickles them like any other."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin


class SlowClassifier(ClassifierMixin, BaseEstimator):
    """Returns 0.25 for every row, and sleeps for each one."""

    def __init__(self, seconds_per_row: float) -> None:
        self.seconds_per_row = seconds_per_row
        self.classes_ = np.array(["No", "Yes"])

    def predict_proba(self, frame: Any) -> NDArray[np.float64]:
        time.sleep(self.seconds_per_row * len(frame))
        return np.tile([0.75, 0.25], (len(frame), 1))


class PickyClassifier(ClassifierMixin, BaseEstimator):
    """Returns 0.75 for every row, and raises if any monthly_charges are above 1,000."""

    def __init__(self) -> None:
        self.classes_ = np.array(["No", "Yes"])

    def predict_proba(self, frame: Any) -> NDArray[np.float64]:
        if (frame["monthly_charges"] > 1000).any():
            raise ValueError("too expensive")
        return np.tile([0.25, 0.75], (len(frame), 1))
