"""A bundle around an estimator fitted elsewhere: what is made of it, and what is refused by name."""

import json
import pickle
import sys
from datetime import UTC, datetime

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from driftline.bundle_command import command
from driftline.errors import CommandError
from schemas.bundle import SCOPE, read_bundle
from schemas.features import Layout
from scorer.direct import DirectForm, NotCompilable
from scorer.model import load
from training.dataset import DatasetError
from training.existing import ExistingError, bundle_existing
from training.spec import SpecError, read_feature_spec
from training.train import measure

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SPEC = """
[model]
name = "churn-own"
version = "3.1.0"
[features.age]
kind = "numeric"
min = 0
[features.income]
kind = "numeric"
nullable = true
[features.city]
kind = "categorical"
[features.senior]
kind = "boolean"
"""
POSITIVE = '[data]\ntarget = "left"\npositive = "yes"\n'
NUMBERS, NAMES = ["age", "income"], ["city", "senior"]


def customers(rows=200, seed=3):
    """A frame as pandas reads it from a file."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, rows),
            "income": np.where(random.random(rows) < 0.1, np.nan, random.normal(3000, 900, rows).round(2)),
            "city": random.choice(["Lyon", "Lille", "Nice"], rows),
            "senior": random.integers(0, 2, rows),
        }
    )
    leaves = (frame["age"] < 45) + (frame["city"] == "Nice") + random.random(rows) > 1.2
    return frame.assign(left=np.where(leaves, "yes", "no"))


def preprocessing(**encoder):
    """What a usual pipeline begins with."""
    encoder = {"handle_unknown": "ignore"} | encoder
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("names", OneHotEncoder(**encoder), NAMES)])


def fit(*steps, frame=None, target="left"):
    """A pipeline fitted on the frame as pandas read it."""
    frame = customers() if frame is None else frame
    return make_pipeline(*steps).fit(frame[NUMBERS + NAMES], frame[target])


class Workplace:
    """A folder with spec, data and model, and the command on them."""

    def __init__(self, folder):
        self.folder = folder
        self.out = folder / "bundle"
        self.spec, self.data, self.model = folder / "spec.toml", folder / "reference.csv", folder / "fitted.joblib"
        self.spec.write_text(SPEC + POSITIVE)
        customers(seed=4).to_csv(self.data, index=False)

    def bundle(self, estimator=None, raw=None, **options):
        if raw is not None:
            self.model.write_bytes(raw)
        elif estimator is not None:
            joblib.dump(estimator, self.model)
        return bundle_existing(read_feature_spec(self.spec), self.model, self.data, self.out, NOW, **options)

    def refused(self, *args, **options):
        """The one line with which it is refused; nothing is left behind."""
        with pytest.raises((ExistingError, DatasetError, SpecError)) as caught:
            self.bundle(*args, **options)
        assert not self.out.exists()
        line = str(caught.value)
        assert len(line.splitlines()) == 1
        return line


@pytest.fixture
def place(tmp_path):
    """With the spec and the customers above."""
    return Workplace(tmp_path)


def test_the_bundle_holds_the_very_file_and_scores_as_the_estimator(place):
    """model.joblib byte for byte; the loaded model gives predict_proba's numbers; the notes say what is not known."""
    estimator = fit(preprocessing(), LogisticRegression(max_iter=2000))
    made = place.bundle(estimator)
    bundle = read_bundle(place.out)
    assert bundle.files["model.joblib"] == place.model.read_bytes()
    assert (made.form, made.why_not_direct, made.reference_rows) == ("direct", None, 200)
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.positive_class, manifest.threshold) == (
        "churn-own",
        "3.1.0",
        "yes",
        0.5,
    )
    assert manifest.metrics == {}
    assert len(manifest.notes) == 3
    assert "then too sure" in " ".join(manifest.notes)
    assert manifest.training_data.rows == 200
    model = load(place.out, None)
    frame = customers(seed=4)
    layout = Layout(manifest.features)
    values = [frame["age"].tolist(), frame["income"].replace({np.nan: None}).tolist(), frame["city"].tolist()]
    columns = layout.columns([*values, frame["senior"].astype(bool).tolist()])
    expected = estimator.predict_proba(frame[NUMBERS + NAMES])[:, 1]
    assert np.allclose(model.predict(columns), expected, atol=1e-12)


