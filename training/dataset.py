"""A file of customers → typed columns, labels and ids, by a spec.

CSV (comma separated, a header line, UTF-8) or JSON Lines (one object a line), told apart by the file's name. A CSV cell
that is empty or only spaces is missing, and so is JSON's null or an absent member. Everything in the file that the
scorer would refuse in an event is refused here too: no model is trained on rows that could never be scored.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import SCOPE, Feature
from schemas.features import Columns, Layout, Value
from schemas.verdict import NUMERIC_LIMIT
from training.spec import FeatureSpec, Spec

Label: TypeAlias = str | int | bool
Labels: TypeAlias = NDArray[np.str_] | NDArray[np.int64] | NDArray[np.bool_]

JSON_LINES = (".jsonl", ".ndjson")
MAX_CATEGORIES = 10_000  # more distinct names than rows in the drift reference: an id or free text, not a category
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,16}")
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


class DatasetError(Exception):
    """A file of customers that doesn't fit its spec. The text is one line: which column, what, and in how many rows."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file as it was read. names: the columns asked for; cells[i]: those of names[i], one per row, untyped."""

    sha256: str
    rows: int
    names: tuple[str, ...]
    cells: tuple[list[object], ...]

    def column(self, name: str) -> list[object]:
        """The untyped cells of one column that was asked for."""
        return self.cells[self.names.index(name)]

    def take(self, rows: Sequence[int]) -> Table:
        """Only these rows, in this order; sha256 stays that of the file."""
        return Table(self.sha256, len(rows), self.names, tuple([column[row] for row in rows] for column in self.cells))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Customers that fit the spec; row i of every part is the same customer.

    features: as the manifest lists them, categories learnt where the spec lists none. labels: (rows,) of str, int64 or
    bool as `positive` is, exactly two different ones. ids: None where the spec names no id column.
    """

    sha256: str
    features: tuple[Feature, ...]
    columns: Columns
    labels: Labels
    positive: Label
    ids: tuple[str, ...] | None

    @property
    def rows(self) -> int:
        """Number of customers."""
        return self.columns.n


def read_dataset(path: Path, spec: Spec) -> Dataset:
    """Everything training needs from the file; DatasetError naming the column and the number of rows at fault."""
    wanted = [*spec.features, spec.data.target, *([spec.data.id] if spec.data.id else [])]
    return typed_dataset(read_table(path, list(dict.fromkeys(wanted))), spec)


def typed_dataset(table: Table, spec: Spec) -> Dataset:
    """The same of a table that holds the spec's columns."""
    features, values = typed_features(table, spec)
    columns = Layout(features).columns(values)
    labels = read_labels(table.column(spec.data.target), spec.data.target, spec.data.positive)
    ids = customer_ids(table, spec.data.id) if spec.data.id else None
    return Dataset(table.sha256, features, columns, labels, spec.data.positive, ids)


def read_table(path: Path, names: Sequence[str]) -> Table:
    """The named columns of a CSV or JSON Lines file; DatasetError if the file is unreadable or a column is absent."""
    raw, text = _text_of(path)
    read = _read_json_lines if path.suffix.lower() in JSON_LINES else _read_csv
    try:
        cells = read(text, names)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    rows = len(cells[0])
    if rows == 0:
        raise DatasetError(f"{path}: no rows")
    return Table(hashlib.sha256(raw).hexdigest(), rows, tuple(names), cells)


def column_names(path: Path) -> tuple[str, ...]:
    """Every column of the file, in its order; DatasetError if it is unreadable."""
    _, text = _text_of(path)
    try:
        if path.suffix.lower() in JSON_LINES:
            return tuple(dict.fromkeys(name for row in _json_rows(text) for name in row))
        return tuple(next(csv.reader(io.StringIO(text, newline=""), strict=True), []))
    except (DatasetError, csv.Error) as error:
        raise DatasetError(f"{path}: {error}") from None


def _text_of(path: Path) -> tuple[bytes, str]:
    try:
        raw = path.read_bytes()
        return raw, raw.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 (byte {error.start})") from None


