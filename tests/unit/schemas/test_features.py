"""Columns: codes, missing values, and the frame that estimators are fitted and scored on."""

import numpy as np
import pandas as pd
from support.events import FEATURES

from schemas.bundle.inputs import Feature
from schemas.features import MISSING, UNSEEN, Layout

LAYOUT = Layout(FEATURES)
VALUES = [
    [12, 0, 3.5],
    [70.35, 1, -2],
    [None, 844.2, None],
    ["One year", "Two year", "Month-to-month"],
    [None, "Mail", "Cash"],
    [False, True, True],
    [True, None, False],
]


def test_a_layout_says_where_each_feature_stands():
    """Numbers in one array; categories and booleans, in manifest order, in the other."""
    assert LAYOUT.names == ("tenure", "monthly_charges", "total_charges", "contract", "payment", "senior", "partner")
    assert LAYOUT.numeric == (0, 1, 2)
    assert LAYOUT.categorical == (3, 4, 5, 6)
    assert LAYOUT.categories == (("Month-to-month", "One year"), ("Mail",), ("false", "true"), ("false", "true"))


def test_values_become_codes_and_nan():
    """A code is the category's position; -1 is missing and -2 unseen, so that a table of K + 2 entries is indexed."""
    columns = LAYOUT.columns(VALUES)
    np.testing.assert_array_equal(columns.numeric, [[12, 70.35, np.nan], [0, 1, 844.2], [3.5, -2, np.nan]])
    assert columns.codes.tolist() == [[1, MISSING, 0, 1], [UNSEEN, 0, 1, MISSING], [0, UNSEEN, 1, 0]]
    assert (MISSING, UNSEEN) == (-1, -2)
    assert (columns.numeric.dtype, columns.codes.dtype) == (np.float64, np.int32)


def test_the_frame_is_the_contracts():
    """Numeric float64 with NaN; categorical and boolean objects with numpy.nan, never None; names and order kept."""
    frame = LAYOUT.columns(VALUES).frame()
    assert tuple(frame.columns) == LAYOUT.names
    assert [str(t) for t in frame.dtypes] == ["float64"] * 3 + ["object"] * 4
    assert frame["contract"].tolist() == ["One year", "Two year", "Month-to-month"]
    for name, row in (("payment", 0), ("partner", 1)):
        missing = frame[name].iloc[row]
        assert type(missing) is float
        assert np.isnan(missing)
    assert frame["senior"].tolist() == [False, True, True]
    assert all(type(value) is bool for value in frame["senior"])
    assert all(type(value) is str for value in frame["contract"])
    assert frame["total_charges"].isna().tolist() == [True, False, True]


def test_a_category_named_like_a_missing_value_is_a_category():
    """The texts "nan", "None" and the empty one are values, if the customer wrote them."""
    layout = Layout((Feature(name="x", kind="categorical", categories=("nan", "None", ""), nullable=True),))
    columns = layout.columns([["nan", "None", "", None]])
    assert columns.codes[:, 0].tolist() == [0, 1, 2, MISSING]
    assert columns.frame()["x"].tolist()[:3] == ["nan", "None", ""]


def test_a_feature_whose_every_category_was_missing_has_none():
    """No categories are not a boolean's: any value is unseen."""
    layout = Layout((Feature(name="x", kind="categorical", categories=(), nullable=True),))
    assert layout.categories == ((),)
    assert layout.columns([["false", None]]).codes[:, 0].tolist() == [UNSEEN, MISSING]


def test_rows_can_be_taken():
    """In the requested order, in every part."""
    taken = LAYOUT.columns(VALUES).take(np.array([2, 0]))
    expected = LAYOUT.columns([[column[2], column[0]] for column in VALUES])
    np.testing.assert_array_equal(taken.numeric, expected.numeric)
    np.testing.assert_array_equal(taken.codes, expected.codes)
    pd.testing.assert_frame_equal(taken.frame(), expected.frame())


def test_one_row_and_no_rows_have_the_same_columns():
    """Nothing is guessed from the values: dtypes are those of the kinds."""
    for n in (0, 1):
        frame = LAYOUT.columns([column[:n] for column in VALUES]).frame()
        assert [str(t) for t in frame.dtypes] == ["float64"] * 3 + ["object"] * 4
        assert len(frame) == n
