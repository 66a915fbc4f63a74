"""Which columns a fitted estimator takes, and in which order, by what it recorded while it was fitted.

scikit-learn compares the names of a frame's columns with those it was fitted on. Boosters go by position: the same
columns in another order are other customers to them, without an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.features import Columns

# Answers of one estimator for one customer may differ by the order of a sum.
SAME_ANSWER = 1e-9
# Names that libraries invent for the columns of an array: Column_0, f0, x0, feature_0, 0.
_INVENTED = re.compile(r"(?:[Cc]olumn_|feature_|f|x)?(\d+)")


def recorded_names(estimator: Any, known: Collection[str]) -> tuple[str, ...] | None:
    """Return the columns that the estimator was fitted on, in its order; None where it has recorded none.

    known: the features' names. Names that a library invents for an array are none, unless they are features.
    """
    for part in _with_same_input(estimator):
        for attribute in ("feature_names_in_", "feature_name_", "feature_names_"):
            found = getattr(part, attribute, None)
            if found is None:
                continue
            names = tuple(str(name) for name in found)
            if set(known) <= set(names) or not _invented(names):
                return names
    return None


def recorded_width(estimator: Any) -> int | None:
    """Return how many columns the estimator was fitted on; None where it has not recorded it."""
    for part in _with_same_input(estimator):
        width = getattr(part, "n_features_in_", None)
        if width is None:
            width = len(getattr(part, "feature_names_", None) or ()) or None
        if width is not None:
            return int(width)
    return None


def in_order(recorded: Sequence[str], features: Sequence[str]) -> dict[str, str]:
    """Return the features in the order of the recorded columns, each with its recorded name.

    A column that is recorded under another name is found by its letters and digits, where exactly one column and one
    feature have them. LightGBM writes an underscore for a space; users leave out characters that it rejects. Recorded
    columns without a feature, and features without a column, are left out.

    >>> in_order(["b_2", "a"], ["a", "b 2", "c"])
    {'b 2': 'b_2', 'a': 'a'}
    """
    left = [name for name in features if name not in recorded]
    found = {}
    for column in recorded:
        if column in features:
            found[column] = column
            continue
        alike = [name for name in left if _letters(name) == _letters(column)]
        others = [name for name in recorded if name not in features and _letters(name) == _letters(column)]
        if len(alike) == len(others) == 1 and _letters(column):
            found[alike[0]] = column
    return found


def columns_of(selection: Any, names: Sequence[str]) -> list[str] | None:
    """Return the columns that one transformer of a fitted ColumnTransformer takes; None where it cannot be known.

    selection: a name, a position, a slice or a mask of them, or a list. names: the columns it was fitted on.

    >>> columns_of(slice("b", None), "abc"), columns_of([True, False, True], "abc"), columns_of(-1, "abc")
    (['b', 'c'], ['a', 'c'], ['c'])
    """
    listed = list(names)
    if isinstance(selection, slice):
        bounds = [selection.start, selection.stop]
        if any(isinstance(bound, str) for bound in bounds):
            if any(isinstance(bound, str) and bound not in listed for bound in bounds):
                return None
            first = 0 if selection.start is None else listed.index(selection.start)
            last = len(listed) if selection.stop is None else listed.index(selection.stop) + 1  # pandas includes it
            return listed[first : last : selection.step]
        return listed[selection]
    chosen = [selection] if isinstance(selection, str | int | np.integer) else list(selection)
    if chosen and all(isinstance(one, bool | np.bool_) for one in chosen):
        return [name for name, keep in zip(listed, chosen, strict=False) if keep]
    found = []
    for one in chosen:
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, int | np.integer) and -len(listed) <= int(one) < len(listed):
            found.append(listed[int(one)])
        else:
            return None
    return found


def dropped(estimator: Any, recorded: Sequence[str]) -> set[str]:
    """Return those of the recorded columns that the estimator's first ColumnTransformer drops."""
    for part in _with_same_input(estimator):
        transformers = getattr(part, "transformers_", None)
        if transformers is None:
            continue
        used: set[str] = set()
        for _, transformer, selection in transformers:
            if isinstance(transformer, str) and transformer == "drop":
                continue
            columns = columns_of(selection, recorded)
            if columns is None:
                return set()
            used |= set(columns)
        return set(recorded) - used
    return set()


def recorded_categories(estimator: Any, recorded: Sequence[str]) -> dict[str, tuple[object, ...]] | None:
    """Return the categories of the columns that had pandas' type `category`, by the recorded name of the column.

    None: there are such columns, and the estimator has recorded neither which nor their categories. LightGBM records
    the categories without the names: their key is then the number of the column among those of that type.
    """
    for part in _with_same_input(estimator):
        lists = getattr(getattr(part, "booster_", None), "pandas_categorical", None)
        if lists:
            return {str(at): tuple(categories) for at, categories in enumerate(lists)}
        types = getattr(part.get_booster(), "feature_types", None) if hasattr(part, "get_booster") else None
        if types and "c" in types:
            return _categories_of_xgboost(part.get_booster(), recorded)
    return {}


def _categories_of_xgboost(booster: Any, recorded: Sequence[str]) -> dict[str, tuple[object, ...]] | None:
    """Return the categories that the model has stored, as XGBoost does since 3.1; None for an older one."""
    model = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    stored = model.get("model", model.get("gbtree", {}).get("model", {})).get("cats", {}).get("enc") or []
    found: dict[str, tuple[object, ...]] = {}
    for name, one in zip(recorded, stored, strict=False):
        values, offsets = one.get("values") or [], one.get("offsets")
        if not values:
            continue
        if offsets:
            text = bytes(value % 256 for value in values)
            found[name] = tuple(text[a:b].decode() for a, b in pairwise(offsets))
        else:
            found[name] = tuple(values)
    return found if len(found) == booster.feature_types.count("c") else None


def misplaced(estimator: Any, columns: Columns, predict: Callable[[Any], NDArray[np.float64]]) -> str | None:
    """Return why the estimator must not be called with these columns in their order; None if it may.

    predict: a frame → float64 (n,). The order is wrong if the estimator answers otherwise where its own order is kept.
    """
    features = columns.layout.names
    recorded = recorded_names(estimator, features)
    if recorded is None:
        width = recorded_width(estimator)
        if width in {None, len(features)}:
            return None
        return f"was fitted on {width} columns, and the manifest has {len(features)} features"
    own = in_order(recorded, features)
    if len(own) < len(features) or tuple(own) == features:
        return None
    frame = columns.frame()
    if bool((np.abs(predict(frame[list(own)]) - predict(frame)) <= SAME_ANSWER).all()):
        return None
    return f"was fitted on {', '.join(own)}, and the manifest has these in another order: make the bundle again"


def _with_same_input(estimator: Any) -> Iterator[Any]:
    """Yield the estimator, and what is in it and gets its input as it is: wrappers do not record what boosters do."""
    pending = [estimator]
    while pending:
        part = pending.pop(0)
        if part is None or isinstance(part, str):
            continue
        yield part
        steps = getattr(part, "steps", None)
        if isinstance(steps, list) and steps:
            first = [step for _, step in steps if step is not None and step != "passthrough"][:1]
            pending += first
            continue
        pending += [getattr(part, name, None) for name in ("best_estimator_", "estimator_")]
        folds = getattr(part, "calibrated_classifiers_", None)
        if isinstance(folds, list) and folds:
            pending.append(getattr(folds[0], "estimator", None))


def _invented(names: Sequence[str]) -> bool:
    found = [_INVENTED.fullmatch(name) for name in names]
    return all(match is not None and int(match[1]) == at for at, match in enumerate(found))


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
