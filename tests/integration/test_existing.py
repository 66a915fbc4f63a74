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
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from driftline import verifier
from driftline.commands.model.bundle import command
from driftline.errors import CommandError
from driftline.training.dataset import DatasetError
from driftline.training.estimator_file import ExistingError
from driftline.training.fitted_estimator import bundle_existing
from driftline.training.loaded_bundle import load_bundle
from driftline.training.spec import SpecError, read_feature_spec
from driftline.training.train import measure
from schemas.bundle.files import read_bundle, write_bundle
from schemas.bundle.manifest import SCOPE, BundleError, ValueBusiness
from schemas.features import Layout
from schemas.reference import Reference
from scorer.direct import DirectForm, NotCompilable
from scorer.model import load

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
    """model.joblib byte for byte; the loaded model gives predict_proba's numbers; the notes list unknown facts."""
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
    with pytest.raises(NotCompilable, match="city: the encoder has a category"):
        DirectForm(estimator, Layout(fewer), made.manifest.predicts)


def make_lambda():
    """What a pickle by value, as cloudpickle writes it, leaves behind."""
    return lambda frame: frame


def make_local():
    """The same for a class."""

    class Clip(FunctionTransformer):
        """Defined where no other process can import it."""

    return Clip()


class ByValue(FunctionTransformer):
    """Unpickles as the result of `make`."""

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
    assert "a fresh process rejects the bundle" in line
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
    """Regressors and several classes without their task, raw text, and what is no classifier at all."""
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
    """Named by the column; where names are meant, the spec lists them."""
    customers(seed=4).assign(city=column).to_csv(place.data, index=False)
    line = place.refused(fit(preprocessing(), LogisticRegression()))
    assert f"[features.city]: holds {what}" in line
    assert SCOPE in line


def test_an_encoder_that_refuses_new_categories_is_refused_with_the_way_out(place):
    """Events may bring any category; the fitted encoder can be changed without a refit."""
    estimator = fit(preprocessing(handle_unknown="error"), LogisticRegression())
    assert "a category it has never seen (OneHotEncoder: set handle_unknown='ignore'" in place.refused(estimator)
    estimator[0].named_transformers_["names"].handle_unknown = "ignore"
    assert place.bundle(estimator).form == "direct"


def test_an_estimator_that_fails_on_missing_values_is_refused(place):
    """Nullable in the spec: the reference has no missing value, a customer may have one."""
    scaler = ColumnTransformer(
        [("numbers", StandardScaler(), NUMBERS), ("names", OneHotEncoder(handle_unknown="ignore"), NAMES)]
    )
    frame = customers().fillna(3000.0)
    customers(seed=4).fillna(3000.0).to_csv(place.data, index=False)
    line = place.refused(fit(scaler, LogisticRegression(max_iter=2000), frame=frame))
    assert "fails on missing values where the spec has nullable = true" in line


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
        (SPEC, '[data] positive: name one of the classes "no", "yes"'),
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
    command(
        spec=place.spec, model=place.model, data=place.data, out=place.out, columns=None, held_out=False, as_json=True
    )
    summary = json.loads(capsys.readouterr().out)
    assert (summary["name"], summary["form"], summary["positive_class"]) == ("churn-own", "direct", "yes")
    place.model.unlink()
    with pytest.raises(CommandError) as caught:
        command(
            spec=place.spec,
            model=place.model,
            data=place.data,
            out=place.out,
            columns=None,
            held_out=False,
            as_json=True,
        )
    assert caught.value.exit_code == 2


WIDE = [*NUMBERS, *NAMES, "plan", "region"]


def wide_customers(rows=200, seed=3):
    """As the customers, with two columns that the pipeline drops."""
    random = np.random.default_rng(seed)
    return customers(rows, seed).assign(plan=random.choice(["a", "b"], rows), region=random.integers(0, 9, rows))


