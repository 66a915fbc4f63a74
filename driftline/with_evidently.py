"""`driftline report --evidently`: the report of another library, Evidently, on a file against a bundle's reference.

Evidently does not work with our pandas (0.7.23 does not import with pandas 3), so it lives in an environment of its
own, made when it is first wanted.
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from schemas.features import Columns
    from schemas.reference import Reference

FOLDER = Path(__file__).parent / "evidently"
SCORE = "score"
_TIMEOUT_S = 1800


def write(model: Path, current: Path, out: Path, say: Callable[[str], None]) -> tuple[int, int]:
    """Write the report on the customers in `current` into `out`; how many rows the reference and the file have.

    The score is a column like the others: the model in the bundle is unpickled, and gives that of the file's customers.
    A bundle holds no labels, so there is no drift of the target. CommandError if that cannot be done.
    """
    from driftline.benchmark.environments import python_for
    from schemas.bundle import MODEL, REFERENCE, BundleError, read_bundle
    from schemas.features import Layout
    from schemas.reference import Reference
    from training.dataset import DatasetError
    from training.existing import ExistingError, classes_of, load_estimator, scores_of
    from training.recent import read_customers

    try:
        bundle = read_bundle(model)
        customers = read_customers(current, bundle.manifest, time.time_ns() // 1_000_000)
        estimator, _ = load_estimator(model / MODEL, bundle.files[MODEL])
        which = classes_of(model / MODEL, estimator).index(bundle.manifest.positive_class)
        score = scores_of(model / MODEL, estimator, customers.columns, which)
        reference = Reference.from_bytes(bundle.files[REFERENCE])
    except (BundleError, DatasetError, ExistingError, ValueError) as error:
        raise CommandError(str(error)) from None
    layout = Layout(bundle.manifest.features)
    tables = {
        "reference": _reference(layout, reference),
        "current": _current(customers.columns, score),
        "numeric": [*(layout.names[i] for i in layout.numeric), SCORE],
        "categorical": [layout.names[i] for i in layout.categorical],
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
    if customers.refused:
        say(f"left out: {', '.join(f'{number:,} {reason}' for reason, number in customers.refused.items())}")
    return reference.rows, customers.columns.n


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
    """As the bundle writes it: a boolean is `true` or `false`."""
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
