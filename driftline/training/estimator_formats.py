"""Files in which people keep models → the estimator as joblib writes it, or how to get there.

Only a pickle or skops file holds a whole estimator. The model files of ONNX, XGBoost, LightGBM and CatBoost hold trees
without the classes, and often without the names of the columns.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import joblib

ML_MODEL = "MLmodel"
_DUMP = "joblib.dump(classifier, 'fitted.joblib')"


class FormatError(Exception):
    """A file without an estimator that could be read. The text is one line with the required change."""


def joblib_bytes(path: Path) -> bytes:
    """Return the estimator in a file, or in the folder of an MLflow model, as joblib writes it; FormatError, OSError.

    A pickle comes back byte for byte. A skops file is loaded with every type that it names, as a pickle would be.
    """
    if path.is_dir():
        return _of_mlflow(path)
    raw = path.read_bytes()
    if _is_skops(raw):
        return _of_skops(path, raw)
    what = foreign_format(raw, path.suffix.lower())
    if what is not None:
        raise FormatError(f"{path}: is {what}")
    return raw


def foreign_format(raw: bytes, suffix: str = "") -> str | None:
    """Return which model format the bytes are that holds no whole estimator, and what to do; None for a pickle."""
    head = raw[:4096]
    if head.startswith(b"\x80"):  # a pickle, which may hold one of these formats in it: boosters are pickled so
        return None
    if head.startswith(b"tree\n"):
        return f"LightGBM's text file, without the classifier: save that, {_DUMP}"
    if head.startswith(b"CBM1"):
        return f"CatBoost's file: classifier = CatBoostClassifier().load_model(…), then {_DUMP}"
    if (head.startswith(b"{") and b"learner" in head) or head.startswith(b"binf"):
        return f"XGBoost's file: classifier = XGBClassifier(); classifier.load_model(…); then {_DUMP}"
    if suffix == ".onnx" or (head.startswith(b"\x08") and re.search(rb"onnx|ai\.|skl2", head, re.IGNORECASE)):
        return f"an ONNX file, which is not served: save the classifier that it was made of, {_DUMP}"
    if head.lstrip().startswith(b"<") and b"<PMML" in head:
        return f"a PMML file, which is not served: save the classifier that it was made of, {_DUMP}"
    if head.startswith(b"PK\x03\x04"):
        return "a ZIP archive (of PyTorch, Keras or skops?): scikit-learn classifiers are served, by joblib or pickle"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file (of Keras?): scikit-learn classifiers are served, by joblib or pickle"
    return None


def _is_skops(raw: bytes) -> bool:
    if not raw.startswith(b"PK\x03\x04"):
        return False
    try:
        return "schema.json" in zipfile.ZipFile(io.BytesIO(raw)).namelist()
    except zipfile.BadZipFile:
        return False


def _of_skops(path: Path, raw: bytes) -> bytes:
    try:
        from skops import io as skops
    except ModuleNotFoundError:
        raise FormatError(f"{path}: is a skops file, which needs skops: pip install skops") from None
    try:
        estimator = skops.loads(raw, trusted=skops.get_untrusted_types(data=raw))
    except Exception as error:  # noqa: BLE001 - it imports foreign code, which may raise anything
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"{path}: skops cannot load it: {type(error).__name__}: {reason}") from None
    out = io.BytesIO()
    joblib.dump(estimator, out)
    return out.getvalue()


def _of_mlflow(folder: Path) -> bytes:
    """Return the estimator of an MLflow model whose flavor keeps a whole one: sklearn, lightgbm."""
    described = folder / ML_MODEL
    if not described.exists():
        raise FormatError(
            f"{folder}: a folder without {ML_MODEL} is no MLflow model; expected a file by joblib or pickle"
        )
    try:
        import yaml
    except ModuleNotFoundError:
        raise FormatError(f"{folder}: an MLflow model needs mlflow: pip install 'driftline[mlflow]'") from None
    try:
        flavors: dict[str, Any] = yaml.safe_load(described.read_text(encoding="utf-8"))["flavors"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise FormatError(f"{described}: is no description of an MLflow model") from None
    for flavor, member in (
        ("sklearn", "pickled_model"),
        ("lightgbm", "data"),
        ("xgboost", "data"),
        ("catboost", "data"),
    ):
        found = flavors.get(flavor)
        if isinstance(found, dict) and isinstance(found.get(member), str):
            inside = folder / found[member]
            if not inside.resolve().is_relative_to(folder.resolve()) or not inside.is_file():
                raise FormatError(f"{described}: {flavor}: {found[member]} is not in the folder")
            return joblib_bytes(inside)
    raise FormatError(
        f"{folder}: an MLflow model of {', '.join(sorted(flavors))}; the flavor sklearn is needed, a scikit-learn "
        "classifier"
    )
