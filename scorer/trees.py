"""Boosted trees and forests on few rows: all trees walked at once in numpy, with scikit-learn's bits.

scikit-learn calls one tree after another. That is fast for thousands of rows, and costs 1 to 10 ms for one. Here every
row is in one node of every tree, and all of them move to a child together, so the number of steps is the depth of the
deepest tree. Leaf values are added in scikit-learn's order, tree by tree, so sums are equal to the bit. Its own code
does the rest: the loss's link, and every batch above `MOST_WALKED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.utils import get_tags

_BOOSTED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
# Levels that are walked before the rows that have arrived at a leaf are left behind.
STRIDE = 5
# Rows times trees; above, scikit-learn is faster.
MOST_WALKED = 25_600

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Nodes:
    """All nodes of all trees, one after another. A leaf is its own child. N: nodes, T: trees."""

    roots: NDArray[np.intp]  # (T,)
    feature: NDArray[np.intp]  # (N,), 0 for a leaf
    threshold: Floats  # (N,); to the left are values up to it; NaN for a leaf
    children: NDArray[np.intp]  # (2N,): of node i the right child is at 2i and the left one at 2i + 1
    missing_left: NDArray[np.bool_]  # (N,)
    values: Floats  # (N, outputs)


class Trees:
    """The trees of a fitted estimator, asked as `predict_proba` of a classifier or `predict` of a regressor."""

    def __init__(self, estimator: Any) -> None:
        """Take a fitted estimator of a known class; ValueError for any other one."""
        if type(estimator) in _BOOSTED:
            nodes = _boosted(estimator)
        elif type(estimator) in _FORESTS and estimator.n_outputs_ == 1:
            nodes = _forest(estimator)
        else:
            raise ValueError(f"{type(estimator).__name__} has no trees that are known")
        self._estimator = estimator
        self._nodes = nodes
        self._boosted = type(estimator) in _BOOSTED
        if self._boosted:  # nothing public gives the sums before the loss's link, or takes them
            self._loss, self._baseline = estimator._loss, estimator._baseline_prediction  # noqa: SLF001
        self._takes_missing = self._boosted or get_tags(estimator).input_tags.allow_nan
        self.most_rows = MOST_WALKED // len(nodes.roots)

    def predict_proba(self, matrix: Floats) -> Floats:
        """Return what the classifier's `predict_proba` returns for (n, width), n at most `most_rows`."""
        if not self._boosted:
            return self._mean(matrix) if self._walks(matrix) else _floats(self._estimator.predict_proba(matrix))
        return _floats(self._loss.predict_proba(self._raw(matrix)))

    def predict(self, matrix: Floats) -> Floats:
        """Return what the regressor's `predict` returns for (n, width), n at most `most_rows`."""
        if not self._boosted:
            return self._mean(matrix)[:, 0] if self._walks(matrix) else _floats(self._estimator.predict(matrix))
        return _floats(self._loss.link.inverse(self._raw(matrix).ravel()))

    @property
    def classes_(self) -> Any:
        """Return the classes of the classifier."""
        return self._estimator.classes_

    def _walks(self, matrix: Floats) -> bool:
        """Return whether a forest takes these numbers. Its own code rejects the others."""
        fits = np.abs(matrix) <= np.finfo(np.float32).max
        return bool((fits | np.isnan(matrix)).all() if self._takes_missing else fits.all())

    def _mean(self, matrix: Floats) -> Floats:
        """Return the mean of the trees' leaves. A forest compares in single precision."""
        found = self._leaves(matrix.astype(np.float32).astype(np.float64))
        total = np.zeros(found.shape[1:])
        for tree in found:
            total += tree
        total /= len(found)
        return total

    def _raw(self, matrix: Floats) -> Floats:
        """Return the sums of the trees of each output, in Fortran's order, as the loss gets them."""
        outputs = self._estimator.n_trees_per_iteration_
        total = np.zeros((len(matrix), outputs), order="F")
        total += self._baseline
        found = self._leaves(matrix)[:, :, 0]
        for number, tree in enumerate(found):
            total[:, number % outputs] += tree
        return total

    def _leaves(self, matrix: Floats) -> Floats:
        """Return the leaf values, (T, n, outputs)."""
        nodes, n = self._nodes, len(matrix)
        flat = matrix.ravel()
        missing = bool(np.isnan(flat).any())
        at = np.repeat(nodes.roots, n)
        moving, row = np.arange(len(at)), np.tile(np.arange(0, matrix.size, matrix.shape[1]), len(nodes.roots))
        while len(moving):
            here = at[moving]
            for _ in range(STRIDE):
                value = flat[nodes.feature[here] + row]
                left = value <= nodes.threshold[here]
                if missing:
                    left |= np.isnan(value) & nodes.missing_left[here]
                here = nodes.children[2 * here + left]
            at[moving] = here
            on = np.flatnonzero(nodes.children[2 * here] != here)
            moving, row = moving[on], row[on]
        return nodes.values[at].reshape(len(nodes.roots), n, -1)


def trees(estimator: Any) -> Trees | None:
    """Return the trees of an estimator; None if it has none, or such as cannot be walked."""
    try:
        return Trees(estimator)
    except (ValueError, AttributeError):  # scikit-learn's private names may be others in another version
        return None


def _floats(found: Any) -> Floats:
    return np.asarray(found, dtype=np.float64)


def _boosted(estimator: Any) -> _Nodes:
    predictors = [one for iteration in estimator._predictors for one in iteration]  # noqa: SLF001
    found = [one.nodes for one in predictors]
    by_category = any(bool(nodes["is_categorical"].any()) for nodes in found)
    if estimator._preprocessor is not None or by_category:  # noqa: SLF001
        raise ValueError("a tree splits by category")
    return _joined(
        [
            (
                np.where(nodes["is_leaf"], -1, nodes["left"].astype(np.intp)),
                nodes["right"].astype(np.intp),
                nodes["feature_idx"].astype(np.intp),
                nodes["num_threshold"].astype(np.float64),
                nodes["missing_go_to_left"].astype(bool),
                nodes["value"].astype(np.float64)[:, None],
            )
            for nodes in found
        ]
    )


def _forest(estimator: Any) -> _Nodes:
    return _joined(
        [
            (
                tree.children_left,
                tree.children_right,
                tree.feature,
                tree.threshold,
                tree.missing_go_to_left.astype(bool),
                tree.value[:, 0, :],
            )
            for tree in (one.tree_ for one in estimator.estimators_)
        ]
    )


def _joined(found: Sequence[tuple[Any, ...]]) -> _Nodes:
    """Return the trees one after another; each is (left, right, feature, threshold, missing_left, values)."""
    sizes = [len(tree[0]) for tree in found]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
    left, right, feature, threshold, missing_left, values = (
        np.concatenate(parts) for parts in zip(*found, strict=True)
    )
    first = np.repeat(roots, sizes)
    itself = np.arange(len(left))
    leaf = left < 0
    return _Nodes(
        roots,
        np.where(leaf, 0, feature).astype(np.intp),
        np.where(leaf, np.nan, threshold).astype(np.float64),
        np.stack([np.where(leaf, itself, first + right), np.where(leaf, itself, first + left)], axis=1).ravel(),
        missing_left & ~leaf,
        np.ascontiguousarray(values, dtype=np.float64),
    )