def _read_csv(text: str, names: Sequence[str]) -> tuple[list[object], ...]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    cells: tuple[list[object], ...] = tuple([] for _ in names)
    try:
        header = next(lines, [])
        _require(names, header)
        picked = [(header.index(name), column) for name, column in zip(names, cells, strict=True)]
        for line in lines:
            if not line:  # a blank line, as many programs leave one at the end
                continue
            if len(line) != len(header):
                raise DatasetError(f"line {lines.line_num}: {len(line)} cells, the header has {len(header)}")
            for position, column in picked:
                cell = line[position]
                column.append(None if not cell or cell.isspace() else cell)
    except csv.Error as error:
        raise DatasetError(f"line {lines.line_num}: {error}") from None
    return cells


def _read_json_lines(text: str, names: Sequence[str]) -> tuple[list[object], ...]:
    cells: tuple[list[object], ...] = tuple([] for _ in names)
    seen: set[str] = set()
    for row in _json_rows(text):
        seen.update(row)
        for name, column in zip(names, cells, strict=True):
            column.append(row.get(name))
    _require(names, list(seen))
    return cells


def _json_rows(text: str) -> Iterator[dict[str, object]]:
    # Only \n ends a line here: str.splitlines would also cut at U+2028 within a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DatasetError(f"line {number}: not a JSON object")
        yield row


def _require(names: Sequence[str], header: list[str]) -> None:
    twice = [name for name in names if header.count(name) > 1]
    if twice:
        raise DatasetError(f"more than one column {', '.join(twice)}")
    absent = [name for name in names if name not in header]
    if not absent:
        return
    what = "column" if len(absent) == 1 else "columns"
    hint = "; columns must be separated by commas" if len(header) == 1 and re.search(r"[;\t|]", header[0]) else ""
    raise DatasetError(f"no {what} {', '.join(absent)}{hint}")


def typed_features(
    table: Table, spec: FeatureSpec, known: Mapping[str, Collection[str]] | None = None
) -> tuple[tuple[Feature, ...], list[list[Value]]]:
    """The spec's features with their categories, and one list of typed values per feature, in the spec's order.

    `known`: categories by feature name that exist whether the data has them or not. Every column at fault is named in
    one DatasetError.
    """
    # Typed by the kind alone first: the categories are only known once the values are.
    values = {name: _typed(table.column(name), f.kind) for name, f in spec.features.items()}
    learnt = {
        name: sorted({v for v in values[name][0] if isinstance(v, str)} | set((known or {}).get(name, ())))
        for name, f in spec.features.items()
        if f.kind == "categorical"
    }
    features = spec.manifest_features(learnt)
    problems = [p for f in features for p in _problems(f, *values[f.name])]
    if problems:
        raise DatasetError("; ".join(problems))
    return features, [values[f.name][0] for f in features]


def read_features(path: Path, features: Sequence[Feature]) -> list[list[Value]]:
    """Typed values of an existing bundle's features, one list each; other categories than the bundle's are legal."""
    table = read_table(path, [f.name for f in features])
    try:
        return typed_values(table, features)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def typed_values(table: Table, features: Sequence[Feature]) -> list[list[Value]]:
    """The same of a table that holds these features."""
    values = {f.name: _typed(table.column(f.name), f.kind) for f in features}
    open_features = [f.model_copy(update={"categories": None}) for f in features]
    problems = [p for f in open_features for p in _problems(f, *values[f.name])]
    if problems:
        raise DatasetError("; ".join(problems))
    return [values[f.name][0] for f in features]


def parse_number(cell: object) -> float | int | None:
    """A JSON number, or a text that is one; whole numbers stay int. None if it is neither."""
    if isinstance(cell, bool):
        return None
    if isinstance(cell, int | float):
        return cell if abs(cell) < 1e300 else math.inf  # a whole number may be too large for a double
    text = str(cell).strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None


def _text(cell: object) -> str | None:
    return cell if isinstance(cell, str) else None


def parse_boolean(cell: object) -> bool | None:
    """True or false, or a text or number that says so (0, 1, yes, no). None if it does not."""
    if isinstance(cell, bool):
        return cell
    return _BOOLEANS.get(str(cell).strip().lower())


