"""PerformanceDrop: what is a drop, what is not, and how an episode of it goes."""

import math

import pytest
from msgspec.structs import replace

from drift_worker.performance.performance_drop import DropDetector, DropState, drops
from schemas.performance import (
    Band,
    ClassCoverage,
    ClassLabelCount,
    ClassPerformance,
    Cohort,
    Coverage,
    LabelCount,
    Metric,
    Performance,
    ValueCoverage,
    ValueLabelCount,
    ValuePerformance,
)

EVEN = Coverage(1.0, 1.0, 1.0, 1.0, 1.0)


def _cohort(day, accuracy=0.8, auc=0.84, error=0.01, **changes):
    """1,000 customers, held-out 0.80 and 0.84 with errors of 0.01; the scores promise the same, 0.02 either way."""
    cohort = Performance(
        model="churn-telco",
        model_version="1.0.0",
        cohort=Cohort(f"2026-03-{day:02}", f"2026-03-{day:02}T00:00:00.000Z", f"2026-03-{day + 1:02}T00:00:00.000Z"),
        status="final",
        horizon="90d",
        predictions=1000,
        customers=1000,
        labels=LabelCount(265, 735, 0),
        coverage=EVEN,
        metrics={"accuracy": Metric(accuracy, error), "roc_auc": Metric(auc, error)},
        expected={"accuracy": Metric(0.8, 0.01), "roc_auc": Metric(0.84, 0.01)},
        estimated_labelled={"accuracy": Band(0.8, 0.76, 0.84, 0.02, 0.02), "roc_auc": None},
    )
    return replace(cohort, **changes)


def _judge(version="1.0.0", remembered=None):
    judge = DropDetector("churn-telco", version, 500, "docs/runbook.md", remembered or DropState())
    assert judge.renew(0) is None or remembered
    return judge


def test_an_episode_is_two_messages_and_ends_after_three_clean_cohorts():
    """Down by 7 points for three days, then back; a restart in between remembers everything."""
    judge, said = _judge(), []
    for day, accuracy in enumerate((0.8, 0.73, 0.73, 0.73, 0.79, 0.8, 0.8, 0.8), start=1):
        judge = _judge(remembered=DropState.decode(judge.remembered.encode()))
        cohort, alert = judge.step(_cohort(day, accuracy))
        said += [] if alert is None else [(day, alert)]
        assert cohort.judged
    assert [(day, alert.status, alert.sequence) for day, alert in said] == [(3, "firing", 1), (7, "resolved", 2)]
    fired, resolved = (alert for _, alert in said)
    assert fired.labels == {"alertname": "PerformanceDrop", "model": "churn-telco", "severity": "warning"}
    assert (fired.starts_at, resolved.ends_at) == ("2026-03-03T00:00:00.000Z", "2026-03-08T00:00:00.000Z")
    assert fired.annotations["summary"] == "accuracy 0.730, 0.800 of held-out customers (limit -0.05)"
    assert fired.annotations["runbook_url"] == "docs/runbook.md#performancedrop"
    assert fired.fingerprint == resolved.fingerprint


@pytest.mark.parametrize(
    ("calm", "accuracy", "days"),
    [
        (0, 0.74, 2),  # nothing is known of how days vary: a second day confirms it
        (0, 0.68, 1),  # twice the evidence
        (10, 0.74, 1),  # days are known to be steady
    ],
)
def test_a_first_drop_is_confirmed_until_it_is_known_how_days_vary(calm, accuracy, days):
    """Eight differences make it known, and the last one waits for the day after it."""
    judge = _judge()
    for day in range(1, calm + 1):
        assert judge.step(_cohort(day))[1] is None
    said = [judge.step(_cohort(calm + day, accuracy))[1] for day in range(1, 4)]
    assert [alert is not None for alert in said] == [day == days for day in range(1, 4)]


def test_days_that_vary_by_themselves_need_a_larger_drop():
    """Days of .84 and .80 in turn, where errors are .01: five points below .80 are nothing new, thirty are."""
    judge = _judge()
    for day in range(1, 21):
        judge.step(_cohort(day, 0.8 if day % 2 else 0.84))
    assert judge.step(_cohort(21, 0.74))[1] is None
    assert judge.step(_cohort(22, 0.8))[1] is None
    assert judge.step(_cohort(23, 0.5))[1].labels["severity"] == "critical"


