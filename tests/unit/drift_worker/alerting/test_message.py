"""The text and the numbers of an alert."""

import pytest

from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.alerting.message import describe, evidence, limits, rank, subject_of, summary
from schemas.alert import AlertName
from schemas.measurement import FeatureMeasurement, Level, Measurement, Sample, Window

POLICY = Policy({"15m": 900_000}, {"15m": Confirm(2, 3)}, limits={"fees": (0.3, 0.6)})
SHOWN = {"statistic", "limits", "null_999", "sample", "window", "bins", "score_shift", "offsets", "features"}


def _feature(**changes):
    return FeatureMeasurement(**{"kind": "numeric", "events": 1500, "psi": 0.31, "ks": 0.22, "effect": 0.3, **changes})


def _measurement(**features):
    return Measurement(
        model="churn",
        model_version="1.4.0",
        reference_sha256="ab" * 32,
        window=Window("15m", "2026-11-22T05:00:00.000Z", "2026-11-22T05:15:00.000Z"),
        complete=True,
        sample=Sample(1500, 3, 0),
        level=Level(0.01, 62),
        features=features,
        score=FeatureMeasurement(kind="score", events=1500, psi=0.05, mean=0.33, reference_mean=0.27),
    )


def _summary(alertname, feature, members=(), *, resolved=False, **features):
    return summary(POLICY, _measurement(**features), alertname, feature, list(members), resolved=resolved)


def test_a_summary_names_the_feature_the_size_and_the_limit():
    """One line, at the beginning and at the end of an episode."""
    line = _summary(AlertName.FEATURE_DRIFT, "fees", fees=_feature())
    assert line == "fees moved: PSI 0.31, KS D 0.22 (limit 0.30)"
    assert _summary(AlertName.FEATURE_DRIFT, "fees", resolved=True, fees=_feature()).startswith("fees is back: ")
    assert _summary(AlertName.PREDICTION_DRIFT, None).startswith("the score moved: PSI 0.05")


def test_a_group_shows_three_members_and_counts_the_rest():
    """The rest is in the evidence."""
    names = ["a", "b", "c", "d", "e"]
    line = _summary(AlertName.FEATURE_DRIFT, "group", names, **{name: _feature() for name in names[:4]})
    assert line.startswith("5 features moved together: a (PSI 0.31, KS D 0.22), b (")
    assert line.endswith(" and 2 more")


@pytest.mark.parametrize(
    ("alertname", "changes", "line"),
    [
        (
            AlertName.MISSING_VALUES,
            {"missing_ratio": 0.25, "reference_missing_ratio": 0.01},
            "fees: 25.0% missing, 1.0% in the reference (limit ±5%)",
        ),
        (
            AlertName.UNSEEN_CATEGORIES,
            {"unseen_ratio": 0.04, "reference_unseen_ratio": 0.001},
            "fees: 4.0% in unseen categories, 0.1% expected (limit +1%)",
        ),
        (AlertName.DATA_QUALITY, {"quality": "unit_jump", "quality_detail": "×100"}, "fees: unit jump ×100"),
        (AlertName.REFERENCE_MISMATCH, {}, "fees never fitted the reference: PSI 0.31, KS D 0.22 (limit 0.30)"),
    ],
)
def test_each_kind_of_alert_states_its_own_numbers(alertname, changes, line):
    """A rate beside the expected rate, what broke, or the effect."""
    assert _summary(alertname, "fees", fees=_feature(**changes)) == line


def test_evidence_has_the_limits_that_apply():
    """A feature's own effect limits, the limits of a rate, and none where nothing is compared."""
    assert limits(POLICY, AlertName.FEATURE_DRIFT, "fees") == (0.3, 0.6)
    assert limits(POLICY, AlertName.MISSING_VALUES, "fees") == (0.05, 0.2)
    assert limits(POLICY, AlertName.DATA_QUALITY, "fees") is None
    found = evidence(POLICY, _measurement(fees=_feature()), AlertName.FEATURE_DRIFT, "fees", [])
    assert found.keys() >= SHOWN
    assert found["limits"] == {"effect_warning": 0.3, "effect_critical": 0.6, "q": 0.01}
    assert (found["statistic"]["psi"], found["statistic"]["linf"]) == (0.31, None)
    assert found["score_shift"] == {"probability_psi": 0.05, "mean_before": 0.27, "mean_now": 0.33}
    assert found["features"] is None


def test_members_are_ranked_by_what_they_do_to_the_score():
    """Then by effect; one without a number is last."""
    features = {
        "small": _feature(score_shift=0.01),
        "large": _feature(score_shift=-0.2),
        "unknown": _feature(effect=None),
    }
    assert rank(_measurement(**features), ["unknown", "gone", "small", "large"])[:2] == ["large", "small"]


def test_no_data_is_about_the_window():
    """It has no subject, and counts events."""
    assert subject_of(_measurement(fees=_feature()), AlertName.NO_DATA, None) is None
    assert _summary(AlertName.NO_DATA, None) == "not enough events in 15m: 1500"


def test_a_description_tells_what_to_do_until_it_is_over():
    """The window, since when, the score, and the next step."""
    measurement = _measurement(fees=_feature(effective=900.0, against="week"))
    text = describe(measurement, AlertName.FEATURE_DRIFT, "fees", "05:00", resolved=False)
    assert "Window of 15m ending 2026-11-22T05:15:00.000Z, since 05:00." in text
    assert "1500 events that count as 900 independent ones. Compared with the same hours of past weeks." in text
    assert "Mean score 0.270 in the reference, 0.330 now." in text
    assert text.endswith("retrain.")
    over = describe(measurement, AlertName.FEATURE_DRIFT, "fees", "05:00", resolved=True)
    assert over.endswith("Back below the limit for three windows.")
