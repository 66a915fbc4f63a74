"""`driftline spec infer`: a first spec that training accepts, and comments where a person has to decide."""

import json
from pathlib import Path

import pytest

from driftline.bundle_command import infer
from driftline.errors import CommandError
from training.dataset import DatasetError, read_dataset
from training.generate import generate_customers
from training.infer import infer_spec
from training.spec import parse_spec

ROOT = Path(__file__).parents[2]


def _csv(folder, **columns):
    path = folder / "Customers 2026.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(str(cell) for cell in row) for row in rows)]) + "\n")
    return path


def _inferred(folder, **columns):
    """The text and the spec it is, with a label of its own; every spec must read its own file."""
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
    spec = parse_spec(infer_spec(ROOT / "training/data/telco_churn.csv", "churn"))
    by_hand = parse_spec((ROOT / "training/specs/telco.toml").read_text())
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
    by_hand = parse_spec((ROOT / "training/specs/churn5.toml").read_text())
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
    """Two values that say true and false are boolean; numbers numeric; anything else has names."""
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
    """By name and by having a value of its own for everybody."""
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
    """An amount with decimals, and a whole number whose name does not say id."""
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
    assert "#? its value alone tells the label" in text


def test_without_a_word_that_says_so_the_rarer_label_is_positive(tmp_path):
    """And the comment says that it was a guess."""
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
    [("nobody", "no column nobody; there are: amount, left"), ("amount", "amount: 40 different values (0.5, 1.5")],
)
def test_a_target_that_is_no_label_is_refused(tmp_path, target, words):
    """With the columns there are, or the values it has."""
    path = _csv(tmp_path, **BASE, left=["yes", "no"] * (SIZE // 2))
    with pytest.raises(DatasetError, match="Customers 2026") as caught:
        infer_spec(path, target)
    assert words in str(caught.value)


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
