"""A first spec for a file of customers, for a person to edit: what the data shows, and the open questions."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from driftline.training.customer_file import (
    CustomerFile,
    CustomerFileError,
    decode_text,
    guess_encoding,
    is_text,
    read_bytes,
)
from driftline.training.dataset import (
    MAX_CATEGORIES,
    DatasetError,
    is_missing_mark,
    open_file,
    parse_boolean,
    parse_number,
    problems_of,
    read_outcomes,
    typed_column,
)
from driftline.training.infer_format import FormatGuess, guess_format
from driftline.training.text_columns import looks_like_dates, looks_like_free_text
from schemas.bundle.inputs import DataFormat, Feature
from schemas.task import MAX_CLASSES, MIN_CLASSES

_ID_NAME = re.compile(r"(^|[_\s-])(id|uuid|guid|key|iban|email|phone|ssn)$|[a-z](Id|ID|Key)$|id$", re.IGNORECASE)
_CUSTOMER = re.compile(r"customer|client|user|account|member|subscriber|kunde|abonne", re.IGNORECASE)
_POSITIVE = ("1", "true", "yes", "y", "oui", "ja", "si", "churn", "churned", "left", "positive")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A sign or a unit around a number: "12 €", "$1,200.50", "45%", "3 months".
_DIGITS = r"[+-]?\d[\d.,' ]*"
_WITH_UNIT = re.compile(rf"[€$£¥]\s?{_DIGITS}|{_DIGITS}?\s?[%€$£¥]|{_DIGITS}?\s[A-Za-z]{{1,8}}")
MAX_NAME = 128
MANY = 50  # categories from which a person should look


@dataclass(slots=True)
class _Column:
    """What was found out about one column."""

    name: str
    #: None: the column is left out.
    kind: str | None = None
    nullable: bool = False
    #: Why it is left out.
    left_out: str = ""
    #: Whether a person has to decide about leaving it out.
    asks: bool = False
    #: Lines of comment: what to look at.
    notes: list[str] = field(default_factory=list)


def infer_spec(path: Path, target: str) -> str:
    """Return the spec as TOML text with comments; DatasetError if the file or the target cannot be used."""
    encoding, file = _read(path, target)
    if target not in file.names:
        raise DatasetError(f"{path}: no column {_plain(target)}; there are: {', '.join(map(_plain, file.names))}")
    twice = {name for name, count in Counter(file.names).items() if count > 1}
    if target in twice:
        raise DatasetError(f"{path}: more than one column {target}")
    if not file.rows:
        raise DatasetError(f"{path}: no rows")
    columns = dict(zip(file.names, file.cells, strict=True))
    guess = guess_format(columns, target, DataFormat(encoding=encoding), file.separator)
    marks = frozenset(guess.form.missing)
    for name, cells in columns.items():
        columns[name] = [None if isinstance(cell, str) and cell.strip() in marks else cell for cell in cells]
    labels = columns.pop(target)
    values = Counter(_label_key(cell, guess.form) for cell in labels if cell is not None)
    numbers = len(values) > 2 and all(parse_number(cell, guess.form) is not None for cell in labels if cell is not None)
    several = MIN_CLASSES <= len(values) <= MAX_CLASSES and not numbers
    if len(values) != 2 and not numbers and not several:
        raise DatasetError(f"{path}: {target}: {_no_label(labels, values, guess.form)}")
    found = [_column(name, cells, labels, guess, twice=name in twice) for name, cells in columns.items()]
    customer_id = next((c.name for c in found if c.left_out == _ID and _CUSTOMER.search(c.name)), None)
    customer_id = customer_id or next((c.name for c in found if c.left_out == _ID), None)
    if not any(c.kind for c in found):
        raise DatasetError(f"{path}: no column that a model could use")
    missing = sum(cell is None for cell in labels)
    positive = [] if numbers or several else _positive(labels, values, guess.form)
    kind = "ridge" if numbers else "logistic_regression"
    return "\n".join(
        [
            f"# A first spec for {_plain(path.name)}: {file.rows} customers, {len(file.names)} columns.",
            "# What follows a #? is a question that the data cannot answer. All keys: docs/contracts.md, model bundle.",
            "",
            "[model]",
            f"name = {_text(_model_name(path))}  #? part of every prediction and alert",
            'version = "1.0.0"',
            _task_line(values, numbers=numbers, several=several),
            "",
            "[data]",
            f"target = {_text(target)}",
            *positive,
            *([f"#? {missing} rows have no label: training rejects them"] if missing else []),
            *_rejected(labels, target, positive, guess.form, several=several),
            *([f"id = {_text(customer_id)}  #? the customer's id, for `driftline produce`"] if customer_id else []),
            *_format_lines(file, guess),
            "",
            "[estimator]",
            f'kind = "{kind}"  # or hist_gradient_boosting, random_forest, "package.module:factory"',
            "",
            "[training]",
            "seed = 42",
            "test_size = 0.2",
            *(line for column in found for line in _lines(column, customer_id)),
            "",
        ]
    )


def _no_label(labels: Sequence[object], values: Counter[str], form: DataFormat) -> str:
    """Return why a column is no target."""
    cells = [cell for cell in labels if cell is not None]
    others = Counter(str(cell) for cell in cells if parse_number(cell, form) is None)
    if len(values) > MAX_CLASSES and others.total() < 0.5 * len(cells):
        shown = ", ".join(_plain(text) for text, _ in others.most_common(3))
        verb = "is" if others.total() == 1 else "are"
        return f"{len(cells) - others.total()} of {len(cells)} cells are numbers; {others.total()} {verb} not ({shown})"
    shown = ", ".join(_plain(value) for value in list(values)[:5])
    return (
        f"{len(values)} different value{'' if len(values) == 1 else 's'} ({shown}); a label has two, or with task = "
        f'"multiclass" {MIN_CLASSES} to {MAX_CLASSES}, or with task = "regression" is a number'
    )


def _rejected(
    labels: Sequence[object], target: str, positive: Sequence[str], form: DataFormat, *, several: bool
) -> list[str]:
    """Return a question with the reason for which training would reject the target; [] if it would not."""
    some = next(cell for cell in labels if cell is not None)
    meant = tomllib.loads("\n".join(positive)).get("positive")
    try:
        cells = [some if cell is None else cell for cell in labels]
        read_outcomes(cells, target, meant, form, "multiclass" if several else None)
    except DatasetError as error:
        return [f"#? training rejects the target: {_plain(str(error).removeprefix(f'{target}: '))}"]
    return []


def _task_line(values: Counter[str], *, numbers: bool, several: bool) -> str:
    """Return the line of `[model]` that follows from the target's values."""
    if numbers:
        few = f'; with up to {MAX_CLASSES} classes: "multiclass"' if len(values) <= MAX_CLASSES else ""
        return f'task = "regression"  #? {len(values)} different numbers: an amount, not a code of classes{few}'
    if several:
        shown = ", ".join(f"{_short(text)} {count}" for text, count in values.most_common(5))
        return f'task = "multiclass"  #? {len(values)} classes: {shown}{", …" if len(values) > 5 else ""}'
    return 'threshold = 0.5  # or "f1": chosen on validation data'