_PARSERS: dict[str, Callable[[object], Value]] = {
    "numeric": parse_number,
    "categorical": _text,
    "boolean": parse_boolean,
}


def _typed(cells: list[object], kind: str) -> tuple[list[Value], list[int]]:
    """Typed values (None = missing), and the rows whose cell isn't of that kind."""
    parse = _PARSERS[kind]
    values: list[Value] = [None if cell is None else parse(cell) for cell in cells]
    wrong = [i for i, (cell, value) in enumerate(zip(cells, values, strict=True)) if cell is not None and value is None]
    return values, wrong


def _problems(feature: Feature, values: list[Value], wrong: list[int]) -> list[str]:
    """What an event's validation would refuse in this column: one line per defect, with the number of rows."""
    kinds = {"numeric": "a number", "categorical": "a text", "boolean": "0 or 1, true or false, yes or no"}
    if wrong:
        return [_fault(feature.name, f"not {kinds[feature.kind]}", wrong)]
    problems = []
    missing = [i for i, value in enumerate(values) if value is None]
    if len(missing) == len(values):
        problems.append(f"{feature.name}: missing in every row")
    elif missing and not feature.nullable:
        problems.append(_fault(feature.name, "missing, and the spec does not say nullable", missing))
    if feature.kind == "numeric":
        low = -NUMERIC_LIMIT if feature.min is None else feature.min
        high = NUMERIC_LIMIT if feature.max is None else feature.max
        outside = [
            i
            for i, v in enumerate(values)
            if v is not None and not (low <= float(v) <= high and abs(float(v)) < NUMERIC_LIMIT)
        ]
        if outside:
            problems.append(_fault(feature.name, f"outside {low:g} to {high:g}", outside))
    if feature.kind == "categorical" and feature.categories is not None:
        known = set(feature.categories)
        if len(known) > MAX_CATEGORIES:
            problems.append(f"{feature.name}: {len(known)} categories; an id or free text is no category")
        unknown = [i for i, value in enumerate(values) if value is not None and value not in known]
        if unknown:
            problems.append(_fault(feature.name, "not one of the listed categories", unknown))
    return problems


def _fault(name: str, what: str, rows: Sequence[int]) -> str:
    # Row numbers, never values: what a customer's cell says has no place in a log.
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    return f"{name}: {what} in {count}, first in row {rows[0] + 1}"


def read_labels(cells: list[object], target: str, positive: Label) -> Labels:
    """The label column in the type of `positive`, as the model's two classes."""
    missing = [i for i, cell in enumerate(cells) if cell is None]
    if missing:
        raise DatasetError(_fault(target, "no label", missing))
    parse: Callable[[object], Value] = _text
    if isinstance(positive, bool):
        parse = parse_boolean
    elif isinstance(positive, int):
        parse = _whole
    labels = [parse(cell) for cell in cells]
    wrong = [i for i, label in enumerate(labels) if label is None]
    classes = sorted({str(cell) for cell in cells})
    if len(classes) > 2 or len(set(labels)) > 2:
        raise DatasetError(f"{target}: {len(classes)} different values; Driftline's scope: {SCOPE}")
    if wrong:
        raise DatasetError(_fault(target, f"not of the same kind as positive = {json.dumps(positive)}", wrong))
    if positive not in labels:
        raise DatasetError(f"{target}: no row is {json.dumps(positive)}, only {', '.join(classes)}")
    if len(set(labels)) < 2:
        raise DatasetError(f"{target}: every row is {json.dumps(positive)}; two classes are needed")
    return np.array(labels)


def _whole(cell: object) -> int | None:
    number = parse_number(cell)
    return int(number) if number is not None and float(number).is_integer() else None


def customer_ids(table: Table, name: str) -> tuple[str, ...]:
    """The id column as texts of 1 to 128 characters, as an event's customer_id must be."""
    cells = table.column(name)
    ids = ["" if cell is None else str(cell) for cell in cells]
    wrong = [i for i, text in enumerate(ids) if not 1 <= len(text) <= 128 or not text.isprintable()]
    if wrong:
        raise DatasetError(_fault(name, "not a customer id of 1 to 128 printable characters", wrong))
    return tuple(ids)
