"""Panes and watermarks, with the clocks as arguments."""

import numpy as np

from drift_worker.counts.watermark import TooOld, Watermark, panes_of


def _at(*times):
    return np.array(times, dtype=np.int64)


def test_panes_are_aligned_to_the_epoch():
    """[start, start + length), also before 1970."""
    assert panes_of(_at(0, 999, 1000, 59_999, -1), 1000).tolist() == [0, 0, 1000, 59_000, -1000]


def test_an_event_older_than_the_span_behind_the_newest_is_too_old():
    """The newest so far counts, in the order of the partition and bounded by the clock; the span behind is in time."""
    old = TooOld(100)
    assert old.find(_at(1000, 900, 899, 5000, 4900, 4899, 1000), 9000).tolist() == [0, 0, 1, 0, 0, 1, 1]
    assert old.find(_at(4900, 4899), 9000).tolist() == [0, 1]
    assert old.find(_at(), 9000).tolist() == []
    assert old.find(_at(9500, 8950, 8899), 9000).tolist() == [0, 0, 1]


def test_batches_and_restarts_make_no_difference_to_what_is_too_old():
    """A restart with the newest time that was committed goes on as if nothing had happened."""
    times = np.random.default_rng(1).integers(0, 10_000, 200)
    whole = TooOld(500).find(times, 10_000)
    newest, parts = None, []
    for at in range(0, 200, 7):
        part = TooOld(500, newest)
        parts.append(part.find(times[at : at + 7], 10_000))
        newest = part.newest_ms
    assert np.array_equal(np.concatenate(parts), whole)
    assert 50 < whole.sum() < 200


def test_a_watermark_is_the_largest_event_time():
    """It never falls, and there is none before the first event."""
    mark = Watermark(60.0, 0.0)
    mark.idle(1000.0, at_end=True)
    assert mark.value_ms is None
    mark.heard(_at(5000, 3000), 9000, 1.0)
    mark.heard(_at(4000), 9000, 2.0)
    mark.heard(_at(), 9000, 3.0)
    assert mark.value_ms == 5000


def test_an_event_from_the_future_moves_the_watermark_to_the_clock_at_most():
    """A producer four minutes fast must not close everybody's windows."""
    mark = Watermark(60.0, 0.0)
    mark.heard(_at(240_000), 7000, 1.0)
    assert mark.value_ms == 7000


def test_silence_moves_the_watermark_after_the_time_out_only():
    """Largest event time plus the time since the last record, at the end of the log."""
    mark = Watermark(60.0, 0.0)
    mark.heard(_at(5000), 9000, 10.0)
    mark.idle(69.9, at_end=True)
    assert mark.value_ms == 5000
    mark.idle(70.0, at_end=False)
    assert mark.value_ms == 5000
    mark.idle(75.0, at_end=True)
    assert mark.value_ms == 5000 + 65_000
    assert mark.event_ms == 5000


def test_a_replay_of_yesterday_stays_in_yesterday():
    """The wall clock is today's; the watermark follows the events, and in silence the time that really passed."""
    mark = Watermark(60.0, 0.0)
    mark.heard(_at(1_000_000), 87_400_000, 0.0)
    mark.idle(120.0, at_end=True)
    assert mark.value_ms == 1_120_000


def test_what_silence_added_is_kept():
    """Windows were closed because of it: an older event after the silence does not take it back."""
    mark = Watermark(1.0, 0.0)
    mark.heard(_at(1000), 9000, 0.0)
    mark.idle(5.0, at_end=True)
    mark.heard(_at(2000), 9000, 6.0)
    assert (mark.value_ms, mark.event_ms) == (6000, 2000)


def test_a_restart_goes_on_from_the_committed_value():
    """Idleness counts from the restart, and what silence had added is not waited for again."""
    mark = Watermark(60.0, 100.0, 90_000, 5000)
    mark.idle(159.0, at_end=True)
    assert mark.value_ms == 90_000
    mark.idle(160.0, at_end=True)
    assert (mark.value_ms, mark.event_ms) == (150_000, 5000)
