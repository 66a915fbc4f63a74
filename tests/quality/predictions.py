"""What models of other tasks predict for the customers of natural.py: an amount, or one of four classes.

Both follow from the customers' scores and regions, so that they vary as much as the mix of regions does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from quality.stream import Events

from schemas.alert import AlertName
from schemas.task import TaskName

CLASSES = ("basic", "plus", "max", "none")
#: Alerts about the prediction itself have no feature.
OF_THE_PREDICTION = {AlertName.PREDICTION_DRIFT, AlertName.REFERENCE_MISMATCH}
Predict = Callable[[Events, float], Events]


def amounts(events: Events, moved: float = 0.0) -> Events:
    """An amount of money, skewed as amounts are; `moved`: by how much the logarithm of the odds moves."""
    odds = np.log(events.scores / (1.0 - events.scores)) + moved
    return replace(events, scores=np.round(np.exp(3.5 + 0.6 * odds), 2))


def classes(events: Events, moved: float = 0.0) -> Events:
    """The likeliest of four classes, which depends on the region, too, and its probability."""
    odds = np.log(events.scores / (1.0 - events.scores)) + moved
    region = events.codes[:, 0]
    weight = np.column_stack([np.zeros(len(odds)), odds, 0.5 * odds + 0.4 * (region == 1), 0.6 * (region == 2) - 0.3])
    shares = np.exp(weight) / np.exp(weight).sum(axis=1, keepdims=True)
    return replace(events, scores=shares.max(axis=1), predicted=shares.argmax(axis=1).astype(np.int32))


PREDICT: dict[TaskName, Predict] = {"regression": amounts, "multiclass": classes}