def _read(path: Path, target: str) -> tuple[str, CustomerFile]:
    """Return the encoding that the file needs, and its cells."""
    encoding = "utf-8"
    try:
        _, raw, name = read_bytes(path)
        try:
            decode_text(raw)
        except CustomerFileError:
            encoding = (is_text(raw, name) and guess_encoding(raw)) or encoding
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except CustomerFileError as error:
        raise DatasetError(f"{path}: {error}") from None
    return encoding, open_file(path, DataFormat(encoding=encoding), [target])


def _format_lines(file: CustomerFile, guess: FormatGuess) -> list[str]:
    """Return the keys of `[data]` about the file, each with its question."""
    form, lines = guess.form, []
    if file.separator not in {"", ","}:
        lines.append(f"separator = {_text(file.separator)}  #? between the cells of a line")
    if form.encoding != "utf-8":
        lines.append(f"encoding = {_text(form.encoding)}  #? the file is not UTF-8: look at its letters with accents")
    if guess.example is not None:
        text, number = guess.example
        lines.append(f"decimal = {_text(form.decimal)}  #? {_short(text)} is read as {number:.15g}")
        if form.thousands is not None:
            lines.append(f"thousands = {_text(form.thousands)}  #? the mark between groups of digits")
    if form.missing:
        where = Counter[str]()
        for marks in guess.marks.values():
            where += marks
        shown = ", ".join(f"{_short(mark)} in {count} cells" for mark, count in sorted(where.items()))
        listed = ", ".join(_text(mark) for mark in form.missing)
        lines.append(f"missing = [{listed}]  #? {shown}: does it mean a missing value in every column?")
    return lines