@pytest.mark.parametrize("worse", ["accuracy", "auc"])
def test_the_state_is_the_same_bytes_whichever_metric_is_worse(worse):
    """Metrics are kept in the order of their names, not in that of a set or of the drops."""
    judge = _judge()
    judge.step(_cohort(1, **{worse: 0.78}))
    assert list(judge.remembered.variation) == ["accuracy", "roc_auc"]


def test_how_days_vary_is_kept_for_the_next_version_and_must_be_numbers():
    """Variation is the stream's. What anybody may have written is rejected where it is no number."""
    judge = _judge()
    for day in range(1, 21):
        judge.step(_cohort(day, 0.8 if day % 2 else 0.84))
    state = DropState.decode(judge.remembered.encode())
    successor = DropDetector("churn-telco", "1.1.0", 500, "docs/runbook.md", state)
    assert successor.renew(0) is None
    assert successor.remembered.variation["accuracy"].known
    assert successor.step(_cohort(21, 0.74, model_version="1.1.0"))[1] is None
    successor.remembered.variation["accuracy"].total = math.nan
    with pytest.raises(ValueError, match="a variation that is no number"):
        DropState.decode(successor.remembered.encode())


def test_a_drop_that_grows_is_said_once_more():
    """Warning, then critical at ten points; it does not fall back."""
    judge = _judge()
    alerts = [judge.step(_cohort(day, accuracy))[1] for day, accuracy in enumerate((0.74, 0.74, 0.69, 0.74), start=1)]
    assert [alert and alert.labels["severity"] for alert in alerts] == [None, "warning", "critical", None]
    assert judge.state == "critical"


@pytest.mark.parametrize(
    ("changes", "against"),
    [
        ({"accuracy": 0.74}, {"expected", "estimated"}),
        # the customers are easier, the scores promise 0.90: 0.82 is as before, and less than they promise
        ({"accuracy": 0.82, "estimated_labelled": {"accuracy": Band(0.9, 0.88, 0.92, 0.01, 0.01)}}, {"estimated"}),
        # they are harder, and the scores show it
        ({"accuracy": 0.74, "estimated_labelled": {"accuracy": Band(0.74, 0.7, 0.78, 0.02, 0.02)}}, {"expected"}),
        ({"auc": 0.78}, {"expected"}),
        ({"accuracy": 0.751, "estimated_labelled": {}}, set()),  # too small an effect
        ({"accuracy": 0.74, "error": 0.02, "estimated_labelled": {}}, set()),  # too little evidence
        ({"accuracy": 0.74, "estimated_labelled": {}, "expected": {"accuracy": Metric(0.8)}}, set()),
    ],
)
def test_a_drop_needs_effect_and_evidence(changes, against):
    """Five points, and 3.5 standard errors; against the estimate its calibration band on top."""
    assert {drop.against for drop in drops(_cohort(1, **changes)) if drop.grade} == against


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": LabelCount(100, 300, 0)}, "not_enough_labels"),
        ({"customers": 499}, "not_enough_labels"),
        ({"labels": LabelCount(19, 981, 0)}, "not_enough_labels"),
        ({"coverage": Coverage(0.4, 1.0, 0.2, 0.7, 0.3)}, "labels_one_sided"),
        ({"expected": {}, "estimated_labelled": {}}, "nothing_to_compare_with"),
        ({"model_version": "0.9.0"}, "other_version"),
    ],
)
def test_what_decides_nothing_says_why(changes, reason):
    """Half of the accuracy gone, and no alert."""
    judge = _judge()
    cohort, alert = judge.step(_cohort(1, 0.4, **changes))
    assert (cohort.judged, cohort.reason, alert) == (False, reason, None)
    assert judge.state != "critical"


def test_another_version_ends_what_was_said_of_the_last_one():
    """Its cohorts are not compared with the new one's numbers, and could never end it."""
    judge = _judge()
    _, fired = judge.step(_cohort(1, 0.7))
    successor = DropDetector(
        "churn-telco", "1.1.0", 500, "docs/runbook.md", DropState.decode(judge.remembered.encode())
    )
    ended = successor.renew(1_772_500_000_000)
    assert (ended.status, ended.sequence, ended.fingerprint) == ("resolved", 2, fired.fingerprint)
    assert ended.annotations["reason"] == "reference_changed"
    assert successor.state == "inactive"
    assert successor.renew(1_772_500_000_000) is None


def test_decisions_that_cannot_be_read_are_named():
    """Of another layout, or torn."""
    with pytest.raises(ValueError, match="not the decisions on performance"):
        DropState.decode(b"\xc1")


def test_the_largest_drop_stands_first():
    """As the evidence lists them."""
    found = drops(_cohort(1, accuracy=0.74, auc=0.74))
    assert (found[0].metric, found[0].against) == ("roc_auc", "expected")
    assert math.isclose(found[0].by, 0.1)


