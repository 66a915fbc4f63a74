"""What an estimator answers for a file of customers as it was fitted, and that a scorer answers the same.

Its columns are put into its own order first. Where it has recorded none, the order is what the spec states, or of no
account because the estimator takes its columns by name.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from driftline.training.customer_file import pandas_frames
from driftline.training.estimator_file import ExistingError
from driftline.training.spec import FeatureSpec
from schemas.bundle.inputs import DataFormat
from schemas.bundle.manifest import EstimatorInput, one_line
from schemas.features import Columns, Layout
from schemas.fitted_columns import dropped, in_order, recorded_categories, recorded_names, recorded_width
from schemas.task import Task

# The same estimator on the same numbers in another frame: more than this, of a probability, is another input.
SAME = 1e-6

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FittedOrder:
    """The columns that an estimator takes."""

    #: The spec's features in the estimator's order; in the spec's where that is not known.
    features: tuple[str, ...]
    #: Every column that the estimator was fitted on, as a file names it, with the name that it has recorded.
    columns: dict[str, str]
    #: The estimator has recorded names.
    named: bool
    #: The order is the estimator's.
    known: bool
    #: The estimator is called with an array.
    array: bool = False

    @property
    def input(self) -> EstimatorInput | None:
        """Return the manifest's entry about the estimator's input; None: a frame with the features' names."""
        if not self.named:
            return EstimatorInput(kind="array") if self.array else None
        recorded = tuple(self.columns[name] for name in self.features)
        return None if recorded == self.features else EstimatorInput(columns=recorded)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Return the columns that the estimator was fitted on and the spec does not name."""
        return tuple(name for name in self.columns if name not in self.features)


def fitted_order(path: Path, estimator: Any, spec: FeatureSpec) -> FittedOrder:
    """Return the columns as the estimator takes them; ExistingError if they are not the spec's."""
    features, stated = tuple(spec.features), spec.model.columns
    recorded = recorded_names(estimator, features)
    if recorded is None:
        width = recorded_width(estimator)
        if width not in {None, len(features)}:
            raise ExistingError(f"{path}: was fitted on {width} columns, and the spec has {len(features)} features")
        known = stated is not None or len(features) == 1
        return FittedOrder(features, {name: name for name in features}, named=False, known=known)
    own = in_order(recorded, features)
    called = {column: name for name, column in own.items()}
    columns = {called.get(column, column): column for column in recorded}
    unnamed = [name for name in columns if name not in own]
    foreign = [name for name in features if name not in own]
    if foreign:
        also = f"; it was fitted on columns that the spec does not name: {', '.join(unnamed)}" if unnamed else ""
        raise ExistingError(f"{path}: was not fitted on columns that the spec names: {', '.join(foreign)}{also}")
    if stated is not None and stated != tuple(own):
        raise ExistingError(f"[model] columns: the estimator has recorded another order: {', '.join(own)}")
    return FittedOrder(tuple(own), columns, named=True, known=True)


def fitted_categories(path: Path, estimator: Any, spec: FeatureSpec, order: FittedOrder) -> dict[str, tuple[str, ...]]:
    """Return the categories of the features that were of pandas' type `category`; ExistingError if they do not fit."""
    recorded = recorded_categories(estimator, tuple(order.columns.values()))
    names = [name for name in order.columns if name in spec.features and spec.features[name].kind == "categorical"]
    if recorded is None:
        raise ExistingError(
            f"{path}: was fitted on pandas' type category by a version of XGBoost that does not record the categories: "
            "fit it again with XGBoost 3.1 or newer"
        )
    if recorded and all(key.isdigit() for key in recorded) and len(recorded) != len(names):
        raise ExistingError(
            f"{path}: was fitted on {len(recorded)} columns of pandas' type category, and the spec has {len(names)} "
            f"categorical features; their categories: {'; '.join(_listed(found) for found in recorded.values())}"
        )
    called = {column: name for name, column in order.columns.items()}
    found: dict[str, tuple[str, ...]] = {}
    for key, categories in recorded.items():
        name = names[int(key)] if key.isdigit() and key not in called else called[key]
        if name not in names:
            raise ExistingError(
                f"[features.{name}] kind: the estimator was fitted on the categories {_listed(categories)}: categorical"
            )
        texts = tuple(category for category in categories if isinstance(category, str))
        if len(texts) != len(categories):
            raise ExistingError(
                f"[features.{name}]: the estimator was fitted on categories that are no texts, {_listed(categories)}, "
                "and an event's categories are: fit on astype(str).astype('category')"
            )
        stated = spec.features[name].categories
        if stated is not None and set(stated) != set(texts):
            raise ExistingError(f"[features.{name}] categories: the estimator was fitted on {_listed(categories)}")
        found[name] = texts
    return found


