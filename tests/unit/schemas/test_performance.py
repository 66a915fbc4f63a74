"""Records of cohorts."""

import pytest
from msgspec.structs import replace

from schemas.measurement import is_window
from schemas.performance import Cohort, Coverage, LabelCount, Metric, Performance, decode_performance

COHORT = Performance(
    model="churn",
    model_version="1.4.0",
    cohort=Cohort("2026-11-22", "2026-11-22T00:00:00.000Z", "2026-11-23T00:00:00.000Z"),
    status="final",
    horizon="90d",
    predictions=100,
    customers=90,
    labels=LabelCount(20, 70, 5),
    coverage=Coverage(0.9, 1.0, 0.9, 0.9, 0.9),
    metrics={"roc_auc": Metric(None, reason="one_class")},
)


def test_a_cohort_is_read_as_it_was_written_and_is_no_window():
    """It is on the topic of the windows."""
    assert decode_performance(COHORT.encode()) == COHORT
    assert COHORT.key() == b"churn/performance"
    assert not is_window(COHORT.key())


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not a performance"),
        (COHORT.encode().replace(b'"final"', b'"done"'), "not a performance"),
        (b"[" * 100_000, "not a performance"),
        (replace(COHORT, version=3).encode(), "performance: version 3 is not known, only 1"),
    ],
)
def test_other_bytes_are_an_error(raw, message):
    """The label state holds them, too, and anybody may write there."""
    with pytest.raises(ValueError, match=message):
        decode_performance(raw)