def test_an_episode_ends_where_labels_are_too_few_for_a_clean_cohort():
    """ROC AUC of 25 positive customers has an error of 0.06: 0.05 below what is promised is what chance gives."""
    judge, few = _judge(), LabelCount(25, 600, 0)
    said = [judge.step(_cohort(day, 0.8, 0.6, labels=few))[1] for day in (1, 2)]
    assert said[0].status == "firing"
    expected = {"accuracy": Metric(0.8, 0.01), "roc_auc": Metric(0.84, 0.06)}
    said += [judge.step(_cohort(day, 0.8, 0.79, labels=few, error=0.06, expected=expected))[1] for day in (3, 4, 5)]
    assert [alert and alert.status for alert in said] == ["firing", None, None, None, "resolved"]


def _values(day, mae, error=0.1, **changes):
    """1,000 customers of a regression; held-out customers gave an MAE of 5.0 with an error of 0.1."""
    cohort = ValuePerformance(
        model="charges",
        model_version="1.0.0",
        cohort=Cohort(f"2026-03-{day:02}", f"2026-03-{day:02}T00:00:00.000Z", f"2026-03-{day + 1:02}T00:00:00.000Z"),
        status="final",
        horizon="90d",
        predictions=1000,
        customers=1000,
        labels=ValueLabelCount(1000),
        coverage=ValueCoverage(1.0),
        metrics={"mae": Metric(mae, error), "bias": Metric(1.0, 0.1)},
        expected={"mae": Metric(5.0, 0.1)},
    )
    return replace(cohort, **changes)


