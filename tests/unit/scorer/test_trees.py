"""Trees walked in numpy: scikit-learn's own bits, for every estimator, size of batch and odd number."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)

from scorer.trees import MOST_WALKED, Trees, trees

WIDTH = 6
DRAW = np.random.default_rng(11)
X = np.round(DRAW.normal(size=(900, WIDTH)), 2)  # rounded: values that equal a threshold occur
HOLES = np.where(DRAW.random(X.shape) < 0.1, np.nan, X)
VALUE = X[:, 0] * X[:, 1] + X[:, 2] + DRAW.normal(scale=0.3, size=900)
TWO, FOUR = (VALUE > 0).astype(int), np.array(list("abcd"))[np.digitize(VALUE, [-1, 0, 1])]
FITTED = {
    "boosting": HistGradientBoostingClassifier(max_iter=40).fit(HOLES, TWO),
    "boosting of one leaf": HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=900).fit(X, TWO),
    "boosting of classes": HistGradientBoostingClassifier(max_iter=15).fit(HOLES, FOUR),
    "boosting of a number": HistGradientBoostingRegressor(max_iter=40).fit(HOLES, VALUE),
    "boosting of a count": HistGradientBoostingRegressor(loss="poisson", max_iter=15).fit(X, np.abs(VALUE)),
    "forest": RandomForestClassifier(20, random_state=1).fit(X, TWO),
    "forest with holes": RandomForestClassifier(20, random_state=1).fit(HOLES, FOUR),
    "forest of a number": RandomForestRegressor(20, random_state=1).fit(X, VALUE),
    "random trees": ExtraTreesClassifier(20, max_depth=4, random_state=1).fit(X, FOUR),
    "random trees of a number": ExtraTreesRegressor(20, random_state=1).fit(X, VALUE),
}


def _both(name, rows):
    fitted = FITTED[name]
    method = "predict_proba" if hasattr(fitted, "predict_proba") else "predict"
    return getattr(fitted, method)(rows), getattr(Trees(fitted), method)(rows)


@pytest.mark.parametrize("rows", [1, 2, 7, 200])
@pytest.mark.parametrize("name", FITTED)
def test_every_row_has_scikit_learns_bits(name, rows):
    """Values at a threshold, and missing ones where the estimator takes them."""
    source = HOLES if "boosting" in name or "holes" in name else X
    for at in range(0, 400, rows):
        own, walked = _both(name, source[at : at + rows])
        assert own.shape == walked.shape
        assert own.tobytes() == walked.tobytes()


@pytest.mark.parametrize("name", FITTED)
def test_odd_numbers_end_in_the_same_leaf(name):
    """Both zeros, the smallest and largest numbers, and those a single precision rounds to a threshold or past it."""
    forest = "forest" in name or "random" in name
    large = 1e37 if forest else np.inf
    odd = np.array([0.0, -0.0, 5e-324, 2.0**-40, large, -large, 1e30])
    # a hundredth is no number of a single precision: each of these is on another side of some threshold
    near = np.nextafter(X[:50], np.inf), np.nextafter(X[:50], -np.inf), X[:50] + 1e-9, X[:50] - 1e-9
    rows = np.concatenate([*near, odd[DRAW.integers(0, len(odd), (100, WIDTH))]])
    own, walked = _both(name, rows)
    assert own.tobytes() == walked.tobytes()


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # scikit-learn's own
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_what_a_forest_rejects_is_still_rejected(value):
    """It compares in single precision."""
    row = X[:1].copy()
    row[0, 2] = value
    with pytest.raises(ValueError, match="Input X contains"):
        FITTED["forest of a number"].predict(row)
    with pytest.raises(ValueError, match="Input X contains"):
        Trees(FITTED["forest of a number"]).predict(row)


def test_a_category_split_and_unknown_estimators_are_not_walked():
    """scikit-learn's own code scores them."""
    codes = np.column_stack([DRAW.integers(0, 5, 900).astype(float), X[:, 0]])
    target = np.isin(codes[:, 0], (1.0, 3.0)).astype(int)
    assert trees(HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]).fit(codes, target)) is None
    assert trees(GradientBoostingClassifier(n_estimators=2).fit(X, TWO)) is None
    assert trees(IsolationForest(n_estimators=2).fit(X)) is None
    assert trees(RandomForestRegressor(2).fit(X, np.column_stack([VALUE, VALUE]))) is None


def test_few_rows_are_fewer_where_trees_are_many():
    """The work is rows times trees."""
    assert Trees(FITTED["boosting"]).most_rows == MOST_WALKED // 40
    assert Trees(FITTED["boosting of classes"]).most_rows == MOST_WALKED // 60
