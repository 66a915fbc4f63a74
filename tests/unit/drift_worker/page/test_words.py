"""States, reasons, numbers and times in words; the unknown is never a number."""

import pytest

from drift_worker.page import words


@pytest.mark.parametrize("write", [words.number, words.share, words.count, words.probability])
def test_what_is_unknown_is_a_dash(write):
    """0 would be a statement."""
    assert write(None) == "–"
    assert write(0.0) != "–"


@pytest.mark.parametrize(("log10_p", "text"), [(0.0, "1.000"), (-2.0, "0.010"), (-3.0, "10^-3"), (-412.3, "10^-412")])
def test_a_tiny_p_is_a_power_of_ten(log10_p, text):
    """As a double it would be 0."""
    assert words.probability(log10_p) == text


@pytest.mark.parametrize(
    ("value", "number", "share"),
    [(0.3449, "0.345", "34.5 %"), (0.0004, "4e-04", "0.04 %"), (-0.05, "-0.050", "-5.0 %")],
)
def test_small_numbers_do_not_become_0(value, number, share):
    """Three digits, or the first one."""
    assert (words.number(value), words.share(value)) == (number, share)


def test_edges_have_the_fewest_digits_that_tell_them_apart():
    """Two bins with the same name would be one to a reader."""
    assert words.edges([1.0, 2.0, 30.0]) == ["1", "2", "30"]
    assert words.edges([1234567.0, 1234568.0]) == ["1.234567M", "1.234568M"]
    assert words.edges([0.1234567, 0.12345671]) == ["0.1234567", "0.12345671"]


def test_states_and_reasons_of_a_later_version_are_shown_as_they_are():
    """The page does not decide which exist."""
    assert words.state("some_new_state")[:2] == ("some new state", "?")
    assert (words.reason("some_reason"), words.reason(None)) == ("some reason", "not measured")
    assert words.reason("all_missing") == "every value is missing"


@pytest.mark.parametrize(
    ("span_ms", "times"),
    [
        (60_000, ("06:00:00", "06:00:30", "06:01:00")),
        (3_600_000, ("06:00", "06:30", "07:00")),
        (86_400_000, ("22 Nov 06:00", "22 Nov 18:00", "23 Nov 06:00")),
    ],
)
def test_an_axis_is_as_exact_as_its_span(span_ms, times):
    """Seconds for minutes, and days for days."""
    assert words.axis_times(1_795_327_200_000, 1_795_327_200_000 + span_ms) == times
    assert words.moment(1_795_327_200_000) == "2026-11-22 06:00"
    assert words.moment(1_795_327_201_000) == "2026-11-22 06:00:01"
