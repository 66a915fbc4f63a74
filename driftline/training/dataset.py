"""A file of customers → typed columns, labels and ids, by a spec.

Kinds of files: driftline/training/customer_file.py. Missing are: a CSV cell that is empty or only spaces, JSON's null,
an absent member, and texts that the spec lists as `missing`. Everything that the scorer would reject in an event is
rejected here too: no model is trained on rows that could never be scored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from driftline.training.customer_file import CustomerFile, CustomerFileError, read_customer_file
from driftline.training.spec import FeatureSpec, Spec
from schemas.bundle.inputs import DataFormat, Feature
from schemas.bundle.manifest import SCOPE
from schemas.features import Columns, Layout, Value
from schemas.task import MAX_CLASSES, MIN_CLASSES, TaskName, class_text
from schemas.validation import NUMERIC_LIMIT

Label: TypeAlias = str | int | bool
Labels: TypeAlias = NDArray[np.str_] | NDArray[np.int64] | NDArray[np.bool_] | NDArray[np.float64]

MAX_CATEGORIES = 10_000  # more distinct names than rows in the drift reference: an id or free text, not a category
_WHOLE = re.compile(r"[+-]?\d{1,16}")
DEFAULT_FORMAT = DataFormat()
# (decimal, thousands) that numbers are written with, the usual ones first.
NUMBER_FORMATS: tuple[tuple[Literal[".", ","], Literal[",", ".", " ", "'"] | None], ...] = (
    (".", None),
    (",", None),
    (".", ","),
    (",", "."),
    (".", " "),
    (",", " "),
    (".", "'"),
)
# What programs and people write for a missing value.
_MISSING_MARK = re.compile(
    r"n\.?a\.?|n/a|-?nan|[<(]?null[>)]?|none|nil|-{1,3}|\?|\.{1,2}|#n/a|#na|<na>|#null!|#div/0!|#value!|#ref!|missing|"
    r"undefined|not available|n\.?d\.?|k\.a\.|\\n|1\.#(ind|qnan)",
    re.IGNORECASE,
)
# What people and programs put between groups of digits; a no-break or narrow space looks like any other.
_GROUPS = {" ": "[ \u00a0\u2009\u202f]", "'": "['\u2019]"}
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


class DatasetError(Exception):
    """A file of customers that doesn't fit its spec. The text is one line: which column, what, and in how many rows."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file as it was read."""

    sha256: str
    rows: int
    #: The columns that were read.
    names: tuple[str, ...]
    #: One list per name, one untyped cell per row.
    cells: tuple[list[object], ...]
    #: How texts that are numbers are written.
    form: DataFormat = field(default_factory=DataFormat)
    #: Columns of the file that were not read.
    unused: tuple[str, ...] = ()

    def column(self, name: str) -> list[object]:
        """Return the untyped cells of one of `names`."""
        return self.cells[self.names.index(name)]

    def take(self, rows: Sequence[int]) -> Table:
        """Return only these rows, in this order; sha256 stays that of the file."""
        return replace(self, rows=len(rows), cells=tuple([column[row] for row in rows] for column in self.cells))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Customers that fit the spec; row i of every part is the same customer."""

    sha256: str
    #: As the manifest lists them; categories are learnt where the spec lists none.
    features: tuple[Feature, ...]
    columns: Columns
    #: (rows,) of str, int64 or bool as `positive` is, exactly two different ones; of a regression float64, finite; of
    #: several classes their texts.
    labels: Labels
    #: None of a model that is not binary.
    positive: Label | None
    #: None where the spec names no id column.
    ids: tuple[str, ...] | None
    #: How the file writes its cells.
    form: DataFormat = field(default_factory=DataFormat)
    #: Columns of the file that the spec does not name.
    unused: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Return the number of customers."""
        return self.columns.n