def test_held_out_customers_give_metrics_and_a_threshold(place):
    """Measured as training measures; the note about too sure scores goes."""
    place.spec.write_text(SPEC.replace('version = "3.1.0"', 'version = "3.1.0"\nthreshold = "f1"') + POSITIVE)
    estimator = fit(preprocessing(), RandomForestClassifier(20, random_state=0))
    made = place.bundle(estimator, held_out=True)
    frame = customers(seed=4)
    score = estimator.predict_proba(frame[NUMBERS + NAMES])[:, 1]
    assert made.manifest.metrics == measure((frame["left"] == "yes").to_numpy(), score, made.manifest.threshold)
    assert 0.5 < made.manifest.metrics["roc_auc"] < 1.0
    assert len(made.manifest.notes) == 1


def test_f1_needs_labels_of_held_out_customers(place):
    """A threshold chosen on customers the model has seen would be too high or too low."""
    place.spec.write_text(SPEC.replace('version = "3.1.0"', 'version = "3.1.0"\nthreshold = "f1"') + POSITIVE)
    assert '"f1" needs' in place.refused(fit(preprocessing(), LogisticRegression()))


def test_a_pickle_serves_and_a_spec_without_data_is_enough_for_0_and_1(place):
    """pickle.dump instead of joblib.dump; classes 0 and 1 name the positive one themselves."""
    frame = customers()
    frame["left"] = (frame["left"] == "yes").astype(int)
    place.spec.write_text(SPEC)
    made = place.bundle(raw=pickle.dumps(fit(preprocessing(), LogisticRegression(), frame=frame)))
    assert made.manifest.positive_class == 1


def test_categories_that_only_the_encoder_knows_are_listed(place):
    """The reference lacks Nice, the model knows it: the manifest lists it, and the direct form scores it as such."""
    customers(seed=4).query("city != 'Nice'").to_csv(place.data, index=False)
    estimator = fit(preprocessing(), LogisticRegression(max_iter=2000))
    made = place.bundle(estimator)
    assert made.form == "direct"
    city = next(f for f in made.manifest.features if f.name == "city")
    assert city.categories == ("Lille", "Lyon", "Nice")
    columns = Layout(made.manifest.features).columns([[40], [2000.0], ["Nice"], [True]])
    assert load(place.out, None).predict(columns)[0] == pytest.approx(
        estimator.predict_proba(columns.frame())[0, 1], abs=1e-12
    )
    fewer = [
        f.model_copy(update={"categories": ("Lille", "Lyon")}) if f.name == "city" else f
        for f in made.manifest.features
    ]
    with pytest.raises(NotCompilable, match="city: the encoder knows a category"):
        DirectForm(estimator, Layout(fewer), 1)


def make_lambda():
    """What a pickle by value, as cloudpickle writes it, leaves behind."""
    return lambda frame: frame


def make_local():
    """The same for a class."""

    class Clip(FunctionTransformer):
        """Defined where nobody can import it."""

    return Clip()


class ByValue(FunctionTransformer):
    """Unpickles as whatever `make` returns."""

    def __init__(self, make=None):
        super().__init__()
        self.make = make

    def __call__(self, frame):
        return frame

    def __reduce__(self):
        return self.make, ()


def _lambda():
    return pickle.dumps(fit(FunctionTransformer(ByValue(make_lambda)), preprocessing(), LogisticRegression()))


def _local():
    return pickle.dumps(fit(ByValue(make_local), preprocessing(), LogisticRegression()))


