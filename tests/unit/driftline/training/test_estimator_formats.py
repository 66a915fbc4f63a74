"""Files in which people keep models: taken, or named with what to do instead."""

import io
import pickle
import zipfile

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from driftline.training.estimator_file import ExistingError, classes_of
from driftline.training.estimator_formats import FormatError, foreign_format, joblib_bytes

ROWS, LABELS = np.array([[0.0, 2.0], [1.0, 0.5], [2.0, 0.0], [3.0, 1.0]] * 10), np.array([0, 0, 1, 1] * 10)


def archive(*names):
    """A ZIP archive with files of these names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, "{}")
    return out.getvalue()


@pytest.mark.parametrize(
    ("raw", "suffix", "words"),
    [
        (b"tree\nversion=v4\nnum_class=1\n", ".txt", "LightGBM's text file, without the classifier"),
        (b"CBM1\x10\x00\x00\x00", ".cbm", "CatBoostClassifier().load_model"),
        (b'{"learner":{"attributes":{}}}', ".json", "XGBClassifier(); classifier.load_model"),
        (b"{L\x00\x00\x00\x00\x00\x00\x00\x02L\x00\x00\x00\x00\x00\x00\x00\x07learner{", ".ubj", "XGBClassifier()"),
        (b"\x08\x08\x12\x08skl2onnx", "", "an ONNX file"),
        (b"\x08\x09", ".onnx", "an ONNX file"),
        (b"<?xml version='1.0'?><PMML>", ".pmml", "a PMML file"),
        (archive("data.pkl"), ".pt", "a ZIP archive"),
        (b"\x89HDF\r\n", ".h5", "an HDF5 file"),
        (pickle.dumps({"model": 1}), ".pkl", None),
        (pickle.dumps({"learner": 1}, protocol=0), ".pkl", None),
    ],
)
def test_model_files_without_a_whole_estimator_are_recognised(raw, suffix, words):
    """With the way to a file that has one."""
    found = foreign_format(raw, suffix)
    assert (found is None) if words is None else words in found


def test_what_the_libraries_themselves_write_is_recognised(tmp_path):
    """Their own model files, and a booster without its classifier."""
    lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    one = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, min_child_samples=2, n_jobs=1).fit(ROWS, LABELS)
    other = xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(ROWS, LABELS)
    one.booster_.save_model(tmp_path / "m.txt")
    for name in ("m.json", "m.ubj"):
        other.save_model(tmp_path / name)
    for name, words in (("m.txt", "LightGBM's"), ("m.json", "XGBoost's"), ("m.ubj", "XGBoost's")):
        with pytest.raises(FormatError, match=words):
            joblib_bytes(tmp_path / name)
    for model in (one, other):  # their text is within the pickle
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(model))
        assert joblib_bytes(tmp_path / "m.pkl") == pickle.dumps(model)
        joblib.dump(model, tmp_path / "m.pkl")
        assert joblib_bytes(tmp_path / "m.pkl") == (tmp_path / "m.pkl").read_bytes()
    for booster, library in ((one.booster_, "lightgbm"), (other.get_booster(), "xgboost")):
        with pytest.raises(ExistingError, match=f"a Booster of {library} has no classes: save the classifier"):
            classes_of(tmp_path, booster)


def test_a_pickle_comes_back_byte_for_byte(tmp_path):
    """By joblib, compressed or not, and by pickle."""
    model = LogisticRegression().fit(ROWS, LABELS)
    joblib.dump(model, tmp_path / "a.joblib")
    joblib.dump(model, tmp_path / "b.joblib", compress=3)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(model))
    for path in tmp_path.iterdir():
        assert joblib_bytes(path) == path.read_bytes()


def test_a_skops_file_is_read_where_skops_is(tmp_path):
    """Or it is named; it is a ZIP archive like others."""
    path = tmp_path / "m.skops"
    path.write_bytes(archive("schema.json"))
    try:
        from skops import io as skops
    except ModuleNotFoundError:
        with pytest.raises(FormatError, match="is a skops file, which needs skops: pip install skops"):
            joblib_bytes(path)
        return
    with pytest.raises(FormatError, match="skops cannot load it"):
        joblib_bytes(path)
    model = LogisticRegression().fit(ROWS, LABELS)
    skops.dump(model, path)
    assert joblib.load(io.BytesIO(joblib_bytes(path))).coef_.tolist() == model.coef_.tolist()


FLAVOR = "flavors:\n  python_function: {}\n  sklearn:\n    pickled_model: model.pkl\n    sklearn_version: 1.6.0\n"


def test_the_folder_of_an_mlflow_model_has_its_estimator(tmp_path):
    """As MLflow's flavor sklearn writes it; others are named."""
    pytest.importorskip("yaml")
    with pytest.raises(FormatError, match="a folder without MLmodel is no MLflow model"):
        joblib_bytes(tmp_path)
    raw = pickle.dumps(LogisticRegression().fit(ROWS, LABELS))
    (tmp_path / "model.pkl").write_bytes(raw)
    described = tmp_path / "MLmodel"
    described.write_text(FLAVOR)
    assert joblib_bytes(tmp_path) == raw
    for text, words in (
        (FLAVOR.replace("model.pkl", "../other.pkl"), "is not in the folder"),
        (FLAVOR.replace("model.pkl", "absent.pkl"), "is not in the folder"),
        ("flavors: {pytorch: {}}", "an MLflow model of pytorch; the flavor sklearn is needed"),
        ("[", "is no description of an MLflow model"),
    ):
        described.write_text(text)
        with pytest.raises(FormatError, match=words):
            joblib_bytes(tmp_path)
