"""Files of customers: what a cell means, and what is refused with which words."""

import hashlib
import math

import pytest

from driftline.training.dataset import DatasetError, matching_class, read_dataset, read_features
from driftline.training.spec import parse_spec

SPEC = parse_spec("""
    [model]
    name = "small"
    version = "1.0.0"
    [data]
    target = "left"
    positive = "yes"
    [features.age]
    kind = "numeric"
    min = 0
    max = 120
    [features.income]
    kind = "numeric"
    nullable = true
    [features.city]
    kind = "categorical"
    nullable = true
    [features.senior]
    kind = "boolean"
    nullable = true
    """)
HEADER = "age,income,city,senior,left,ignored\n"


def _write(tmp_path, text, name="customers.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def _defect(tmp_path, text, name="customers.csv", spec=SPEC):
    with pytest.raises(DatasetError) as caught:
        read_dataset(_write(tmp_path, text, name), spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_cells_become_values_by_the_kind_of_their_feature(tmp_path):
    """Numbers, texts and every way to write a boolean; empty and blank cells are missing; other columns are ignored."""
    text = HEADER + (
        "34,1.5,Lyon,1,yes,a\n"
        '0,,"Saint-Étienne, centre",FALSE,no,b\n'
        "120,-2e3,,Yes,no,c\n"
        " 7 , ,Lyon,no,yes,d\n"
        "8,+.5,,,no,e\n"
    )
    dataset = read_dataset(_write(tmp_path, text), SPEC)

    age, income, city, senior = dataset.columns.values
    assert age == [34, 0, 120, 7, 8]
    assert all(type(value) is int for value in age)
    assert income == [1.5, None, -2000.0, None, 0.5]
    assert city == ["Lyon", "Saint-Étienne, centre", None, "Lyon", None]
    assert senior == [True, False, True, False, None]
    assert dataset.labels.tolist() == ["yes", "no", "no", "yes", "no"]
    assert dataset.features[2].categories == ("Lyon", "Saint-Étienne, centre")
    assert dataset.ids is None
    assert dataset.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_frame_has_the_types_that_the_bundle_promises(tmp_path):
    """float64 for numbers; object of str or bool otherwise, NaN where missing, never None."""
    dataset = read_dataset(_write(tmp_path, HEADER + "1,,,,yes,\n2,3,Lyon,1,no,\n"), SPEC)

    frame = dataset.columns.frame()

    assert list(frame.columns) == ["age", "income", "city", "senior"]
    assert [str(t) for t in frame.dtypes] == ["float64", "float64", "object", "object"]
    for column in ("income", "city", "senior"):
        assert isinstance(frame[column][0], float)
        assert math.isnan(frame[column][0])
    assert frame["senior"][1] is True


def test_json_lines_are_read_like_csv(tmp_path):
    """Null and absent members are missing; a separator inside a string does not end the line."""
    text = (
        '{"age": 34, "income": 1.5, "city": "Ly\u2028on", "senior": true, "left": "yes", "more": [1]}\n'
        "\n"
        '{"age": 7, "income": null, "left": "no"}\n'
    )
    dataset = read_dataset(_write(tmp_path, text, "customers.jsonl"), SPEC)

    assert dataset.columns.values == ([34, 7], [1.5, None], ["Ly\u2028on", None], [True, None])


def test_a_byte_order_mark_and_a_last_blank_line_are_no_part_of_the_data(tmp_path):
    """As spreadsheet programs write them."""
    dataset = read_dataset(_write(tmp_path, "\ufeff" + HEADER + "1,2,Lyon,1,yes,\r\n2,3,Lyon,1,no,\r\n\r\n"), SPEC)

    assert dataset.rows == 2


@pytest.mark.parametrize(
    ("rows", "defect"),
    [
        (",1,Lyon,1,yes,\n", "age: missing without nullable = true in 1 row, first in row 3"),
        ("NA,1,Lyon,1,yes,\n1_0,1,Lyon,1,yes,\n", "age: not a number in 2 rows, first in row 3"),
        ("121,1,Lyon,1,yes,\n", "age: outside 0 to 120 in 1 row, first in row 3"),
        ("1,9007199254740992,Lyon,1,yes,\n", "income: outside -9.0072e+15 to 9.0072e+15 in 1 row, first in row 3"),
        ("1,1e999,Lyon,1,yes,\n", "income: outside"),
        ("1,nan,Lyon,1,yes,\n", "income: not a number in 1 row"),
        ("1,1,Lyon,2,yes,\n", "senior: not 0 or 1, true or false, yes or no in 1 row, first in row 3"),
        ("1,1,Lyon,1,,\n", "left: no label in 1 row, first in row 3"),
        (
            "1,1,Lyon,1,perhaps,\n",
            'left: 3 different values ([model] task = "multiclass" is for such); Driftline\'s scope: classifiers with',
        ),
        ("1,1,Lyon,1\n", "line 4: 4 cells, the header has 6"),
        ('1,1,"Lyon\n', "line 4: unexpected end of data"),
    ],
)
def test_a_defect_is_named_with_its_column_and_rows(tmp_path, rows, defect):
    """Two good rows, then the bad ones; the content of a cell is never repeated."""
    assert defect in _defect(tmp_path, HEADER + "1,1,Lyon,1,yes,\n2,2,Lyon,0,no,\n" + rows)


def test_every_column_at_fault_is_in_one_message(tmp_path):
    """Two columns, one message."""
    message = _defect(tmp_path, HEADER + "x,1,Lyon,1,yes,\n-1,y,Lyon,0,no,\n")

    assert "age: not a number in 1 row, first in row 1" in message
    assert "income: not a number in 1 row, first in row 2" in message


def test_a_column_that_the_file_lacks_is_an_error(tmp_path):
    """By name; and a separator that does not fit is named."""
    assert _defect(tmp_path, "age,city,left\n1,Lyon,yes\n").endswith("no columns income, senior")
    spec = SPEC.model_copy(update={"data": SPEC.data.model_copy(update={"separator": "|"})})
    message = _defect(tmp_path, HEADER, spec=spec)
    assert message.endswith("the header is one column with the separator '|': [data] separator is another")
    assert _defect(tmp_path, "age,age,income,city,senior,left\n").endswith("more than one column age")


def test_a_file_without_rows_or_of_another_form_is_an_error(tmp_path):
    """Empty, one label only, broken JSON, not UTF-8, absent."""
    assert _defect(tmp_path, HEADER).endswith("customers.csv: no rows")
    assert 'every row is "yes"' in _defect(tmp_path, HEADER + "1,1,Lyon,1,yes,\n")
    assert 'no row is "yes", only no' in _defect(tmp_path, HEADER + "1,1,Lyon,1,no,\n")
    assert "line 1: not JSON" in _defect(tmp_path, '{"age": 1', "customers.jsonl")
    assert "line 1: not a JSON object" in _defect(tmp_path, "[1]", "customers.jsonl")
    assert "line 1: not JSON" in _defect(tmp_path, "[" * 100_000, "customers.jsonl")
    (tmp_path / "latin.csv").write_bytes(b"\xe9")
    with pytest.raises(DatasetError, match=r"not UTF-8 \(byte 0\)"):
        read_dataset(tmp_path / "latin.csv", SPEC)
    with pytest.raises(DatasetError, match="No such file"):
        read_dataset(tmp_path / "absent.csv", SPEC)


def test_a_feature_that_is_missing_everywhere_is_an_error(tmp_path):
    """Nullable or not: there is nothing to learn from it."""
    assert "income: missing in every row" in _defect(tmp_path, HEADER + "1,,Lyon,1,yes,\n2,,Lyon,1,no,\n")


def test_listed_categories_must_cover_the_data(tmp_path):
    """A name that the spec does not list is counted."""
    spec = parse_spec("""
        [model]
        name = "small"
        version = "1.0.0"
        [data]
        target = "left"
        positive = "yes"
        [features.city]
        kind = "categorical"
        categories = ["Lyon", "Lille"]
        """)

    dataset = read_dataset(_write(tmp_path, "city,left\nLyon,yes\nLyon,no\n"), spec)

    assert dataset.features[0].categories == ("Lyon", "Lille")
    message = _defect(tmp_path, "city,left\nLyon,yes\nNice,no\n", spec=spec)
    assert message == "city: not one of the listed categories in 1 row, first in row 2"


@pytest.mark.parametrize(
    ("positive", "cells", "labels"),
    [
        ("1", ("1", "0"), [1, 0]),
        ("true", ("TRUE", "0"), [True, False]),
        ("true", ("1.0", "0.0"), [True, False]),
        ("1", ("1.0", "0.0"), [1, 0]),
        ("1.0", ("1", "0"), [1, 0]),
        ('"1"', ("1", "0"), ["1", "0"]),
    ],
)
def test_labels_have_the_type_of_the_positive_class(tmp_path, positive, cells, labels):
    """A whole number, a boolean or a text in the spec makes the model's classes numbers, booleans or texts."""
    spec = parse_spec(f"""
        [model]
        name = "small"
        version = "1.0.0"
        [data]
        target = "left"
        positive = {positive}
        [features.age]
        kind = "numeric"
        """)

    dataset = read_dataset(_write(tmp_path, f"age,left\n1,{cells[0]}\n2,{cells[1]}\n"), spec)

    assert dataset.labels.tolist() == labels
    assert [type(label) for label in dataset.labels.tolist()] == [type(label) for label in labels]


@pytest.mark.parametrize(
    ("positive", "cells"), [("1", "1.0 0.0"), ("1", "true false"), ("true", "1.0 0.0"), ('"1.0"', "1.0 0.0")]
)
def test_labels_of_json_may_be_written_as_numbers_or_booleans(tmp_path, positive, cells):
    """One meaning, whichever type the spec and the file have."""
    spec = parse_spec(f"""
        [model]
        name = "small"
        version = "1.0.0"
        [data]
        target = "left"
        positive = {positive}
        [features.age]
        kind = "numeric"
        """)
    text = "".join(f'{{"age": 1, "left": {cell}}}\n' for cell in cells.split())
    dataset = read_dataset(_write(tmp_path, text, "c.jsonl"), spec)
    assert (dataset.labels == spec.data.positive).tolist() == [True, False]


@pytest.mark.parametrize(
    ("positive", "classes", "which"),
    [
        (1, [0, 1], 1),
        (1, [0.0, 1.0], 1),
        (1, [False, True], 1),
        (True, [0, 1], 1),
        ("1", [0, 1], 1),
        (1, ["0", "1"], 1),
        (True, ["False", "True"], 1),
        (True, ["no", "yes"], 1),
        ("yes", ["no", "yes"], 1),
        ("Yes", ["no", "yes"], None),
        ("1.5", [0.5, 1.5], 1),
        ("left", [0, 1], None),
    ],
)
def test_the_positive_class_is_found_however_it_is_written(positive, classes, which):
    """Texts are compared as they are; a number, a boolean and a text that mean the same are the same."""
    assert matching_class(positive, classes) == which


def test_a_mark_for_missing_values_and_the_numbers_format_come_from_the_spec(tmp_path):
    """In every column, target included; what is none of it is rejected with what would help."""
    spec = SPEC.model_copy(
        update={"data": SPEC.data.model_copy(update={"decimal": ",", "thousands": ".", "missing": ("NA",)})}
    )
    rows = "1;1.234,5;NA;1;yes\n2;NA;Lyon;0;no\n"
    dataset = read_dataset(_write(tmp_path, f"age;income;city;senior;left\n{rows}"), spec)
    assert dataset.columns.values == ([1, 2], [1234.5, None], [None, "Lyon"], [True, False])
    message = _defect(tmp_path, f"age;income;city;senior;left\n{rows}3;1;Lyon;0;NA\n", spec=spec)
    assert message == "left: no label in 1 row, first in row 3"


def test_ids_come_from_the_named_column(tmp_path):
    """As texts; an empty one is an error."""
    spec = parse_spec("""
        [model]
        name = "small"
        version = "1.0.0"
        [data]
        target = "left"
        positive = "yes"
        id = "customer"
        [features.age]
        kind = "numeric"
        """)

    dataset = read_dataset(_write(tmp_path, "customer,age,left\n0042,1,yes\nB-7,2,no\n"), spec)

    assert dataset.ids == ("0042", "B-7")
    message = _defect(tmp_path, "customer,age,left\n1,1,yes\n,2,no\n", spec=spec)
    assert message == "customer: not a customer id of 1 to 128 printable characters in 1 row, first in row 2"


def test_a_bundles_features_are_read_from_other_customers(tmp_path):
    """Without a label, and with categories that training never saw; a value of the wrong kind is refused."""
    trained = read_dataset(_write(tmp_path, HEADER + "1,1,Lyon,1,yes,\n2,2,Lyon,0,no,\n"), SPEC)

    values = read_features(_write(tmp_path, "age,income,city,senior\n3,4,Nice,0\n", "new.csv"), trained.features)

    assert values == [[3], [4], ["Nice"], [False]]
    with pytest.raises(DatasetError, match="age: outside 0 to 120 in 1 row"):
        read_features(_write(tmp_path, "age,income,city,senior\n300,4,Nice,0\n", "new.csv"), trained.features)
