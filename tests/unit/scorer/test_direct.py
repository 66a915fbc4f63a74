"""The direct form: equal to the estimator, row by row, or not used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from schemas.bundle.inputs import Feature
from schemas.features import Layout
from schemas.reference import Reference
from schemas.task import Binary, Multiclass
from scorer.direct import DirectForm, NotCompilable, differs, proof_rows
from scorer.score import FrameForm

FEATURES = (
    Feature(name="age", kind="numeric", min=0, max=120),
    Feature(name="city", kind="categorical", categories=("Bern", "Lyon", "Oslo", "Rome")),
    Feature(name="bill", kind="numeric", nullable=True),
    Feature(name="plan", kind="categorical", categories=("basic",), nullable=True),
    Feature(name="online", kind="boolean", nullable=True),
)
NUMBERS, NAMES = ["age", "bill"], ["city", "plan", "online"]
LAYOUT = Layout(FEATURES)


def customers(n: int = 400, seed: int = 1) -> tuple[Any, np.ndarray, Reference]:
    """Columns, labels and the reference of n customers, some values missing."""
    chance = np.random.default_rng(seed)
    age = chance.integers(18, 90, n).tolist()
    bill = [None if chance.random() < 0.1 else float(x) for x in chance.gamma(2.0, 30.0, n)]
    city = chance.choice(["Bern", "Lyon", "Oslo", "Rome"], n, p=[0.6, 0.3, 0.09, 0.01]).tolist()
    plan = [None if chance.random() < 0.2 else "basic" for _ in range(n)]
    online = [None if chance.random() < 0.1 else bool(chance.random() < 0.5) for _ in range(n)]
    columns = LAYOUT.columns([age, city, bill, plan, online])
    label = (np.array(age) + 40 * (np.array(city) == "Lyon") + chance.normal(0, 20, n)) > 60
    score = np.full(n, 0.5)
    return columns, label, Reference(columns.numeric, columns.codes, score, np.zeros(3, dtype=np.int64))


def encoder(numbers: Any, names: Any, **options: Any) -> ColumnTransformer:
    """A ColumnTransformer over the two kinds of columns."""
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("names", names, NAMES)], **options)


SCALED = make_pipeline(SimpleImputer(), StandardScaler())
ONE_HOT = OneHotEncoder(handle_unknown="ignore")
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
COMPILABLE = {
    "logistic, sparse one-hot": make_pipeline(encoder(SCALED, ONE_HOT), LogisticRegression()),
    "logistic, dropped and rare categories": make_pipeline(
        encoder(
            make_pipeline(SimpleImputer(strategy="median"), MinMaxScaler()),
            make_pipeline(
                SimpleImputer(strategy="most_frequent"),
                OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.05, drop="first"),
            ),
        ),
        LogisticRegression(C=0.1, max_iter=1000),
    ),
    "logistic behind a second scaler": make_pipeline(
        encoder(SCALED, ORDINAL), StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "boosting on numbers as they are": make_pipeline(
        encoder("passthrough", ORDINAL), HistGradientBoostingClassifier(max_iter=20, random_state=0)
    ),
    "forest": make_pipeline(encoder(SCALED, ONE_HOT), RandomForestClassifier(10, random_state=0)),
    "only the names, numbers dropped": make_pipeline(
        ColumnTransformer([("names", ONE_HOT, NAMES)], remainder="drop"), LogisticRegression()
    ),
    "columns by number": make_pipeline(
        ColumnTransformer([("a", SCALED, [0, 2]), ("b", ONE_HOT, [1, 3, 4])]), LogisticRegression()
    ),
}


@pytest.mark.filterwarnings("ignore:Found unknown categories")  # scikit-learn's own, from predict_proba
@pytest.mark.parametrize("name", COMPILABLE)
def test_direct_equals_the_estimator_on_reference_missing_unseen_and_extremes(name: str) -> None:
    """Both forms agree within 1e-12, for either class as the positive one."""
    columns, label, reference = customers()
    estimator = COMPILABLE[name].fit(columns.frame(), label)
    rows = proof_rows(LAYOUT, reference)
    assert rows.n == 400 + 11  # three extremes per number, missing where nullable, one unseen per category
    for positive in (0, 1):
        direct = DirectForm(estimator, LAYOUT, Binary(positive))
        assert differs(direct, FrameForm(estimator, Binary(positive)), rows) is None


@pytest.mark.parametrize("name", COMPILABLE)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(name: str) -> None:
    """/predict and the topic give one customer one probability."""
    columns, label, _ = customers()
    direct = DirectForm(COMPILABLE[name].fit(columns.frame(), label), LAYOUT, Binary(1))
    batch = direct(columns)
    alone = np.array([direct(columns.take(np.array([i])))[0] for i in range(0, columns.n, 7)])
    assert np.array_equal(alone, batch[::7])


NOT_COMPILABLE = {
    "a log of numbers": (
        make_pipeline(
            encoder(make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p)), ONE_HOT), LogisticRegression()
        ),
        "FunctionTransformer",
    ),
    "an imputer that looks at neighbours": (
        make_pipeline(encoder(make_pipeline(KNNImputer(), StandardScaler()), ONE_HOT), LogisticRegression()),
        "KNNImputer",
    ),
    "a missing-value indicator": (
        make_pipeline(encoder(SimpleImputer(add_indicator=True), ONE_HOT), LogisticRegression(max_iter=1000)),
        "SimpleImputer",
    ),
    "unseen categories refused": (
        make_pipeline(encoder(SCALED, OneHotEncoder(handle_unknown="error")), LogisticRegression()),
        "unseen",
    ),
    "no ColumnTransformer": (make_pipeline(FunctionTransformer(), HistGradientBoostingClassifier()), "Function"),
}


@pytest.mark.parametrize("name", NOT_COMPILABLE)
def test_what_is_not_known_to_be_equal_is_not_compiled(name: str) -> None:
    """The reason names the part that has no direct form."""
    estimator, reason = NOT_COMPILABLE[name]
    columns, label, _ = customers()
    if name != "no ColumnTransformer":
        estimator = estimator.fit(columns.frame(), label)
    with pytest.raises(NotCompilable, match=reason):
        DirectForm(estimator, LAYOUT, Binary(1))


def test_a_wrong_direct_form_is_found_out() -> None:
    """One weight off by a millionth: the proof gives the difference."""
    columns, label, reference = customers()
    estimator = make_pipeline(encoder(SCALED, ONE_HOT), LogisticRegression()).fit(columns.frame(), label)
    direct = DirectForm(estimator, LAYOUT, Binary(1))
    column, steps, weight = direct._folded.numeric[0]
    direct._folded.numeric[0] = (column, steps, weight + 1e-6)
    why = differs(direct, FrameForm(estimator, Binary(1)), proof_rows(LAYOUT, reference))
    assert why is not None
    assert "differs from predict_proba by" in why


@pytest.mark.parametrize("name", ["boosting on numbers as they are", "forest"])
def test_trees_that_give_other_bits_in_small_batches_are_found_out(name: str) -> None:
    """Leaves that are off by the last bit."""
    columns, label, reference = customers()
    estimator = COMPILABLE[name].fit(columns.frame(), label)
    direct = DirectForm(estimator, LAYOUT, Binary(1))
    values = direct._trees._nodes.values
    values[:] = np.nextafter(values, np.inf)
    why = differs(direct, FrameForm(estimator, Binary(1)), proof_rows(LAYOUT, reference))
    assert why == "differs between small and large batches"


# --- several classes ------------------------------------------------------------------------------------------------

CLASSES = ("bronze", "gold", "silver", "tin")
OF_CLASSES = {
    "logistic": make_pipeline(encoder(SCALED, ONE_HOT), LogisticRegression(max_iter=1000)),
    "logistic behind a second scaler": COMPILABLE["logistic behind a second scaler"],
    "boosting": COMPILABLE["boosting on numbers as they are"],
    "forest": COMPILABLE["forest"],
    "each against the rest": make_pipeline(encoder(SCALED, ONE_HOT), OneVsRestClassifier(LogisticRegression())),
}


def _of_classes(name: str) -> tuple[Any, Any, DirectForm, Reference]:
    columns, _, reference = customers()
    age = columns.numeric[:, 0]
    label = np.array(CLASSES)[(age // 10 + columns.codes[:, 0]).astype(int) % 4]
    estimator = OF_CLASSES[name].fit(columns.frame(), label)
    return columns, estimator, DirectForm(estimator, LAYOUT, Multiclass(CLASSES)), reference


@pytest.mark.filterwarnings("ignore:Found unknown categories")  # scikit-learn's own, from predict_proba
@pytest.mark.parametrize("name", OF_CLASSES)
def test_the_distribution_over_classes_is_the_estimators(name: str) -> None:
    """Every probability of every row within 1e-12; a wrong intercept is found."""
    _, estimator, direct, reference = _of_classes(name)
    rows, frame = proof_rows(LAYOUT, reference), FrameForm(estimator, Multiclass(CLASSES))
    assert differs(direct, frame, rows) is None
    assert direct(rows).shape == (rows.n, 4)
    if name == "logistic":
        direct._folded._each[2].intercept += 1e-9
        assert "differs from predict_proba by" in (differs(direct, frame, rows) or "")


@pytest.mark.parametrize("name", [name for name in OF_CLASSES if name != "each against the rest"])  # BLAS is in it
def test_a_row_has_the_same_distribution_alone_and_in_a_batch(name: str) -> None:
    """To the bit, as a probability has."""
    columns, _, direct, _ = _of_classes(name)
    batch = direct(columns)
    alone = np.array([direct(columns.take(np.array([i])))[0] for i in range(0, columns.n, 7)])
    assert np.array_equal(alone, batch[::7])
