"""Inputs that cause false alarms in other monitors, for both stages: no alert, and nothing wrongly late."""

import msgspec
import pytest
from aiokafka import TopicPartition
from support.two_stages import DATA, LENGTHS, PANES, START_MS, STEP_S, alerts_of, measurements_of, play

from driftline.replay.event_source import open_source
from schemas.timestamps import parse, render

STORY_S = 48
RATE = 80  # events per second
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def calm(telco_bundle):
    """48 s of the customers that the model was trained on, in batches of half a second."""
    source = open_source(DATA, telco_bundle, run="traps")
    return [
        [
            (number % 2, key, value)
            for number, (key, value) in enumerate(
                source.take(int(RATE * STEP_S), step * STEP_S, START_MS + int(step * STEP_S * 1000))
            )
        ]
        for step in range(int(STORY_S / STEP_S))
    ]


def _sum(log, length):
    return sum(m.sample.events for m in measurements_of(log) if m.window.length == length and m.features)


def _nothing_is_said(log, worker):
    assert alerts_of(log) == []
    assert worker.metrics.late._value.get() == 0
    assert {m.sample.late for m in measurements_of(log)} == {0}


def test_ordinary_customers(calm, telco_bundle):
    """Without any trap, as a measure for the others: all windows have enough data, and none exceeds."""
    log, worker = play(calm, telco_bundle, end_idle_s=0.0)
    _nothing_is_said(log, worker)
    assert {len(m.features) > 0 and m.features["tenure"].reason is None for m in measurements_of(log)} == {True}


def test_a_scorer_that_stops_for_many_windows(calm, telco_bundle):
    """From second 15 to 40, six short windows, and then it answers everything at once."""
    log, worker = play(calm, telco_bundle, scorer_off=range(30, 80), end_idle_s=9.0)
    _nothing_is_said(log, worker)
    for length in LENGTHS:
        scored = [m for m in measurements_of(log) if m.window.length == length and m.score]
        assert sum(m.score.events for m in scored) == RATE * STORY_S


def test_a_replay_of_yesterday(calm, telco_bundle):
    """Events of 23 hours ago, as fast as ever: their windows are closed by their own time and not by the clock."""
    log, worker = play(calm, telco_bundle, ahead_ms=23 * 60 * MINUTE_MS, end_idle_s=9.0)
    _nothing_is_said(log, worker)
    assert all(_sum(log, length) == RATE * STORY_S for length in LENGTHS)


def test_a_producer_whose_clock_is_four_minutes_fast(calm, telco_bundle):
    """Every fifth event: the watermark goes no further than the worker's clock, so no other events are late."""
    fast = 0
    story = []
    for batch in calm:
        changed = []
        for number, (partition, key, value) in enumerate(batch):
            if number % 5 == 0:
                event = msgspec.json.decode(value)
                event["event_time"] = render(parse(event["event_time"]) + 4 * MINUTE_MS)
                value = msgspec.json.encode(event)  # noqa: PLW2901 - the same event, changed
                fast += 1
            changed.append((partition, key, value))
        story.append(changed)
    log, worker = play(story, telco_bundle, end_idle_s=0.0)
    _nothing_is_said(log, worker)
    closed = max(parse(m.window.end) for m in measurements_of(log) if m.window.length == "4s")
    assert closed >= START_MS + (STORY_S - 6) * 1000
    assert _sum(log, "4s") == RATE * 4 // 5 * (closed - START_MS) // 1000
    assert fast == RATE * STORY_S // 5


def test_poison_among_the_events(calm, telco_bundle):
    """One of ten records is none: it is counted by its reason, and moves neither windows nor the watermark."""
    poison = [None, b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"event_time": "2099-01-01T00:00:00Z"}']
    story = []
    for step, batch in enumerate(calm):
        mixed = []
        for number, (partition, key, value) in enumerate(batch):
            mixed.append((partition, key, value))
            if number % 10 == 0:
                mixed.append((partition, key, poison[(4 * step + number // 10) % 6]))
        story.append(mixed)
    log, worker = play(story, telco_bundle, end_idle_s=9.0)
    _nothing_is_said(log, worker)
    assert all(_sum(log, length) == RATE * STORY_S for length in LENGTHS)
    refused = {r: worker.metrics.refused.labels(r)._value.get() for r in ("empty", "not_json", "envelope")}
    assert refused == {"empty": 128, "not_json": 192, "envelope": 64}


def test_a_quiet_night(calm, telco_bundle):
    """From second 20 to 36 one event in twenty: the first short window of it is judged together with the one before.

    The others report a lack of data, which is no alert: a span is no longer than the longest window.
    """
    story = [batch if not 40 <= step < 72 else batch[::20] for step, batch in enumerate(calm)]
    log, worker = play(story, telco_bundle, end_idle_s=0.0)
    _nothing_is_said(log, worker)
    reasons = [m.features["tenure"].reason for m in measurements_of(log) if m.window.length == "4s"]
    assert reasons[6:9] == ["not_enough_data"] * 3
    assert set(reasons[:6] + reasons[9:]) == {None}


SECOND = round(1 / STEP_S)  # steps
SHORT_S = 20


@pytest.fixture(scope="module")
def short(calm):
    """The first 20 s of them."""
    return calm[: SHORT_S * SECOND]


def _nothing_is_missed(log, worker):
    assert worker.metrics.late._value.get() == 0
    assert all(_sum(log, length) == RATE * SHORT_S for length in LENGTHS)
    assert all(measurement.complete for measurement in measurements_of(log))


def test_a_transaction_that_somebody_leaves_open_for_a_while(short, telco_bundle):
    """Twice the idle time-out. What is behind it is neither called silence nor late, and no window is cut."""
    blocked = {TopicPartition("events", 0): range(6 * SECOND, 16 * SECOND)}
    _nothing_is_missed(*play(short, telco_bundle, blocked=blocked))


def test_a_transaction_that_is_open_in_the_only_partition_with_events(short, telco_bundle):
    """The other partition is empty: silence closes no window without what is behind the transaction."""
    one = [[(0, key, value) for _, key, value in batch] for batch in short]
    blocked = {TopicPartition("events", 0): range(6 * SECOND, 16 * SECOND)}
    _nothing_is_missed(*play(one, telco_bundle, blocked=blocked))


@pytest.mark.parametrize("source", [TopicPartition("events", 0), PANES], ids=["events", "panes"])
def test_a_transaction_that_is_open_for_longer_than_stragglers_are_waited_for(short, telco_bundle, source):
    """More than 60 s. Windows are closed without the partition, and name it; progress behind one is no straggler."""
    rest = [[] for _ in range(70 * SECOND)]
    log, worker = play(short + rest, telco_bundle, blocked={source: range(6 * SECOND, 80 * SECOND)})
    if source == PANES:
        _nothing_is_missed(log, worker)
    else:
        assert "events-0" in {name for m in measurements_of(log) for name in m.missing_partitions}
        assert worker.metrics.late._value.get() > 0
