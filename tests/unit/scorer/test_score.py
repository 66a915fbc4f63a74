"""Probabilities per row: poison rows are found alone, and with few calls."""

import numpy as np
import pytest

from schemas.bundle.inputs import Feature
from schemas.features import Layout
from schemas.task import Binary, Multiclass
from scorer.score import FrameForm, predict_each

BINARY = Binary(True)
LAYOUT = Layout((Feature(name="x", kind="numeric"),))


def _columns(n):
    return LAYOUT.columns([[float(i) for i in range(n)]])


class _Model:
    """Gives row i the probability i / 10,000 and fails whenever a poison row is among the rows."""

    def __init__(self, poison=(), error=ValueError):
        self.poison, self.error = set(poison), error
        self.sizes = []

    def __call__(self, columns):
        x = columns.numeric[:, 0]
        self.sizes.append(len(x))
        if self.poison & set(x.tolist()):
            raise self.error("foreign code")
        return x / 10_000


def test_a_batch_without_poison_is_one_call():
    """The ordinary case costs nothing extra."""
    model = _Model()
    out, wrong = predict_each(model, _columns(5000), BINARY)
    np.testing.assert_array_equal(out, np.arange(5000) / 10_000)
    assert wrong == {}
    assert model.sizes == [5000]


def test_no_rows_are_no_call():
    """An estimator need not know what to do with nothing."""
    model = _Model()
    out, wrong = predict_each(model, _columns(0), BINARY)
    assert (out.shape, wrong, model.sizes) == ((0,), {}, [])


@pytest.mark.parametrize(
    ("poison", "most_calls"),
    [
        ([0], 27),
        ([4999], 27),
        ([2500], 27),
        ([2499, 2500], 53),
        ([7, 8, 9, 1234, 4242], 125),
        (list(range(0, 5000, 500)), 235),
    ],
)
def test_poison_rows_are_found_alone_with_few_calls(poison, most_calls):
    """For k rows of 5,000 about 2 k log2(5,000 / k) more calls, not 5,000; every other row has its probability."""
    model = _Model(poison)
    out, wrong = predict_each(model, _columns(5000), BINARY)
    assert wrong == dict.fromkeys(poison, "ValueError")
    assert np.flatnonzero(np.isnan(out)).tolist() == poison
    good = np.delete(np.arange(5000), poison)
    np.testing.assert_array_equal(out[good], good / 10_000)
    assert len(model.sizes) <= most_calls


def test_a_model_that_always_fails_leaves_no_row_unanswered():
    """Every row is wrong, for any exception, and at most two calls a row are made."""
    model = _Model(range(100), MemoryError)
    out, wrong = predict_each(model, _columns(100), BINARY)
    assert wrong == dict.fromkeys(range(100), "MemoryError")
    assert np.isnan(out).all()
    assert len(model.sizes) == 199


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.001, -0.001, 1.000001, 1e300])
def test_a_result_that_is_no_probability_is_wrong_in_its_row_alone(value):
    """NaN, infinite or outside 0 to 1: the neighbours keep theirs, and no row is scored again."""
    calls = []

    def predict(columns):
        calls.append(columns.n)
        got = np.full(columns.n, 0.25)
        got[2] = value
        return got

    out, wrong = predict_each(predict, _columns(5), BINARY)
    assert wrong == {2: "a result that is not a probability"}
    assert np.isnan(out[2])
    assert np.delete(out, 2).tolist() == [0.25] * 4
    assert calls == [5]


@pytest.mark.parametrize(
    ("value", "probability"), [(1.0000000000000002, 1.0), (-1e-17, 0.0), (1.0, 1.0), (0.0, 0.0), (5e-324, 5e-324)]
)
def test_the_last_bits_of_a_sum_are_no_error(value, probability):
    """An average of certain estimators may exceed 1 by a rounding: a customer is not refused for that."""
    out, wrong = predict_each(lambda columns: np.full(columns.n, value), _columns(3), BINARY)
    assert wrong == {}
    assert out.tolist() == [probability] * 3


@pytest.mark.parametrize("shape", [(), (4,), (5, 1), (5, 2), (0,)])
def test_a_result_of_another_shape_is_no_answer(shape):
    """Too few rows, too many, or columns: they cannot be assigned to rows, so each row is scored alone."""

    def predict(columns):
        return np.full(shape, 0.5) if columns.n > 1 else np.full(1, 0.5)

    out, wrong = predict_each(predict, _columns(5), BINARY)
    assert wrong == {}
    assert out.tolist() == [0.5] * 5
    assert len(predict_each(lambda _: np.full(shape, 0.5), _columns(5), BINARY)[1]) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_is_no_poison(error):
    """Only what the estimator does wrong is caught."""
    with pytest.raises(error):
        predict_each(_Model([3], error), _columns(5), BINARY)


class _Estimator:
    classes_ = (0, 1)

    def __init__(self):
        self.frames = []

    def predict_proba(self, frame):
        self.frames.append(frame)
        p = frame["x"].to_numpy() / 10
        return np.column_stack([1 - p, p])


@pytest.mark.parametrize(("column", "expected"), [(0, [1.0, 0.9, 0.8]), (1, [0.0, 0.1, 0.2])])
def test_the_frame_form_takes_the_positive_classs_column(column, expected):
    """The estimator sees the frame it was fitted on: names, order and types."""
    estimator = _Estimator()
    got = FrameForm(estimator, Binary(column))(_columns(3))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-15)
    assert got.dtype == np.float64
    assert list(estimator.frames[0].columns) == ["x"]


def test_a_row_without_a_distribution_is_found_alone():
    """The sum of row 2 is 0.9, and row 4 makes the estimator raise: the others have their probabilities."""

    def predict(columns):
        x = columns.numeric[:, 0]
        if (x == 4).any():
            raise ValueError("foreign code")
        rows = np.tile([0.2, 0.3, 0.5], (len(x), 1))
        rows[x == 2, 0] = 0.1
        return rows

    out, wrong = predict_each(predict, _columns(6), Multiclass(("a", "b", "c")))
    assert wrong == {2: "a result that is not a distribution over the classes", 4: "ValueError"}
    assert np.isnan(out).any(axis=1).tolist() == [False, False, True, False, True, False]
    assert out[5].tolist() == [0.2, 0.3, 0.5]


def test_another_number_of_classes_is_an_error():
    """Two columns where three classes are expected."""
    _, wrong = predict_each(lambda columns: np.full((columns.n, 2), 0.5), _columns(2), Multiclass(("a", "b", "c")))
    assert set(wrong) == {0, 1}
