"""A file of customers on disk → its columns, untyped. CSV, JSON Lines, a JSON array, or Parquet.

What the file is follows from its first bytes and its name; a file packed by gzip, bzip2 or xz is unpacked first.
How a text file writes its cells is a `DataFormat`: `[data]` of a spec, or `data_format` of a bundle.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import datetime as dt
import decimal
import gzip
import hashlib
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schemas.bundle.inputs import DataFormat

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["csv", "json", "parquet"]

JSON_LINES = (".jsonl", ".ndjson")
SEPARATORS = (",", ";", "\t", "|")
_PACKED: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", ".gz", gzip.decompress),
    (b"BZh", ".bz2", bz2.decompress),
    (b"\xfd7zXZ\x00", ".xz", lzma.decompress),
)
# Files that people give and that are no text: what to do instead.
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it first"),
    (b"ARROW1", "an Arrow (Feather) file: write it as Parquet or CSV"),
    (b"ORC", "an ORC file: write it as Parquet or CSV"),
    (b"\x80\x04", "a Python pickle: write the frame as CSV or Parquet"),
    (b"\x80\x05", "a Python pickle: write the frame as CSV or Parquet"),
    (b"\x89HDF", "an HDF5 file: write it as Parquet or CSV"),
    (b"SQLite format 3\x00", "an SQLite database: export the table as CSV"),
)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Rows that are looked at to find the separator.
_SAMPLE = 20


class CustomerFileError(Exception):
    """A file that cannot be read as customers. The text is one line without the file's name."""


@dataclass(frozen=True, slots=True)
class CustomerFile:
    """A file's columns. Cells are untyped: None is missing, and a CSV cell is a text."""

    #: Of the file's own bytes, packed as they are.
    sha256: str
    kind: Kind
    #: The separator of a CSV file.
    separator: str
    #: Every column in the file's order; a name can occur twice in CSV.
    names: tuple[str, ...]
    #: One list per name, empty for a column that was not to be kept.
    cells: tuple[list[object], ...]
    rows: int


def read_customer_file(
    path: Path, form: DataFormat | None = None, wanted: Sequence[str] = (), *, only: bool = False
) -> CustomerFile:
    """Read a file; CustomerFileError or OSError.

    `wanted` names columns that the file should have: where the format leaves the separator open, they decide it.
    `only` leaves all other columns without cells, which saves memory.
    """
    form = form or DataFormat()
    sha256, raw, name = read_bytes(path)
    keep = frozenset(wanted) if only else None
    kind = _kind(raw, name)
    if kind == "parquet":
        names, cells, rows = _read_parquet(raw, keep)
        separator = ""
    else:
        text = decode_text(raw, form.encoding)
        if kind == "json":
            names, cells, rows = _read_json(text, keep)
            separator = ""
        else:
            text, declared = _without_declaration(text)
            separator = form.separator or declared or find_separator(text, wanted)
            names, cells, rows = _read_csv(text, separator, keep)
    marks = frozenset(form.missing)
    if marks:
        cells = tuple([None if isinstance(c, str) and c.strip() in marks else c for c in column] for column in cells)
    return CustomerFile(sha256, kind, separator, names, cells, rows)


def read_bytes(path: Path) -> tuple[str, bytes, str]:
    """Return the sha256 of a file's bytes, the bytes unpacked, and the name without `.gz`, `.bz2` or `.xz`."""
    raw = path.read_bytes()
    sha256, name = hashlib.sha256(raw).hexdigest(), path.name
    for magic, suffix, unpack in _PACKED:
        if raw.startswith(magic):
            try:
                raw = unpack(raw)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise CustomerFileError(f"damaged {suffix} file: {error}") from None
            name = name.removesuffix(suffix)
            break
    return sha256, raw, name


def is_json(raw: bytes, name: str) -> bool:
    """Return whether unpacked bytes are JSON Lines or a JSON array, by name or by content."""
    return _kind(raw, name) == "json"


def is_text(raw: bytes, name: str) -> bool:
    """Return whether unpacked bytes are of a text file."""
    return _kind(raw, name) != "parquet"