_ID = "an id"
_ROW_NUMBERS = "row numbers, as pandas writes its index"
_UNNAMED = re.compile(r"|Unnamed: \d+(_level_\d+)?|index|level_\d+|__index_level_\d+__|_c0|\.\.\.1|X", re.IGNORECASE)


def _column(
    name: str, cells: Sequence[object], labels: Sequence[object], guess: FormatGuess, *, twice: bool
) -> _Column:
    present = [cell for cell in cells if cell is not None]
    column = _Column(name, nullable=len(present) < len(cells))
    if (why := _unusable_name(name, twice=twice)) is not None:
        column.left_out, column.asks = why, True
        return column
    distinct = {str(cell) for cell in present}
    numbers = [parse_number(cell, guess.form) for cell in present]
    if len(distinct) < 2:
        column.left_out = "empty" if not present else f"the same for everybody: {_short(present[0])}"
        if marks := guess.marks.get(name):
            column.asks = True
            column.left_out += f", but for {', '.join(f'{_short(mark)} in {n} cells' for mark, n in marks.items())}"
        return column
    if _are_row_numbers(name, numbers):
        column.left_out, column.asks = _ROW_NUMBERS, True
        return column
    if any(isinstance(cell, dict | list | tuple | bytes) for cell in present):
        column.left_out, column.asks = "holds objects or arrays; their members could be columns", True
        return column
    if len(distinct) == 2 and all(parse_boolean(cell) is not None for cell in present):
        column.kind = "boolean"
    elif None not in numbers:
        whole = all(isinstance(number, int) for number in numbers)
        if _ID_NAME.search(name) and whole and len(distinct) == len(cells):
            column.left_out = _ID
            return column
        column.kind = "numeric"
        _about_numbers(column, [float(n) for n in numbers if n is not None], len(distinct), whole=whole)
    else:
        _about_texts(column, [str(cell) for cell in present], numbers, len(cells))
    _only_what_training_takes(column, cells, guess.form)
    if column.kind in {"boolean", "categorical"} and _gives_the_label(cells, labels):
        column.notes.append("#? its value alone gives the label: is it known before the customer leaves?")
    if column.kind:
        _about_missing(column, cells, present, guess)
    return column


def _unusable_name(name: str, *, twice: bool) -> str | None:
    """Return why a column's name cannot be a feature's; None if it can."""
    if twice:
        return "more than one column has this name: rename all but one"
    if not name:
        return "a column without a name, as pandas writes its index: name it if it is a feature"
    if len(name) > MAX_NAME:
        return f"a name has at most {MAX_NAME} characters"
    if any(0xD800 <= ord(character) < 0xE000 for character in name):
        return "its name is no Unicode text"
    return None


