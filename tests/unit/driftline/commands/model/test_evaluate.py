"""`driftline evaluate` of a regression and of several classes: scikit-learn's numbers, in a table and as JSON."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.base import clone
from support import bundles
from support.events import GOOD_FEATURES
from typer.testing import CliRunner

from driftline.cli import app
from schemas.bundle.files import read_bundle, write_bundle
from schemas.bundle.manifest import ClassCalibration, Curve, ErrorCurve, Golden
from schemas.reference import Reference


def _file(path, target, outcomes):
    """Write the 60 customers of support.bundles with another target."""
    columns = bundles.columns()
    rows = zip(*columns.values, strict=True)
    cells = [
        [*("" if value is None else value for value in row), told] for row, told in zip(rows, outcomes, strict=True)
    ]
    lines = [",".join([*bundles.LAYOUT.names, target]), *(",".join(map(str, row)) for row in cells)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _with(model, **members):
    """Write the bundle again with more members in its manifest."""
    known = read_bundle(model)
    write_bundle(model, known.manifest.model_copy(update=members), known.files)


def _evaluated(model, data, target, *more):
    result = CliRunner().invoke(
        app, ["evaluate", "--model", str(model), "--data", str(data), "--target", target, *more]
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_a_regression_is_evaluated(tmp_path):
    """Errors and the share within the intervals."""
    estimator = bundles.fitted_regression()
    bundles.write_regression(tmp_path / "model", estimator)
    columns = bundles.columns()
    told = np.round(columns.numeric[:, 1] + np.random.default_rng(1).normal(0.0, 3.0, columns.n), 2)
    data = _file(tmp_path / "c.csv", "bill", told.tolist())
    value = estimator.predict(columns.frame())
    found = json.loads(_evaluated(tmp_path / "model", data, "bill", "--json"))
    metrics = {name: one["value"] for name, one in found["metrics"].items()}
    assert metrics["mae"] == pytest.approx(sk.mean_absolute_error(told, value), rel=1e-9)
    assert metrics["r2"] == pytest.approx(sk.r2_score(told, value), rel=1e-9)
    inside = np.mean((value - 1.5 <= told) & (told <= value + 2.0))
    assert metrics["interval_coverage"] == pytest.approx(inside)
    assert (found["data"]["rows"], "threshold" in found, "positive" in found["data"]) == (60, False, False)
    table = _evaluated(tmp_path / "model", data, "bill")
    assert "mae" in table
    assert "expected" not in table
    curve = ErrorCurve(x=(0.0,), y=(2.5,), spread=(0.0,), rows=60, band=0.1)
    _with(tmp_path / "model", error_curve=curve)
    assert "2.5000 (2.2500 to 2.7500)" in _evaluated(tmp_path / "model", data, "bill")


def test_several_classes_are_evaluated(tmp_path):
    """Macro metrics, and each class's; a class that the model does not have is named."""
    columns = bundles.columns()
    label = np.array([("gold", "silver", "tin")[i % 3] for i in range(columns.n)])
    estimator = clone(bundles.fitted()).fit(columns.frame(), label)
    row = bundles.LAYOUT.columns([[GOOD_FEATURES[name]] for name in bundles.LAYOUT.names])
    golden = Golden(
        rows=(GOOD_FEATURES,), distributions=tuple(map(tuple, estimator.predict_proba(row.frame()).tolist()))
    )
    members = {"task": "multiclass", "classes": ("gold", "silver", "tin"), "positive_class": None, "golden": golden}
    scores = estimator.predict_proba(columns.frame())
    codes = scores.argmax(axis=1).astype(np.int32)
    zeros = np.zeros(4, dtype=np.int64)
    files = {
        "model.joblib": bundles.pickled(estimator),
        "reference.npz": Reference(columns.numeric, columns.codes, scores.max(axis=1), zeros, codes).to_bytes(),
    }
    write_bundle(tmp_path / "model", bundles.manifest(estimator, **members), files)
    told = label.copy()
    told[:4] = ["new", "tin", "gold", "new"]
    data = _file(tmp_path / "c.csv", "tier", told.tolist())
    found = json.loads(_evaluated(tmp_path / "model", data, "tier", "--json"))
    said = estimator.predict(columns.frame())
    metrics = {name: one["value"] for name, one in found["metrics"].items()}
    assert metrics["accuracy"] == pytest.approx(sk.accuracy_score(told, said))
    assert metrics["f1_macro"] == pytest.approx(sk.f1_score(told, said, average="macro", zero_division=0))
    assert found["data"]["outcomes"] == {name: int((told == name).sum()) for name in ("gold", "silver", "tin", "new")}
    assert found["classes"]["new"]["recall"]["value"] == 0.0
    assert "new: 2 rows, precision 0.0000" in _evaluated(tmp_path / "model", data, "tier")
    line = Curve(x=(0.0, 1.0), y=(0.0, 1.0))
    known = {"gold": line, "silver": line, "tin": line}
    bands = {name: {"f1": 0.2} for name in known}
    calibration = ClassCalibration(curves=known, rows=60, band={"accuracy": 0.1}, class_band=bands)
    _with(tmp_path / "model", class_calibration=calibration)
    found = json.loads(_evaluated(tmp_path / "model", data, "tier", "--json"))
    assert found["metrics"]["accuracy"]["expected"]["value"] == pytest.approx(scores.max(axis=1).mean())
    assert found["classes"]["tin"]["f1"]["expected"]["value"] > 0.0
    assert "expected" not in found["classes"]["new"]["f1"]
