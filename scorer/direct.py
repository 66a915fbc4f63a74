"""A fitted pipeline compiled to arrays: the same scores without pandas and ColumnTransformer's fixed cost.

This is the compiled predictor, called the direct form in `/health`. A frame costs milliseconds per call before the
first row is read. The fitted preprocessing of a usual pipeline needs no frame: a category is an index into a table of
output columns, and a number is imputed and scaled. The fitted transformer itself transforms each category once, and the
tables hold the results. Only the numeric transformers are written again below, operation by operation. So even a value
at the exact threshold of a tree falls on the same side.

A direct form is proven before it is used (`differs`). It must reproduce the estimator on the bundle's reference rows
and on crafted rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from schemas.features import BOOLEAN_CATEGORIES, MISSING, UNSEEN, Columns, Layout, Value
from schemas.fitted_columns import columns_of, recorded_names
from schemas.reference import Reference
from schemas.task import Binary, Multiclass, Regression, Task
from scorer.trees import trees

TOLERANCE = 1e-12
# A category that no customer has; a transformer that rejects unseen categories rejects it.
_UNSEEN_NAME = "\x00driftline-unseen"
_BY_CATEGORY = (OneHotEncoder, OrdinalEncoder, SimpleImputer)

Steps = list[Callable[[NDArray[np.float64]], NDArray[np.float64]]]


class NotCompilable(Exception):  # noqa: N818 - an answer, not an error
    """This estimator has no direct form; the text is the reason."""


@dataclass(frozen=True, slots=True)
class _Numeric:
    """One numeric column → one output column, by exact elementwise steps."""

    column: int  # of Columns.numeric
    output: int
    steps: Steps


@dataclass(frozen=True, slots=True)
class _Category:
    """One column of codes → some output columns: row `code` of `table`, whose last two rows are unseen and missing."""

    column: int  # of Columns.codes
    outputs: list[int]
    table: NDArray[np.float64]


class DirectForm:
    """Scores from arrays alone."""

    name = "direct"

    def __init__(self, estimator: Any, layout: Layout, task: Task) -> None:
        """Compile `estimator`; raise NotCompilable with the reason if that is not possible."""
        if not isinstance(estimator, Pipeline) or len(estimator.steps) < 2:
            raise NotCompilable(f"the estimator is a {type(estimator).__name__}, not a pipeline")
        first, *middle, (_, final) = estimator.steps
        if not isinstance(first[1], ColumnTransformer):
            raise NotCompilable(f"the pipeline begins with a {type(first[1]).__name__}, not a ColumnTransformer")
        for _, step in [*middle, ("", final)]:
            if hasattr(step, "feature_names_in_"):
                raise NotCompilable(f"{type(step).__name__} was fitted on named columns")
        self._width = 0
        self._numeric: list[_Numeric] = []
        self._categories: list[_Category] = []
        self._fitted_on = recorded_names(first[1], layout.names) or layout.names
        self._compile(first[1], layout)
        self._middle = [step for _, step in middle if step not in {None, "passthrough"}]
        self._final = final
        self.task = task
        self._linear = _linear(final, task)
        self._trees = trees(final)
        self._folded: _Folded | _FoldedClasses | None = None
        if self._linear is not None and not self._middle:
            self._folded = self._linear.folded(self._numeric, self._categories)

    def __call__(self, columns: Columns) -> NDArray[np.float64]:
        """Return the score per row.

        For logistic regression and trees a row's result does not depend on the other rows of the batch, to the bit.
        """
        if self._linear is not None and self._folded is not None:
            return self._linear.score(self._folded.logit(columns))
        matrix = self._transformed(columns)
        if self._linear is not None:
            return self._linear.score(self._linear.logit(matrix))
        few = self._trees is not None and len(matrix) <= self._trees.most_rows
        return self.task.scores(self._trees if few else self._final, matrix)

    def _transformed(self, columns: Columns) -> NDArray[np.float64]:
        """Return what the last step of the pipeline gets, float64 (n, width)."""
        matrix = self.matrix(columns)
        for step in self._middle:
            matrix = step.transform(matrix)
        return matrix

    def few_differ(self, columns: Columns) -> bool:
        """Return whether any row gets other bits in a small batch, where trees are walked, than in a large one."""
        if self._trees is None:
            return False
        matrix = self._transformed(columns)
        many = self.task.scores(self._final, matrix)
        size = self._trees.most_rows
        parts = [self.task.scores(self._trees, matrix[at : at + size]) for at in range(0, len(matrix), size)]
        return np.concatenate(parts).tobytes() != np.ascontiguousarray(many).tobytes()

    def matrix(self, columns: Columns) -> NDArray[np.float64]:
        """Return the output that the ColumnTransformer would give, float64 (n, width)."""
        out = np.zeros((columns.n, self._width))
        for numeric in self._numeric:
            out[:, numeric.output] = _apply(numeric.steps, columns.numeric[:, numeric.column])
        for category in self._categories:
            out[:, category.outputs] = category.table[columns.codes[:, category.column]]
        return out

    def _compile(self, transformer: ColumnTransformer, layout: Layout) -> None:
        for name, fitted, columns in transformer.transformers_:
            if isinstance(fitted, str) and fitted == "drop":
                continue
            names = _names(columns, self._fitted_on, layout)
            kinds = {layout.features[layout.names.index(n)].kind for n in names}
            if not names:
                continue
            if kinds == {"numeric"}:
                self._compile_numeric(fitted, names, layout)
            elif "numeric" not in kinds:
                self._compile_categories(fitted, names, layout)
            else:
                raise NotCompilable(f"transformer {name} mixes numeric columns with others")

    def _compile_numeric(self, fitted: Any, names: Sequence[str], layout: Layout) -> None:
        position = {layout.names[i]: column for column, i in enumerate(layout.numeric)}
        for i, name in enumerate(names):
            steps: Steps = []
            for step in _flat(fitted):
                steps += _numeric_steps(step, i)
            self._numeric.append(_Numeric(position[name], self._width + i, steps))
        self._width += len(names)

    def _compile_categories(self, fitted: Any, names: Sequence[str], layout: Layout) -> None:
        for step in _flat(fitted):
            if not isinstance(step, _BY_CATEGORY):
                raise NotCompilable(f"{type(step).__name__} on categories is not known to treat columns one by one")
        position = {layout.names[i]: column for column, i in enumerate(layout.categorical)}
        for j, name in enumerate(names):
            unlisted = _known(fitted, j) - set(layout.categories[position[name]])
            if unlisted:
                # its code would be UNSEEN, and the table could not distinguish it from an unknown category
                raise NotCompilable(f"{name}: the encoder has a category that the manifest does not list")
        members = [_members(layout, position[name]) for name in names]
        # one frame: a base row, then every member of every column with all other columns as in the base row
        rows = [[m[0] for m in members]]
        for j, column_members in enumerate(members):
            for member in column_members:
                rows.append([member if k == j else rows[0][k] for k in range(len(names))])
        outputs = _transform(fitted, names, rows)
        at = 1
        owned: dict[int, str] = {}
        for j, name in enumerate(names):
            block = outputs[at : at + len(members[j])]
            at += len(members[j])
            moved = np.flatnonzero(~_same(block, outputs[0]).all(axis=0)).tolist()
            for output in moved:
                if output in owned:
                    raise NotCompilable(f"an output depends on {owned[output]} and {name}")
                owned[output] = name
            table = block[:, moved]
            self._categories.append(_Category(position[name], [self._width + o for o in moved], table))
        constant = [o for o in range(outputs.shape[1]) if o not in owned]
        if constant:
            # an output that no category moves, as of a column with one category only
            everywhere = np.repeat(outputs[:1, constant], len(members[0]), axis=0)
            self._categories.append(_Category(position[names[0]], [self._width + o for o in constant], everywhere))
        self._width += outputs.shape[1]


class _Linear:
    """A weighted sum: a binary logistic regression towards its positive class, or a linear regression.

    Sums run column by column in a fixed order, never through BLAS, whose order depends on the batch. So a row gets the
    same bits alone and among thousands.
    """

    def __init__(self, weights: NDArray[np.float64], intercept: float, *, logistic: bool) -> None:
        self.weights = weights
        self.intercept = intercept
        self._logistic = logistic

    def logit(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        logit = np.full(len(matrix), self.intercept)
        for column, weight in enumerate(self.weights.tolist()):
            logit += matrix[:, column] * weight
        return logit

    def folded(self, numeric: Sequence[_Numeric], categories: Sequence[_Category]) -> _Folded:
        return _Folded(self, numeric, categories)

    def score(self, logit: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(expit(logit), dtype=np.float64) if self._logistic else logit


class _Softmax:
    """A logistic regression of several classes: a weighted sum for each, in the same fixed order.

    weights: (classes, width). The classes are rows of a sum, so that each step is one operation on a contiguous row.
    """

    def __init__(self, weights: NDArray[np.float64], intercepts: NDArray[np.float64]) -> None:
        self._classes = [
            _Linear(row, intercept, logistic=False) for row, intercept in zip(weights, intercepts.tolist(), strict=True)
        ]

    def logit(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([one.logit(matrix) for one in self._classes])

    def folded(self, numeric: Sequence[_Numeric], categories: Sequence[_Category]) -> _FoldedClasses:
        return _FoldedClasses([one.folded(numeric, categories) for one in self._classes])

    def score(self, logit: NDArray[np.float64]) -> NDArray[np.float64]:
        odds = np.exp(logit - logit.max(axis=0))
        total = odds[0].copy()
        for one in odds[1:]:  # in a fixed order, as the sums above
            total += one
        return np.ascontiguousarray((odds / total).T)


class _Folded:
    """The preprocessing folded into the weights: one table per category column, one weight per number."""

    def __init__(self, linear: _Linear, numeric: Sequence[_Numeric], categories: Sequence[_Category]) -> None:
        weights = linear.weights
        self.intercept = linear.intercept
        self.numeric = [(n.column, n.steps, float(weights[n.output])) for n in numeric]
        self.tables = [(c.column, (c.table * weights[c.outputs]).sum(axis=1)) for c in categories]

    def logit(self, columns: Columns) -> NDArray[np.float64]:
        logit = np.full(columns.n, self.intercept)
        for column, steps, weight in self.numeric:
            logit += _apply(steps, columns.numeric[:, column]) * weight
        for column, table in self.tables:
            logit += table[columns.codes[:, column]]
        return logit


class _FoldedClasses:
    """The same for several classes: a number is imputed and scaled once for all of them."""

    def __init__(self, each: Sequence[_Folded]) -> None:
        self._each = each

    def logit(self, columns: Columns) -> NDArray[np.float64]:
        logits = np.empty((len(self._each), columns.n))
        numbers = [_apply(steps, columns.numeric[:, column]) for column, steps, _ in self._each[0].numeric]
        codes = [columns.codes[:, column] for column, _ in self._each[0].tables]
        for logit, folded in zip(logits, self._each, strict=True):
            logit[:] = folded.intercept
            for values, (_, _, weight) in zip(numbers, folded.numeric, strict=True):
                np.add(logit, values * weight, out=logit)
            for code, (_, table) in zip(codes, folded.tables, strict=True):
                np.add(logit, table[code], out=logit)
        return logits


def _linear(final: Any, task: Task) -> _Linear | _Softmax | None:
    """Return the last step as a weighted sum, or one for each class; None if it is none."""
    if isinstance(task, Multiclass) and type(final) is LogisticRegression:
        # one of two or more models against the rest gives other numbers: the proof finds it
        return _Softmax(np.asarray(final.coef_, dtype=np.float64), np.asarray(final.intercept_, dtype=np.float64))
    if isinstance(task, Binary) and type(final) is LogisticRegression and np.asarray(final.coef_).shape[0] == 1:
        sign = 1.0 if np.asarray(final.classes_).tolist().index(task.positive_class) == 1 else -1.0
        weights = np.asarray(final.coef_, dtype=np.float64)[0]
        return _Linear(sign * weights, sign * float(np.asarray(final.intercept_)[0]), logistic=True)
    if isinstance(task, Regression) and type(final) in {LinearRegression, Ridge} and np.ndim(final.coef_) == 1:
        return _Linear(np.asarray(final.coef_, dtype=np.float64), float(final.intercept_), logistic=False)
    return None


def _apply(steps: Steps, values: NDArray[np.float64]) -> NDArray[np.float64]:
    for step in steps:
        values = step(values)
    return values


def _flat(fitted: Any) -> list[Any]:
    """Return the transformers of a column group, in order; none for a pass-through."""
    if isinstance(fitted, Pipeline):
        return [step for _, inner in fitted.steps for step in _flat(inner)]
    if fitted is None or (isinstance(fitted, str) and fitted == "passthrough"):
        return []
    if isinstance(fitted, FunctionTransformer) and fitted.func is None:
        return []  # ColumnTransformer's form of "passthrough"
    return [fitted]


def _numeric_steps(step: Any, i: int) -> Steps:
    """Return the exact operations of a fitted transformer on its i-th column."""
    if type(step) is SimpleImputer and not step.add_indicator and np.isnan(step.missing_values):
        fill = float(step.statistics_[i])
        if np.isnan(fill):
            raise NotCompilable("SimpleImputer drops a column without values")
        return [lambda x: np.where(np.isnan(x), fill, x)]
    if type(step) is StandardScaler:
        steps: Steps = []
        if step.with_mean:
            mean = float(step.mean_[i])
            steps.append(lambda x: x - mean)
        if step.with_std:
            scale = float(step.scale_[i])
            steps.append(lambda x: x / scale)
        return steps
    if type(step) is MinMaxScaler and not step.clip:
        factor, offset = float(step.scale_[i]), float(step.min_[i])
        return [lambda x: x * factor + offset]
    raise NotCompilable(f"{type(step).__name__} on numbers has no direct form")


def _names(columns: Any, fitted_on: Sequence[str], layout: Layout) -> list[str]:
    names = columns_of(columns, fitted_on)
    if names is None or not set(names) <= set(layout.names):
        raise NotCompilable("columns are not chosen by name or number")
    return names


def _known(fitted: Any, i: int) -> set[str]:
    """Return category names that a column group's encoders learnt for its i-th column, without imputed ones."""
    known: set[str] = set()
    imputed: set[object] = set()
    for step in _flat(fitted):
        if isinstance(step, SimpleImputer):
            imputed.add(step.statistics_[i])
        elif isinstance(step, OneHotEncoder | OrdinalEncoder):
            known |= {name for name in step.categories_[i].tolist() if isinstance(name, str)}
    return known - imputed