def test_columns_chosen_by_position_of_a_wider_frame_are_found_by_their_names(place):
    """Position 2 of what was fitted is another column than position 2 of the features."""
    names = [[NUMBERS[1], "region", NUMBERS[0], "plan", NAMES[1], NAMES[0]][at] for at in range(6)]
    frame = wide_customers()
    pipeline = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [0, 2]),
                ("names", OneHotEncoder(handle_unknown="ignore"), slice(4, 6)),
            ]
        ),
        LogisticRegression(max_iter=2000),
    ).fit(frame[names], frame["left"])
    wide_customers(seed=4).to_csv(place.data, index=False)
    made = place.bundle(pipeline)
    assert made.form == "direct"
    data = wide_customers(seed=4)
    columns = Layout(made.manifest.features).columns(
        [
            data["income"].replace({np.nan: None}).tolist(),
            data["age"].tolist(),
            data["senior"].astype(bool).tolist(),
            data["city"].tolist(),
        ]
    )
    expected = pipeline.predict_proba(data[names])[:, 1]
    assert np.allclose(load(place.out, None).predict(columns), expected, atol=1e-12)


NUMERIC_SPEC = """
[model]
name = "churn-numbers"
version = "1.0.0"
[features."a 1"]
kind = "numeric"
[features.b]
kind = "numeric"
[features.c]
kind = "numeric"
"""


def numbers(place):
    """Three numeric columns in the order c, b, a 1, of which the last decides, in the file and as a frame."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame({name: random.normal(size=300).round(6) for name in ("c", "b", "a 1")})
    labels = (frame["a 1"] + 0.3 * frame["b"] + random.normal(size=300) * 0.2 > 0).astype(int)
    place.spec.write_text(NUMERIC_SPEC)
    frame.assign(left=labels).to_csv(place.data, index=False)
    return frame, labels


def served(place, frame):
    """What a scorer answers for the frame's customers."""
    model = load(place.out, None)
    features = model.manifest.features
    return model.predict(Layout(features).columns([frame[feature.name].tolist() for feature in features]))


def verified(place, events, probabilities):
    """What `driftline verify --model` counts where a scorer has answered these: scores, and those that differ."""
    manifest = read_bundle(place.out).manifest
    told = [{"model": {"name": manifest.name, "version": manifest.version}, "probability": p} for p in probabilities]
    values = {(0, at): (json.dumps({"features": event}).encode(), []) for at, event in enumerate(events)}
    findings = verifier.Findings()
    verifier._recompute(place.out, values, {(0, at): one for at, one in enumerate(told)}, findings, None)
    return findings.scores_checked, findings.faults["wrong_scores"]


def test_columns_are_in_the_order_of_the_fit_and_not_of_the_spec(place):
    """A booster goes by position: in the spec's order it answers for other customers. Its name for `a 1` is a_1."""
    lightgbm = pytest.importorskip("lightgbm")
    frame, labels = numbers(place)
    estimator = lightgbm.LGBMClassifier(n_estimators=12, num_leaves=7, verbose=-1, n_jobs=1).fit(frame, labels)
    made = place.bundle(estimator)
    assert [feature.name for feature in made.manifest.features] == ["c", "b", "a 1"]
    scores = served(place, frame)
    assert np.allclose(scores, estimator.predict_proba(frame)[:, 1], atol=1e-9)
    events = frame.to_dict("records")
    assert verified(place, events, scores) == (len(frame), 0)
    assert verified(place, events[:2], np.add(scores[:2], [0.0, 0.01])) == (2, 1)

    # as an older version wrote it: the golden rows were made in the same wrong order, and agree with it
    bundle = read_bundle(place.out)
    reference = Reference.from_bytes(bundle.files["reference.npz"])
    layout = Layout(bundle.manifest.features[::-1])
    golden = bundle.manifest.golden
    columns = layout.columns([[row[name] for row in golden.rows] for name in layout.names])
    wrong = tuple(estimator.predict_proba(columns.frame())[:, 1].tolist())
    golden = golden.model_copy(update={"probabilities": wrong})
    older = {"features": layout.features, "input": None, "golden": golden}
    turned = Reference(reference.numeric[:, ::-1], reference.codes, reference.score, reference.singletons)
    write_bundle(
        place.out, bundle.manifest.model_copy(update=older), {**bundle.files, "reference.npz": turned.to_bytes()}
    )
    for read in (lambda: load(place.out, None), lambda: load_bundle(place.out)):
        with pytest.raises(BundleError, match="was fitted on c, b, a 1, and the manifest has these in another order"):
            read()