def _kind(raw: bytes, name: str) -> Kind:
    if raw.startswith(b"PAR1"):
        return "parquet"
    for magic, what in _FOREIGN:
        if raw.startswith(magic):
            raise CustomerFileError(f"is {what}")
    suffix = Path(name.lower()).suffix
    if suffix in (*JSON_LINES, ".json"):
        return "json"
    return "json" if re.match(rb'\s*\{\s*["}]', raw.removeprefix(codecs.BOM_UTF8)[:200]) else "csv"


def decode_text(raw: bytes, encoding: str = "utf-8") -> str:
    """Decode a text file; CustomerFileError names an encoding that fits.

    A byte order mark wins over `encoding`, and so does UTF-8 where the bytes are that: no other text is so by chance.
    """
    for mark, codec in _MARKS:
        if raw.startswith(mark):
            encoding = codec
    if encoding != "utf-8" and b"\0" not in raw:
        with contextlib.suppress(UnicodeDecodeError):
            return raw.decode("utf-8-sig")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        other = guess_encoding(raw)
        hint = f'; [data] encoding = "{other}" would read it' if other not in {None, encoding} else ""
        raise CustomerFileError(f"not {encoding.upper().removesuffix('-SIG')} (byte {error.start}){hint}") from None
    if "\0" in text:
        other = guess_encoding(raw)
        hint = f': it may be UTF-16, [data] encoding = "{other}"' if other in {"utf-16-le", "utf-16-be"} else ""
        raise CustomerFileError(f"not a text file (a NUL character at {text.index(chr(0))}){hint}")
    return text


def guess_encoding(raw: bytes) -> str | None:
    """Return the encoding that a text without a byte order mark most likely has; None for binary data.

    >>> guess_encoding("é".encode()), guess_encoding("né".encode("latin-1")), guess_encoding("a,b".encode("utf-16-le"))
    ('utf-8', 'cp1252', 'utf-16-le')
    """
    sample = raw[:100_000]
    if b"\0" in sample:
        odd, even = sample[1::2].count(0), sample[::2].count(0)
        if max(odd, even) < 0.3 * len(sample) / 2:
            return None
        return "utf-16-le" if odd > even else "utf-16-be"
    for encoding in ("utf-8", "cp1252"):
        try:
            raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def _without_declaration(text: str) -> tuple[str, str | None]:
    """Take away the line `sep=;` that Excel reads and writes before the header; return its separator."""
    match = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
    return (text[match.end() :], match[1]) if match else (text, None)


def find_separator(text: str, wanted: Sequence[str] = ()) -> str:
    r"""Return the separator with which the header has the most requested columns, and the most columns of all.

    Without requested columns the first rows must have as many cells as the header.

    >>> find_separator("a;b\n1;2,5\n")
    ';'
    >>> find_separator("a,b;c\n", ["b;c"])
    ','
    """
    best, best_score = ",", (-1, -1)
    for separator in SEPARATORS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header: list[str] = []
        try:
            header = next(lines, [])
            even = all(len(line) == len(header) for _, line in zip(range(_SAMPLE), lines, strict=False) if line)
        except csv.Error:  # the reader of the whole file names the line
            even = False
        score = (len({*wanted} & {*header}), len(header) if even else 0)
        if score > best_score:
            best, best_score = separator, score
    return best


# Names, cells and the number of rows.
_Columns = tuple[tuple[str, ...], tuple[list[object], ...], int]


def _read_csv(text: str, separator: str, keep: frozenset[str] | None) -> _Columns:
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    except (TypeError, ValueError) as error:
        raise CustomerFileError(f"[data] separator: {error}") from None
    try:
        header = next(lines, [])
        cells: tuple[list[object], ...] = tuple([] for _ in header)
        picked = [(at, cells[at]) for at, name in enumerate(header) if keep is None or name in keep]
        rows = 0
        for line in lines:
            if not line:  # a blank line, as many programs leave one at the end
                continue
            if len(line) != len(header):
                raise CustomerFileError(f"line {lines.line_num}: {len(line)} cells, the header has {len(header)}")
            rows += 1
            for at, column in picked:
                cell = line[at]
                column.append(None if not cell or cell.isspace() else cell)
    except csv.Error as error:
        raise CustomerFileError(f"line {lines.line_num}: {error}") from None
    return tuple(header), cells, rows


