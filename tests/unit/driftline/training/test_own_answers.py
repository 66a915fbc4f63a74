"""Which columns an estimator takes, in which order, and what it answers for a file as it was fitted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from driftline.training.dataset import read_table, typed_features
from driftline.training.estimator_file import ExistingError
from driftline.training.own_answers import fitted_categories, fitted_columns, fitted_order, own_answers
from driftline.training.spec import SpecError, parse_feature_spec, with_columns
from schemas.features import Layout
from schemas.task import Binary

SPEC = """
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
ORDER = ["c", "b", "a 1"]
WHERE = Path("fitted.joblib")


def customers(rows=200, seed=5):
    """Columns in the order c, b, a 1, of which the last decides."""
    random = np.random.default_rng(seed)
    return pd.DataFrame({name: random.normal(size=rows).round(6) for name in ORDER})


def labels(frame):
    """With some noise."""
    return (frame["a 1"] + 0.3 * frame["b"] + np.random.default_rng(1).normal(size=len(frame)) * 0.2 > 0).astype(int)


def fit(estimator, *, array=False):
    """Fitted on the customers in the order c, b, a 1."""
    frame = customers()
    return estimator.fit(frame.to_numpy() if array else frame, labels(frame))


def answered(estimator, folder, *, text=SPEC, frame=None, columns=None):
    """What a scorer would answer for a file of customers, proven to be the estimator's own; and the order."""
    spec = parse_feature_spec(text)
    spec = spec if columns is None else with_columns(spec, columns)
    data = folder / "customers.csv"
    (customers() if frame is None else frame).to_csv(data, index=False)
    order = fitted_order(WHERE, estimator, spec)
    typed = fitted_categories(WHERE, estimator, spec, order)
    spec = spec.ordered(order.features).with_categories(typed)
    features, values = typed_features(read_table(data, list(spec.features)), spec)
    features = [f.model_copy(update={"dtype": "category"}) if f.name in typed else f for f in features]
    order, rows, score = fitted_columns(WHERE, estimator, order, Layout(features).columns(values), Binary(1))
    own = own_answers(WHERE, data, spec.data.format(), estimator, order, rows, score, Binary(1))
    assert np.allclose(own, score, atol=1e-9)
    return score, order


def refused(estimator, folder, **options):
    """The one line."""
    with pytest.raises((ExistingError, SpecError)) as caught:
        answered(estimator, folder, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def lightgbm():
    """A classifier of the real library."""
    library = pytest.importorskip("lightgbm")
    return library.LGBMClassifier(n_estimators=8, num_leaves=7, verbose=-1, n_jobs=1)


def xgboost():
    """A classifier of the real library."""
    library = pytest.importorskip("xgboost")
    return library.XGBClassifier(n_estimators=8, max_depth=3, n_jobs=1)


def last_two(rows):
    """A step of somebody's own that takes an array only."""
    return rows[:, 1:]


class ByName(BaseEstimator, TransformerMixin):
    """A transformer as people write them: it records nothing, and takes its columns by name."""

    def fit(self, *_):
        return self

    def transform(self, frame):
        return np.column_stack([frame["a 1"], frame["b"] * frame["c"]])

    def __sklearn_is_fitted__(self):
        return True


def scaled(columns):
    """Some columns scaled, the others as they are."""
    return make_pipeline(
        ColumnTransformer([("some", StandardScaler(), columns)], remainder="passthrough"), LogisticRegression()
    )


@pytest.mark.parametrize(
    "make",
    [
        lightgbm,
        xgboost,
        lambda: make_pipeline(FunctionTransformer(), lightgbm()),
        lambda: make_pipeline("passthrough", lightgbm()),
        lambda: CalibratedClassifierCV(lightgbm(), cv=2),
        lambda: GridSearchCV(lightgbm(), {"num_leaves": [3, 7]}, cv=2),
        lambda: VotingClassifier([("a", lightgbm()), ("b", LogisticRegression())], voting="soft"),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: scaled([2, 0]),
        lambda: scaled(slice(1, 3)),
        lambda: scaled([True, False, True]),
    ],
    ids="lightgbm xgboost function passthrough calibrated grid voting scaler index slice mask".split(),  # noqa: SIM905
)
def test_columns_are_in_the_order_of_the_fit(make, tmp_path):
    """The spec's order is another one; boosters go by position, and would answer for other customers."""
    estimator = fit(make())
    score, order = answered(estimator, tmp_path)
    assert order.features == tuple(ORDER)
    assert np.allclose(score, estimator.predict_proba(customers())[:, 1], atol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lightgbm,
        xgboost,
        lambda: CalibratedClassifierCV(lightgbm(), cv=2),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: scaled([-1, 0]),
        lambda: make_pipeline(FunctionTransformer(last_two), LogisticRegression()),
    ],
    ids=["lightgbm", "xgboost", "calibrated", "scaler", "index", "own"],
)
def test_an_order_that_was_not_recorded_has_to_be_stated(make, tmp_path):
    """Fitted on an array: the spec's order would be a guess, in the spec or by --columns it is a statement."""
    estimator = fit(make(), array=True)
    assert '[model] columns = ["a 1", "b", "c"] or --columns' in refused(estimator, tmp_path)
    expected = estimator.predict_proba(customers().to_numpy())[:, 1]
    stated = SPEC.replace('version = "1.0.0"', 'version = "1.0.0"\ncolumns = ["c", "b", "a 1"]')
    for options in ({"columns": ORDER}, {"text": stated}):
        score, order = answered(estimator, tmp_path, **options)
        assert order.input.kind == "array"
        assert np.allclose(score, expected, atol=1e-9)


