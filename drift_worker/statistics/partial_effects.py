"""By how much the mean score moves with each feature, the others as they are: what caused a movement of the score.

The mean score of the reference's rows in a bin of a feature is no effect of that feature. A twin (r = 0.9) that the
model never reads has nearly the same means as the feature that it reads, and would be blamed when it breaks alone. So
one additive model of the score is fitted on the reference: a line in each number's normal score, and a step for each
bin of each feature (Hastie & Tibshirani 1986), by ridge regression. Steps are shrunk more than lines: what a line
explains, no twin's step has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Rows that are added to the square of each column: a step, and a line in normal scores.
STEP_ROWS, LINE_ROWS = 30.0, 7.0
#: With more columns numbers have lines alone; with more even then, effects are not told apart.
MOST_COLUMNS = 1200
_ROWS_AT_A_TIME = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One feature of the reference's rows."""

    #: intp (n,), the bin of each row, -1 if missing.
    bins: NDArray[np.intp]
    #: How many bins there are.
    size: int
    #: (n,), of a number its normal score, 0 if missing; None of a category.
    scores: Floats | None


def partial_effects(features: Sequence[Rows], target: Floats) -> list[Floats] | None:
    """Return the effect of each bin of each feature on the score, with mean 0 over the rows; None for too many columns.

    target: the score of each row. A bin without rows has the effect 0.
    """
    stepped = 1 + sum(_columns(one, steps=True) for one in features) <= MOST_COLUMNS
    if not stepped and 1 + sum(_columns(one, steps=False) for one in features) > MOST_COLUMNS:
        return None
    steps = [stepped or one.scores is None for one in features]
    found = _fitted(features, steps, target - target.mean())
    effects, at = [], 1
    for one, with_steps in zip(features, steps, strict=True):
        known = one.bins >= 0
        rows = np.bincount(one.bins[known], minlength=one.size)
        effect = np.zeros(one.size)
        if one.scores is not None:
            mean = np.bincount(one.bins[known], weights=one.scores[known], minlength=one.size) / np.maximum(rows, 1)
            effect += found[at] * mean
            at += 1
        if with_steps:
            effect += found[at : at + one.size]
            at += one.size + 1
        effect -= float(effect @ rows) / max(1, int(rows.sum()))
        effects.append(np.where(rows > 0, effect, 0.0))
    return effects


def _columns(one: Rows, *, steps: bool) -> int:
    """Return how many columns a feature has: a line, and its bins and what is missing."""
    line = one.scores is not None
    return line + (one.size + 1) * (steps or not line)


def _fitted(features: Sequence[Rows], steps: Sequence[bool], target: Floats) -> Floats:
    """Return the coefficients: of a constant, then of each feature its line, its bins and what is missing."""
    ridge: list[float] = [1.0]
    for one, with_steps in zip(features, steps, strict=True):
        ridge += [LINE_ROWS] * (one.scores is not None) + [STEP_ROWS] * ((one.size + 1) * with_steps)
    square, beside = np.diag(ridge), np.zeros(len(ridge))
    for at in range(0, len(target), _ROWS_AT_A_TIME):
        part = slice(at, at + _ROWS_AT_A_TIME)
        n = len(target[part])
        columns = [np.ones((n, 1))]
        for one, with_steps in zip(features, steps, strict=True):
            if one.scores is not None:
                columns.append(one.scores[part, None])
            if with_steps:
                # a missing value has the last column: -1 is its index
                columns.append(np.eye(one.size + 1)[one.bins[part]])
        rows = np.concatenate(columns, axis=1)
        square += rows.T @ rows
        beside += rows.T @ target[part]
    found: Floats = np.linalg.solve(square, beside).astype(np.float64)
    return found
