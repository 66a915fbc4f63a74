"""Feature specs → columns. The one place where training, the scorer, /predict and the drift worker get columns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Feature

if TYPE_CHECKING:
    import pandas as pd

# Category codes beside 0 … K-1. A table with K + 2 entries is indexed directly by a code: its last entry answers for
# a missing value and the one before it for an unseen category.
MISSING = -1
UNSEEN = -2
BOOLEAN_CATEGORIES = ("false", "true")

Value = float | int | str | bool | None


class Layout:
    """Where each feature of a manifest stands in the column arrays.

    names: all features in manifest order. numeric: indices (into names) of the numeric ones, one column of
    `Columns.numeric` each. categorical: indices of categorical and boolean ones, one column of `Columns.codes` each,
    with `categories` beside it (a boolean has `false` and `true`).
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
        """One sequence of values per feature, in manifest order and of equal length, as columns.

        Numeric features: numbers or None. Categorical: str or None. Boolean: True, False or None. The values must
        already be valid for their feature; only an unknown category is possible here, and becomes UNSEEN.
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

    `values` keeps the original values per feature: an unseen category has a code that forgets its name, and an
    estimator may treat names as it likes.
    """

    layout: Layout
    n: int
    numeric: NDArray[np.float64]
    codes: NDArray[np.int32]
    values: tuple[Sequence[Value], ...]

    def frame(self) -> pd.DataFrame:
        """The frame an estimator is fitted on and scored with (docs/contracts.md, model bundle).

        Numeric: float64, missing NaN. Categorical and boolean: dtype object, missing NaN and never None: a pipeline
        fitted with one and scored with the other differs by up to 0.5.
        """
        import pandas as pd  # noqa: PLC0415 - half a second of start-up that the direct form never needs

        columns: dict[str, pd.Series] = {}
        for column, i in enumerate(self.layout.numeric):
            columns[self.layout.names[i]] = pd.Series(self.numeric[:, column], dtype=np.float64)
        for column, i in enumerate(self.layout.categorical):
            objects = np.empty(self.n, dtype=object)
            objects[:] = self.values[i]
            objects[self.codes[:, column] == MISSING] = np.nan
            columns[self.layout.names[i]] = pd.Series(objects, dtype=object)
        return pd.DataFrame({name: columns[name] for name in self.layout.names})

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """The same columns with only `rows`, in that order."""
        values = tuple([column[row] for row in rows] for column in self.values)
        return Columns(self.layout, len(rows), self.numeric[rows], self.codes[rows], values)
