"""The spec: what is accepted, and that every problem is named with its table and key."""

from pathlib import Path

import pytest

from driftline.training.spec import SpecError, parse_spec, read_spec
from schemas.bundle.inputs import EventMapping
from schemas.bundle.manifest import Business

SPECS = Path(__file__).parents[4] / "examples"

SMALL = """
[model]
name = "small"
version = "1.0.0"
[data]
target = "left"
positive = true
[features.age]
kind = "numeric"
"""


def test_the_telco_spec_names_all_19_features_in_the_order_of_the_file():
    """All columns but the label, and total_charges alone may be missing."""
    spec = read_spec(SPECS / "telco.toml")

    assert len(spec.features) == 19
    assert list(spec.features)[:5] == ["female", "senior_citizen", "partner", "dependents", "tenure"]
    assert [name for name, f in spec.features.items() if f.nullable] == ["total_charges"]
    assert (spec.data.target, spec.data.positive, spec.data.id) == ("churn", "Yes", None)
    assert spec.features["tenure"].min == 0.0
    assert spec.event == EventMapping()


def test_the_five_feature_spec_is_read():
    """A second customer schema, with an id column and a threshold chosen by F1."""
    spec = read_spec(SPECS / "churn5.toml")

    assert list(spec.features) == [
        "anciennete_mois",
        "montant_mensuel",
        "nb_reclamations",
        "nb_produits",
        "satisfaction",
    ]
    assert spec.model.threshold == "f1"
    assert spec.data.id == "client_id"


def test_every_table_of_the_contract_is_accepted():
    """The whole example of the contract, with its optional keys."""
    spec = parse_spec("""
        [model]
        name = "churn-telco"
        version = "1.2.0-rc.1"
        threshold = 0.35
        [event]
        event_id = "meta.id"
        customer_id = ""
        event_time = "meta.at"
        features = "payload.customer"
        [data]
        target = "churn"
        positive = 1
        absent_label = "negative"
        id = "customer_id"
        [estimator]
        kind = "some.package:make_model"
        [training]
        seed = 7
        test_size = 0.25
        [business]
        currency = "EUR"
        true_positive = 100.0
        false_positive = -10
        [features.tenure]
        kind = "numeric"
        unit = "months"
        min = 0
        from = "tenure_in_months"
        effect_warning = 0.15
        effect_critical = 0.3
        [features.contract]
        kind = "categorical"
        categories = ["monthly", "yearly"]
        nullable = true
        [features.senior]
        kind = "boolean"
        """)

    assert spec.event.features == "payload.customer"
    assert spec.business == Business(currency="EUR", true_positive=100.0, false_positive=-10.0)
    assert spec.features["tenure"].from_ == "tenure_in_months"
    assert spec.features["contract"].categories == ("monthly", "yearly")
    assert spec.estimator.kind == "some.package:make_model"


def test_what_is_left_out_has_the_documented_defaults():
    """Threshold one half, logistic regression, seed 42, a fifth held out."""
    spec = parse_spec(SMALL)

    assert spec.model.threshold == 0.5
    assert spec.estimator_kind == "logistic_regression"
    assert (spec.training.seed, spec.training.test_size) == (42, 0.2)
    assert spec.business is None


def test_learnt_categories_fill_only_the_features_that_list_none():
    """Listed categories win over what the data has."""
    spec = parse_spec(
        SMALL + '[features.a]\nkind = "categorical"\ncategories = ["x"]\n[features.b]\nkind="categorical"\n'
    )

    features = spec.manifest_features({"a": ["wrong"], "b": ["p", "q"]})

    assert [(f.name, f.categories) for f in features] == [("age", None), ("a", ("x",)), ("b", ("p", "q"))]