def _listed(categories: Sequence[object]) -> str:
    return ", ".join(json.dumps(one, default=str) for one in categories[:5]) + (", …" if len(categories) > 5 else "")


def answers(estimator: Any, asked: Any, task: Task) -> Scores:
    """Return the scores, of the task's shape; errors of the estimator pass through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unseen category is worth a warning to some encoders, and legal here
        return task.scores(estimator, asked)


def scores_of(path: Path, estimator: Any, columns: Columns, task: Task, form: EstimatorInput | None) -> Scores:
    """Return scores by the input that a scorer makes; ExistingError if some are not valid.

    form: the manifest's entry about that input.
    """
    try:
        score = answers(estimator, columns.as_fitted(form), task)
    except Exception as error:  # noqa: BLE001 - the estimator is foreign code and may raise anything
        raise ExistingError(f"{path}: {task.method} fails on the frame a scorer makes: {one_line(error)}") from None
    if score.shape != task.shape(columns.n) or not np.array_equal(task.valid(score), score):
        raise ExistingError(f"{path}: {task.method} gives something other than one {task.result} per row")
    return score


def fitted_columns(
    path: Path, estimator: Any, order: FittedOrder, columns: Columns, task: Task
) -> tuple[FittedOrder, Columns, Scores]:
    """Return the order with `array`, the columns in types that the estimator takes, and its answers; ExistingError."""
    order = settled_order(path, estimator, order, columns, task)
    try:
        return order, columns, scores_of(path, estimator, columns, task, order.input)
    except ExistingError as error:
        # True and False as objects are no numbers to boosters
        booleans = [
            f.model_copy(update={"dtype": "bool"}) if f.kind == "boolean" else f for f in columns.layout.features
        ]
        if tuple(booleans) != columns.layout.features:
            typed = Layout(booleans).columns(columns.values)
            with contextlib.suppress(ExistingError):
                return order, typed, scores_of(path, estimator, typed, task, order.input)
        if order.unnamed:
            lacking = f"was fitted on columns that the spec does not name: {', '.join(order.unnamed)}"
            raise ExistingError(f"{path}: {lacking}, and does not do without: {error}") from None
        raise


def settled_order(path: Path, estimator: Any, order: FittedOrder, columns: Columns, task: Task) -> FittedOrder:
    """Return the order with `array`; ExistingError if the order is unknown and matters.

    An estimator without recorded names can still take its columns by name, as a user's transformer does: then the order
    makes no difference. Any other is called with an array, if it takes one.
    """
    names = list(order.features)
    if order.named:
        return order
    if order.known:
        try:
            answers(estimator, columns.array(), task)
        except Exception:  # noqa: BLE001 - it was not fitted on an array
            return order
        return replace(order, array=True)
    frame = columns.frame()
    try:
        score = answers(estimator, frame, task)
        others = [answers(estimator, frame[moved], task) for moved in (names[::-1], [*names[1:], names[0]])]
    except Exception:  # noqa: BLE001 - it takes columns by their place, and found others there
        others = []
    same = task.tolerances(score, SAME) if others else None
    varied = float(np.ptp(score, axis=0).max()) if others else 0.0
    if same is not None and varied > same.min() and all(bool((np.abs(o - score) <= same).all()) for o in others):
        return order
    raise ExistingError(
        f"{path}: has recorded no names of columns (it was fitted on an array), so their order is not known: say it, "
        f"[model] columns = {json.dumps(names, ensure_ascii=False)} or --columns, in the order of the fit"
    )


@dataclass
class _Comparison:
    """What the estimator answered for the file, read in several ways."""

    own: Scores | None = None
    differences: list[tuple[Scores, pd.DataFrame]] = field(default_factory=list)
    failed: Exception | None = None


def own_answers(
    path: Path,
    data: Path,
    form: DataFormat,
    estimator: Any,
    order: FittedOrder,
    columns: Columns,
    score: Scores,
    task: Task,
) -> Scores:
    """Return what the estimator answers for the file as pandas reads it; ExistingError if `score` is anything else.

    columns: the same customers as a scorer shows them, features in the estimator's order; score: its answers for them.
    The usual causes of a difference: a column that was fitted as "Yes"/"No" or 0/1 and is boolean in the spec, or
    numbers that are categories there. An encoder that ignores unknown values then scores without a warning.
    """
    frames = [
        frame
        for frame in pandas_frames(data, columns.layout.names, form)
        if len(frame) == columns.n and set(columns.layout.names) <= set(frame.columns)
    ]
    if not frames:  # what pandas does not read as we do: the values that we read, in the types that pandas gives them
        values = {name: list(cells) for name, cells in zip(columns.layout.names, columns.values, strict=True)}
        frames = [pd.DataFrame(values)]
    absent = [name for name in order.unnamed if name not in frames[0].columns]
    used = sorted(set(absent) - dropped(estimator, tuple(order.columns.values())))
    if used:
        raise ExistingError(
            f"{path}: was fitted on {', '.join(used)}, too, and nothing shows that it does without: give customers "
            "who have these columns"
        )
    found = _compared(
        estimator, [f.assign(**dict.fromkeys(absent, np.nan)) for f in frames], order, columns, score, task
    )
    if found.own is not None:
        return found.own
    if found.differences:
        raise ExistingError(f"{path}: {_told(found, data, estimator, order, columns, score, task)}")
    raise ExistingError(
        f"{path}: its own answers for {data} cannot be computed, so nothing shows that a scorer would give them "
        f"({one_line(found.failed) if found.failed else 'unknown'}): give customers as it was fitted on"
    )


def _compared(
    estimator: Any, frames: list[pd.DataFrame], order: FittedOrder, columns: Columns, score: Scores, task: Task
) -> _Comparison:
    """Ask the estimator with every frame as it is; if it takes none, with booleans as 0 and 1, then True and False.

    Last, with the texts of categories that pandas reads as numbers, where the estimator takes texts and no numbers.
    """
    found = _Comparison()
    for read in (False, True):
        texts = [_with_texts(estimator, frame, order, columns, task) for frame in frames] if read else frames
        for prepare in (_as_read, _with_numbers, _with_booleans):
            for frame in texts:
                if frame is None:
                    continue
                for asked in _inputs(_with_categories(prepare(frame, columns), columns), order):
                    try:
                        own = answers(estimator, asked, task)
                    except Exception as error:  # noqa: BLE001 - it was not fitted on such a frame, and says so
                        found.failed = found.failed or error
                        continue
                    difference = np.abs(own - score)
                    if bool((difference <= task.tolerances(score, SAME)).all()):
                        found.own = own
                        return found
                    found.differences.append((difference, frame))
            if found.differences and not read:
                break
    return found


def _with_texts(
    estimator: Any, frame: pd.DataFrame, order: FittedOrder, columns: Columns, task: Task
) -> pd.DataFrame | None:
    """Return the frame with texts where the estimator knows only these; None if there is no such column.

    "1", "2" and "3" are texts to whoever fitted on `astype(str)`, and numbers in a file that pandas reads. Which of
    them the estimator knows is seen when they change places: its answers follow the ones that it was fitted on.
    """
    taken: dict[str, pd.Series] = {}
    for feature, values in zip(columns.layout.features, columns.values, strict=True):
        name = feature.name
        if feature.kind != "categorical" or feature.dtype is not None or not _no_texts(frame[name]):
            continue
        texts = pd.Series([np.nan if value is None else value for value in values], dtype=object, index=frame.index)
        if not _follows(estimator, frame, name, order, columns, task) and _follows(
            estimator, frame.assign(**{name: texts}), name, order, columns, task
        ):
            taken[name] = texts
    return frame.assign(**taken) if taken else None


def _no_texts(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


def _follows(estimator: Any, frame: pd.DataFrame, name: str, order: FittedOrder, columns: Columns, task: Task) -> bool:
    """Return whether the estimator takes the frame, and its answers change with the places of one column's values."""
    moved = frame.assign(**{name: frame[name].sample(frac=1.0, random_state=0).set_axis(frame.index)})
    for prepare in (_as_read, _with_numbers, _with_booleans):
        here, there = (_inputs(_with_categories(prepare(one, columns), columns), order) for one in (frame, moved))
        for asked, other in zip(here, there, strict=True):
            with contextlib.suppress(Exception):  # it was not fitted on such a frame, and says so
                difference = np.abs(answers(estimator, asked, task) - answers(estimator, other, task))
                return bool((difference > SAME).any())
    return False


