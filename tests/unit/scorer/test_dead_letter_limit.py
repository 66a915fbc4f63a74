"""The dead-letter limit: the share of refused records among the last 10,000, from 1,000 on."""

import pytest

from kafka_runtime.kafka_types import TopicPartition
from scorer.dead_letter_limit import LIMIT_FROM, LIMIT_WINDOW, RejectedShare


def _share(*batches, limit=0.5):
    share = RejectedShare(limit)
    for answered, refused in batches:
        share.add(answered, refused)
    return share


def test_the_window_is_the_contracts():
    """The last 10,000 records, from 1,000 on."""
    assert (LIMIT_WINDOW, LIMIT_FROM) == (10_000, 1000)


@pytest.mark.parametrize(
    ("answered", "refused", "crosses"),
    [
        (999, 999, False),
        (1000, 1000, True),
        (1000, 501, True),
        (1000, 500, False),
        (0, 0, False),
        (5000, 2501, True),
    ],
)
def test_a_first_batch_counts_from_1000_records_on(answered, refused, crosses):
    """At the limit is not beyond it; a share of fewer records has no meaning yet."""
    assert _share().would_cross(answered, refused) == crosses


def test_batches_add_up():
    """Small ones reach the 1,000 together."""
    share = _share(*[(100, 100)] * 9)
    assert not share.would_cross(99, 99)
    assert share.would_cross(100, 100)


def test_asking_changes_nothing():
    """A batch that would cross is aborted: it must not count, and asking again gives the same answer."""
    share = _share((1000, 0))
    for _ in range(3):
        assert share.would_cross(1001, 1001)
        assert not share.would_cross(1000, 1000)


@pytest.mark.parametrize("size", [1000, 2500, 5000])
def test_only_the_last_10000_records_count(size):
    """After a million good ones, 5,000 bad ones in a row are half of the window; the next batch of them crosses."""
    share = _share(*[(size, 0)] * (1_000_000 // size))
    for _ in range(5000 // size):
        assert not share.would_cross(size, size)
        share.add(size, size)
    assert share.would_cross(size, size)


def test_the_window_ends_before_the_new_batch():
    """The share is taken over 10,000 records with the new batch in it, not over 10,000 before it."""
    share = _share(*[(1000, 0)] * 10, limit=0.55)
    for _ in range(5):
        share.add(1000, 1000)
    # 4,000 good and 6,000 bad would be the last 10,000
    assert share.would_cross(1000, 1000)


def test_bad_records_are_forgotten_in_time():
    """10,000 good ones later nothing is left of them."""
    share = _share((1000, 500), *[(1000, 0)] * 10)
    assert not share.would_cross(5000, 5000)
    assert share.would_cross(5001, 5001)


def test_one_record_at_a_time():
    """A quiet topic has batches of one: the window is as long, and nothing grows beyond it."""
    share = _share(*[(1, 0)] * 20_000)
    for _ in range(5000):
        assert not share.would_cross(1, 1)
        share.add(1, 1)
    assert share.would_cross(1, 1)
    assert len(share._batches) <= 10_000


def test_the_limit_is_a_setting():
    """A strict operator stops at 11 of 1,000; with 1.0 nothing ever crosses it."""
    assert not _share(limit=0.01).would_cross(1000, 10)
    assert _share(limit=0.01).would_cross(1000, 11)
    assert not _share((5000, 5000), limit=1.0).would_cross(5000, 5000)


def test_a_batch_larger_than_the_window_is_judged_whole():
    """There is nothing else to compare it with."""
    assert not _share((1000, 1000)).would_cross(20_000, 10_000)
    assert _share((1000, 0)).would_cross(20_000, 10_001)


def test_batches_open_count_before_they_are_committed():
    """Four partitions write at the same time: together they must not cross what each alone would not."""
    share = _share((600, 200))
    first = TopicPartition("events", 0)
    assert not share.would_cross(300, 300)
    share.hold(first, 300, 300)
    assert share.would_cross(300, 300)
    share.drop(first)  # its transaction failed
    assert not share.would_cross(300, 300)
    share.hold(first, 300, 300)
    share.add(300, 300, first)
    assert share.would_cross(300, 300)
    assert not share.would_cross(300, 0)
