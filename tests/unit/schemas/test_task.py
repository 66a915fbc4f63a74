"""The one place that differs between tasks: what an estimator must be, what it returns, what a prediction holds."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression, Ridge

from schemas.task import Binary, Interval, Multiclass, Regression, class_texts

X = np.arange(12.0).reshape(6, 2)
BY_CLASS = LogisticRegression().fit(X, ["no", "no", "yes", "no", "yes", "yes"])
THREE = LogisticRegression().fit(X, list("abcabc"))


@pytest.mark.parametrize(("positive", "column"), [("no", 0), ("yes", 1)])
def test_a_binary_score_is_the_probability_of_the_positive_class(positive, column):
    """Whichever of both it is."""
    got = Binary(positive).scores(BY_CLASS, X)
    assert got.tolist() == BY_CLASS.predict_proba(X)[:, column].tolist()
    assert Binary(positive).unfit(BY_CLASS) is Binary(positive).mismatch(BY_CLASS) is None


@pytest.mark.parametrize("estimator", [THREE, Ridge().fit(X, range(6)), LogisticRegression(), object()])
def test_another_estimator_is_not_binary(estimator):
    """Three classes, a regressor, one that is not fitted, no estimator."""
    assert Binary("a").unfit(estimator) == "not a fitted binary classifier with predict_proba"


def test_a_positive_class_that_the_estimator_does_not_have_is_named():
    """With the classes that it has."""
    assert Binary("maybe").mismatch(BY_CLASS) == "positive_class: 'maybe' is not one of ['no', 'yes']"


def test_valid_probabilities_are_0_to_1():
    """An excess in the last bits is rounding; more, NaN and infinity are no probability."""
    got = Binary(1).valid(np.array([0.0, 0.25, 1.0 + 1e-12, -1e-12, 1.001, -0.001, np.nan, np.inf]))
    np.testing.assert_array_equal(got, [0.0, 0.25, 1.0, 0.0, np.nan, np.nan, np.nan, np.nan])


def test_the_label_of_a_binary_prediction_is_true_from_the_threshold_on():
    """In an array as in one prediction."""
    task = Binary(1, 0.3)
    assert task.labels(np.array([0.29, 0.3, 0.31])).tolist() == [False, True, True]
    assert task.content(0.3) == {"probability": 0.3, "label": True, "threshold": 0.3}
    assert task.content(0.2) == {"probability": 0.2, "label": False, "threshold": 0.3}


# --- regression -----------------------------------------------------------------------------------------------------

LINE = Ridge().fit(X, range(6))


def test_the_score_of_a_regression_is_the_value():
    """By `predict`, or of an anomaly detector by `score_samples`; a matrix with one column is that column."""
    assert Regression().scores(LINE, X).tolist() == LINE.predict(X).tolist()
    detector = IsolationForest(n_estimators=5, random_state=0).fit(X)
    assert Regression("score_samples").scores(detector, X).tolist() == detector.score_samples(X).tolist()
    column = Ridge().fit(X, np.arange(6.0).reshape(6, 1))
    np.testing.assert_allclose(Regression().scores(column, X), LINE.predict(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "estimator", "word"),
    [
        ("predict", BY_CLASS, "classifier"),
        ("score_samples", LINE, "no score_samples"),
        ("predict", object(), "no predict"),
    ],
)
def test_another_estimator_is_no_regression(method, estimator, word):
    """The line names the task."""
    line = Regression(method).unfit(estimator)
    assert line.startswith('task is "regression"')
    assert word in line
    assert Regression().unfit(LINE) is Regression().mismatch(LINE) is None


def test_every_finite_number_is_a_valid_value():
    """NaN and infinity are none, nor is a value with an end of its interval beyond the doubles."""
    values = np.array([0.0, -1e300, np.nan, np.inf, -np.inf, 1.79e308])
    assert np.isfinite(Regression().valid(values)).tolist() == [True, True, False, False, False, True]
    wide = Regression(interval=Interval(-1.0, 1e307, 0.9))
    assert np.isfinite(wide.valid(values)).tolist() == [True, True, False, False, False, False]
    assert Regression().labels(values).tolist() == [False] * 6


def test_a_value_has_its_interval_around_it():
    """Only if the model has one."""
    assert Regression().content(2.5) == {"value": 2.5}
    around = Regression(interval=Interval(-1.0, 0.5, 0.9)).content(2.5)
    assert around == {"value": 2.5, "interval": {"low": 1.5, "high": 3.0, "level": 0.9}}


def test_a_tolerance_is_of_a_probability_absolute_and_of_a_value_relative():
    """Values of a thousandth differ by less than values of a million; zeros have the tolerance of the usual value."""
    assert Binary(1).tolerances(np.array([0.1, 0.9]), 1e-6).tolist() == [1e-6, 1e-6]
    np.testing.assert_allclose(Regression().tolerances(np.array([0.0, 2e-3, -4e6]), 0.5), [1e-3, 1e-3, 2e6])
    assert Regression().tolerances(np.zeros(2), 0.5).tolist() == [0.5, 0.5]


# --- several classes ------------------------------------------------------------------------------------------------

ABC = Multiclass(("a", "b", "c"))


def test_the_scores_of_several_classes_are_their_probabilities():
    """In the estimator's order; the largest is watched, and its class is the label."""
    scores = ABC.scores(THREE, X)
    assert scores.tolist() == THREE.predict_proba(X).tolist()
    assert (ABC.shape(6), scores.shape, ABC.unfit(THREE), ABC.mismatch(THREE)) == ((6, 3), (6, 3), None, None)
    assert ABC.watched(scores).tolist() == scores.max(axis=1).tolist()
    assert [ABC.classes[code] for code in ABC.predicted(scores)] == THREE.predict(X).tolist()
    assert ABC.content([0.25, 0.5, 0.25]) == {
        "label": "b",
        "probability": 0.5,
        "probabilities": {"a": 0.25, "b": 0.5, "c": 0.25},
    }
    assert ABC.content([0.5, 0.5, 0.0])["label"] == "a"  # the first, as numpy's argmax


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (BY_CLASS, "this has 2 classes; expected 3 to 100"),
        (Ridge().fit(X, range(6)), "this has no predict_proba"),
        (LogisticRegression(), "this has 0 classes"),
        (LogisticRegression().fit(X, ["a", "b", "c\n"] * 2), "no distinct texts"),
    ],
)
def test_another_estimator_has_not_several_classes(estimator, why):
    """Two classes, a regressor, one that is not fitted, classes that are no texts."""
    assert why in (ABC.unfit(estimator) or "")