def read_dataset(path: Path, spec: Spec) -> Dataset:
    """Return everything that training needs from the file; DatasetError with the column and the rows at fault."""
    wanted = [*spec.features, spec.data.target, *([spec.data.id] if spec.data.id else [])]
    table = read_table(path, list(dict.fromkeys(wanted)), spec.data.format())
    return typed_dataset(table, spec)


def typed_dataset(table: Table, spec: Spec, *, empty: bool = False) -> Dataset:
    """Return the same of a table that holds the spec's columns; `empty` as in `typed_features`."""
    features, values = typed_features(table, spec, empty=empty)
    columns = Layout(features).columns(values)
    labels = read_outcomes(table.column(spec.data.target), spec.data.target, spec.data.positive, table.form, spec.task)
    ids = customer_ids(table, spec.data.id) if spec.data.id else None
    return Dataset(table.sha256, features, columns, labels, spec.data.positive, ids, table.form, table.unused)


def read_table(path: Path, names: Sequence[str], form: DataFormat | None = None) -> Table:
    """Return the named columns of a file; DatasetError if the file is unreadable or a column is absent."""
    form = form or DataFormat()
    file = open_file(path, form, names, only=True)
    try:
        _require(names, file)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    if file.rows == 0:
        raise DatasetError(f"{path}: no rows")
    cells = tuple(file.cells[file.names.index(name)] for name in names)
    unused = tuple(name for name in dict.fromkeys(file.names) if name not in names)
    return Table(file.sha256, file.rows, tuple(names), cells, form, unused)


def open_file(path: Path, form: DataFormat, wanted: Sequence[str] = (), *, only: bool = False) -> CustomerFile:
    """Return the file's columns; DatasetError with the file's name."""
    try:
        return read_customer_file(path, form, wanted, only=only)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except CustomerFileError as error:
        raise DatasetError(f"{path}: {error}") from None


def column_names(path: Path, form: DataFormat | None = None) -> tuple[str, ...]:
    """Return the names of all columns of the file, in its order; DatasetError if it is unreadable."""
    return open_file(path, form or DataFormat(), only=True).names


def _require(names: Sequence[str], file: CustomerFile) -> None:
    header = file.names
    twice = [name for name in names if header.count(name) > 1]
    if twice:
        raise DatasetError(f"more than one column {', '.join(twice)}")
    absent = [name for name in names if name not in header]
    if not absent:
        return
    what = "column" if len(absent) == 1 else "columns"
    hint = ""
    if file.kind == "csv" and len(header) == 1:
        hint = f"; the header is one column with the separator {file.separator!r}: [data] separator is another"
    raise DatasetError(f"no {what} {', '.join(absent)}{hint}")


def typed_features(
    table: Table, spec: FeatureSpec, known: Mapping[str, Collection[str]] | None = None, *, empty: bool = False
) -> tuple[tuple[Feature, ...], list[list[Value]]]:
    """Return the spec's features with their categories, and one list of typed values per feature, in the spec's order.

    `known`: categories by feature name that exist whether the data has them or not. `empty`: a nullable feature may be
    missing in every row. Every column at fault is named in one DatasetError.
    """
    # Typed by the kind alone first: the categories are only known once the values are.
    typed = {name: typed_column(table.column(name), f.kind, table.form) for name, f in spec.features.items()}
    learnt = {
        name: sorted({v for v in typed[name].values if isinstance(v, str)} | set((known or {}).get(name, ())))
        for name, f in spec.features.items()
        if f.kind == "categorical"
    }
    features = spec.manifest_features(learnt)
    problems = [p for f in features for p in problems_of(f, typed[f.name], empty=empty)]
    if problems:
        raise DatasetError("; ".join(problems))
    return features, [typed[f.name].values for f in features]