def _are_row_numbers(name: str, numbers: Sequence[float | int | None]) -> bool:
    """Return whether a column counts the rows: from 0 or 1 on, or in any order under one of the names of an index."""
    whole = all(isinstance(number, int) for number in numbers)
    if not whole or len(set(numbers)) < len(numbers):
        return False
    counted = numbers[0] in {0, 1} and all(b == a + 1 for a, b in pairwise(numbers) if a is not None)
    return counted or _UNNAMED.fullmatch(name) is not None


def _only_what_training_takes(column: _Column, cells: Sequence[object], form: DataFormat) -> None:
    """Leave a column out if training would reject it, for the reason that training gives."""
    if column.kind is None:
        return
    typed = typed_column(cells, column.kind, form)
    known = tuple(sorted({value for value in typed.values if isinstance(value, str)}))
    feature = Feature.model_validate(
        {
            "name": column.name,
            "kind": column.kind,
            "nullable": column.nullable,
            "categories": known if column.kind == "categorical" else None,
        }
    )
    if problems := problems_of(feature, typed):
        column.kind, column.asks = None, True
        column.left_out = problems[0].removeprefix(f"{column.name}: ")


def _about_missing(column: _Column, cells: Sequence[object], present: Sequence[object], guess: FormatGuess) -> None:
    marks = guess.marks.get(column.name, Counter())
    if column.nullable:
        written = f", {marks.total()} of them written as a mark" if marks else ""
        column.notes.append(f"# missing in {len(cells) - len(present)} of {len(cells)} rows{written}")
    if column.kind == "categorical":
        if marks:
            column.notes.append(f"#? {', '.join(map(_short, marks))}: missing here, too, or a category?")
        texts = Counter(cell.strip() for cell in present if isinstance(cell, str))
        for text in sorted(texts):
            if is_missing_mark(text):
                column.notes.append(f"#? {_short(text)} in {texts[text]} rows: a category, or [data] missing?")
    elif marks:
        column.notes.append(
            f"#? {len(present)} of {len(present) + marks.total()} cells are {_KINDS[column.kind or '']}"
        )
    if column.name != column.name.strip():
        column.notes.append("#? its name begins or ends with a space: the same in the events?")
    elif not column.name.isprintable():
        column.notes.append("#? its name has characters that do not print: the same in the events?")


_KINDS = {"numeric": "numbers", "boolean": "true or false"}


def _about_numbers(column: _Column, numbers: Sequence[float], distinct: int, *, whole: bool) -> None:
    low, high = min(numbers), max(numbers)
    column.notes.append(f"# seen: {low:g} to {high:g}")
    if low >= 0:
        column.notes.append(
            "# min = 0  #? a bound rejects events beyond it: state what is impossible, not what is rare"
        )
    if whole and distinct <= 10 and low >= 0:
        column.notes.append(f"#? {distinct} different whole numbers: an amount, or the codes of categories?")
    column.notes.append('# unit = ""  #? months, EUR per month, …')


