"""Unfitted estimators by their name in the spec.

Each takes the frame of schemas.features.Columns, missing values and unseen categories included.

An unseen value: one-hot sets none of the category's columns; ordinal gives NaN, which both kinds of trees score as
missing. A missing category that occurs in training is a separate category.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from schemas.bundle.manifest import SCOPE
from schemas.features import Layout
from schemas.task import TaskName


class EstimatorError(Exception):
    """An estimator that cannot be made or served. The text is one line."""


def build_estimator(kind: str, layout: Layout, seed: int, task: TaskName = "binary") -> Any:
    """Return an unfitted scikit-learn classifier or, by task, regressor for the layout's frame.

    Every random state in it is `seed`.
    """
    match kind:
        case "logistic_regression":
            estimator: Any = make_pipeline(_encoded(layout), LogisticRegression(max_iter=1000))
        case "ridge":
            estimator = make_pipeline(_encoded(layout), Ridge())
        case "hist_gradient_boosting":
            estimator = make_pipeline(_ordinal(layout), _boosting(layout, task))
        case "random_forest":
            # Leaves of at least five customers: single-customer leaves memorise, and make the file ten times as large.
            forest = RandomForestRegressor if task == "regression" else RandomForestClassifier
            estimator = make_pipeline(_ordinal(layout), forest(n_estimators=100, min_samples_leaf=5))
        case _:
            estimator = _custom(kind, layout, task)
    states = {
        key: seed
        for key, value in estimator.get_params(deep=True).items()
        if key.rpartition("__")[2] == "random_state" and value is None
    }
    return estimator.set_params(**states)


def _names(layout: Layout) -> tuple[list[str], list[str]]:
    return [layout.names[i] for i in layout.numeric], [layout.names[i] for i in layout.categorical]


def _encoded(layout: Layout) -> ColumnTransformer:
    """Encode numbers imputed with the median and scaled, then one column per category."""
    numeric, categorical = _names(layout)
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    # Dense: for tens of categories sparse has no advantage, and some estimators reject a sparse matrix.
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numeric", scaled, numeric), ("categorical", one_hot, categorical)])


def _ordinal(layout: Layout) -> ColumnTransformer:
    """Encode numbers as they are, then one whole number per category; the rarest beyond 254 share one."""
    numeric, categorical = _names(layout)
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        max_categories=254,  # scikit-learn's boosting takes 255 bins, one of them for missing
    )
    return ColumnTransformer([("numeric", "passthrough", numeric), ("categorical", codes, categorical)])


def _boosting(layout: Layout, task: TaskName) -> HistGradientBoostingClassifier | HistGradientBoostingRegressor:
    boosting = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    first = len(layout.numeric)  # _ordinal puts the categories behind the numbers
    return boosting(
        max_iter=100,
        # Small steps and trees: on the 7,043 Telco customers the defaults (0.1, 31 leaves) give a five-fold ROC AUC of
        # 0.834, these 0.847.
        learning_rate=0.08,
        max_leaf_nodes=8,
        early_stopping=False,  # "auto" would apply early stopping above 10,000 rows
        categorical_features=list(range(first, len(layout.names))) or None,
    )


def _custom(kind: str, layout: Layout, task: TaskName) -> Any:
    """Return the result of "package.module:factory".

    An estimator that contains a Pipeline or ColumnTransformer gets the frame unchanged. Any other gets numbers: the
    encoding of logistic regression is put before it.
    """
    module_name, _, factory_name = kind.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except ImportError as error:
        raise EstimatorError(f"[estimator] kind: {error} (the package must be installed or on PYTHONPATH)") from None
    except AttributeError:
        raise EstimatorError(f"[estimator] kind: {module_name} has no {factory_name}") from None
    try:
        estimator = factory()
    except TypeError as error:
        raise EstimatorError(f"[estimator] kind: {kind} must work without arguments ({error})") from None
    if task == "regression":
        if not hasattr(estimator, "get_params") or not is_regressor(estimator):
            raise EstimatorError(f'[estimator] kind: {kind} makes no regressor, and [model] task is "regression"')
    elif (
        not hasattr(estimator, "get_params") or not is_classifier(estimator) or not hasattr(estimator, "predict_proba")
    ):
        other = ' ([model] task = "regression" is for regressors)' if _is_regressor(estimator) else ""
        raise EstimatorError(
            f"[estimator] kind: {kind} makes no classifier that we can serve{other}; Driftline's scope: {SCOPE}"
        )
    parts = [estimator, *estimator.get_params(deep=True).values()]
    if any(isinstance(part, Pipeline | ColumnTransformer) for part in parts):
        return estimator
    return make_pipeline(_encoded(layout), estimator)


def _is_regressor(estimator: Any) -> bool:
    return hasattr(estimator, "get_params") and bool(is_regressor(estimator))
