"""The report of a transaction that another program has left open in a partition."""

import pytest
from aiokafka import TopicPartition

from kafka_runtime import open_transaction
from kafka_runtime.open_transaction import BLOCKED_AFTER_S, OpenTransaction


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    made = _Clock()
    monkeypatch.setattr(open_transaction, "time", made)
    return made


@pytest.fixture
def lines(monkeypatch):
    """Every log line: its event and its offset."""
    written = []

    class _Log:
        def warning(self, event, **more):
            written.append((event, more["offset"], more["records"]))

        info = warning

    monkeypatch.setattr(open_transaction, "log", _Log())
    return written


def test_before_anything_is_known_nothing_is_said(lines):
    """None, and not 0."""
    found = OpenTransaction(TopicPartition("events", 0))
    assert (found.records, found.seconds, found.lasts, found.text) == (None, None, False, "")
    assert lines == []


def test_one_that_stays_is_reported_once_and_its_end_once(clock, lines):
    """From when it was seen first; more records come behind it meanwhile."""
    found = OpenTransaction(TopicPartition("events", 0))
    for high in (7, 8, 9, 9):
        found.observe(high, 5)
        clock.now += BLOCKED_AFTER_S / 2
    assert (found.records, found.seconds, found.lasts) == (4, 1.5 * BLOCKED_AFTER_S, True)
    assert found.text == "4 offsets from 5 on are behind an open transaction, for 15 s"
    found.observe(10, 10)
    assert (found.records, found.seconds, found.lasts, found.text) == (0, 0.0, False, "")
    assert lines == [("input_blocked", 5, 4), ("input_unblocked", 10, 0)]


def test_a_stream_of_transactions_is_none(clock, lines):
    """One is open at every look, and each time another: records wait, and for no time."""
    found = OpenTransaction(TopicPartition("events", 0))
    for stable in range(100):
        clock.now += 5.0
        found.observe(stable + 30, stable)
        assert (found.records, found.seconds) == (30, 0.0)
    assert lines == []


def test_what_is_not_known_for_a_while_is_still_the_same_transaction(clock, lines):
    """The broker was away: meanwhile there is no report, and then it lasts since it began."""
    found = OpenTransaction(TopicPartition("events", 0))
    found.observe(6, 5)
    found.unknown()
    assert (found.records, found.seconds, found.lasts) == (None, None, False)
    clock.now += 60.0
    found.observe(6, 5)
    assert (found.records, found.seconds) == (1, 60.0)
    assert lines == [("input_blocked", 5, 1)]