def test_a_regression_is_judged_by_its_error_in_units_of_the_held_out_one():
    """A quarter more is a warning, half more a critical; three days below a fifth end it."""
    judge = DropDetector("charges", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    said = []
    for day, mae in enumerate((5.0, 6.2, 6.3, 7.6, 6.1, 5.9, 5.9, 5.9), start=1):
        cohort, alert = judge.step(_values(day, mae))
        assert cohort.judged
        said += [] if alert is None else [(day, alert.status, alert.labels["severity"], alert)]
    assert [one[:3] for one in said] == [
        (3, "firing", "warning"),
        (4, "firing", "critical"),
        (8, "resolved", "critical"),
    ]
    fired = said[0][3]
    assert fired.annotations["summary"] == "MAE 6.3, 5 of held-out customers (limit +25%)"
    assert fired.evidence["drops"][0]["by"] == pytest.approx(0.26)
    assert (fired.evidence["limits"]["effect_warning"], fired.evidence["business"]) == (0.25, None)
    assert fired.evidence["statistic"]["bias"]["value"] == 1.0


@pytest.mark.parametrize(
    ("mae", "changes", "reason", "graded"),
    [
        (9.0, {"labels": ValueLabelCount(499)}, "not_enough_labels", True),
        (9.0, {"expected": {"mae": Metric(5.0)}}, "nothing_to_compare_with", False),
        (9.0, {"expected": {"mae": Metric(0.0, 0.1)}}, "nothing_to_compare_with", False),
        (9.0, {"model_version": "0.9.0"}, "other_version", True),
        (9.0, {"error": 1.3}, None, False),  # 0.8 more, and one standard error is 0.26
        (6.2, {"error": 0.001}, None, False),
    ],
)
def test_an_error_needs_effect_and_evidence_as_well(mae, changes, reason, graded):
    """Neither alone is an alert."""
    judge = DropDetector("charges", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    cohort, alert = judge.step(_values(1, mae, **changes))
    assert (cohort.reason, alert) == (reason, None)
    assert any(drop.grade for drop in drops(_values(1, mae, **changes))) == graded


def test_an_error_is_judged_by_what_the_values_promise_as_well():
    """Held-out customers gave nothing; a half more than the estimate, beyond both of its bands, is critical."""
    promised = {"mae": Band(5.0, 4.6, 5.4, sampling=0.2, calibration=0.2)}
    judge = DropDetector("charges", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    said = [
        judge.step(_values(day, mae, expected={}, estimated_labelled=promised)) for day, mae in enumerate((5.4, 8.0))
    ]
    assert [cohort.judged for cohort, _ in said] == [True, True]
    (quiet, alert), drop = (one for _, one in said), drops(said[1][0])[0]
    assert quiet is None
    assert alert.labels["severity"] == "critical"
    assert alert.annotations["summary"] == "MAE 8, 5 estimated from the values (limit +25%)"
    assert "customers who look the same behave differently" in alert.annotations["description"]
    assert alert.evidence["estimated"]["mae"]["value"] == 5.0
    # .2 at 1.96 standard errors are .357 at 3.5; with the .2 of the curve, of 5
    assert (drop.against, drop.needed) == ("estimated", pytest.approx((0.357152 + 0.2) / 5.0, rel=1e-5))
    wide = {"mae": Band(5.0, 0.0, 10.0, sampling=1.0, calibration=1.5)}
    assert not any(one.grade for one in drops(_values(1, 8.0, expected={}, estimated_labelled=wide)))


def _classes(day, accuracy, f1=0.7, **changes):
    """1,000 customers of three classes; held-out customers gave 0.8 and 0.7, each with an error of 0.01."""
    cohort = ClassPerformance(
        model="tiers",
        model_version="1.0.0",
        cohort=Cohort(f"2026-03-{day:02}", f"2026-03-{day:02}T00:00:00.000Z", f"2026-03-{day + 1:02}T00:00:00.000Z"),
        status="final",
        horizon="90d",
        predictions=1000,
        customers=1000,
        predicted={"bronze": 500, "gold": 100, "silver": 400},
        labels=ClassLabelCount(1000, {"bronze": 500, "gold": 100, "silver": 400}),
        coverage=ClassCoverage(1.0, {"bronze": 1.0, "gold": 1.0, "silver": 1.0}),
        metrics={"accuracy": Metric(accuracy, 0.01), "f1_macro": Metric(f1, 0.01)},
        expected={"accuracy": Metric(0.8, 0.01), "f1_macro": Metric(0.7, 0.01)},
    )
    return replace(cohort, **changes)


def test_several_classes_are_judged_by_accuracy_and_macro_f1():
    """A rare class that is found no more moves the mean of F1 and hardly the accuracy."""
    judge = DropDetector("tiers", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    said = [judge.step(_classes(day, 0.79, f1))[1] for day, f1 in enumerate((0.7, 0.58, 0.69, 0.69, 0.69), start=1)]
    assert [alert and (alert.status, alert.labels["severity"]) for alert in said] == [
        None,
        ("firing", "critical"),
        None,
        None,
        ("resolved", "critical"),
    ]
    assert said[1].annotations["summary"] == "macro F1 0.580, 0.700 of held-out customers (limit -0.05)"
    assert [drop["metric"] for drop in said[1].evidence["drops"]] == ["f1_macro", "accuracy"]


def test_several_classes_are_judged_by_what_their_probabilities_promise_as_well():
    """Below the estimate by more than both bands: no input shows it."""
    promised = {name: Band(0.8, 0.75, 0.85, sampling=0.02, calibration=0.03) for name in ("accuracy", "f1_macro")}
    cohort = _classes(1, 0.65, 0.79, expected={}, estimated_labelled=promised)
    judge = DropDetector("tiers", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    judged, alert = judge.step(cohort)
    assert (judged.judged, alert.labels["severity"]) == (True, "critical")
    assert alert.annotations["summary"] == "accuracy 0.650, 0.800 estimated from the scores (limit -0.05)"
    assert "customers who look the same behave differently" in alert.annotations["description"]
    assert [(one["metric"], one["against"]) for one in alert.evidence["drops"]] == [
        ("accuracy", "estimated"),
        ("f1_macro", "estimated"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason", "compared"),
    [
        ({"labels": ClassLabelCount(499, {"bronze": 499})}, "not_enough_labels", ["f1_macro", "accuracy"]),
        ({"labels": ClassLabelCount(1000, {"bronze": 981, "gold": 19})}, None, ["accuracy"]),
        (
            {"coverage": ClassCoverage(0.7, {"bronze": 0.7, "gold": 0.5, "silver": 0.75})},
            "labels_one_sided",
            ["f1_macro", "accuracy"],
        ),
        (
            {"coverage": ClassCoverage(0.7, {"bronze": 0.75, "gold": 0.55, "silver": 0.7})},
            None,
            ["f1_macro", "accuracy"],
        ),
        ({"expected": {}}, "nothing_to_compare_with", []),
    ],
)
def test_what_decides_nothing_about_classes_has_a_reason(changes, reason, compared):
    """Macro F1 needs outcomes of every class; labels that follow the prediction are one-sided."""
    judge = DropDetector("tiers", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    cohort = _classes(1, 0.75, 0.6, **changes)
    assert judge.step(cohort)[0].reason == reason
    assert [drop.metric for drop in drops(cohort)] == compared
