"""`driftline report --evidently`: the report of another library, Evidently, on a file against a bundle's reference.

Evidently is not compatible with this project's pandas (0.7.23 does not import with pandas 3). So it is installed into a
separate environment at its first use.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from driftline.errors import CommandError
from driftline.settings import read_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from schemas.features import Columns
    from schemas.reference import Reference

FOLDER = Path(__file__).parent
SCORE = "score"
_TIMEOUT_S = 1800


def write(
    model: Path,
    current: Path,
    out: Path,
    say: Callable[[str], None],
    *,
    before: Path | None = None,
    target: str | None = None,
) -> tuple[int, int]:
    """Write the report on the customers in `current` into `out`; return the rows of the reference and of the file.

    The score is a column like the others: the model in the bundle is unpickled and scores the file's customers. The
    reference is the bundle's, or the customers in the file `before`. A bundle holds no labels: only with `before`, and
    where both files have the column `target`, does the report have the target's drift. Raise CommandError for what
    cannot be read.
    """
    from driftline.evidently.environment import python_for
    from driftline.model_life.data_checks import remarks, shares
    from driftline.model_life.recent_customers import read_customers
    from driftline.training.dataset import DatasetError
    from driftline.training.estimator_file import ExistingError
    from driftline.training.loaded_bundle import load_bundle
    from schemas.bundle.files import REFERENCE
    from schemas.bundle.manifest import BundleError
    from schemas.features import Layout
    from schemas.reference import Reference

    rules = read_rules()
    try:
        loaded = load_bundle(model)
        bundle = loaded.bundle
        customers = read_customers(current, bundle.manifest, time.time_ns() // 1_000_000, rules=rules)
        watched = loaded.manifest.predicts.watched
        score = watched(loaded.score(customers.columns))
        if before is None:
            reference = Reference.from_bytes(bundle.files[REFERENCE])
            table, rows, targets = _reference(Layout(bundle.manifest.features), reference), reference.rows, None
        else:
            past = read_customers(before, bundle.manifest, time.time_ns() // 1_000_000, rules=rules)
            table = _current(past.columns, watched(loaded.score(past.columns)))
            rows = past.columns.n
            targets = None if target is None else _targets(target, [(before, past.events), (current, customers.events)])
    except (BundleError, DatasetError, ExistingError, ValueError) as error:
        raise CommandError(str(error)) from None
    layout = Layout(bundle.manifest.features)
    if target is not None and target in {*layout.names, SCORE}:
        raise CommandError(f"--target: {target} is a column of the model")
    if target is not None and targets is None:
        say(f"no drift of {target}: not in both files")
    more = [{target: values} for values in targets] if target is not None and targets is not None else [{}, {}]
    tables = {
        "reference": table | more[0],
        "current": _current(customers.columns, score) | more[1],
        "numeric": [*(layout.names[i] for i in layout.numeric), SCORE],
        "categorical": [*(layout.names[i] for i in layout.categorical), *more[0]],
        "target": next(iter(more[0]), None),
    }
    python = python_for("evidently", say, FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        path, page = Path(folder) / "tables.json", Path(folder) / "report.html"
        path.write_text(json.dumps(tables), encoding="utf-8")
        _run([str(python), str(FOLDER / "make_report.py"), str(path), str(page)])
        try:
            out.write_bytes(page.read_bytes())
        except OSError as error:
            raise CommandError(f"{out}: {error.strerror or error}") from None
    for line in remarks(shares(customers.columns)):
        say(line)
    if customers.refused:
        say(f"left out: {', '.join(f'{number:,} {reason}' for reason, number in customers.refused.items())}")
    return rows, customers.columns.n


def _targets(target: str, files: Sequence[tuple[Path, bool]]) -> list[list[float | str | None]] | None:
    """Return the target's values in each file, as text; None if one of them does not have the column.

    files: each with whether it holds events, which have no target.
    """
    from driftline.training.dataset import column_names, read_table

    if any(events or target not in column_names(path) for path, events in files):
        return None
    return [[_word(cell) for cell in read_table(path, [target]).column(target)] for path, _ in files]


def _word(cell: object) -> str | None:
    """Return the text of an outcome: 1, 1.0 and "1" are one class, and so are true and "True"."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = str(cell)
    return text.lower() if text in {"True", "False"} else text.removesuffix(".0")


def _reference(layout: Any, reference: Reference) -> dict[str, list[float | str | None]]:
    table = {layout.names[i]: _numbers(reference.numeric[:, at]) for at, i in enumerate(layout.numeric)}
    for at, (i, categories) in enumerate(zip(layout.categorical, layout.categories, strict=True)):
        table[layout.names[i]] = [categories[code] if code >= 0 else None for code in reference.codes[:, at].tolist()]
    return {**table, SCORE: _numbers(reference.score)}


def _current(columns: Columns, score: NDArray[np.float64]) -> dict[str, list[float | str | None]]:
    layout = columns.layout
    table = {layout.names[i]: _numbers(columns.numeric[:, at]) for at, i in enumerate(layout.numeric)}
    for i in layout.categorical:
        table[layout.names[i]] = [_category(value) for value in columns.values[i]]
    return {**table, SCORE: _numbers(score)}


def _numbers(values: NDArray[np.float64]) -> list[float | str | None]:
    return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN alone differs from itself


def _category(value: Any) -> str | None:
    """Return the cell as the bundle writes it: a boolean is `true` or `false`."""
    if value is None or isinstance(value, str):
        return value
    return "true" if value else "false"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise CommandError(f"Evidently did not end in {_TIMEOUT_S} s", 1) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise CommandError(f"Evidently failed: {said[-1] if said else done.returncode}", 1)