def read_features(path: Path, features: Sequence[Feature], form: DataFormat | None = None) -> list[list[Value]]:
    """Return typed values of a bundle's features, one list each; other categories than the bundle's are legal."""
    table = read_table(path, [f.name for f in features], form)
    try:
        return typed_values(table, features)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def typed_values(table: Table, features: Sequence[Feature]) -> list[list[Value]]:
    """Return the same of a table that holds these features; a nullable one may be missing in every row."""
    typed = {f.name: typed_column(table.column(f.name), f.kind, table.form) for f in features}
    open_features = [f.model_copy(update={"categories": None}) for f in features]
    problems = [p for f in open_features for p in problems_of(f, typed[f.name], empty=True)]
    if problems:
        raise DatasetError("; ".join(problems))
    return [typed[f.name].values for f in features]


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """The values of one column by the kind of its feature."""

    #: None is missing.
    values: list[Value]
    #: Rows whose cell is not of that kind; their value is None.
    wrong: list[int]
    #: Why they may not be: what a person could change about the format.
    hint: str = ""


def typed_column(cells: Sequence[object], kind: str, form: DataFormat) -> TypedColumn:
    """Return the cells as values of a kind."""
    parsers: dict[str, Callable[[object], Value]] = {
        "numeric": partial(parse_number, form=form),
        "categorical": _text,
        "boolean": parse_boolean,
    }
    parse = parsers[kind]
    values: list[Value] = [None if cell is None else parse(cell) for cell in cells]
    wrong = [i for i, (cell, value) in enumerate(zip(cells, values, strict=True)) if cell is not None and value is None]
    hint = _hint([cells[i] for i in wrong], values, form) if wrong and kind == "numeric" else ""
    return TypedColumn(values, wrong, hint)


def _hint(others: Sequence[object], values: Sequence[Value], form: DataFormat) -> str:
    """Return how many cells are numbers, and what in `[data]` would make numbers of the others."""
    numbers = sum(value is not None for value in values)
    hint = f" ({numbers} of {numbers + len(others)} cells are numbers"
    texts = {str(cell).strip() for cell in others}
    if all(is_missing_mark(text) for text in texts):
        return f"{hint}; for missing values there is [data] missing = {json.dumps(sorted(texts))})"
    for decimal, thousands in NUMBER_FORMATS:
        other = form.model_copy(update={"decimal": decimal, "thousands": thousands})
        if all(parse_number(text, other) is not None for text in texts):
            keys = f"decimal = {json.dumps(decimal)}" + (f", thousands = {json.dumps(thousands)}" if thousands else "")
            return f"{hint}; the others would be with [data] {keys})"
    return f"{hint})"


def is_missing_mark(text: str) -> bool:
    """Return whether a text usually means that there is no value.

    >>> is_missing_mark("N/A"), is_missing_mark("none"), is_missing_mark("no")
    (True, True, False)
    """
    return _MISSING_MARK.fullmatch(text) is not None


def parse_number(cell: object, form: DataFormat = DEFAULT_FORMAT) -> float | int | None:
    """Return a JSON number, or the number that a text is; whole numbers stay int. None if the cell is neither.

    >>> parse_number("1.234,5"), parse_number("1.234,5", DataFormat(decimal=",", thousands="."))
    (None, 1234.5)
    """
    if isinstance(cell, bool):
        return None
    if isinstance(cell, int | float):
        return cell if abs(cell) < 1e300 else math.inf  # a whole number may be too large for a double
    if not isinstance(cell, str):
        return None
    text = cell.strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    number, groups = _number_patterns(form.decimal, form.thousands)
    if not number.fullmatch(text):
        return None
    text = groups.sub("", text) if groups is not None else text
    if form.decimal != ".":
        text = text.replace(form.decimal, ".")
    return int(text) if _WHOLE.fullmatch(text) else float(text)


