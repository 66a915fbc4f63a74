"""The policy: its limits, what a window is compared with, and its copy in a measurement."""

import pytest

from drift_worker.alerting.limits import Confirm, Policy

LENGTHS = {"15m": 900_000, "1h": 3_600_000, "24h": 86_400_000}
CONFIRM = {"15m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)}


def test_a_feature_has_its_own_limits_where_the_bundle_states_them():
    """The score has no name, and takes the general ones."""
    policy = Policy(LENGTHS, CONFIRM, limits={"tenure": (0.3, 0.6)})
    assert policy.limits_of("tenure") == (0.3, 0.6)
    assert policy.limits_of("age") == policy.limits_of(None) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("baseline", "length", "against"),
    [("training", "15m", "training"), ("week", "15m", "week"), ("week", "1h", "week"), ("week", "24h", "training")],
)
def test_past_weeks_are_the_baseline_of_windows_under_a_day(baseline, length, against):
    """A day has every hour of a season in it."""
    assert Policy(LENGTHS, CONFIRM, baseline=baseline).against(length) == against


def test_the_longest_window_is_the_last():
    """Lengths are in order, the shortest first."""
    assert Policy(LENGTHS, CONFIRM).longest == "24h"


def test_a_stated_policy_is_read_back():
    """A backtest decides by the policy that the measurement holds."""
    policy = Policy(LENGTHS, CONFIRM, kind="classic", budget=0.5, limits={"tenure": (0.3, 0.6)}, baseline="week")
    assert Policy.of(policy.stated()) == policy
    with pytest.raises(ValueError, match=r"policy: .*kind"):
        Policy.of({**policy.stated(), "kind": "other"})
