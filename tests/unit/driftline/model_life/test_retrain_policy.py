"""The retrain policy, cell by cell; the triggers of open alerts; and the signs of broken data."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from support import bundles
from support.events import FEATURES

from driftline.model_life.data_checks import defects
from driftline.model_life.retrain_policy import POLICY, TRAINS, Action, Reason, Trigger, decide
from schemas.alert import Alert
from schemas.features import UNSEEN
from schemas.reference import Reference

IMPORTANCE = {"tenure": 0.2, "senior": 0.001}


def _alert(name, feature=None, members=None):
    labels = {"alertname": name, "severity": "critical", "model": "churn-small"}
    if feature:
        labels["feature"] = feature
    evidence = {"features": [{"feature": member} for member in members]} if members else {}
    return Alert(
        fingerprint="0" * 16,
        status="firing",
        labels=labels,
        annotations={},
        starts_at="2026-11-22T05:00:00.000Z",
        sequence=1,
        evidence=evidence,
    )


TABLE = [
    ("drift", "investigate"),
    ("minor_drift", "watch"),
    ("performance", "retrain"),
    ("schedule", "compare"),
    ("new_data", "gain"),
    ("manual", "compare"),
]


def test_a_person_can_give_every_trigger_but_minor_drift():
    """Whether a drift is minor follows from the features that drifted."""
    assert set(get_args(Reason)) == {"auto", *Trigger} - {Trigger.MINOR_DRIFT}


@pytest.mark.parametrize(("trigger", "action"), TABLE)
def test_every_cell_of_the_policy(trigger, action):
    """The action for sound data; with broken data there is none, for any reason."""
    assert decide(Trigger(trigger), [], IMPORTANCE).action == action
    assert decide(Trigger(trigger), [], IMPORTANCE, defects=["tenure: missing in every row"]).action == "block"
    assert decide(Trigger(trigger), [_alert("DataQuality", "tenure")], IMPORTANCE).action == "block"


def test_the_table_is_whole_and_nothing_in_it_promotes():
    """A trigger or an action that is added needs its cell, and a test."""
    assert {trigger.value for trigger in POLICY} == {trigger for trigger, _ in TABLE} == {t.value for t in Trigger}
    assert {action.value for action in TRAINS} == {"retrain", "compare", "gain"}
    assert {a for cells in POLICY.values() for a in cells} == set(Action)


@pytest.mark.parametrize(
    ("alerts", "trigger", "action"),
    [
        ([], "schedule", "compare"),
        ([_alert("NoData")], "schedule", "compare"),
        ([_alert("FeatureDrift", "tenure")], "drift", "investigate"),
        ([_alert("FeatureDrift", "senior")], "minor_drift", "watch"),
        ([_alert("FeatureDrift", "group", ["senior", "tenure"])], "drift", "investigate"),
        ([_alert("DriftPolicyClassic", "never heard of")], "drift", "investigate"),
        ([_alert("PredictionDrift")], "drift", "investigate"),
        ([_alert("RelationDrift")], "drift", "investigate"),
        ([_alert("FeatureDrift", "senior"), _alert("SegmentDrift")], "drift", "investigate"),
        ([_alert("FeatureDrift", "tenure"), _alert("PerformanceDrop")], "performance", "retrain"),
        ([_alert("PerformanceDrop"), _alert("UnseenCategories", "contract")], "performance", "block"),
        ([_alert("MissingValues", "senior")], "schedule", "block"),
    ],
)
def test_the_gravest_open_alert_is_the_reason(alerts, trigger, action):
    """`--reason auto`: broken data before all, then performance, then drift by what it does to the score."""
    found = decide(None, alerts, IMPORTANCE)
    assert (found.trigger, found.action) == (trigger, action)


def test_a_change_that_is_meant_so_does_not_block():
    """A new category that was accepted is what training again is for; another feature's still blocks."""
    alerts = [_alert("UnseenCategories", "contract")]
    assert decide(Trigger.SCHEDULE, alerts, {}, accepted=["contract"]).action == "compare"
    assert (
        decide(Trigger.SCHEDULE, alerts, {}, accepted=["payment"]).because[0] == "UnseenCategories of contract is open"
    )


@pytest.fixture
def customers():
    """A reference of 4,000 customers, and 1,000 others of the same kind."""
    rng = np.random.default_rng(5)

    def draw(n):
        numbers = np.column_stack([rng.uniform(1, 120, n), rng.uniform(20, 100, n), rng.uniform(10, 5000, n)])
        codes = np.column_stack([rng.integers(0, 2, n), rng.integers(-1, 1, n), *rng.integers(0, 2, (2, n))])
        return numbers, codes.astype(np.int32)

    numbers, codes = draw(4000)
    numeric, window = draw(1000)
    columns = replace(bundles.columns(1), n=1000, numeric=numeric, codes=window)
    return Reference(numbers, codes, np.zeros(4000), np.zeros(4, dtype=np.int64)), columns


def _broken(customers, change, **more):
    reference, columns = customers
    numeric, codes = columns.numeric.copy(), columns.codes.copy()
    change(numeric, codes)
    return defects(reference, replace(columns, numeric=numeric, codes=codes), np.arange(1000), **more)


def test_sound_data_and_mere_drift_are_not_broken(customers):
    """Customers who pay half as much again are what a new model is for."""
    assert [feature.name for feature in FEATURES][1] == "monthly_charges"
    assert _broken(customers, lambda *_: None) == []

    def drift(numeric, codes):
        numeric[:, 1] *= 1.5
        codes[:, 0] = 1

    assert _broken(customers, drift) == []


def test_broken_data_is_named_feature_by_feature(customers):
    """Missing, constant, another unit, unknown categories; what was accepted is not named."""

    def break_it(numeric, codes):
        numeric[:, 0] = 7.0
        numeric[:, 1] *= 100.0
        numeric[:200, 2] = np.nan
        codes[:50, 0] = UNSEEN

    assert _broken(customers, break_it) == [
        "tenure: the same value in every row",
        "monthly_charges: looks like the reference's in another unit (×100)",
        "total_charges: missing in 20.0% of the rows, in the reference in 0.0%",
        "contract: a category that is unknown to the model in 5.0% of the rows",
    ]
    assert len(_broken(customers, break_it, accepted=["total_charges", "contract", "tenure"])) == 2


def test_what_the_reference_lacks_as_well_is_not_broken():
    """A column that is empty, missing in 99.9 %, or 0 in 99.9 % of the reference, and in every row of the new data."""
    numbers = np.column_stack([np.full(4000, np.nan), np.full(4000, np.nan), np.zeros(4000)])
    numbers[:4, 1], numbers[:4, 2] = 50.0, 10.0
    codes = np.zeros((4000, 4), dtype=np.int32)
    new = np.column_stack([np.full(1000, np.nan), np.full(1000, np.nan), np.zeros(1000)])
    columns = replace(bundles.columns(1), n=1000, numeric=new, codes=codes[:1000])
    reference = Reference(numbers, codes, np.zeros(4000), np.zeros(4, dtype=np.int64))
    assert defects(reference, columns, np.arange(1000)) == []
