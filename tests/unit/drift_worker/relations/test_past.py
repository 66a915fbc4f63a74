"""The calm past of relations: learnt from calm windows only, and the same after a restart."""

import numpy as np
import pytest

from drift_worker.relations.change import Changes
from drift_worker.relations.past import RelationPast, Seen
from drift_worker.statistics.calm_past import LEAST

GROUP = np.array([0, 0, 1, 2], dtype=np.intp)
DF = np.array([1.0, 1.0, 1.0])
QUARTER = 900_000


def _past(vector=None):
    return RelationPast(3, GROUP, DF, QUARTER, vector)


def _seen(z=None, n=1000, score=1.5):
    against = None
    if z is not None:
        nothing = np.zeros(4)
        against = Changes(nothing, nothing, nothing, np.asarray(z, dtype=float), np.ones(4, dtype=np.bool_))
    return Seen(np.array([n, 5, -7]), float(n), against, score)


def _learnt(windows, past=None):
    past = past or _past()
    for seen, calm in windows:
        past.note(seen)
        past.learn(calm=calm)
    return past


def test_windows_are_known_after_three():
    """Sums and events add up; the score's correlation is a mean."""
    past = _learnt([(_seen(score=1.0), True), (_seen(score=2.0), True)])
    assert not past.known
    past = _learnt([(_seen(score=None), True)], past)
    assert past.known
    assert past.windows == LEAST
    assert past.effective == 3000
    assert past.sums.tolist() == [3000, 15, -21]
    assert past.score == (2, 1.5)


def test_a_window_in_which_something_was_found_is_not_learnt():
    """Neither it nor one that waits."""
    past = _learnt([(_seen(), True)] * 3 + [(_seen([9.0, 0, 0, 0]), True)])
    assert past.windows == 3
    before = past.vector.copy()
    past = _learnt([(_seen([9.0, 0, 0, 0]), False)], past)
    assert past.windows == 3
    assert before[2] == 1
    assert past.vector[2] == 0
    assert past.log10_p(_seen([9.0, 0, 0, 0]).against)[1].tolist() == [1.0] * 4


def test_an_unusual_window_is_learnt_one_window_later():
    """If the next is calm as well."""
    past = _learnt([(_seen(), True)] * 3 + [(_seen([9.0, 0, 0, 0]), True), (_seen([0.1] * 4), True)])
    assert past.windows == 5
    assert past.vector[2] == 0


def test_what_varies_needs_more_evidence():
    """A pair of features whose z is 4 in every window has a φ of 16, and 5 is no longer evident."""
    past = _learnt([(_seen(), True)] * 3 + [(_seen([4.0, -4.0, 0.0, 0.0]), True)] * 12)
    log_p, phi = past.log10_p(_seen([5.0, 5.0, 5.0, 5.0]).against)
    assert phi[0] == pytest.approx(16.0, rel=0.2)
    assert phi.tolist()[2:] == [1.0, 1.0]
    assert log_p[0] > -1.5
    assert log_p[2] < -6


def test_a_restart_changes_nothing():
    """The vector is the whole state, at any window."""
    windows = [(_seen([(3.0 * i) % 5, 1.0, -2.0, 0.5], n=900 + i), i % 7 != 3) for i in range(30)]
    whole = _learnt(windows)
    for cut in (1, 9, 17):
        first = _learnt(windows[:cut])
        resumed = _learnt(windows[cut:], _past(first.vector.copy()))
        assert np.array_equal(resumed.vector, whole.vector)


def test_two_weeks_are_halved():
    """Sums never overflow, and what was long ago counts less."""
    past = _learnt([(_seen([0.0] * 4), True)] * 1400)
    assert 672 <= past.windows < 1344
    assert past.effective == 1000 * past.windows


@pytest.mark.parametrize("vector", [np.zeros(3, dtype=np.int64), np.full(26, 1 << 61), np.full(26, -1)])
def test_what_is_no_such_past_is_rejected(vector):
    """Out of a topic comes anything."""
    with pytest.raises(ValueError, match="calm past"):
        _past(vector)