def test_columns_taken_by_name_need_no_order(tmp_path):
    """Nothing is recorded and nothing has to be: the answers are the same in whichever order the columns are."""
    estimator = fit(make_pipeline(ByName(), LogisticRegression()))
    assert not hasattr(estimator, "feature_names_in_")
    score, order = answered(estimator, tmp_path)
    assert order.input is None
    assert np.allclose(score, estimator.predict_proba(customers())[:, 1], atol=1e-9)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["c", "b"], "[model] columns: 'a 1' is missing"),
        (["c", "b", "a 1", "d"], "[model] columns: 'd' is no feature"),
        (["c", "b", "a 1", "b"], "[model] columns: 'b' is listed twice"),
        (["a 1", "b", "c"], "[model] columns: the estimator has recorded another order: c, b, a 1"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns, words, tmp_path):
    """Each feature once; and not against what the estimator has recorded."""
    assert words in refused(fit(lightgbm()), tmp_path, columns=columns)


def test_another_number_of_columns_is_refused(tmp_path):
    """An array of four columns, and three features."""
    frame = customers()
    estimator = lightgbm().fit(frame[[*ORDER, "c"]].to_numpy(), labels(frame))
    assert "was fitted on 4 columns, and the spec has 3 features" in refused(estimator, tmp_path, columns=ORDER)


@pytest.mark.parametrize("make", [lightgbm, xgboost])
def test_names_that_people_changed_for_a_booster_are_found_by_their_letters(make, tmp_path):
    """XGBoost compares the names with its own: the frame has these, events and the file have the features'."""
    frame = customers().rename(columns={"a 1": "a_1_"})
    estimator = make().fit(frame, labels(customers()))
    score, order = answered(estimator, tmp_path)
    assert order.input.columns == ("c", "b", "a_1_")
    assert np.allclose(score, estimator.predict_proba(frame)[:, 1], atol=1e-9)
    ambiguous = SPEC.replace("[features.b]", "[features.A1]")
    assert "was not fitted on columns that the spec names: a 1, A1" in refused(estimator, tmp_path, text=ambiguous)


MIXED = """
[model]
name = "churn-mixed"
version = "1.0.0"
[features.age]
kind = "numeric"
[features.plan]
kind = "categorical"
[features.senior]
kind = "boolean"
"""