def _as_read(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    del columns
    return frame


def _with_categories(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the frame with pandas' type `category`, and the recorded categories, where the estimator had it.

    The categories are texts. Where pandas reads numbers, the file's own texts are taken.
    """
    categories = {}
    for feature, values in zip(columns.layout.features, columns.values, strict=True):
        column = frame[feature.name]
        if feature.dtype == "category" and not isinstance(column.dtype, pd.CategoricalDtype):
            texts = pd.Series(list(values), dtype=object, index=frame.index) if _no_texts(column) else column
            categories[feature.name] = texts.astype(pd.CategoricalDtype(list(feature.categories or ())))
    return frame.assign(**categories)


def _with_numbers(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the frame with its boolean features as 0 and 1, as a person makes numbers of "Yes" and "No"."""
    layout = columns.layout
    numbers = {
        feature.name: pd.array([None if value is None else int(value) for value in values]).astype("float64")
        for feature, values in zip(layout.features, columns.values, strict=True)
        if feature.kind == "boolean"
    }
    return frame.assign(**numbers)


def _with_booleans(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the frame with its boolean features as True and False, as `driftline train` fits."""
    booleans = {
        feature.name: pd.Series([np.nan if value is None else value for value in values], dtype=object)
        for feature, values in zip(columns.layout.features, columns.values, strict=True)
        if feature.kind == "boolean"
    }
    return frame.assign(**booleans)


def _inputs(frame: pd.DataFrame, order: FittedOrder) -> list[Any]:
    own = frame[list(order.columns)].rename(columns=order.columns)
    return [own] if order.named or not order.array else [own.to_numpy(), own]


def _told(
    found: _Comparison, data: Path, estimator: Any, order: FittedOrder, columns: Columns, score: Scores, task: Task
) -> str:
    difference, frame = min(found.differences, key=lambda pair: float(pair[0].max()))
    moved = int((difference > task.tolerances(score, SAME)).reshape(columns.n, -1).any(axis=1).sum())
    count = f"{moved} of {columns.n} customers another {task.result} (by up to "
    count = f"gives {count}{float(difference.max()):.2g}) in the frame a scorer makes than in {data} as pandas reads it"
    suspects = _suspects(estimator, columns, frame, score, task, order.input)
    if suspects:
        return f"{count}; look at the kind of {', '.join(suspects)} in the spec, or fit on the scorer's frame"
    if order.unnamed:
        return f"{count}; it was fitted on columns that the spec does not name: {', '.join(order.unnamed)}"
    return f"{count}; look at the kind of each column in the spec, or fit on the scorer's frame"


def _suspects(
    estimator: Any, columns: Columns, frame: pd.DataFrame, score: Scores, task: Task, form: EstimatorInput | None
) -> list[str]:
    """Return the features whose column alone, as pandas reads it, moves the answers."""
    found = []
    for name in columns.layout.names:
        mixed = columns.frame()
        mixed[name] = frame[name].to_numpy()
        asked: Any = mixed
        if form is not None:
            asked = mixed.to_numpy() if form.kind == "array" else mixed.set_axis(list(form.columns or ()), axis=1)
        try:
            difference = np.abs(answers(estimator, asked, task) - score)
            moved = bool((difference > task.tolerances(score, SAME)).any())
        except Exception:  # noqa: BLE001 - one column in another type may be refused
            moved = True
        if moved:
            found.append(name)
    return found
