"""Files of customers in the forms that people have: the same customers come out of each."""

import bz2
import gzip
import importlib.util
import json
import lzma
from decimal import Decimal

import pytest

from driftline.training.customer_file import CustomerFileError, pandas_frames, read_customer_file
from driftline.training.dataset import DatasetError, parse_number, read_features, read_table
from schemas.bundle.inputs import DataFormat, Feature

NAMES = ("age", "city", "fee")
ROWS = [{"age": 34, "city": "Lyon", "fee": 1.5}, {"age": 7, "city": "Saint-Étienne", "fee": None}]
CSV = "age,city,fee\n34,Lyon,1.5\n7,Saint-Étienne,\n"
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
FEATURES = (
    Feature(name="age", kind="numeric"),
    Feature(name="city", kind="categorical", categories=("Lyon",)),
    Feature(name="fee", kind="numeric", nullable=True),
)
VALUES = [[34, 7], ["Lyon", "Saint-Étienne"], [1.5, None]]


def _values(path, **form):
    return read_features(path, FEATURES, DataFormat(**form))


def _file(folder, raw, name="customers.csv"):
    path = folder / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


@pytest.mark.parametrize(
    ("name", "raw", "form"),
    [
        ("c.csv", CSV.encode(), {}),
        ("c.csv", CSV.encode("utf-8-sig"), {}),
        ("c.csv", CSV.encode("utf-16"), {}),
        ("c.csv", CSV.encode("utf-16-be"), {"encoding": "utf-16-be"}),
        ("c.csv", CSV.encode("latin-1"), {"encoding": "cp1252"}),
        ("c.csv", CSV.encode(), {"encoding": "cp1252"}),
        ("c.csv.gz", gzip.compress(CSV.encode(), mtime=0), {}),
        ("c.csv", gzip.compress(CSV.encode(), mtime=0), {}),
        ("c.csv.bz2", bz2.compress(CSV.encode()), {}),
        ("c.csv.xz", lzma.compress(CSV.encode()), {}),
        ("c.csv", CSV.replace(",", ";").encode(), {}),
        ("c.csv", CSV.replace(",", ";").encode(), {"separator": ";"}),
        ("c.tsv", CSV.replace(",", "\t").encode(), {}),
        ("c.csv", CSV.replace(",", "|").encode(), {}),
        ("c.csv", CSV.replace(",", "^").encode(), {"separator": "^"}),
        ("c.csv", b"sep=;\r\n" + CSV.replace(",", ";").encode(), {}),
        ("c.csv", CSV.replace(",", ";").replace("1.5", "1,5").encode(), {"decimal": ","}),
        ("c.csv", CSV.replace("7,", '"7",').replace("\n", "\r\n").encode(), {}),
        ("c.csv", (CSV.removesuffix("\n") + "NA\n").encode(), {"missing": ("NA",)}),
        ("c.csv", (CSV.removesuffix("\n") + " n/a \n").encode(), {"missing": ("n/a",)}),
        ("c.jsonl", LINES.encode(), {}),
        ("c.ndjson", LINES.encode(), {}),
        ("c.json", LINES.encode(), {}),
        ("c.json", json.dumps(ROWS).encode(), {}),
        ("c.jsonl.gz", gzip.compress(LINES.encode(), mtime=0), {}),
        ("events", LINES.encode(), {}),
        ("c.jsonl", LINES.replace("null", "NaN").encode(), {}),
    ],
)
def test_every_form_gives_the_same_customers(tmp_path, name, raw, form):
    """Separators, encodings, marks for missing values, packed files, JSON in lines or in one array."""
    assert _values(_file(tmp_path, raw, name), **form) == VALUES


