"""Output of commands: every line, note, table and JSON document is printed here.

Printed text may come from an unknown author: a dead letter, an alert's label, a broker's error, a name in a file. Such
text can hold control characters that move the cursor or hide text, and markup that the table library would read.
``clean`` makes every control character visible, and markup is never interpreted.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import orjson

from kafka_runtime.service.printable import clean as clean  # noqa: PLC0414 - commands take it from here
from kafka_runtime.service.printable import clean_json

if TYPE_CHECKING:
    from rich.progress import Progress

UNKNOWN = "–"
# A table's width where there is no terminal to measure.
PIPE_WIDTH = 160
# Printed of one cell at most: the detail of a forged record may be as large as a record.
MAX_CELL = 1000
_LINE_BREAKS = re.compile(r"\r\n|[\n\r]")


def one_line(text: object) -> str:
    """Return the text with every run of white space as one space, cleaned."""
    return clean(" ".join(str(text).split()))


def number(value: float | None, form: str = ".3f") -> str:
    """Return a number in that format; a dash for an unknown one.

    >>> number(0.25), number(None), number(1234.5, ",.0f")
    ('0.250', '–', '1,234')
    """
    return UNKNOWN if value is None else format(value, form)


def second(time: str) -> str:
    """Return a time of a record to the second, as people read it.

    >>> second("2026-11-22T05:00:00.000Z"), second("")
    ('2026-11-22 05:00:00Z', '')
    """
    return f"{time[:10]} {time[11:19]}Z" if time else ""


def show(text: object = "") -> None:
    """Print one line to standard output."""
    sys.stdout.write(clean(text) + "\n")


def show_text(text: str) -> None:
    """Print a text of several lines to standard output, as it is but for its control characters."""
    for line in _LINE_BREAKS.split(text.removesuffix("\n")):
        show(line)


def note(text: object) -> None:
    """Print one line to standard error, at once."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


@functools.cache
def note_blocked(partition: tuple[str, int], offset: int, offsets: int) -> None:
    """Print once that records of a partition, (topic, number), are behind an open transaction and were not read."""
    topic, number = partition
    note(f"{topic}-{number}: {offsets} offsets from {offset} on are behind an open transaction, and were not read")


def show_json(document: Any, *, indent: bool = False) -> None:
    """Print a JSON document to standard output: one line, or indented."""
    try:
        encoded = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else None).decode()
    except TypeError:  # a file name of bytes that are no UTF-8
        encoded = json.dumps(document, indent=2 if indent else None)
    show_encoded(encoded, indent=indent)


def show_encoded(encoded: str, *, indent: bool = False) -> None:
    """Print JSON that is encoded already; control characters within its strings become JSON's own escapes."""
    if not indent:
        encoded = _LINE_BREAKS.sub(" ", encoded)
    lines = encoded.split("\n") if indent else [encoded]
    for line in lines:
        sys.stdout.write(clean_json(line) + "\n")


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Iterable[str] = (),
    title: str | None = None,
    styles: Mapping[int, str] | None = None,
) -> None:
    """Print a table to standard output.

    Args:
        columns: headings.
        rows: cells of each row, one for each column.
        right: headings of the columns that are aligned to the right.
        title: a line above it.
        styles: row number to a style of the table library, like "bold red".
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title=None if title is None else Text(clean(title)), title_style="")
    aligned = set(right)
    for column in columns:
        table.add_column(Text(clean(column)), justify="right" if column in aligned else "left", overflow="fold")
    for index, row in enumerate(rows):
        table.add_row(*(Text(_cell(cell)) for cell in row), style=(styles or {}).get(index, ""))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, emoji=False, markup=False).print(table)


def _cell(content: object) -> str:
    text = str(content)
    return clean(text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…")


def status(text: str) -> AbstractContextManager[object]:
    """Return a block that shows on a terminal what is in progress, on standard error."""
    from rich.console import Console
    from rich.markup import escape

    return Console(stderr=True).status(escape(clean(text)))


def progress_bar(*, counts: bool = False) -> Progress:
    """Return a bar on standard error, shown on a terminal only; `counts`: how many, instead of how many per cent."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn() if counts else TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