def _members(layout: Layout, column: int) -> list[Any]:
    """Return every value that a category column can hold, in the order of codes 0 … K-1, unseen, missing."""
    if (
        layout.categories[column] == BOOLEAN_CATEGORIES
        and layout.features[layout.categorical[column]].kind == "boolean"
    ):
        return [False, True, False, np.nan]  # a boolean has no unseen value
    return [*layout.categories[column], _UNSEEN_NAME, np.nan]


def _transform(fitted: Any, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    import pandas as pd  # noqa: PLC0415 - only while a model is loaded

    frame = pd.DataFrame(
        {name: pd.Series([row[j] for row in rows], dtype=object) for j, name in enumerate(names)}, columns=list(names)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the unseen category is unseen
            out = fitted.transform(frame)
    except Exception as error:  # noqa: BLE001 - the transformer is foreign code and may refuse in any way
        raise NotCompilable(f"the transformer rejects an unseen or missing category: {error}") from None
    dense = out.toarray() if hasattr(out, "toarray") else out
    try:
        return np.asarray(dense, dtype=np.float64)
    except (TypeError, ValueError):
        raise NotCompilable("a category column stays text") from None


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (a == b) | (np.isnan(a) & np.isnan(b))
    return same


def proof_rows(layout: Layout, reference: Reference) -> Columns:
    """Return the reference's rows, and crafted ones: every feature missing, unseen and extreme in turn."""
    base: list[list[Value]] = []
    numeric, categorical = iter(reference.numeric.T), iter(zip(reference.codes.T, layout.categories, strict=True))
    for feature in layout.features:
        if feature.kind == "numeric":
            base.append([None if np.isnan(x) else x for x in next(numeric).tolist()])
        else:
            codes, names = next(categorical)
            values: Sequence[Value] = (False, True) if feature.kind == "boolean" else names
            base.append([None if c == MISSING else _UNSEEN_NAME if c == UNSEEN else values[c] for c in codes.tolist()])
    crafted: list[list[Value]] = []
    typical = [column[0] for column in base]
    for i, feature in enumerate(layout.features):
        extremes: list[Value] = [None] if feature.nullable else []
        if feature.kind == "numeric":
            low, high = feature.min, feature.max
            extremes += [
                -(2.0**52) if low is None else low,
                2.0**52 if high is None else high,
                0.0 if low is None else low,
            ]
        elif feature.kind == "categorical":
            extremes.append(_UNSEEN_NAME)
        crafted += [[value if j == i else typical[j] for j in range(len(typical))] for value in extremes]
    return layout.columns([[*column, *(row[i] for row in crafted)] for i, column in enumerate(base)])


def differs(direct: DirectForm, frame: Callable[[Columns], NDArray[np.float64]], rows: Columns) -> str | None:
    """Return None if both forms agree on `rows` within 1e-12 (of a value's size), else one line with the difference."""
    own = frame(rows)
    difference = np.abs(direct(rows) - own)
    if bool((difference <= direct.task.tolerances(own, TOLERANCE)).all()):
        return "differs between small and large batches" if direct.few_differ(rows) else None
    return f"differs from {direct.task.method} by {float(np.max(difference)):.3g} on {rows.n} rows"