def test_an_order_that_was_not_recorded_has_to_be_stated(place):
    """A pipeline fitted on an array: the spec's order would be a guess."""
    frame, labels = numbers(place)
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame.to_numpy(), labels)
    assert '[model] columns = ["a 1", "b", "c"] or --columns' in place.refused(estimator)
    joblib.dump(estimator, place.model)
    options = {"held_out": False, "as_json": True}
    command(spec=place.spec, model=place.model, data=place.data, out=place.out, columns="c,b,a 1", **options)
    manifest = read_bundle(place.out).manifest
    assert (manifest.input.kind, [feature.name for feature in manifest.features]) == ("array", ["c", "b", "a 1"])
    scores = served(place, frame)
    assert np.allclose(scores, estimator.predict_proba(frame.to_numpy())[:, 1], atol=1e-9)
    assert verified(place, frame.to_dict("records"), scores) == (len(frame), 0)


def test_a_booster_gets_pandas_categories_and_booleans_from_events(place):
    """What the manifest records is what a scorer makes of an event; an unseen category is missing to the booster."""
    lightgbm = pytest.importorskip("lightgbm")
    frame, data = customers(), customers(seed=4)
    typed = [
        one[["senior", "city", "age", "income"]].assign(
            senior=one["senior"] == 1, city=pd.Categorical(one["city"], categories=["Nice", "Lyon", "Lille"])
        )
        for one in (frame, data)
    ]
    estimator = lightgbm.LGBMClassifier(n_estimators=12, num_leaves=7, verbose=-1, n_jobs=1)
    estimator.fit(typed[0], frame["left"])
    made = place.bundle(estimator)
    assert [(f.name, f.dtype) for f in made.manifest.features] == [
        ("senior", "bool"),
        ("city", "category"),
        ("age", None),
        ("income", None),
    ]
    assert made.manifest.features[1].categories == ("Nice", "Lyon", "Lille")
    values = [data["senior"].astype(bool).tolist(), data["city"].tolist(), data["age"].tolist()]
    columns = Layout(made.manifest.features).columns([*values, data["income"].replace({np.nan: None}).tolist()])
    scores = load(place.out, None).predict(columns)
    assert np.allclose(scores, estimator.predict_proba(typed[1])[:, 1], atol=1e-9)
    events = [dict(zip(columns.layout.names, row, strict=True)) for row in zip(*columns.values, strict=True)]
    assert verified(place, events, scores) == (len(data), 0)


def test_a_fitted_regressor_and_a_detector_are_bundled(place):
    """A scorer gives the regressor's own values, with the interval of held-out residuals; the detector's are scores."""
    spec = SPEC.replace('version = "3.1.0"', 'version = "3.1.0"\ntask = "regression"')
    place.spec.write_text(spec + '[data]\ntarget = "amount"\n[business]\nover = -1\nunder = -2\n')
    known = customers(seed=4).assign(amount=lambda frame: 3.0 * frame["age"] + 40.0 * (frame["city"] == "Nice"))
    known.to_csv(place.data, index=False)
    estimator = fit(preprocessing(), Ridge(), frame=known, target="amount")
    made = place.bundle(estimator, held_out=True)
    manifest = made.manifest
    assert (made.form, manifest.task, manifest.positive_class, manifest.threshold) == (
        "direct",
        "regression",
        None,
        None,
    )
    assert manifest.metrics["r2"] > 0.99
    assert manifest.residuals.rows == manifest.error_curve.rows == 200
    assert manifest.business == ValueBusiness(over=-1.0, under=-2.0)
    columns = Layout(manifest.features).columns([[40], [2000.0], ["Nice"], [True]])
    (value,) = load(place.out, None).predict(columns).tolist()
    assert value == pytest.approx(estimator.predict(columns.frame())[0], rel=1e-12)

    place.spec.write_text(spec.replace('task = "regression"', 'task = "regression"\nmethod = "score_samples"'))
    place.out = place.folder / "detector"
    detector = make_pipeline(preprocessing(), IsolationForest(n_estimators=10, random_state=0))
    made = place.bundle(detector.fit(known[NUMBERS + NAMES]))
    assert (made.manifest.method, made.manifest.residuals, made.manifest.metrics) == ("score_samples", None, {})
    assert made.manifest.error_curve is None
    (score,) = load(place.out, None).predict(columns).tolist()
    assert score == pytest.approx(detector.score_samples(columns.frame())[0], rel=1e-12)