def _in_main():
    """As a notebook pickles its own class: by the name __main__.Clip."""
    made = type("Clip", (FunctionTransformer,), {"__module__": "__main__"})
    sys.modules["__main__"].Clip = made
    try:
        return pickle.dumps(fit(made(), preprocessing(), LogisticRegression()))
    finally:
        del sys.modules["__main__"].Clip


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_lambda, "a lambda (at steps[0][1].func)"),
        (_local, "Clip is defined inside a function"),
        (_in_main, "Clip lives in __main__"),
    ],
)
def test_what_no_other_process_can_import_is_refused_by_name(place, make, words):
    """A lambda, a class inside a function, a class of a script or notebook."""
    line = place.refused(raw=make())
    assert words in line
    assert "put it into a module that is installed where the scorer runs" in line


def test_a_class_that_is_still_in_main_is_refused_too(place, monkeypatch):
    """It loads here, because here it is known; that is no reason to believe it loads elsewhere."""
    made = type("Clip", (FunctionTransformer,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Clip", made, raising=False)
    assert "Clip lives in __main__" in place.refused(fit(made(), preprocessing(), LogisticRegression()))


def test_a_module_that_only_this_process_finds_is_refused_by_the_fresh_one(place, monkeypatch):
    """It is on this process's path and on no other's."""
    (place.folder / "only_here.py").write_text("def same(frame):\n    return frame\n")
    monkeypatch.syspath_prepend(place.folder)
    import only_here

    line = place.refused(fit(FunctionTransformer(only_here.same), preprocessing(), LogisticRegression()))
    assert "a fresh process refuses the bundle" in line
    assert "only_here" in line
    monkeypatch.undo()
    sys.modules.pop("only_here")
    assert "needs the module only_here" in place.refused()


def _three_classes():
    frame = customers()
    return fit(preprocessing(), LogisticRegression(), frame=frame, target="city")


def _texts():
    frame = customers()
    vectors = ColumnTransformer([("city", TfidfVectorizer(), "city"), ("numbers", SimpleImputer(), NUMBERS)])
    return fit(vectors, LogisticRegression(max_iter=5000), frame=frame)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fit(preprocessing(), LinearRegression(), target="age"), "no predict_proba"),
        (lambda: fit(preprocessing(), LinearSVC()), "no predict_proba"),
        (_three_classes, "3 classes"),
        (lambda: make_pipeline(preprocessing(), LogisticRegression()), "not fitted"),
        (_texts, "TfidfVectorizer reads raw text"),
        (lambda: {"model": 1}, "no predict_proba"),
    ],
)
def test_what_is_out_of_scope_is_refused_with_the_scope(place, make, words):
    """Regressors, multi-class, raw text, and what is no classifier at all."""
    line = place.refused(make())
    assert words in line
    assert SCOPE in line


@pytest.mark.parametrize("kind", ["text", "date"])
def test_a_kind_that_is_out_of_scope_is_refused_with_the_scope(place, kind):
    """In the spec already."""
    place.spec.write_text(SPEC.replace('"categorical"', f'"{kind}"') + POSITIVE)
    line = place.refused(fit(preprocessing(), LogisticRegression()))
    assert "[features.city] kind: expected numeric, categorical or boolean" in line
    assert SCOPE in line


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ([f"2026-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(200)], "dates"),
        ([f"called {i} times about the bill" for i in range(200)], "free text"),
    ],
)
def test_dates_and_texts_as_categories_are_refused_with_the_scope(place, column, what):
    """Named by the column; whoever means them as names lists them in the spec."""
    customers(seed=4).assign(city=column).to_csv(place.data, index=False)
    line = place.refused(fit(preprocessing(), LogisticRegression()))
    assert f"[features.city]: holds {what}" in line
    assert SCOPE in line