@lru_cache
def _number_patterns(decimal: str, thousands: str | None) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
    """Return the pattern of a number, and of the marks between its groups of digits."""
    point, digits = re.escape(decimal), r"\d+"
    groups = None
    if thousands is not None:
        group = _GROUPS.get(thousands, re.escape(thousands))
        groups = re.compile(group)
        # groups of two digits but the last one: how India writes
        digits = rf"(?:\d{{1,3}}(?:{group}\d{{2,3}})*{group}\d{{3}}|\d+)"
    return re.compile(rf"[+-]?({digits}{point}?\d*|{point}\d+)([eE][+-]?\d+)?"), groups


def _text(cell: object) -> str | None:
    return cell if isinstance(cell, str) else None


def parse_boolean(cell: object) -> bool | None:
    """Return true or false, also of a text or number that means it (0, 1, yes, no). None if the cell does not."""
    if isinstance(cell, bool):
        return cell
    return _BOOLEANS.get(str(cell).strip().lower())


def problems_of(feature: Feature, column: TypedColumn, *, empty: bool = False) -> list[str]:
    """Return what an event's validation would reject in this column: one line per defect, with the number of rows."""
    kinds = {"numeric": "a number", "categorical": "a text", "boolean": "0 or 1, true or false, yes or no"}
    values = column.values
    if column.wrong:
        return [_fault(feature.name, f"not {kinds[feature.kind]}", column.wrong) + column.hint]
    problems = []
    missing = [i for i, value in enumerate(values) if value is None]
    if len(missing) == len(values) and not (empty and feature.nullable):
        problems.append(f"{feature.name}: missing in every row")
    elif missing and not feature.nullable:
        problems.append(_fault(feature.name, "missing without nullable = true", missing))
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
    # Row numbers, never values: a customer's cell has no place in a log.
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    return f"{name}: {what} in {count}, first in row {rows[0] + 1}"


def read_outcomes(
    cells: Sequence[object],
    target: str,
    positive: Label | float | None,
    form: DataFormat = DEFAULT_FORMAT,
    task: TaskName | None = None,
) -> Labels:
    """Return the label column as `read_labels`, as texts of classes, or as numbers, float64.

    task: None: binary with `positive`, a regression without.
    """
    if positive is not None:
        return read_labels(cells, target, positive, form)
    if task == "multiclass":
        return read_classes(cells, target, form)
    numbers = [None if cell is None else parse_number(cell, form) for cell in cells]
    missing = [i for i, cell in enumerate(cells) if cell is None]
    if missing:
        raise DatasetError(_fault(target, "no label", missing))
    wrong = [i for i, number in enumerate(numbers) if number is None or not math.isfinite(number)]
    if wrong:
        raise DatasetError(_fault(target, 'not a number, and [model] task is "regression"', wrong))
    values = np.array(numbers, dtype=np.float64)
    if values.min() == values.max():
        raise DatasetError(f"{target}: is the same number in every row")
    return values


def read_classes(cells: Sequence[object], target: str, form: DataFormat = DEFAULT_FORMAT) -> NDArray[np.str_]:
    """Return the label column as the texts of classes: a whole number is its decimal text."""
    missing = [i for i, cell in enumerate(cells) if cell is None]
    if missing:
        raise DatasetError(_fault(target, "no label", missing))
    numbers = [parse_number(cell, form) for cell in cells]
    whole = all(number is not None and float(number).is_integer() for number in numbers)
    texts = [class_text(number if whole else cell) for cell, number in zip(cells, numbers, strict=True)]
    wrong = [i for i, text in enumerate(texts) if text is None]
    if wrong:
        raise DatasetError(_fault(target, 'no text of a class, and [model] task is "multiclass"', wrong))
    found = np.array(texts)
    classes = len(np.unique(found))
    if not MIN_CLASSES <= classes <= MAX_CLASSES:
        other = ' ([model] task = "binary" is for two)' if classes == MIN_CLASSES - 1 else ""
        raise DatasetError(f'{target}: {classes} different values{other}; [model] task is "multiclass", for 3 to 100')
    return found