@pytest.mark.parametrize("whole", [False, True])
def test_a_fitted_model_of_several_classes_is_bundled(place, whole):
    """Texts, or whole numbers by their decimal text; a scorer gives the estimator's own distributions."""
    spec = SPEC.replace('version = "3.1.0"', 'version = "3.1.0"\ntask = "multiclass"')
    place.spec.write_text(spec + '[data]\ntarget = "tier"\n')
    known = customers(seed=4)
    codes = (known["age"] // 25 + (known["city"] == "Nice")).clip(0, 3).astype(int) % 4
    known = known.assign(tier=codes if whole else codes.map(dict(enumerate(("tin", "iron", "gold", "silver")))))
    known.to_csv(place.data, index=False)
    estimator = fit(preprocessing(), LogisticRegression(max_iter=2000), frame=known, target="tier")
    made = place.bundle(estimator, held_out=True)
    manifest = made.manifest
    classes = ("0", "1", "2", "3") if whole else ("gold", "iron", "silver", "tin")
    assert (made.form, manifest.task, manifest.classes, manifest.threshold) == ("direct", "multiclass", classes, None)
    right = np.mean(estimator.predict(known[NUMBERS + NAMES]) == known["tier"])
    assert manifest.metrics["accuracy"] == pytest.approx(right)
    assert tuple(manifest.class_calibration.curves) == classes
    columns = Layout(manifest.features).columns([[40], [2000.0], ["Nice"], [True]])
    got = load(place.out, None).predict(columns)
    np.testing.assert_allclose(got, estimator.predict_proba(columns.frame()), rtol=0, atol=1e-12)

    place.out = place.folder / "priced"
    place.spec.write_text(spec + '[data]\ntarget = "tier"\n[business.matrix.tin]\nlead = 1\n')
    assert '[business] matrix: "lead" is no class of the model, which has' in place.refused(estimator, held_out=True)


@pytest.mark.parametrize(
    ("task", "steps", "words"),
    [
        ("", (Ridge(),), 'Pipeline has no predict_proba ([model] task = "regression" is for such)'),
        (
            "",
            (IsolationForest(n_estimators=3),),
            '([model] task = "regression" and method = "score_samples" is for such)',
        ),
        ('task = "regression"', (LogisticRegression(),), 'task is "regression", and this is a classifier'),
        ('task = "regression"\nmethod = "score_samples"', (Ridge(),), "this has no score_samples"),
        ('task = "multiclass"', (LogisticRegression(),), 'task is "multiclass", and this has 2 classes'),
        ('task = "multiclass"', (Ridge(),), "has no predict_proba"),
    ],
    ids=["regressor", "detector", "classifier", "method", "two classes", "no classes"],
)
def test_an_estimator_of_another_task_names_the_task(place, task, steps, words):
    """One line, with the key of the spec."""
    place.spec.write_text(SPEC.replace('version = "3.1.0"', f'version = "3.1.0"\n{task}'))
    target = "left" if isinstance(steps[0], LogisticRegression) else "age"
    assert words in place.refused(fit(preprocessing(), *steps, target=target))