def test_every_problem_stands_in_one_message():
    """Five defects in five tables are five parts of one line."""
    with pytest.raises(SpecError) as caught:
        parse_spec("""
            [model]
            name = "Not Allowed"
            version = "1.0.0"
            threshold = "best"
            [modle]
            name = "x"
            [data]
            positive = "Yes"
            [training]
            seed = "42"
            [features.age]
            kind = "number"
            """)

    message = str(caught.value)
    assert message.count("\n") == 0
    assert message.split("; ") == [
        "[model] name: expected a-z, 0-9 and hyphens, at most 64 characters, such as 'not-allowed'",
        '[model] threshold: expected a number from 0 to 1, or "f1"',
        "[data] target: is missing",
        "[training] seed: Input should be a valid integer",
        "[features.age] kind: expected numeric, categorical or boolean",
        "[modle]: is not known here",
    ]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("separator = ';;'", "[data]: separator: expected one character that is no quote and no line end"),
        ("decimal = ';'", "[data] decimal: Input should be '.' or ','"),
        ("decimal = ','\nthousands = ','", "[data]: thousands: is the decimal mark"),
        ("encoding = 'klingon'", "[data]: encoding: 'klingon' is not known"),
        ("encoding = 'rot13'", "[data]: encoding: 'rot13' is not known"),
        ("missing = 'NA'", "[data] missing: Input should be a valid tuple"),
    ],
)
def test_how_a_file_is_written_is_checked_where_the_spec_is_read(keys, problem):
    """With the key and what was expected."""
    with pytest.raises(SpecError) as caught:
        parse_spec(SMALL.replace("positive = true", f"positive = true\n{keys}"))
    assert str(caught.value) == problem


def test_a_path_with_an_empty_part_is_no_place_in_an_event():
    """A dotted `from` is a path; a name with a dot is one name."""
    parse_spec(SMALL + "[features.a]\nkind = 'numeric'\nfrom = 'customer.age'\n[features.'b.c']\nkind = 'numeric'")
    with pytest.raises(SpecError, match=r"\[features\.a\] from: 'customer\.\.age' has an empty part"):
        parse_spec(SMALL + "[features.a]\nkind = 'numeric'\nfrom = 'customer..age'")


@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ("[features.a]\nkind = 'numeric'\nnulable = true", "[features.a] nulable: is not known here"),
        ("[features.a]\nkind = 'boolean'\nmin = 0", "[features.a]: min: only a numeric feature has it"),
        ("[features.a]\nkind = 'numeric'\nmin = 2\nmax = 1", "[features.a]: min: 2 is above max 1"),
        ("[features.a]\nkind = 'numeric'\nmin = true", "[features.a] min: Input should be a valid number"),
        ("[features.a]\nkind = 'numeric'\nmax = inf", "[features.a] max: Input should be a finite number"),
        ("[features.a]\nkind = 'numeric'\ncategories = ['x']", "[features.a]: categories: only a categorical feature"),
        (
            "[features.a]\nkind = 'categorical'\ncategories = ['x', 'x']",
            "[features.a]: categories: 'x' is listed twice",
        ),
        ("[features.a]\nkind = 'categorical'\ncategories = [1.5]", "[features.a] categories.0"),
        ("[features.left]\nkind = 'boolean'", "[features.left]: is the target of [data]"),
        ("[features.a]\nkind = 'numeric'\nfrom = 'age'", "[features] from: 'age' is used twice"),
        ("[event]\nevent_id = 'a..b'", "[event] event_id: 'a..b' has an empty part"),
        ("[event]\nfeatures = ''\ncustomer_id = 'age'", "[event]: event mapping: age is used twice"),
        ("[estimator]\nkind = 'xgboost'", "[estimator] kind: expected logistic_regression, hist_gradient_boosting"),
        ("[training]\ntest_size = 1.0", "[training] test_size: Input should be less than 1"),
    ],
)
def test_a_defect_is_named_with_its_table_and_key(addition, problem):
    """One defect in an otherwise good spec, and its place."""
    with pytest.raises(SpecError) as caught:
        parse_spec(SMALL + addition)

    assert problem in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Absent, not TOML and not UTF-8: the message begins with the path."""
    absent = tmp_path / "absent.toml"
    with pytest.raises(SpecError, match=r"absent\.toml: No such file"):
        read_spec(absent)
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n")
    with pytest.raises(SpecError, match=r"broken\.toml: not TOML: .*line 1"):
        read_spec(broken)
    broken.write_bytes(b"\xff")
    with pytest.raises(SpecError, match=r"broken\.toml: not UTF-8 \(byte 0\)"):
        read_spec(broken)