def test_an_encoder_that_refuses_new_categories_is_refused_with_the_way_out(place):
    """Events may bring any category; the fitted encoder can be told without a refit."""
    estimator = fit(preprocessing(handle_unknown="error"), LogisticRegression())
    assert "a category it has never seen (OneHotEncoder: set handle_unknown='ignore'" in place.refused(estimator)
    estimator[0].named_transformers_["names"].handle_unknown = "ignore"
    assert place.bundle(estimator).form == "direct"


def test_an_estimator_that_fails_on_missing_values_is_refused(place):
    """The spec says nullable; the reference has none missing, a customer may."""
    scaler = ColumnTransformer(
        [("numbers", StandardScaler(), NUMBERS), ("names", OneHotEncoder(handle_unknown="ignore"), NAMES)]
    )
    frame = customers().fillna(3000.0)
    customers(seed=4).fillna(3000.0).to_csv(place.data, index=False)
    line = place.refused(fit(scaler, LogisticRegression(max_iter=2000), frame=frame))
    assert "fails on missing values where the spec says nullable" in line


def test_a_kind_that_the_estimator_was_not_fitted_on_is_noticed(place):
    """Fitted on "yes" and "no", boolean in the spec: the encoder would ignore it and score without a word."""
    frame = customers().assign(senior=lambda f: np.where(f["senior"] == 1, "yes", "no"))
    customers(seed=4).assign(senior=lambda f: np.where(f["senior"] == 1, "yes", "no")).to_csv(place.data, index=False)
    line = place.refused(fit(preprocessing(), LogisticRegression(), frame=frame))
    assert "another probability" in line
    assert "look at the kind of senior in the spec" in line
    place.spec.write_text(SPEC.replace('"boolean"', '"categorical"') + POSITIVE)
    assert place.bundle().form == "direct"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (SPEC, '[data] positive: say which of the classes "no", "yes"'),
        (SPEC + POSITIVE.replace('"yes"', '"Yes"'), '[data] positive: "Yes" is not one of the classes "no", "yes"'),
        (SPEC.replace("[features.city]", "[features.town]") + POSITIVE, "does not name: city"),
        (
            SPEC + '[features.region]\nkind = "boolean"\n' + POSITIVE,
            "was not fitted on columns that the spec names: region",
        ),
        (SPEC.replace("[model]", "[modle]") + POSITIVE, "[modle]: is not known here"),
    ],
)
def test_a_spec_that_does_not_fit_the_estimator_is_refused(place, spec, words):
    """With the key or the column."""
    place.spec.write_text(spec)
    assert words in place.refused(fit(preprocessing(), LogisticRegression()))


@pytest.mark.parametrize("raw", [b"", b"not a pickle", b"\x80\x04N."])
def test_a_file_that_holds_no_estimator_is_refused(place, raw):
    """One line with the file's name."""
    assert place.refused(raw=raw).startswith(f"{place.model}: ")


def test_another_scikit_learn_is_refused(place, monkeypatch):
    """Fitted with another minor version than is installed here."""
    monkeypatch.setattr("sklearn.base.__version__", "1.2.0")
    joblib.dump(fit(preprocessing(), LogisticRegression()), place.model)
    monkeypatch.undo()
    assert "fitted with scikit-learn 1.2.0, here is" in place.refused()


def test_the_command_prints_what_it_made(place, capsys):
    """As JSON, for programs; a refusal is exit 2 with one line."""
    joblib.dump(fit(preprocessing(), LogisticRegression()), place.model)
    command(spec=place.spec, model=place.model, data=place.data, out=place.out, held_out=False, as_json=True)
    summary = json.loads(capsys.readouterr().out)
    assert (summary["name"], summary["form"], summary["positive_class"]) == ("churn-own", "direct", "yes")
    place.model.unlink()
    with pytest.raises(CommandError) as caught:
        command(spec=place.spec, model=place.model, data=place.data, out=place.out, held_out=False, as_json=True)
    assert caught.value.exit_code == 2