def mixed(rows=200, seed=5):
    """A category, a boolean as yes and no, and a column that the spec does not name."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "region": random.choice(["north", "south"], rows),
            "senior": random.choice(["yes", "no"], rows),
            "plan": random.choice(["basic", "plus"], rows),
            "age": random.integers(18, 90, rows),
        }
    )


def mixed_pipeline(names, numbers=("age",)):
    """Categories one-hot, numbers scaled, all other columns dropped."""
    return make_pipeline(
        ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list(numbers)),
                ("names", OneHotEncoder(handle_unknown="ignore"), list(names)),
            ]
        ),
        LogisticRegression(),
    )


def old(frame):
    """A label that age and plan decide."""
    return (frame["age"] + 20 * (frame["plan"] == "plus") > 60).astype(int)


@pytest.mark.parametrize("present", [True, False])
def test_columns_that_the_pipeline_drops_need_no_feature(present, tmp_path):
    """Fitted on a wider frame; the file has the dropped columns, or it does not."""
    frame = mixed()
    estimator = mixed_pipeline(["plan"]).fit(frame, old(frame))
    text = MIXED.replace('[features.senior]\nkind = "boolean"\n', "")
    data = frame if present else frame[["age", "plan"]]
    score, order = answered(estimator, tmp_path, text=text, frame=data)
    assert (order.features, order.unnamed) == (("plan", "age"), ("region", "senior"))
    assert np.allclose(score, estimator.predict_proba(frame)[:, 1], atol=1e-9)


def test_a_wider_column_that_is_used_is_named(tmp_path):
    """An encoder that ignores what it does not know answers without it, otherwise."""
    frame = mixed()
    frame["region"] = np.where(old(frame) == 1, "north", "south")
    estimator = make_pipeline(Reindexed(), mixed_pipeline(["plan", "region"])).fit(frame, old(frame))
    text = MIXED.replace('[features.senior]\nkind = "boolean"\n', "")
    line = refused(estimator, tmp_path, text=text, frame=frame)
    assert "it was fitted on columns that the spec does not name: region, senior" in line
    line = refused(estimator, tmp_path, text=text, frame=frame[["plan", "age"]])
    assert "was fitted on region, senior, too, and nothing shows that it does without" in line


class Reindexed(TransformerMixin, BaseEstimator):
    """Make the columns of the fit out of whatever it gets: what is not there is empty."""

    def fit(self, frame, *_):
        self.feature_names_in_ = np.array(frame.columns, dtype=object)
        return self

    def transform(self, frame):
        return frame.reindex(columns=self.feature_names_in_, fill_value="")


def test_yes_and_no_that_somebody_made_numbers_of_are_compared_as_numbers(tmp_path):
    """The file as pandas reads it has texts, which the estimator rejects."""
    frame = mixed()
    numbers = frame.assign(senior=(frame["senior"] == "yes").astype(int))[["senior", "age"]]
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(numbers, old(frame))
    text = MIXED.replace('[features.plan]\nkind = "categorical"\n', "")
    score, _ = answered(estimator, tmp_path, text=text, frame=frame)
    assert np.allclose(score, estimator.predict_proba(numbers)[:, 1], atol=1e-9)


def booleans(frame):
    """Take True and False only, as somebody made them of yes and no."""
    if not all(isinstance(value, bool) for value in frame["senior"]):
        raise TypeError("senior: no boolean")
    return frame.astype("float64")


def test_yes_and_no_that_somebody_made_booleans_of_are_compared_as_booleans(tmp_path):
    """As `driftline train` fits: the file has texts, and the estimator takes neither these nor 0 and 1."""
    frame = mixed()
    fitted_on = frame.assign(senior=(frame["senior"] == "yes").astype(object))[["senior", "age"]]
    estimator = make_pipeline(FunctionTransformer(booleans), LogisticRegression()).fit(fitted_on, old(frame))
    text = MIXED.replace('[features.plan]\nkind = "categorical"\n', "")
    score, _ = answered(estimator, tmp_path, text=text, frame=frame)
    assert np.allclose(score, estimator.predict_proba(fitted_on)[:, 1], atol=1e-9)


def in_types_of_the_scorer(frame):
    """Take ages with a fraction only, as a scorer makes them: the file has whole numbers."""
    if frame["age"].dtype != np.float64:
        raise TypeError("age: no float64")
    return frame.astype("float64")


def test_a_file_that_the_estimator_does_not_take_proves_nothing(tmp_path):
    """It takes the scorer's frame, but there is nothing to compare its answers with."""
    frame = mixed().assign(senior=mixed()["senior"] == "yes", age=mixed()["age"].round().astype(int))
    fitted_on = frame[["senior", "age"]].astype({"age": "float64"})
    estimator = make_pipeline(FunctionTransformer(in_types_of_the_scorer), LogisticRegression())
    estimator.fit(fitted_on, old(frame))
    text = MIXED.replace('[features.plan]\nkind = "categorical"\n', "")
    line = refused(estimator, tmp_path, text=text, frame=frame)
    assert "cannot be computed, so nothing shows that a scorer would give them (TypeError: age: no float64)" in line
    answered(estimator, tmp_path, text=text, frame=frame.assign(age=frame["age"] + 0.5))


def native(frame, order=("plus", "basic")):
    """The customers in the types of somebody who fits a booster: categories in an order of their own, and a bool."""
    return pd.DataFrame(
        {
            "senior": frame["senior"] == "yes",
            "plan": pd.Categorical(frame["plan"], categories=list(order)),
            "age": frame["age"],
        }
    )


@pytest.mark.parametrize("make", [lightgbm, lambda: xgboost().set_params(enable_categorical=True)])
def test_categories_and_booleans_of_a_booster_keep_their_types(make, tmp_path):
    """Pandas' types category and bool, with the categories of the fit; the file lacks one of them."""
    frame = mixed()
    estimator = make().fit(native(frame), old(frame))
    data = frame[frame["plan"] == "plus"].assign(senior=lambda f: f["senior"] == "yes")
    score, order = answered(estimator, tmp_path, text=MIXED, frame=data)
    assert order.features == ("senior", "plan", "age")
    assert np.allclose(score, estimator.predict_proba(native(frame))[frame["plan"] == "plus", 1], atol=1e-9)