def _about_texts(column: _Column, texts: Sequence[str], numbers: Sequence[object], rows: int) -> None:
    distinct = len(set(texts))
    parsed = sum(number is not None for number in numbers)
    others = Counter(text for text, number in zip(texts, numbers, strict=True) if number is None)
    shown = ", ".join(_short(text) for text, _ in others.most_common(3))
    units = sum(_WITH_UNIT.fullmatch(text.strip()) is not None for text in texts)
    if parsed > 0.5 * len(texts) and distinct > min(MANY, 0.5 * rows):
        column.asks = True
        counted = f"{parsed} of {len(texts)} cells are numbers; {others.total()} are not ({shown})"
        column.left_out = f"{counted}: clean them, or list them as [data] missing"
    elif units > 0.5 * len(texts) and distinct > min(MANY, 0.5 * rows):
        column.asks = True
        counted = f"{units} of {len(texts)} cells are numbers with a sign or a unit ({shown})"
        column.left_out = f"{counted}: the number alone would be a feature"
    elif distinct == len(texts) == rows or (_ID_NAME.search(column.name) and distinct > 0.9 * len(texts)):
        column.left_out = _ID
    elif looks_like_dates(texts):
        column.left_out = "dates, which are out of scope: a number of days since would be a feature"
    elif looks_like_free_text(texts):
        column.left_out = "free text, which is out of scope"
    elif distinct > min(MAX_CATEGORIES, 0.5 * rows):
        column.asks = parsed > 0
        counted = f" ({parsed} of {len(texts)} cells are numbers)" if parsed else ""
        column.left_out = f"{distinct} different texts in {rows} rows: an id or free text, no category{counted}"
    else:
        column.kind = "categorical"
        common = ", ".join(_short(text) for text, _ in Counter(texts).most_common(6))
        column.notes.append(f"# {distinct} categories: {common}{', …' if distinct > 6 else ''}")
        if distinct > MANY:
            column.notes.append("#? many categories: each needs enough customers to be worth anything")
        if parsed > 0.5 * len(texts):
            column.notes.append(f"#? {parsed} of {len(texts)} are numbers: clean the others and it is numeric")


def _gives_the_label(cells: Sequence[object], labels: Sequence[object]) -> bool:
    seen: dict[object, object] = {}
    return all(seen.setdefault(cell, label) == label for cell, label in zip(cells, labels, strict=True))


def _label_key(cell: object, form: DataFormat) -> str:
    """Return a label as a text; numbers that are equal have one."""
    number = parse_number(cell, form)
    return str(cell) if number is None else f"{float(number):g}"


def _positive(labels: Sequence[object], values: Counter[str], form: DataFormat) -> list[str]:
    cells = [cell for cell in labels if cell is not None]
    by_text = {_label_key(cell, form): cell for cell in cells}
    known = [text for text in values if text.strip().lower() in _POSITIVE]
    chosen = known[0] if len(known) == 1 else min(values, key=lambda text: (values[text], text))
    share = values[chosen] / sum(values.values())
    why = "" if len(known) == 1 else ", the rarer of the two"
    return [f"positive = {_positive_value(by_text[chosen], cells, form)}  #? {share:.1%} of the customers{why}"]


def _positive_value(cell: object, cells: Sequence[object], form: DataFormat) -> str:
    """Return the positive label in the type that the model's classes have: as pandas reads the column."""
    if all(isinstance(c, bool) or str(c).strip().lower() in {"true", "false"} for c in cells):
        return "true" if parse_boolean(cell) else "false"
    numbers = [parse_number(c, form) for c in cells]
    if all(number is not None and float(number).is_integer() for number in numbers):
        return str(int(parse_number(cell, form) or 0))
    return _text(cell if isinstance(cell, str) else json.dumps(cell))


def _lines(column: _Column, customer_id: str | None) -> list[str]:
    if column.left_out:
        what = f"{column.left_out}, used as [data] id" if column.name == customer_id else column.left_out
        return ["", f"#{'?' * column.asks} {_short(column.name)} is left out: {what}"]
    key = column.name if _PLAIN_KEY.fullmatch(column.name) else _text(column.name)
    return [
        "",
        f"[features.{key}]",
        f'kind = "{column.kind}"',
        *(["nullable = true"] if column.nullable else []),
        *column.notes,
    ]


def _model_name(path: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:64].strip("-")
    return name or "model"


def _short(value: object) -> str:
    """Return a value for a comment: quoted, on one line, of at most 40 characters."""
    text = _text(value if isinstance(value, str) else str(value))
    return text if len(text) <= 40 else text[:39] + "…"


def _plain(text: str) -> str:
    """Return a name for a comment or an error, with every character escaped that does not print."""
    return _text(text)[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def _text(value: str) -> str:
    """Return a TOML string: JSON's, with every character escaped that does not print."""
    # JSON's escapes are TOML's, but for the surrogate pairs of characters beyond U+FFFF
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))
