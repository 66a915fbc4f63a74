"""`driftline spec infer`: a first spec that training accepts, and comments where a person has to decide."""

import json
from pathlib import Path

import numpy as np
import pytest

from driftline.commands.model.bundle import infer
from driftline.errors import CommandError
from driftline.training.dataset import DatasetError, read_dataset
from driftline.training.infer_spec import infer_spec
from driftline.training.spec import parse_spec
from driftline.training.synthetic_customers import generate_customers

ROOT = Path(__file__).parents[4]


def _csv(folder, **columns):
    path = folder / "Customers 2026.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(str(cell) for cell in row) for row in rows)]) + "\n")
    return path


def _inferred(folder, **columns):
    """The text and the spec it is, with a separate label; every spec must read its file."""
    rows = len(next(iter(columns.values())))
    path = _csv(folder, **columns, left=["yes", "no", "no", "no"] * (rows // 4))
    text = infer_spec(path, "left")
    spec = parse_spec(text)
    assert read_dataset(path, spec).rows == rows
    return text, spec


SIZE = 40
BASE = {"amount": [f"{i}.5" for i in range(SIZE)]}


def test_the_telco_file_gives_the_telco_spec():
    """Kinds, what may be missing and the positive value, as a person wrote them by hand."""
    spec = parse_spec(infer_spec(ROOT / "examples/telco_churn.csv", "churn"))
    by_hand = parse_spec((ROOT / "examples/telco.toml").read_text())
    assert {n: (f.kind, f.nullable) for n, f in spec.features.items()} == {
        n: (f.kind, f.nullable) for n, f in by_hand.features.items()
    }
    assert (spec.data.target, spec.data.positive) == ("churn", "Yes")


def test_the_generated_file_gives_its_id_and_its_label(tmp_path):
    """The customer's id is used as such and is no feature; oui is the positive value."""
    path = tmp_path / "churn5.csv"
    path.write_text(generate_customers(500, 1))
    text = infer_spec(path, "resiliation")
    spec = parse_spec(text)
    by_hand = parse_spec((ROOT / "examples/churn5.toml").read_text())
    assert {n: (f.kind, f.nullable) for n, f in spec.features.items()} == {
        n: (f.kind, f.nullable) for n, f in by_hand.features.items()
    }
    assert (spec.data.id, spec.data.positive, spec.model.name) == ("client_id", "oui", "churn5")
    assert '# "client_id" is left out: an id, used as [data] id' in text


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0", "1"], "boolean"),
        (["yes", "no"], "boolean"),
        (["TRUE", "False"], "boolean"),
        (["1", "2"], "numeric"),
        (["1.5", "-2e3"], "numeric"),
        (["gold", "silver"], "categorical"),
        (["1", "gold"], "categorical"),
    ],
)
def test_the_kind_is_what_every_cell_is(tmp_path, cells, kind):
    """Two values that mean true and false are boolean; numbers numeric; anything else has names."""
    _, spec = _inferred(tmp_path, **BASE, column=cells * (SIZE // 2))
    assert spec.features["column"].kind == kind
    assert not spec.features["column"].nullable


def test_missing_cells_make_a_feature_nullable_and_are_counted(tmp_path):
    """Empty cells only."""
    text, spec = _inferred(tmp_path, **BASE, age=["", *range(20, 59)])
    assert spec.features["age"].nullable
    assert "# missing in 1 of 40 rows" in text


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("customer_id", [f"c{i}" for i in range(SIZE)]),
        ("CustomerID", list(range(5000, 5000 + SIZE))),
        ("email", [f"p{i}@x.example" for i in range(SIZE)]),
        ("whatever", [f"token-{i}" for i in range(SIZE)]),
    ],
)
def test_ids_are_no_features(tmp_path, name, cells):
    """By name and by a different value for every customer."""
    text, spec = _inferred(tmp_path, **BASE, **{name: cells})
    assert list(spec.features) == ["amount"]
    assert spec.data.id == name
    assert f'# "{name}" is left out: an id, used as [data] id' in text


def test_among_several_ids_the_customers_is_chosen(tmp_path):
    """The others are left out and named."""
    ids = {"order_id": [f"o{i}" for i in range(SIZE)], "client_id": [f"c{i}" for i in range(SIZE)]}
    text, spec = _inferred(tmp_path, **ids, **BASE)
    assert spec.data.id == "client_id"
    assert '# "order_id" is left out: an id\n' in text


