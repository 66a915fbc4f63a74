"""Unfitted estimators by their name in the spec.

Each takes the frame of schemas.features.Columns, missing values and unseen categories included.

What the encoders do with a value they have not seen: one-hot sets none of the category's columns, ordinal gives NaN,
which both kinds of trees score as missing. A missing category that occurs in training is a category of its own.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from schemas.bundle import SCOPE
from schemas.features import Layout


class EstimatorError(Exception):
    """An estimator that cannot be made or served. The text is one line."""


def build_estimator(kind: str, layout: Layout, seed: int) -> Any:
    """An unfitted scikit-learn classifier for the layout's frame; every random state in it is `seed`."""
    match kind:
        case "logistic_regression":
            estimator: Any = make_pipeline(_encoded(layout), LogisticRegression(max_iter=1000))
        case "hist_gradient_boosting":
            estimator = make_pipeline(_ordinal(layout), _boosting(layout))
        case "random_forest":
            # Leaves of at least five customers: single-customer leaves memorise, and make the file ten times as large.
            forest = RandomForestClassifier(n_estimators=100, min_samples_leaf=5)
            estimator = make_pipeline(_ordinal(layout), forest)
        case _:
            estimator = _custom(kind, layout)
    states = {
        key: seed
        for key, value in estimator.get_params(deep=True).items()
        if key.rpartition("__")[2] == "random_state" and value is None
    }
    return estimator.set_params(**states)


def _names(layout: Layout) -> tuple[list[str], list[str]]:
    return [layout.names[i] for i in layout.numeric], [layout.names[i] for i in layout.categorical]


def _encoded(layout: Layout) -> ColumnTransformer:
    """Numbers imputed with the median and scaled, then one column per category."""
    numeric, categorical = _names(layout)
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    # Dense: at tens of categories sparse gains nothing, and not every estimator takes a sparse matrix.
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numeric", scaled, numeric), ("categorical", one_hot, categorical)])


def _ordinal(layout: Layout) -> ColumnTransformer:
    """Numbers as they are, then one whole number per category; the rarest beyond 254 share one."""
    numeric, categorical = _names(layout)
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        max_categories=254,  # scikit-learn's boosting takes 255 bins, one of them for missing
    )
    return ColumnTransformer([("numeric", "passthrough", numeric), ("categorical", codes, categorical)])


def _boosting(layout: Layout) -> HistGradientBoostingClassifier:
    first = len(layout.numeric)  # _ordinal puts the categories behind the numbers
    return HistGradientBoostingClassifier(
        max_iter=100,
        # Small steps and trees: on the 7,043 Telco customers the defaults (0.1, 31 leaves) give a five-fold ROC AUC of
        # 0.834, these 0.847.
        learning_rate=0.08,
        max_leaf_nodes=8,
        early_stopping=False,  # "auto" would stop by a rule of its own above 10,000 rows
        categorical_features=list(range(first, len(layout.names))) or None,
    )


def _custom(kind: str, layout: Layout) -> Any:
    """What "package.module:factory" makes.

    An estimator with a Pipeline or ColumnTransformer of its own gets the frame as it is; any other gets numbers: the
    encoding that logistic regression uses here is put before it.
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
    if not hasattr(estimator, "get_params") or not is_classifier(estimator) or not hasattr(estimator, "predict_proba"):
        raise EstimatorError(
            f"[estimator] kind: {kind} makes no classifier that we can serve; Driftline's scope: {SCOPE}"
        )
    parts = [estimator, *estimator.get_params(deep=True).values()]
    if any(isinstance(part, Pipeline | ColumnTransformer) for part in parts):
        return estimator
    return make_pipeline(_encoded(layout), estimator)
