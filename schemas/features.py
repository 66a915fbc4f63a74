"""Feature specs → columns. The one place where training, the scorer, /predict and the drift worker get columns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schemas.bundle.inputs import Feature
from schemas.bundle.manifest import EstimatorInput

if TYPE_CHECKING:
    import pandas as pd

# Category codes beside 0 … K-1. They index a table with K + 2 entries directly: the last entry is for a missing value,
# the one before it for an unseen category.
MISSING = -1
UNSEEN = -2
BOOLEAN_CATEGORIES = ("false", "true")

Value = float | int | str | bool | None


class Layout:
    """The index of each feature of a manifest in the column arrays.

    names: all features in manifest order. numeric: indices (into names) of the numeric ones, one column of
    `Columns.numeric` each. categorical: indices of categorical and boolean ones, one column of `Columns.codes` each.
    categories: those of each categorical column (a boolean has `false` and `true`).
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.names = tuple(f.name for f in features)
        self.numeric = tuple(i for i, f in enumerate(features) if f.kind == "numeric")
        self.categorical = tuple(i for i, f in enumerate(features) if f.kind != "numeric")
        self.categories = tuple(
            BOOLEAN_CATEGORIES if f.kind == "boolean" else f.categories or () for f in features if f.kind != "numeric"
        )
        self._codes: list[dict[object, int]] = []
        for i in self.categorical:
            known: dict[object, int] = {None: MISSING}
            if features[i].kind == "boolean":
                known |= {False: 0, True: 1}
            else:
                known |= {category: code for code, category in enumerate(features[i].categories or ())}
            self._codes.append(known)

    def columns(self, values: Sequence[Sequence[Value]]) -> Columns:
        """Return columns from one sequence of values per feature, in manifest order and of equal length.

        Numeric features: numbers or None. Categorical: str or None. Boolean: True, False or None. The values must
        already be valid for their feature. Only an unknown category is possible here, and becomes UNSEEN.
        """
        n = len(values[0])
        numeric = np.empty((n, len(self.numeric)), dtype=np.float64, order="F")
        for column, i in enumerate(self.numeric):
            # None becomes NaN in the conversion itself
            numeric[:, column] = np.array(values[i], dtype=np.float64)
        codes = np.empty((n, len(self.categorical)), dtype=np.int32, order="F")
        for column, (i, known) in enumerate(zip(self.categorical, self._codes, strict=True)):
            codes[:, column] = np.fromiter(map(known.get, values[i], repeat(UNSEEN)), dtype=np.int32, count=n)
        return Columns(self, n, numeric, codes, tuple(values))


@dataclass(frozen=True, slots=True)
class Columns:
    """n rows of features. numeric: float64 (n, numeric), NaN = missing; codes: int32 (n, categorical), see UNSEEN.

    `values` keeps the original values per feature: the code of an unseen category does not hold its name, and an
    estimator may use names in any way.
    """

    layout: Layout
    n: int
    numeric: NDArray[np.float64]
    codes: NDArray[np.int32]
    values: tuple[Sequence[Value], ...]

    def frame(self) -> pd.DataFrame:
        """Return the frame that an estimator is fitted on and scored with (docs/contracts.md, model bundle).

        Numeric: float64, missing NaN. Categorical and boolean: dtype object, missing NaN and never None. A pipeline
        that was fitted with one and scores with the other differs by up to 0.5. A feature with a `dtype` has that one;
        an unseen category is then missing.
        """
        import pandas as pd  # noqa: PLC0415 - half a second of start-up that the direct form never needs

        columns: dict[str, pd.Series] = {}
        for column, i in enumerate(self.layout.numeric):
            columns[self.layout.names[i]] = pd.Series(self.numeric[:, column], dtype=np.float64)
        for column, i in enumerate(self.layout.categorical):
            feature, codes = self.layout.features[i], self.codes[:, column]
            if feature.dtype is not None:
                columns[feature.name] = pd.Series(_typed(feature, codes))
                continue
            objects = np.empty(self.n, dtype=object)
            objects[:] = self.values[i]
            objects[codes == MISSING] = np.nan
            columns[self.layout.names[i]] = pd.Series(objects, dtype=object)
        return pd.DataFrame({name: columns[name] for name in self.layout.names})

    def unseen(self) -> list[tuple[int, Value]]:
        """Return the values without a category, each with the position of its feature."""
        found = []
        for column in np.flatnonzero((self.codes == UNSEEN).any(axis=0)).tolist():
            i = self.layout.categorical[column]
            found += [(i, self.values[i][row]) for row in np.flatnonzero(self.codes[:, column] == UNSEEN).tolist()]
        return found

    def array(self) -> NDArray[Any]:
        """Return the same as an array (n, features), for an estimator that was fitted on one.

        float64 where no feature is categorical: booleans are 1.0, 0.0 and NaN; else objects, as in the frame.
        """
        if all(feature.kind != "categorical" for feature in self.layout.features):
            numbers = np.empty((self.n, len(self.layout.names)), dtype=np.float64)
            numbers[:, list(self.layout.numeric)] = self.numeric
            numbers[:, list(self.layout.categorical)] = np.where(self.codes == MISSING, np.nan, self.codes)
            return numbers
        objects: NDArray[Any] = self.frame().to_numpy(dtype=object)
        return objects

    def as_fitted(self, form: EstimatorInput | None) -> Any:
        """Return what the estimator's predict_proba gets: a frame, or the array; `form` is the manifest's `input`."""
        if form is not None and form.kind == "array":
            return self.array()
        frame = self.frame()
        if form is not None and form.columns is not None:
            frame.columns = list(form.columns)
        return frame

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Return the same columns with only `rows`, in that order."""
        values = tuple([column[row] for row in rows] for column in self.values)
        return Columns(self.layout, len(rows), self.numeric[rows], self.codes[rows], values)


def _typed(feature: Feature, codes: NDArray[np.int32]) -> Any:
    """Return a column of codes in the feature's `dtype`."""
    import pandas as pd  # noqa: PLC0415 - as above

    if feature.dtype == "category":
        return pd.Categorical.from_codes(np.maximum(codes, MISSING), categories=pd.Index(feature.categories or ()))
    return np.where(codes == MISSING, np.nan, codes) if feature.nullable else codes == 1