def test_numbers_that_are_different_for_everybody_are_no_ids(tmp_path):
    """An amount with decimals, and a whole number whose name does not contain id."""
    _, spec = _inferred(tmp_path, **BASE, income=list(range(1000, 1000 + SIZE)))
    assert list(spec.features) == ["amount", "income"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([f"2026-01-{1 + i % 28:02}" for i in range(SIZE)], "dates, which are out of scope"),
        ([f"{1 + i % 28}.1.2026" for i in range(SIZE)], "dates, which are out of scope"),
        ([f"she called {i // 2} times this month" for i in range(SIZE - 1)] + ["she called 1 times this month"], ""),
        ([f"called {i} times this month" for i in range(SIZE - 1)] + ["called 0 times this month"], "free text"),
        ([f"x{i // 1.5:.0f}" for i in range(SIZE)], "27 different texts in 40 rows"),
        (["same"] * SIZE, 'the same for everybody: "same"'),
        ([""] * SIZE, "empty"),
    ],
)
def test_what_no_model_of_ours_reads_is_left_out_with_the_reason(tmp_path, cells, words):
    """Dates, free text, too many names, constants, empty columns."""
    text, spec = _inferred(tmp_path, **BASE, column=cells)
    if words:
        assert "column" not in spec.features
        assert f'# "column" is left out: {words}' in text
    else:
        assert spec.features["column"].kind == "categorical"


def test_bounds_are_never_learnt(tmp_path):
    """What was seen is a comment: customers who drift must be scored, not refused."""
    text, spec = _inferred(tmp_path, **BASE)
    assert (spec.features["amount"].min, spec.features["amount"].max) == (None, None)
    assert "# seen: 0.5 to 39.5" in text


