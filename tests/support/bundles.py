"""A small bundle with a real scikit-learn pipeline over the features of events.py."""

import io
import platform
from datetime import UTC, datetime

import joblib
import numpy as np
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from support.events import FEATURES, GOOD_FEATURES

from schemas.bundle.files import write_bundle
from schemas.bundle.manifest import Golden, Libraries, Manifest, Residuals, TrainingData
from schemas.features import Layout
from schemas.reference import Reference

LAYOUT = Layout(FEATURES)


def columns(n=60):
    """Return columns of n customers, each different, some values missing."""
    rows = [
        [
            i % 121,
            20.0 + i,
            None if i % 7 == 0 else 100.0 * i,
            ("Month-to-month", "One year")[i % 2],
            None if i % 5 == 0 else "Mail",
            i % 3 == 0,
            None if i % 11 == 0 else i % 4 == 0,
        ]
        for i in range(n)
    ]
    return LAYOUT.columns(list(zip(*rows, strict=True)))


def fitted():
    """Return a fitted pipeline with the classes "No" and "Yes"."""
    numbers = ["tenure", "monthly_charges", "total_charges"]
    names = ["contract", "payment", "senior", "partner"]
    encoder = ColumnTransformer(
        [("numbers", SimpleImputer(), numbers), ("names", OneHotEncoder(handle_unknown="ignore"), names)]
    )
    labels = np.array(["Yes" if i % 3 == 0 else "No" for i in range(60)])
    return make_pipeline(encoder, LogisticRegression(max_iter=5000)).fit(columns().frame(), labels)


def pickled(estimator):
    """Return the content of model.joblib."""
    out = io.BytesIO()
    joblib.dump(estimator, out)
    return out.getvalue()


def manifest(estimator, **changes):
    """Return the manifest of a bundle around `estimator`, with one golden row."""
    layout = LAYOUT.columns([[GOOD_FEATURES[name]] for name in LAYOUT.names])
    fields = {
        "name": "churn-small",
        "version": "1.4.0",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "libraries": Libraries(
            python=platform.python_version(), numpy=np.__version__, **{"scikit-learn": sklearn.__version__}
        ),
        "features": FEATURES,
        "positive_class": "Yes",
        "training_data": TrainingData(sha256="ab" * 32, rows=60),
    }
    if "golden" not in changes:
        probability = float(estimator.predict_proba(layout.frame())[0, 1])
        fields["golden"] = Golden(rows=(GOOD_FEATURES,), probabilities=(probability,))
    return Manifest(**{**fields, **changes})


def fitted_regression(regressor=None):
    """Return a fitted pipeline that predicts monthly charges of 20 to 79 from the other columns."""
    numbers = ["tenure", "total_charges"]
    encoder = ColumnTransformer(
        [("numbers", SimpleImputer(), numbers), ("names", OneHotEncoder(handle_unknown="ignore"), ["contract"])]
    )
    return make_pipeline(encoder, regressor or Ridge()).fit(columns().frame(), columns().numeric[:, 1])


def write_regression(directory, estimator=None, **changes):
    """Write a whole bundle of a regression; `changes`: fields of the manifest."""
    estimator = estimator or fitted_regression()
    row = LAYOUT.columns([[GOOD_FEATURES[name]] for name in LAYOUT.names])
    value = float(np.asarray(getattr(estimator, changes.get("method") or "predict")(row.frame()))[0])
    of_task = {
        "task": "regression",
        "positive_class": None,
        "golden": Golden(rows=(GOOD_FEATURES,), values=(value,), tolerance=1e-7),
        "residuals": Residuals(low=-1.5, high=2.0, level=0.9, rows=60),
    }
    c = columns()
    scores = np.linspace(20.0, 79.0, c.n)
    files = {
        "model.joblib": pickled(estimator),
        "reference.npz": Reference(c.numeric, c.codes, scores, np.zeros(4, dtype=np.int64)).to_bytes(),
    }
    return write_bundle(directory, manifest(estimator, **{**of_task, **changes}), files)


def reference():
    """Return the reference of the customers above."""
    c = columns()
    return Reference(c.numeric, c.codes, np.linspace(0.0, 1.0, c.n), np.zeros(4, dtype=np.int64))


def write(directory, estimator=None, model=None, **changes):
    """Write a whole bundle; `model` replaces the pickled bytes, `changes` fields of the manifest."""
    estimator = estimator or fitted()
    files = {"model.joblib": model or pickled(estimator), "reference.npz": reference().to_bytes()}
    return write_bundle(directory, manifest(estimator, **changes), files)
