"""Rows of the catalogue: each is a member of a measurement, and its tests exist for its kinds."""

from drift_worker.statistics.catalogue import CATALOGUE, EFFECTS, EXACT, TESTS
from schemas.measurement import FeatureMeasurement


def test_a_statistic_is_a_member_of_the_measurement_and_there_once():
    """Metrics, evidence and page read it by this name."""
    names = [statistic.name for statistic in CATALOGUE]
    assert len(names) == len(set(names))
    assert {*names, *(statistic.null for statistic in CATALOGUE if statistic.null)} <= set(
        FeatureMeasurement.__struct_fields__
    )


def test_every_kind_has_a_test_and_an_effect_that_the_test_is_evidence_for():
    """A test without an effect would never raise an alert, an effect without a test always."""
    assert set(TESTS) == {"numeric", "categorical", "boolean", "score"}
    for kind, tests in TESTS.items():
        found = {test for effect in EFFECTS if kind in effect.kinds for test in effect.evidence}
        assert set(tests) <= found, kind
    assert {test for effect in EFFECTS for test in effect.evidence} <= {t for tests in TESTS.values() for t in tests}


def test_exact_tests_are_tests():
    """The self-check leaves them out."""
    assert {test for tests in TESTS.values() for test in tests} > EXACT


def test_a_panel_needs_a_series():
    """The dashboard queries what the worker exports."""
    assert [statistic.name for statistic in CATALOGUE if statistic.panel and not statistic.help] == []