def _read_json(text: str, keep: frozenset[str] | None) -> _Columns:
    columns: dict[str, list[object]] = {}
    count = 0
    for row in json_rows(text):
        for name, cell in row.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = []
            if keep is None or name in keep:
                column.extend([None] * (count - len(column)))
                # json.dumps writes a missing number as NaN
                column.append(None if isinstance(cell, float) and cell != cell else cell)  # noqa: PLR0124 - NaN
        count += 1
    for name, column in columns.items():
        if keep is None or name in keep:
            column.extend([None] * (count - len(column)))
    return tuple(columns), tuple(columns.values()), count


def json_rows(text: str) -> Iterator[dict[str, object]]:
    """Yield the objects of JSON Lines, or of one JSON array; CustomerFileError with the line at fault."""
    if text.lstrip()[:1] == "[":
        try:
            array = json.loads(text)
        except (ValueError, RecursionError):
            array = None  # JSON Lines whose first line is at fault, which is named below
        if isinstance(array, list) and array and all(isinstance(row, dict) for row in array):
            yield from array
            return
    # Only \n ends a line here: str.splitlines would also cut at U+2028 within a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CustomerFileError(f"line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise CustomerFileError(f"line {number}: not a JSON object")
        yield row


def _read_parquet(raw: bytes, keep: frozenset[str] | None) -> _Columns:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise CustomerFileError("is a Parquet file, which needs pyarrow: pip install 'driftline[parquet]'") from None
    try:
        table = parquet.read_table(pa.BufferReader(raw))
    except (pa.ArrowException, OSError) as error:
        raise CustomerFileError(f"damaged Parquet file: {' '.join(str(error).split())}") from None
    names = tuple(table.column_names)
    cells: list[list[object]] = []
    for name, column in zip(names, table.columns, strict=True):
        wanted = keep is None or name in keep
        cells.append([_plain(cell) for cell in column.to_pylist()] if wanted else [])
    return names, tuple(cells), table.num_rows


def _plain(cell: object) -> object:
    """Return a Parquet value as JSON has it; a time becomes an ISO text, which is recognised as a date."""
    if isinstance(cell, float) and cell != cell:  # noqa: PLR0124 - NaN is how pandas writes a missing number
        return None
    if isinstance(cell, decimal.Decimal):
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    if isinstance(cell, dt.date | dt.time):
        return cell.isoformat()
    if isinstance(cell, str) and (not cell or cell.isspace()):
        return None
    return cell


def pandas_frames(path: Path, names: Sequence[str], form: DataFormat) -> Iterator[pd.DataFrame]:
    """Yield the frames that a person who fitted on this file most likely had; none where pandas cannot read it so.

    names: columns that the file should have, as `wanted` of `read_customer_file`. Every column of the file is there.
    """
    import pandas as pd

    try:
        _, raw, name = read_bytes(path)
        kind = _kind(raw, name)
        if kind == "parquet":
            yield pd.read_parquet(io.BytesIO(raw))
            return
        text = decode_text(raw, form.encoding)
        if kind == "json":
            lines = text.lstrip()[:1] != "["
            yield pd.read_json(io.StringIO(text), lines=lines, precise_float=True)
            yield pd.read_json(io.StringIO(text), lines=lines, precise_float=True, dtype=False, convert_dates=False)
            return
        text, declared = _without_declaration(text)
        options: dict[str, Any] = {
            "sep": form.separator or declared or find_separator(text, names),
            "decimal": form.decimal,
            "thousands": form.thousands,
        }
        marks = list(form.missing)
        yield pd.read_csv(io.StringIO(text), skipinitialspace=True, na_values=marks, **options)
        blank = ["", " ", *marks]
        yield pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=blank, **options)
    except (CustomerFileError, OSError, ValueError, KeyError, ImportError):
        return