def test_parquet_is_read_where_pyarrow_is_there(tmp_path):
    """By its first bytes, for any name; without pyarrow one line names the extra."""
    if importlib.util.find_spec("pyarrow") is None:
        path = _file(tmp_path, b"PAR1\x15\x04\xffPAR1", "c.csv")
        with pytest.raises(DatasetError, match=r"is a Parquet file, which needs pyarrow: .* 'driftline\[parquet\]'"):
            _values(path)
        return
    import pandas as pd

    frame = pd.DataFrame(ROWS).assign(
        kind=pd.Categorical(["a", "b"]), amount=[Decimal("1.50"), Decimal(2)], at=pd.to_datetime(["2026-01-02"] * 2)
    )
    for name in ("c.parquet", "c.csv"):
        frame.to_parquet(tmp_path / name)
        assert _values(tmp_path / name) == VALUES
    table = read_table(tmp_path / "c.csv", ["kind", "amount", "at"])
    assert table.cells == (["a", "b"], [1.5, 2], ["2026-01-02T00:00:00"] * 2)
    packed = _file(tmp_path, gzip.compress((tmp_path / "c.parquet").read_bytes()), "c.parquet.gz")
    assert _values(packed) == VALUES
    with pytest.raises(DatasetError, match="damaged Parquet file"):
        _values(_file(tmp_path, (tmp_path / "c.parquet").read_bytes()[:200] + b"PAR1"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"PK\x03\x04rest", "is a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV"),
        (b"\x28\xb5\x2f\xfdrest", "is packed by zstd: unpack it first"),
        (b"ARROW1\0\0", "is an Arrow (Feather) file: write it as Parquet or CSV"),
        (b"\x80\x05\x95", "is a Python pickle: write the frame as CSV or Parquet"),
        (gzip.compress(CSV.encode(), mtime=0)[:-9], "damaged .gz file: "),
        (CSV.encode("latin-1"), 'not UTF-8 (byte 33); [data] encoding = "cp1252" would read it'),
        (CSV.encode("utf-16-le"), '[data] encoding = "utf-16-le" would read it'),
        (CSV.replace("É", "E").encode("utf-16-le"), 'it may be UTF-16, [data] encoding = "utf-16-le"'),
        (b"\x01\x00\x02\x03" * 9, "not a text file (a NUL character at 1)"),
    ],
)
def test_what_is_no_file_of_customers_is_named(tmp_path, raw, message):
    """In one line with the remedy."""
    with pytest.raises(CustomerFileError) as caught:
        read_customer_file(_file(tmp_path, raw))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_separator_is_the_one_with_which_the_header_has_the_columns(tmp_path):
    """A comma within a column's name does not win over it; a separator that is stated is taken."""
    path = _file(tmp_path, "age;a,b,c,d\n1;2,,,\n")
    assert read_customer_file(path, wanted=["age"]).names == ("age", "a,b,c,d")
    assert read_customer_file(path, DataFormat(separator=",")).names == ("age;a", "b", "c", "d")


@pytest.mark.parametrize(
    ("text", "decimal", "thousands", "number"),
    [
        ("1,5", ",", None, 1.5),
        ("1.5", ",", None, None),
        ("1,234", ".", ",", 1234),
        ("12,34", ".", ",", None),
        ("1.234.567,89", ",", ".", 1234567.89),
        ("1234,5", ",", ".", 1234.5),
        ("1\u202f234,5", ",", " ", 1234.5),
        ("1\u00a0234", ".", " ", 1234),
        ("1’234.5", ".", "'", 1234.5),
        ("12,34,567", ".", ",", 1234567),
        ("-1.5e3", ".", None, -1500.0),
        ("1_000", ".", None, None),
        ("", ".", ",", None),
        (",", ",", ".", None),
    ],
)
def test_numbers_are_read_as_the_format_writes_them(text, decimal, thousands, number):
    """Groups of three digits, or of two before the last one; nothing else is a number."""
    found = parse_number(text, DataFormat(decimal=decimal, thousands=thousands))
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        (["1", "NA", "2"], '(2 of 3 cells are numbers; for missing values there is [data] missing = ["NA"])'),
        (["1", "1,5", "2"], '(2 of 3 cells are numbers; the others would be with [data] decimal = ",")'),
        (["1", "1.234,5", "2"], 'with [data] decimal = ",", thousands = ".")'),
        (["1", "x", "2"], "(2 of 3 cells are numbers)"),
    ],
)
def test_cells_that_are_no_numbers_are_counted_with_what_would_help(tmp_path, cells, hint):
    """A mark for missing values, another decimal mark, or neither."""
    path = _file(tmp_path, "age;city;fee\n" + "".join(f"{cell};Lyon;1\n" for cell in cells))
    with pytest.raises(DatasetError) as caught:
        _values(path)
    assert str(caught.value).endswith(hint)
    assert "age: not a number in 1 row, first in row 2 (" in str(caught.value)


def test_columns_that_nothing_asks_for_are_named(tmp_path):
    """In the file's order, each once."""
    table = read_table(_file(tmp_path, "x,age,y,x\n1,2,3,4\n"), ["age"])
    assert (table.names, table.cells, table.unused) == (("age",), (["2"],), ("x", "y"))


def test_pandas_gets_the_file_with_the_same_format(tmp_path):
    """What a person who fitted on the file had: the estimator is compared on it."""
    path = _file(tmp_path, gzip.compress("age;city;fee\n34;Lyon;1,5\n7;Nice;none\n".encode("utf-16")), "c.csv.gz")
    frames = list(pandas_frames(path, NAMES, DataFormat(decimal=",", missing=("none",))))
    assert [frame["fee"].tolist()[0] for frame in frames] == [1.5, 1.5]
    assert all(frame["fee"].isna().tolist() == [False, True] for frame in frames)