def test_a_regressor_with_an_empty_list_of_classes_is_one():
    """As CatBoost's regressors have it."""
    estimator = Ridge().fit(X, range(6))
    estimator.classes_ = np.array([])
    assert Regression().unfit(estimator) is None
    assert "it has classes" in (Regression().unfit(BY_CLASS) or "")


def test_whole_numbers_are_classes_by_their_decimal_text():
    """A target of 0, 1, 2, and the floats that pandas makes of it."""
    for kind in (int, float):
        assert class_texts(LogisticRegression().fit(X, np.array([0, 1, 2] * 2, dtype=kind))) == ("0", "1", "2")
    assert Multiclass(("2", "1", "0")).mismatch(LogisticRegression().fit(X, [0, 1, 2] * 2)) == (
        "classes: the estimator has 0, 1, 2"
    )


def test_a_row_that_is_no_distribution_is_not_valid():
    """A sum that is off by more than 1e-6, a negative share, NaN; single precision and the last bits are rounding."""
    rows = [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5 + 9e-7], [0.2, 0.3, 0.5 + 2e-6], [-0.1, 0.6, 0.5], [np.nan, 0.5, 0.5]]
    valid = ABC.valid(np.array([*rows, [1.0 + 1e-12, -1e-12, 0.0]]))
    assert np.isnan(valid).tolist() == [[False] * 3, [False] * 3, [True] * 3, [True] * 3, [True] * 3, [False] * 3]
    assert valid[-1].tolist() == [1.0, 0.0, 0.0]


def test_of_many_classes_the_likeliest_ten_are_shown():
    """The largest first; of equal ones the first."""
    many = Multiclass(tuple(f"c{n:02}" for n in range(12)))
    shown = many.content([0.05, *[0.01] * 5, 0.4, *[0.1] * 5])["probabilities"]
    assert list(shown) == ["c06", *(f"c{n:02}" for n in range(7, 12)), "c00", "c01", "c02", "c03"]
    assert list(many.content([1 / 12] * 12)["probabilities"]) == [f"c{n:02}" for n in range(10)]


@pytest.mark.parametrize(
    ("value", "outcome"), [("b", "b"), ("new", "new"), (3, "3"), (True, None), (1.5, None), ("", None)]
)
def test_a_label_of_several_classes_is_a_text(value, outcome):
    """Also of a class that the model does not have; a JSON integer is its decimal text."""
    assert ABC.outcome(value) == outcome
    assert ABC.outcome("a\nb") is ABC.outcome("x" * 129) is None
