"""Whether the stream fits the reference: what is noted of the first windows, cell by cell."""

import itertools

import pytest

from drift_worker.alerting.findings import Finding, Grade
from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.alerting.reference_fit import TRANSITIONS, Fit, Seen, Standing
from schemas.alert import AlertName

POLICY = Policy({"15m": 900_000, "24h": 86_400_000}, {"15m": Confirm(2, 3), "24h": Confirm(1, 1)})
DRIFT = AlertName.FEATURE_DRIFT
CLEAN = Finding(DRIFT, "x", clean=True)
BETWEEN = Finding(DRIFT, "x")
EXCEEDS = Finding(DRIFT, "x", Grade.WARNING)
LACKING = Finding(DRIFT, "x", sufficient=False)


def _fit(*windows):
    """After windows of 15 minutes; a pair is one of 15 minutes and one of a day that end together."""
    standing = Standing()
    for window in windows:
        found = window if isinstance(window, tuple) else (window,)
        standing.note(POLICY, list(zip(("15m", "24h"), found, strict=False)))
    return standing.fit


def test_every_transition_is_stated():
    """The table is total."""
    assert set(TRANSITIONS) == set(itertools.product(Fit, Seen))


@pytest.mark.parametrize(("fit", "seen"), list(itertools.product(Fit, Seen)))
def test_transitions_keep_their_promises(fit, seen):
    """Clean fits, for good; only what was never clean can differ, and only from an early window; silence is nothing."""
    after = TRANSITIONS[fit, seen]
    if seen is Seen.CLEAN or fit is Fit.FITS:
        assert after is Fit.FITS
    if seen is Seen.NOTHING:
        assert after is fit
    if after is Fit.DIFFERS and fit is not Fit.DIFFERS:
        assert (fit, seen) == (Fit.UNKNOWN, Seen.EXCEEDED_EARLY)
    if after is Fit.UNKNOWN:
        assert (fit, seen) == (Fit.UNKNOWN, Seen.NOTHING)


@pytest.mark.parametrize(
    ("windows", "fit"),
    [
        ([EXCEEDS], Fit.DIFFERS),
        ([BETWEEN, BETWEEN, EXCEEDS], Fit.DIFFERS),
        ([BETWEEN, BETWEEN, BETWEEN, EXCEEDS], Fit.FITS),
        ([LACKING, LACKING, LACKING, EXCEEDS], Fit.DIFFERS),
        ([CLEAN, EXCEEDS], Fit.FITS),
        ([EXCEEDS, CLEAN], Fit.FITS),
        ([EXCEEDS, BETWEEN, BETWEEN, BETWEEN, EXCEEDS], Fit.DIFFERS),
        ([BETWEEN, BETWEEN], Fit.UNKNOWN),
        ([], Fit.UNKNOWN),
    ],
    ids=[
        "the first",
        "the third of three",
        "the fourth of three",
        "without enough data no window counts",
        "clean before",
        "clean after",
        "not clean since",
        "not clearly",
        "nothing",
    ],
)
def test_only_the_first_windows_can_show_a_mismatch(windows, fit):
    """N is the one of 2 of 3."""
    assert _fit(*windows) is fit


def test_each_length_has_its_own_first_windows():
    """A day that exceeds after quarter-hours without result; after a clean one; and when they exceed since now."""
    assert _fit(*[LACKING] * 95, (LACKING, EXCEEDS)) is Fit.DIFFERS
    assert _fit(*[BETWEEN] * 95, (BETWEEN, EXCEEDS)) is Fit.DIFFERS
    assert _fit(*[BETWEEN] * 50, CLEAN, *[BETWEEN] * 44, (BETWEEN, EXCEEDS)) is Fit.FITS
    assert _fit(*[BETWEEN] * 95, (EXCEEDS, EXCEEDS)) is Fit.FITS
    assert _fit((CLEAN, EXCEEDS)) is Fit.FITS