def test_a_column_that_tells_the_label_is_questioned(tmp_path):
    """A leak is the commonest way to a model that is too good."""
    text, _ = _inferred(tmp_path, **BASE, cancelled=["1", "0", "0", "0"] * (SIZE // 4))
    assert "#? its value alone gives the label" in text


def test_without_a_word_that_says_so_the_rarer_label_is_positive(tmp_path):
    """And the comment states that it was a guess."""
    path = _csv(tmp_path, **BASE, state=["A", "A", "B", "A"] * (SIZE // 4))
    text = infer_spec(path, "state")
    assert 'positive = "B"  #? 25.0% of the customers, the rarer of the two' in text
    assert parse_spec(text).model.name == "customers-2026"


def test_names_and_values_of_any_kind_stay_toml(tmp_path):
    """Quotes, dots, spaces, umlauts in column names and labels; JSON Lines with true and false."""
    path = tmp_path / "ärger.jsonl"
    rows = [{'a "b".c': i / 3, "Größe": "groß" if i % 2 else "klein 🎈", "weg": i % 4 == 0} for i in range(SIZE)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    spec = parse_spec(infer_spec(path, "weg"))
    assert list(spec.features) == ['a "b".c', "Größe"]
    assert spec.data.positive is True
    assert read_dataset(path, spec).features[1].categories == ("groß", "klein 🎈")


@pytest.mark.parametrize(
    ("target", "words"),
    [("nobody", "no column nobody; there are: amount, left"), ("left", "left: 1 different value (yes)")],
)
def test_a_target_that_is_no_label_is_refused(tmp_path, target, words):
    """With the columns there are, or the values it has."""
    path = _csv(tmp_path, **BASE, left=["yes"] * SIZE)
    with pytest.raises(DatasetError, match="Customers 2026") as caught:
        infer_spec(path, target)
    assert words in str(caught.value)


def test_a_target_of_a_few_texts_is_several_classes(tmp_path):
    """With a question that names them, and a spec that can be trained as it is."""
    path = _csv(tmp_path, **BASE, left=["yes", "no", "maybe", "no"] * (SIZE // 4))
    text = infer_spec(path, "left")
    assert f'task = "multiclass"  #? 3 classes: "no" {SIZE // 2}, "yes" {SIZE // 4}, "maybe" {SIZE // 4}' in text
    spec = parse_spec(text)
    assert (spec.task, spec.estimator_kind, spec.data.positive) == ("multiclass", "logistic_regression", None)
    assert set(read_dataset(path, spec).labels.tolist()) == {"yes", "no", "maybe"}


def test_a_target_of_numbers_is_a_regression(tmp_path):
    """With a question, and a spec that can be trained as it is."""
    path = _csv(tmp_path, **BASE, left=["yes", "no"] * (SIZE // 2))
    text = infer_spec(path, "amount")
    assert f'task = "regression"  #? {SIZE} different numbers' in text
    spec = parse_spec(text)
    assert (spec.task, spec.estimator_kind, spec.data.positive) == ("regression", "ridge", None)
    assert read_dataset(path, spec).labels.dtype == np.float64


LABELS = [1, 0, 0, 0] * (SIZE // 4)


def _labelled(folder, labels, kind):
    """A file of amounts with these labels, as pandas and others write it."""
    rows = [{"amount": i + 0.5, "left": label} for i, label in enumerate(labels)]
    path = folder / f"customers.{kind}"
    if kind == "csv":
        path.write_text("amount,left\n" + "".join(f"{row['amount']},{row['left']}\n" for row in rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("true", "false", "positive"),
    [
        (1, 0, 1),
        (1.0, 0.0, 1),
        (True, False, True),
        ("TRUE", "FALSE", True),
        ("yes", "no", "yes"),
        ("Y", "N", "Y"),
        ("oui", "non", "oui"),
        (2, 1, 1),
        (1.5, 0.5, "1.5"),
    ],
)
def test_the_positive_label_is_one_that_training_takes(tmp_path, kind, true, false, positive):
    """In the type that a model's classes have: numbers, booleans and texts, in CSV and in JSON Lines."""
    path = _labelled(tmp_path, [true if label else false for label in LABELS], kind)
    spec = parse_spec(infer_spec(path, "left"))
    assert (spec.data.positive, type(spec.data.positive)) == (positive, type(positive))
    expected = [(true if label else false) == positive or str(true if label else false) == positive for label in LABELS]
    if positive is True:
        expected = [bool(label) for label in LABELS]
    assert (read_dataset(path, spec).labels == positive).tolist() == expected


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "row"])
def test_row_numbers_are_a_question_and_no_feature(tmp_path, name):
    """The index that pandas writes with or without a name, or any column that counts the rows."""
    text, spec = _inferred(tmp_path, **{name: list(range(SIZE))}, **BASE)
    assert list(spec.features) == ["amount"]
    assert f'#? "{name}" is left out: ' in text


def test_an_index_is_known_by_its_name_where_rows_were_shuffled(tmp_path):
    """As after a split into training and test rows; a column without a name that is no index is a question, too."""
    shuffled = [(7 * i) % SIZE for i in range(SIZE)]
    text, spec = _inferred(tmp_path, **{"Unnamed: 0": shuffled, "": [1.5, 2.5] * (SIZE // 2)}, **BASE)
    assert list(spec.features) == ["amount"]
    assert '#? "Unnamed: 0" is left out: row numbers' in text
    assert '#? "" is left out: a column without a name' in text


def test_a_name_that_is_there_twice_is_a_question(tmp_path):
    """Neither column is taken; the file is read for the rest."""
    path = tmp_path / "twice.csv"
    path.write_text("a,amount,a,left\n" + "".join(f"{i},{i}.5,{-i},{'yes' if i % 4 else 'no'}\n" for i in range(SIZE)))
    text = infer_spec(path, "left")
    assert list(parse_spec(text).features) == ["amount"]
    assert '#? "a" is left out: more than one column has this name' in text


@pytest.mark.parametrize(
    "name",
    ["a.b", 'say "x"', "back\\slash", "[table]", "b\x07ell", "del\x7f", "c\x9bsi", "l\u2028s", " pad ", "é ≥ 🎈", "#"],
)
def test_a_column_may_have_any_name(tmp_path, name):
    """Dots, quotes, brackets, spaces, control characters: in TOML and in the file they are the same name."""
    path = tmp_path / "names.jsonl"
    path.write_text("\n".join(json.dumps({name: i / 3, "left": i % 4 == 0}) for i in range(SIZE)))
    text = infer_spec(path, "left")
    assert all(character.isprintable() or character == "\n" for character in text)
    spec = parse_spec(text)
    assert list(spec.features) == [name]
    assert read_dataset(path, spec).rows == SIZE


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([2**60 + i // 2 for i in range(SIZE)], "outside -9.0072e+15 to 9.0072e+15 in 40 rows"),
        ([1, "gold"] * (SIZE // 2), "not a text in 20 rows"),
        ([{"a": i} for i in range(SIZE)], "holds objects or arrays"),
        ([[i] for i in range(SIZE)], "holds objects or arrays"),
        ([f"{i}.50 €" for i in range(SIZE)], "40 of 40 cells are numbers with a sign or a unit"),
        ([*range(100, 100 + SIZE - 3), "e1", "e2", "e3"], '37 of 40 cells are numbers; 3 are not ("e1", "e2", "e3")'),
    ],
)
def test_what_training_would_reject_is_a_question(tmp_path, cells, words):
    """Too large, of mixed types, nested, with units, with junk: the column is named with what is in it."""
    path = tmp_path / "odd.jsonl"
    rows = [{"amount": i / 3, "column": cell, "left": i % 4 == 0} for i, cell in enumerate(cells)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    text = infer_spec(path, "left")
    spec = parse_spec(text)
    assert list(spec.features) == ["amount"]
    assert read_dataset(path, spec).rows == SIZE
    assert f'#? "column" is left out: {words}' in text


@pytest.mark.parametrize(
    ("cells", "line", "numbers"),
    [
        (["NA", *range(20, 59)], 'missing = ["NA"]  #? "NA" in 1 cells', 39),
        (["n/a", "-", *range(20, 58)], 'missing = ["-", "n/a"]  #? "-" in 1 cells, "n/a" in 1 cells', 38),
        (["unknown", *range(20, 59)], 'missing = ["unknown"]  #? "unknown" in 1 cells', 39),
    ],
)
def test_numbers_with_marks_for_missing_values_stay_numbers(tmp_path, cells, line, numbers):
    """The marks are proposed with a question, and the cells that are numbers are counted."""
    text, spec = _inferred(tmp_path, **BASE, age=cells)
    assert line in text
    assert f"#? {numbers} of 40 cells are numbers" in text
    assert (spec.features["age"].kind, spec.features["age"].nullable) == ("numeric", True)


def test_a_mark_that_is_a_category_elsewhere_is_asked_about_there(tmp_path):
    """It would be missing in every column; a column that is nothing without it is no quiet loss either."""
    ages = ["None", *range(20, 59)]
    text, spec = _inferred(tmp_path, age=ages, plan=["None", "gold", "pro", "pro"] * 10, deal=["None", "some"] * 20)
    assert '#? "None": missing here, too, or a category?' in text
    assert '#? "deal" is left out: the same for everybody: "some", but for "None" in 20 cells' in text
    assert spec.features["plan"].nullable


def test_a_mark_in_a_column_of_names_is_asked_about(tmp_path):
    """NA is Namibia, or nothing: only a person knows."""
    text, spec = _inferred(tmp_path, **BASE, country=["NA", "FR", "DE", "FR"] * 10)
    assert '#? "NA" in 10 rows: a category, or [data] missing?' in text
    assert spec.data.missing == ()


def _text_file(folder, header, lines, encoding="utf-8"):
    path = folder / "customers.csv"
    path.write_bytes("".join(f"{line}\n" for line in [header, *lines]).encode(encoding))
    return path


@pytest.mark.parametrize(
    ("separator", "cells", "lines", "number"),
    [
        (";", "{i},5", ['separator = ";"', 'decimal = ","  #? "0,5" is read as 0.5'], 10.5),
        ("\t", "{i}.5", ['separator = "\\t"'], 10.5),
        ("|", "1.{i:03},5", ['separator = "|"', 'decimal = ","', 'thousands = "."'], 1010.5),
        (";", "1\u202f{i:03},5", ['decimal = ","', 'thousands = " "'], 1010.5),
        (",", '"1,{i:03}"', ['decimal = "."', 'thousands = ","  #?'], 1010),
        (";", "1,{i:03}", ['decimal = ","  #? "1,000" is read as 1'], 1.01),
    ],
)
def test_separators_and_marks_of_numbers_are_proposed(tmp_path, separator, cells, lines, number):
    """As Excel and others write them where numbers have a decimal comma; each is a question with an example."""
    rows = [separator.join((cells.format(i=i), "yes" if i % 4 else "no")) for i in range(SIZE)]
    path = _text_file(tmp_path, f"amount{separator}left", rows)
    text = infer_spec(path, "left")
    assert all(line in text for line in lines), text
    assert read_dataset(path, parse_spec(text)).columns.values[0][10] == number


@pytest.mark.parametrize(
    ("cell", "lines", "first"),
    [
        ("{i},25", ['decimal = ","  #? "0,25" is read as 0.25'], 0.25),
        ("1,{i:03}.50", ['decimal = "."', 'thousands = ","  #?'], 1000.5),
        ("1.{i:03},50", ['decimal = ","', 'thousands = "."  #?'], 1000.5),
    ],
)
def test_the_target_may_be_the_only_number_with_a_mark(tmp_path, cell, lines, first):
    """Of a regression; its features are names and whole numbers, which say nothing about marks."""
    rows = [f"{'ab'[i % 2]}|{i}|{cell.format(i=i)}" for i in range(SIZE)]
    path = _text_file(tmp_path, "plan|months|amount", rows)
    text = infer_spec(path, "amount")
    assert all(line in text for line in lines), text
    assert read_dataset(path, parse_spec(text)).labels[0] == first


def test_a_target_changes_nothing_about_how_features_are_read(tmp_path):
    """Features with a decimal point and a target with a comma cannot be read alike: that is said about the target."""
    rows = [f"{i}.5|{i},25" for i in range(200)]
    path = _text_file(tmp_path, "months|amount", rows)
    with pytest.raises(DatasetError, match=r"amount: 200 different values \(0,25"):
        infer_spec(path, "amount")


def test_a_target_with_a_few_cells_that_are_no_numbers_names_these(tmp_path):
    """Not the numbers, of which there are many."""
    rows = [f"{i}.5|{'inf' if i == 3 else i}" for i in range(200)]
    path = _text_file(tmp_path, "months|amount", rows)
    with pytest.raises(DatasetError, match=r"amount: 199 of 200 cells are numbers; 1 is not \(inf\)"):
        infer_spec(path, "amount")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1, True, 0, 0], 'no text of a class, and [model] task is "multiclass" in 10 rows, first in row 2'),
        ([2, True, False, 0], 'no text of a class, and [model] task is "multiclass" in 20 rows, first in row 2'),
        ([1.5, "1e400", 0.5, 2.5], 'not a number, and [model] task is "regression" in 10 rows, first in row 2'),
    ],
)
def test_a_target_that_training_would_reject_is_a_question(tmp_path, labels, words):
    """With the reason that training gives."""
    path = _labelled(tmp_path, labels * (SIZE // 4), "jsonl")
    text = infer_spec(path, "left")
    assert f"#? training rejects the target: {words}" in text
    with pytest.raises(DatasetError) as caught:
        read_dataset(path, parse_spec(text))
    assert words in str(caught.value)


def test_an_encoding_that_is_not_utf_8_is_proposed(tmp_path):
    """As Windows and Excel write it."""
    rows = [f"{i}.5,{'Zoë' if i % 2 else 'René'},{'yes' if i % 4 else 'no'}" for i in range(SIZE)]
    path = _text_file(tmp_path, "amount,name,left", rows, "cp1252")
    text = infer_spec(path, "left")
    assert 'encoding = "cp1252"  #? ' in text
    assert read_dataset(path, parse_spec(text)).features[1].categories == ("René", "Zoë")


def test_the_command_counts_its_questions(tmp_path, capsys):
    """And names what it left out, so that no column goes quietly."""
    data = _csv(tmp_path, **BASE, note=["same"] * SIZE, left=["yes", "no"] * (SIZE // 2))
    infer(data=data, target="left", out=tmp_path / "spec.toml")
    shown = capsys.readouterr().err
    assert '"note" is left out: the same for everybody: "same"' in shown
    questions = (tmp_path / "spec.toml").read_text().count("#?") - 1
    assert f"{tmp_path / 'spec.toml'}: {questions} questions (#?)" in shown


def test_the_command_never_overwrites(tmp_path, capsys):
    """To a new file or to standard output; exit 2 where the file exists or the data cannot be read."""
    data = _csv(tmp_path, **BASE, left=["yes", "no"] * (SIZE // 2))
    infer(data=data, target="left", out=None)
    text = capsys.readouterr().out
    assert parse_spec(text)
    out = tmp_path / "spec.toml"
    infer(data=data, target="left", out=out)
    assert out.read_text() == text
    for broken in ({"data": data, "target": "left", "out": out}, {"data": tmp_path / "no", "target": "x", "out": None}):
        with pytest.raises(CommandError) as caught:
            infer(**broken)
        assert caught.value.exit_code == 2
    assert out.read_text() == text