def read_labels(
    cells: Sequence[object], target: str, positive: Label | float, form: DataFormat = DEFAULT_FORMAT
) -> Labels:
    """Return the label column in the type of `positive`, as the model's two classes."""
    missing = [i for i, cell in enumerate(cells) if cell is None]
    if missing:
        raise DatasetError(_fault(target, "no label", missing))
    parse: Callable[[object], Value] = _label_text
    if isinstance(positive, bool):
        parse = _label_boolean
    elif isinstance(positive, int | float):
        parse = partial(_label_number, form=form)
    labels = [parse(cell) for cell in cells]
    wrong = [i for i, label in enumerate(labels) if label is None]
    classes = sorted({str(cell) for cell in cells})
    if len(classes) > 2 and len(set(labels)) > 2:
        numbers = all(parse_number(cell, form) is not None for cell in cells)
        other = ' ([model] task = "regression" is for numbers)' if numbers else ""
        if not numbers and len(classes) <= MAX_CLASSES:
            other = ' ([model] task = "multiclass" is for such)'
        raise DatasetError(f"{target}: {len(classes)} different values{other}; Driftline's scope: {SCOPE}")
    if wrong:
        raise DatasetError(_fault(target, f"not of the same kind as positive = {json.dumps(positive)}", wrong))
    if positive not in labels:
        raise DatasetError(f"{target}: no row is {json.dumps(positive)}, only {', '.join(classes)}")
    if len(set(labels)) < 2:
        raise DatasetError(f"{target}: every row is {json.dumps(positive)}; two classes are needed")
    return np.array(labels)


def _label_text(cell: object) -> str | None:
    """Return a text as it is, and a number or a boolean of JSON or Parquet as JSON writes it."""
    if isinstance(cell, str):
        return cell
    return json.dumps(cell) if isinstance(cell, bool | int | float) else None


def _label_number(cell: object, form: DataFormat) -> int | float | None:
    number = int(cell) if isinstance(cell, bool) else parse_number(cell, form)
    return int(number) if number is not None and float(number).is_integer() else number


def _label_boolean(cell: object) -> bool | None:
    """Return a boolean as a feature has it; 1.0 and 0.0 are how pandas writes a column of 1 and 0 with gaps."""
    found = parse_boolean(cell)
    return parse_boolean(_label_number(cell, DEFAULT_FORMAT)) if found is None else found


def matching_class(positive: Label | float, classes: Sequence[Label | float]) -> int | None:
    """Return which one of a model's classes `positive` means, however each is written; None if not exactly one.

    >>> matching_class(1, ["0", "1"]), matching_class(True, ["no", "yes"]), matching_class("left", ["0", "1"])
    (1, 1, None)
    """
    equal = [i for i, member in enumerate(classes) if member == positive]
    alike = equal or [i for i, member in enumerate(classes) if _alike(member, positive)]
    return alike[0] if len(alike) == 1 else None


def _alike(one: Label | float, other: Label | float) -> bool:
    """Return whether two labels of different types mean the same; texts are compared as they are."""
    return not (isinstance(one, str) and isinstance(other, str)) and bool(_meanings(one) & _meanings(other))


def _meanings(label: Label | float) -> set[object]:
    """Return the text, number and boolean that a label can be read as."""
    number, boolean = _label_number(label, DEFAULT_FORMAT), _label_boolean(label)
    read = {("text", str(label)), ("number", number), ("boolean", boolean)}
    return {meaning for meaning in read if meaning[1] is not None}


def customer_ids(table: Table, name: str) -> tuple[str, ...]:
    """Return the id column as texts of 1 to 128 characters, as an event's customer_id must be."""
    cells = table.column(name)
    ids = ["" if cell is None else str(cell) for cell in cells]
    wrong = [i for i, text in enumerate(ids) if not 1 <= len(text) <= 128 or not text.isprintable()]
    if wrong:
        raise DatasetError(_fault(name, "not a customer id of 1 to 128 printable characters", wrong))
    return tuple(ids)
