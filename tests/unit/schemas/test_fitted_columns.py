"""Which columns an estimator has recorded, and which order it needs."""

from types import SimpleNamespace

import numpy as np
import pytest

from schemas.bundle.inputs import Feature
from schemas.features import Layout
from schemas.fitted_columns import columns_of, dropped, in_order, misplaced, recorded_names, recorded_width


def fitted(**recorded):
    """An object with what an estimator records."""
    return SimpleNamespace(**recorded)


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (fitted(feature_names_in_=np.array(["b", "a"], dtype=object)), ("b", "a")),
        (fitted(feature_name_=["b", "a"]), ("b", "a")),
        (fitted(feature_names_=["b", "a"]), ("b", "a")),
        (fitted(steps=[("no", "passthrough"), ("yes", fitted(feature_names_in_=["b", "a"]))]), ("b", "a")),
        (fitted(best_estimator_=fitted(feature_names_in_=["b", "a"])), ("b", "a")),
        (fitted(calibrated_classifiers_=[fitted(estimator=fitted(feature_names_=["b", "a"]))]), ("b", "a")),
        (fitted(feature_name_=["Column_0", "Column_1"]), None),
        (fitted(feature_names_=["0", "1"]), None),
        (fitted(feature_names_in_=["f0", "f2"]), ("f0", "f2")),
        (fitted(n_features_in_=2), None),
    ],
)
def test_recorded_names_are_those_of_the_fit(estimator, names):
    """Of the estimator, or of what gets its input as it is; names that a library invents are none."""
    assert recorded_names(estimator, ["a", "b"]) == names


def test_invented_names_are_names_where_the_features_have_them():
    """Somebody called the columns x0 and x1."""
    assert recorded_names(fitted(feature_names_in_=["x0", "x1"]), ["x1", "x0"]) == ("x0", "x1")


def test_the_width_is_that_of_the_fit():
    """CatBoost has no n_features_in_ in every version."""
    assert recorded_width(fitted(n_features_in_=3)) == 3
    assert recorded_width(fitted(feature_names_=["0", "1"])) == 2
    assert recorded_width(fitted()) is None


@pytest.mark.parametrize(
    ("recorded", "features", "found"),
    [
        (["b", "a"], ["a", "b"], {"b": "b", "a": "a"}),
        (["b_2", "a"], ["a", "b 2"], {"b 2": "b_2", "a": "a"}),
        (["wide", "b", "a"], ["a", "b"], {"b": "b", "a": "a"}),
        (["b_1", "a"], ["a", "b 1", "b-1"], {"a": "a"}),
        (["b_1", "b.1"], ["b 1"], {}),
        (["€", "a"], ["a", "$"], {"a": "a"}),
    ],
)
def test_features_are_put_into_the_recorded_order(recorded, features, found):
    """A changed name is found where it can mean one feature only."""
    assert list(in_order(recorded, features).items()) == list(found.items())


@pytest.mark.parametrize(
    ("selection", "columns"),
    [
        ("b", ["b"]),
        (["c", "a"], ["c", "a"]),
        ([2, -3], ["c", "a"]),
        (np.array([True, False, True]), ["a", "c"]),
        (slice(1, None), ["b", "c"]),
        (slice("a", "b"), ["a", "b"]),
        (slice(None, "b"), ["a", "b"]),
        (slice("z", None), None),
        ([7], None),
        ([1.5], None),
    ],
)
def test_the_columns_of_a_transformer_are_found_by_name(selection, columns):
    """By every way that scikit-learn takes: names, positions, slices (of names with the last one), masks."""
    assert columns_of(selection, ["a", "b", "c"]) == columns


def test_columns_that_no_transformer_takes_are_dropped():
    """The remainder counts where it is passed through."""
    steps = [("x", fitted(), ["a"]), ("remainder", "drop", [1, 2])]
    assert dropped(fitted(steps=[("first", fitted(transformers_=steps))]), ["a", "b", "c"]) == {"b", "c"}
    assert dropped(fitted(transformers_=[*steps[:1], ("rest", "passthrough", [1])]), ["a", "b", "c"]) == {"c"}
    assert dropped(fitted(transformers_=[("x", fitted(), [9])]), ["a", "b"]) == set()
    assert dropped(fitted(), ["a"]) == set()


LAYOUT = Layout([Feature(name=name, kind="numeric") for name in ("a", "b")])
ROWS = LAYOUT.columns([[1.0, 2.0], [5.0, 5.0]])


def test_an_order_is_wrong_where_the_answers_differ():
    """By position they do, by name they do not."""
    estimator = fitted(feature_names_in_=["b", "a"])
    assert "was fitted on b, a" in misplaced(estimator, ROWS, lambda frame: frame.to_numpy()[:, 0])
    assert misplaced(estimator, ROWS, lambda frame: frame["a"].to_numpy()) is None
    assert misplaced(fitted(feature_names_in_=["a", "b"]), ROWS, lambda frame: frame.to_numpy()[:, 0]) is None


def test_another_number_of_columns_is_wrong():
    """Where no names say which of them the features are."""
    assert "was fitted on 3 columns" in misplaced(fitted(n_features_in_=3), ROWS, lambda frame: frame["a"].to_numpy())
    assert misplaced(fitted(), ROWS, lambda frame: frame["a"].to_numpy()) is None
