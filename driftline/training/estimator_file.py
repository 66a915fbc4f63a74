"""A file with a fitted estimator → the estimator, where it is one that a scorer could load and serve."""

from __future__ import annotations

import io
import re
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.exceptions import InconsistentVersionWarning

from schemas.bundle.manifest import SCOPE
from schemas.task import MAX_CLASSES, MIN_CLASSES, Binary, Task, has_classes

MAX_PARTS = 100_000


class ExistingError(Exception):
    """An estimator that cannot be served as it is. The text is one line with the required change."""


def load_estimator(path: Path, raw: bytes) -> tuple[Any, str]:
    """Return the estimator in a file's bytes, and the scikit-learn version that it was fitted with; ExistingError."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator = joblib.load(io.BytesIO(raw))
        except Exception as error:  # noqa: BLE001 - unpickling runs foreign code and may raise anything
            raise ExistingError(f"{path}: {_why_not_loaded(error)}") from None
    here = sklearn.__version__
    for warning in caught:
        if isinstance(warning.message, InconsistentVersionWarning):
            version = warning.message.original_sklearn_version
            if version.split(".")[:2] != here.split(".")[:2]:
                raise ExistingError(f"{path}: fitted with scikit-learn {version}, here is {here}: install the same")
            return estimator, version
    return estimator, here


def _why_not_loaded(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        return f"needs the module {error.name}, which is not installed here (nor, then, where the scorer runs)"
    match = re.search(r"Can't get attribute '([^']+)' on <module '(?:[\w.]+\.)?__main__'", text)
    if match:
        return f"{match[1]} lives in __main__: put it into a module that is installed where the scorer runs"
    return f"cannot be loaded: {type(error).__name__}: {text}"


def _parts(root: object) -> Iterator[tuple[str, object]]:
    """Yield every part of the estimator, with the path to it."""
    pending: list[tuple[str, object]] = [("", root)]
    seen: set[int] = set()
    while pending and len(seen) < MAX_PARTS:
        path, part = pending.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | np.ndarray | types.ModuleType):
            continue
        seen.add(id(part))
        yield path, part
        if isinstance(part, dict):
            pending += [(f"{path}[{key!r}]", inner) for key, inner in part.items()]
        elif isinstance(part, list | tuple | set | frozenset):
            pending += [(f"{path}[{i}]", inner) for i, inner in enumerate(part)]
        elif not isinstance(part, type | types.FunctionType):
            pending += [(f"{path}.{name}".lstrip("."), inner) for name, inner in getattr(part, "__dict__", {}).items()]


def foreign_parts(estimator: object) -> Iterator[str]:
    """Yield the parts defined in a script, a notebook or a function: no other process can import them."""
    for path, part in _parts(estimator):
        named = part if isinstance(part, type | types.FunctionType) else type(part)
        name = named.__qualname__
        where = f" (at {path})" if path else ""
        if "<lambda>" in name:
            yield f"a lambda{where}"
        elif named.__module__ == "__main__":
            yield f"{name} lives in __main__{where}"
        elif "<locals>" in name:
            yield f"{name} is defined inside a function{where}"


def of_task(path: Path, estimator: Any, task: Task) -> None:
    """Raise ExistingError unless the estimator is of a bundle's task."""
    if isinstance(task, Binary):
        classes_of(path, estimator)
    else:
        no_raw_text(path, estimator)
    if (why := task.unfit(estimator) or task.mismatch(estimator)) is not None:
        raise ExistingError(f"{path}: {why}")


def no_raw_text(path: Path, estimator: Any) -> None:
    """Raise ExistingError if a part of the estimator reads raw text."""
    for _, part in _parts(estimator):
        if type(part).__module__.startswith("sklearn.feature_extraction.text"):
            raise ExistingError(f"{path}: {type(part).__name__} reads raw text; Driftline's scope: {SCOPE}")


def classes_of(path: Path, estimator: Any) -> list[Any]:
    """Return the two classes; ExistingError with the scope if it is no fitted binary classifier."""
    no_raw_text(path, estimator)
    if type(estimator).__name__ == "Booster":
        library = type(estimator).__module__.partition(".")[0]
        raise ExistingError(
            f"{path}: a Booster of {library} has no classes: save the classifier ({library}'s scikit-learn interface) "
            f"that it is part of; Driftline's scope: {SCOPE}"
        )
    if not hasattr(estimator, "predict_proba"):
        method = next((name for name in ("score_samples", "predict") if hasattr(estimator, name)), None)
        other = ""
        if method is not None and not has_classes(estimator):
            stated = "" if method == "predict" else ' and method = "score_samples"'
            other = f' ([model] task = "regression"{stated} is for such)'
        raise ExistingError(
            f"{path}: {type(estimator).__name__} has no predict_proba{other}; Driftline's scope: {SCOPE}"
        )
    if not has_classes(estimator):
        raise ExistingError(f"{path}: {type(estimator).__name__} is not fitted, or no classifier; scope: {SCOPE}")
    members: list[Any] = np.asarray(estimator.classes_).tolist()
    if len(members) != 2 or any(isinstance(member, list) for member in members):
        other = ' ([model] task = "multiclass" is for such)' if MIN_CLASSES <= len(members) <= MAX_CLASSES else ""
        raise ExistingError(f"{path}: {len(members)} classes{other}; Driftline's scope: {SCOPE}")
    if not all(isinstance(member, str | int | float | bool) for member in members):
        raise ExistingError(f"{path}: classes {members} are no JSON values; Driftline's scope: {SCOPE}")
    return members