def coded(rows=200, seed=5):
    """A plan as a code, which pandas reads as a number, and to whoever fits on texts is none."""
    random = np.random.default_rng(seed)
    return pd.DataFrame({"plan": random.choice([1, 2, 3], rows), "age": random.integers(18, 90, rows)})


CODED = MIXED.replace('[features.senior]\nkind = "boolean"\n', "")


@pytest.mark.parametrize("make", [lightgbm, lambda: xgboost().set_params(enable_categorical=True)])
def test_codes_that_a_booster_has_as_categories_of_texts_are_texts(make, tmp_path):
    """As the documents advise, `astype(str).astype("category")`: pandas reads the file's codes as numbers."""
    frame = coded()
    fitted_on = frame.assign(plan=frame["plan"].astype(str).astype("category"))
    estimator = make().fit(fitted_on, (frame["plan"] == 2).astype(int))
    score, _ = answered(estimator, tmp_path, text=CODED, frame=frame)
    assert np.allclose(score, estimator.predict_proba(fitted_on)[:, 1], atol=1e-9)


def test_codes_are_texts_where_the_estimator_was_fitted_on_texts_and_only_there(tmp_path):
    """An encoder that ignores what it does not know takes both, and its answers follow one of them."""
    frame = coded()
    label = (frame["plan"] == 2).astype(int)
    fitted_on = frame.assign(plan=frame["plan"].astype(str))
    estimator = mixed_pipeline(["plan"]).fit(fitted_on, label)
    score, _ = answered(estimator, tmp_path, text=CODED, frame=frame)
    assert np.allclose(score, estimator.predict_proba(fitted_on)[:, 1], atol=1e-9)
    line = refused(mixed_pipeline(["plan"]).fit(frame, label), tmp_path, text=CODED, frame=frame)
    assert "look at the kind of plan in the spec" in line


def test_boosting_that_found_its_categories_by_type_takes_texts(tmp_path):
    """scikit-learn's own, fitted on pandas' type category: it has recorded the categories itself."""
    frame = mixed()
    estimator = HistGradientBoostingClassifier(max_iter=8, categorical_features="from_dtype")
    estimator.fit(native(frame), old(frame))
    score, order = answered(estimator, tmp_path, text=MIXED, frame=frame.assign(senior=frame["senior"] == "yes"))
    assert order.features == ("senior", "plan", "age")
    assert np.allclose(score, estimator.predict_proba(native(frame))[:, 1], atol=1e-9)


def test_a_type_that_the_spec_contradicts_is_named(tmp_path):
    """A boolean of the spec that was a category, categories that were numbers, and others than the spec lists."""
    frame = mixed()
    both = native(frame).assign(senior=pd.Categorical(frame["senior"]))
    estimator = lightgbm().fit(both, old(frame))
    line = refused(estimator, tmp_path, text=MIXED, frame=frame)
    assert "fitted on 2 columns of pandas' type category, and the spec has 1 categorical features" in line
    assert 'their categories: "no", "yes"; "plus", "basic"' in line
    library = xgboost().set_params(enable_categorical=True).fit(both, old(frame))
    line = refused(library, tmp_path, text=MIXED, frame=frame)
    assert '[features.senior] kind: the estimator was fitted on the categories "no", "yes": categorical' in line
    codes = native(frame).assign(plan=pd.Categorical((frame["plan"] == "plus").astype(int)))
    line = refused(lightgbm().fit(codes, old(frame)), tmp_path, text=MIXED, frame=frame)
    assert "[features.plan]: the estimator was fitted on categories that are no texts, 0, 1" in line
    listed = MIXED.replace('kind = "categorical"', 'kind = "categorical"\ncategories = ["basic"]')
    line = refused(lightgbm().fit(native(frame), old(frame)), tmp_path, text=listed, frame=frame)
    assert '[features.plan] categories: the estimator was fitted on "plus", "basic"' in line


def test_catboost_has_its_columns_in_its_own_order(tmp_path, long):
    """Categories as texts, by their positions."""
    if not long:
        pytest.skip("only with --long")
    library = pytest.importorskip("catboost")
    frame = mixed().assign(senior=lambda f: f["senior"] == "yes")[["plan", "senior", "age"]]
    estimator = library.CatBoostClassifier(iterations=8, verbose=0, cat_features=["plan"], allow_writing_files=False)
    estimator.fit(frame, old(frame))
    score, order = answered(estimator, tmp_path, text=MIXED, frame=frame)
    assert order.features == ("plan", "senior", "age")
    assert np.allclose(score, estimator.predict_proba(frame)[:, 1], atol=1e-9)
