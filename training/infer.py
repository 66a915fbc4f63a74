"""A first spec for a file of customers, for a person to edit: what the data shows, and what it cannot know."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.columns import looks_like_dates, looks_like_free_text
from training.dataset import MAX_CATEGORIES, DatasetError, column_names, parse_boolean, parse_number, read_table

_ID_NAME = re.compile(r"(^|[_\s-])(id|uuid|guid|key|iban|email|phone|ssn)$|[a-z](Id|ID|Key)$|id$", re.IGNORECASE)
_CUSTOMER = re.compile(r"customer|client|user|account|member|subscriber|kunde|abonne", re.IGNORECASE)
_POSITIVE = ("1", "true", "yes", "y", "oui", "ja", "si", "churn", "churned", "left", "positive")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
MANY = 50  # categories from which a person should look


@dataclass(slots=True)
class _Column:
    """One column's verdict: a kind, or why it is left out; and what to look at."""

    name: str
    kind: str | None = None
    nullable: bool = False
    left_out: str = ""
    notes: list[str] = field(default_factory=list)


def infer_spec(path: Path, target: str) -> str:
    """The spec as TOML text with comments; DatasetError if the file or the target cannot be used."""
    names = column_names(path)
    if target not in names:
        raise DatasetError(f"{path}: no column {target}; there are: {', '.join(names)}")
    table = read_table(path, names)
    labels = table.column(target)
    values = Counter(str(cell) for cell in labels if cell is not None)
    if len(values) != 2:
        shown = ", ".join(list(values)[:5])
        raise DatasetError(f"{path}: {target}: {len(values)} different values ({shown}); a label has two")
    columns = [_column(name, table.column(name), labels) for name in names if name != target]
    customer_id = next((c.name for c in columns if c.left_out == _ID and _CUSTOMER.search(c.name)), None)
    customer_id = customer_id or next((c.name for c in columns if c.left_out == _ID), None)
    if not any(c.kind for c in columns):
        raise DatasetError(f"{path}: no column that a model could use")
    missing = sum(cell is None for cell in labels)
    return "\n".join(
        [
            f"# A first spec for {path.name}: {table.rows} customers, {len(names)} columns. What follows a #? is a",
            "# question that the data cannot answer. Everything a spec may say: docs/contracts.md, model bundle.",
            "",
            "[model]",
            f"name = {_text(_model_name(path))}  #? part of every prediction and alert",
            'version = "1.0.0"',
            'threshold = 0.5  # or "f1": chosen on validation data',
            "",
            "[data]",
            f"target = {_text(target)}",
            *_positive(labels, values),
            *([f"#? {missing} rows have no label: training refuses them"] if missing else []),
            *([f"id = {_text(customer_id)}  #? the customer's id, for `driftline produce`"] if customer_id else []),
            "",
            "[estimator]",
            'kind = "logistic_regression"  # or hist_gradient_boosting, random_forest, "package.module:factory"',
            "",
            "[training]",
            "seed = 42",
            "test_size = 0.2",
            *(line for column in columns for line in _lines(column, customer_id)),
            "",
        ]
    )


_ID = "an id"


def _column(name: str, cells: Sequence[object], labels: Sequence[object]) -> _Column:
    present = [cell for cell in cells if cell is not None]
    column = _Column(name, nullable=len(present) < len(cells))
    distinct = {str(cell) for cell in present}
    if len(distinct) < 2:
        column.left_out = "empty" if not present else f"the same for everybody: {_short(present[0])}"
        return column
    numbers = [parse_number(cell) for cell in present]
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
    if column.kind in {"boolean", "categorical"} and _tells_the_label(cells, labels):
        column.notes.append("#? its value alone tells the label: is it known before the customer leaves?")
    if column.nullable and column.kind:
        column.notes.append(f"# missing in {len(cells) - len(present)} of {len(cells)} rows")
    return column


def _about_numbers(column: _Column, numbers: Sequence[float], distinct: int, *, whole: bool) -> None:
    low, high = min(numbers), max(numbers)
    column.notes.append(f"# seen: {low:g} to {high:g}")
    if low >= 0:
        column.notes.append(
            "# min = 0  #? a bound refuses events beyond it: state what is impossible, not what is rare"
        )
    if whole and distinct <= 10 and low >= 0:
        column.notes.append(f"#? {distinct} different whole numbers: an amount, or the codes of categories?")
    column.notes.append('# unit = ""  #? months, EUR per month, …')


def _about_texts(column: _Column, texts: Sequence[str], numbers: Sequence[object], rows: int) -> None:
    distinct = len(set(texts))
    parsed = sum(number is not None for number in numbers)
    if distinct == len(texts) == rows or (_ID_NAME.search(column.name) and distinct > 0.9 * len(texts)):
        column.left_out = _ID
    elif looks_like_dates(texts):
        column.left_out = "dates, which are out of scope: a number of days since would be a feature"
    elif looks_like_free_text(texts):
        column.left_out = "free text, which is out of scope"
    elif distinct > min(MAX_CATEGORIES, 0.5 * rows):
        column.left_out = f"{distinct} different texts in {rows} rows: an id or free text, no category"
    else:
        column.kind = "categorical"
        shown = ", ".join(_short(text) for text, _ in Counter(texts).most_common(6))
        column.notes.append(f"# {distinct} categories: {shown}{', …' if distinct > 6 else ''}")
        if distinct > MANY:
            column.notes.append("#? many categories: each needs customers of its own to be worth anything")
        if parsed > 0.5 * len(texts):
            column.notes.append(f"#? {parsed} of {len(texts)} are numbers: clean the others and it is numeric")


def _tells_the_label(cells: Sequence[object], labels: Sequence[object]) -> bool:
    seen: dict[object, object] = {}
    return all(seen.setdefault(cell, label) == label for cell, label in zip(cells, labels, strict=True))


def _positive(labels: Sequence[object], values: Counter[str]) -> list[str]:
    by_text = {str(cell): cell for cell in labels if cell is not None}
    known = [text for text in values if text.strip().lower() in _POSITIVE]
    chosen = known[0] if len(known) == 1 else min(values, key=lambda text: (values[text], text))
    value = by_text[chosen]
    share = values[chosen] / sum(values.values())
    literal = json.dumps(value) if isinstance(value, bool | int) else _text(chosen)
    why = "" if len(known) == 1 else ", the rarer of the two"
    return [f"positive = {literal}  #? {share:.1%} of the customers{why}"]


def _lines(column: _Column, customer_id: str | None) -> list[str]:
    if column.left_out:
        what = f"{column.left_out}, used as [data] id" if column.name == customer_id else column.left_out
        return ["", f"# {_short(column.name)} is left out: {what}"]
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
    """One line of a comment."""
    text = json.dumps(str(value), ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _text(value: str) -> str:
    # JSON's escapes are TOML's, but for the surrogate pairs of characters beyond U+FFFF
    return json.dumps(value, ensure_ascii=False)
