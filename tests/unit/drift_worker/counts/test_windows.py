"""Which deltas make which window, when it is closed, and what is late. Units of 5 s, windows of 5 s and 15 s."""

import numpy as np
import pytest

from drift_worker.counts import aggregate, wire_format
from drift_worker.counts import windows as windows_module
from drift_worker.counts.aggregate import Sparse
from drift_worker.counts.bins import Cells
from drift_worker.counts.spans import Reach
from drift_worker.counts.windows import UNIT, Side, Windows, decode_state
from drift_worker.counts.wire_format import Delta, Identity, Merged, Progress
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

REFERENCE = Reference(
    np.arange(10.0)[:, None], np.zeros((10, 0), dtype=np.int32), np.linspace(0, 1, 10), np.zeros(0, dtype=np.int64)
)
CELLS = Cells((Feature(name="x", kind="numeric"),), (), REFERENCE)
IDENTITY = Identity("ab" * 32, "01234567")
LENGTHS = {"5s": 5000, "15s": 15_000}
TOPICS = {Side.FEATURES: "events", Side.SCORE: "predictions"}


YEAR_6429 = 140_709_000_000_000


def _reference_of(rows):
    return Reference(
        np.arange(float(rows))[:, None],
        np.zeros((rows, 0), dtype=np.int32),
        np.linspace(0, 1, rows),
        np.zeros(0, dtype=np.int64),
    )


def _windows(**changes):
    return Windows(CELLS, IDENTITY, LENGTHS, TOPICS, **{"lateness_ms": 1000, "straggler_s": 60.0, **changes})


class _Log:
    """Writes deltas and progress to one `Windows`, and keeps them for a replay."""

    def __init__(self, windows):
        self.windows = windows
        self.records = []
        self.closed = []
        self.at_s = 0.0

    def events(self, pane_ms, number, topic="events", partition=0, *, reference=IDENTITY.reference):
        series = 0 if topic == "events" else aggregate.SCORE
        part = Sparse(np.array([3], dtype=np.uint32), np.array([number], dtype=np.int64))
        (packed,) = wire_format.pack(part)
        self.add(
            Delta(
                1, reference, "01234567", topic, partition, pane_ms, pane_ms + number, pane_ms, series, number, packed
            )
        )

    def progress(
        self, topic="events", partition=0, *, to=None, event=None, at_end=False, of=1, accepted=0, answered=None
    ):
        event = to if event is None else event
        self.add(Progress(1, topic, partition, 0, 0, 0, 0, {}, 0, to, event, at_end, of, accepted, answered or {}))

    def add(self, record):
        self.records.append(record)
        self.feed(record, len(self.records) - 1, replayed=False)

    def feed(self, record, offset, *, replayed):
        if isinstance(record, Delta):
            self.windows.add_delta(record, offset, replayed=replayed)
        else:
            self.windows.update_progress(record, replayed=replayed)

    def due(self):
        """(label, end, events) per closing of the features side, units left out."""
        found = [closing for closings in self.windows.due(self.at_s) for closing in closings]
        self.closed += found
        return [(c.label, c.end_ms, _count(c)) for c in found if c.label is not UNIT and c.side is Side.FEATURES]


def _count(closing):
    return 0 if closing.window is None else int(closing.window.vectors[0][3])


@pytest.fixture
def log():
    """A log in front of fresh windows."""
    return _Log(_windows())


def test_a_window_is_closed_when_every_partition_has_passed_it(log):
    """End plus the allowed lateness, by the slowest partition; both lengths that end then, the shortest first."""
    for pane in (0, 4000, 5000, 14_000):
        log.events(pane, 10)
    log.progress(partition=0, to=16_000, of=2)
    log.progress(partition=1, to=5_999, of=2)
    assert log.due() == []
    log.progress(partition=1, to=6_000, of=2)
    assert log.due() == [("5s", 5000, 20)]
    log.progress(partition=1, to=16_000, of=2)
    assert log.due() == [("5s", 10_000, 10), ("5s", 15_000, 10), ("15s", 15_000, 40)]


def test_a_partition_nobody_has_looked_into_is_waited_for(log):
    """Two partitions are known, one has reported."""
    log.events(0, 10)
    log.progress(to=60_000, of=2)
    assert log.due() == []
    log.progress(partition=1, at_end=False, of=2)
    assert log.due() == []


def test_an_empty_partition_is_not_expected(log):
    """Read to its end without an event: it counts from its first one.

    It must report it twice after the others arrived.
    """
    log.progress(partition=1, at_end=True, of=2)
    log.events(0, 10)
    log.progress(to=6_000, of=2)
    assert log.due() == []
    log.progress(partition=1, at_end=True, of=2)
    assert log.due() == []
    log.progress(partition=1, at_end=True, of=2)
    assert log.due() == [("5s", 5000, 10)]
    log.progress(partition=1, to=3_000, of=2)
    log.events(5000, 4)
    log.progress(to=60_000, of=2)
    assert log.due() == []


def test_a_partition_that_was_empty_a_moment_ago_is_not_overtaken(log):
    """A burst: one partition is counted to its end before the other has been looked at again."""
    log.progress(partition=1, at_end=True, of=2)
    log.progress(partition=1, at_end=True, of=2)
    log.events(0, 10)
    log.progress(to=60_000, of=2)
    assert log.due() == []
    log.progress(partition=1, at_end=True, of=2)
    assert log.due() == []
    log.events(0, 7, partition=1)
    log.progress(partition=1, to=60_000, of=2)
    assert log.due()[0] == ("5s", 5000, 17)
    assert log.windows.late_events == 0


def test_a_straggler_is_waited_for_and_then_named(log):
    """60 s after the first partition passed, the window is closed without the other."""
    log.events(0, 10)
    log.progress(partition=1, to=2_000, of=2)
    log.progress(to=6_000, of=2)
    assert log.due() == []
    log.at_s = 59.0
    assert log.due() == []
    log.at_s = 61.0
    assert log.due() == [("5s", 5000, 10)]
    assert {tuple(c.missing) for c in log.closed if c.label} == {("events-1",)}


def test_windows_behind_a_straggler_follow_at_the_pace_of_the_others(log):
    """A dead partition costs the waiting once, not once per window."""
    log.progress(partition=1, to=2_000, of=2)
    for second in range(0, 100, 5):
        log.at_s = float(second)
        log.events(second * 1000, 1)
        log.progress(to=second * 1000 + 1000, of=2)
        log.due()
    ends = [c.end_ms for c in log.closed if c.label == "5s"]
    assert ends == [5000, 10_000, 15_000, 20_000, 25_000, 30_000, 35_000]


def test_what_comes_after_the_closing_is_late_for_that_length_only(log):
    """Late for 5 s, still in time for 15 s; and late for both after that."""
    log.events(0, 10)
    log.progress(to=6_000)
    log.due()
    log.events(1000, 3)
    assert log.windows.late[Side.FEATURES, "5s"] == 3
    assert log.windows.late_events == 3
    log.progress(to=16_000)
    assert log.due()[-1] == ("15s", 15_000, 13)
    log.events(1000, 4)
    assert log.windows.late[Side.FEATURES, "15s"] == 4
    assert log.windows.late_events == 7


def test_a_quiet_time_closes_empty_windows_one_by_one(log):
    """Silence moves the watermark on; each window is closed in its turn, without events."""
    log.events(0, 10)
    for to in (6_000, 11_000, 16_000):
        log.progress(to=to)
        log.due()
    assert [(c.end_ms, c.window is None) for c in log.closed if c.label == "5s"] == [
        (5000, False),
        (10_000, True),
        (15_000, True),
    ]


def test_a_jump_in_event_time_closes_one_empty_window_not_millions(log):
    """One event from 1970 and then today's: what lies between is nothing."""
    today = 1_795_000_000_000
    log.events(0, 1)
    log.events(today, 1)
    log.progress(to=today + 20_000)
    assert len(log.due()) < 12
    assert [c.end_ms for c in log.closed if c.label == "5s"][:3] == [5000, today, today + 5000]


def test_open_windows_of_a_partition_that_runs_ahead_are_bounded_in_bytes(monkeypatch):
    """Another partition is not read yet: beyond the bound the oldest windows are closed and name it as missing."""
    monkeypatch.setattr(windows_module, "MAX_HELD_BYTES", 200_000)
    log = _Log(_windows())
    log.progress(partition=1, at_end=False, of=2)
    for pane in range(0, 5_000_000, 5000):
        log.events(pane, 1)
        log.progress(to=pane, of=2)
    log.due()
    assert log.windows._held_bytes <= 200_000
    features = [c for c in log.closed if c.label == "5s"]
    assert [c.start_ms for c in features] == list(range(0, 5000 * len(features), 5000))
    assert all(c.missing == ["events-1"] and _count(c) == 1 for c in features)
    assert 500 < len(features) < 1000


def test_few_counts_of_a_long_vector_are_held_sparse():
    """A day in which every quarter of an hour has one event takes kilobytes, for any size of the reference."""
    cells = Cells((Feature(name="x", kind="numeric"),), (), _reference_of(10_000))
    windows = Windows(cells, IDENTITY, LENGTHS, TOPICS, lateness_ms=1000, straggler_s=60.0)
    log = _Log(windows)
    for pane in range(0, 500_000, 5000):
        log.events(pane, 1)
    assert windows._held_bytes < 2_000_000


def test_progress_counts_what_was_too_old_as_late(log):
    """Stage 1 puts it into no delta: it is late in every length, once, and not again after a restart."""
    log.progress(to=0)
    late = Progress(1, "events", 0, 0, 9, 9, 9, {}, 0, 9000, 9000, False, 1, 9, {}, 4)
    log.feed(late, 1, replayed=False)
    log.feed(late, 1, replayed=True)
    assert log.windows.late_events == 4
    assert log.windows.late == {(Side.FEATURES, "5s"): 4, (Side.FEATURES, "15s"): 4}


def test_a_state_from_the_future_heals_at_the_next_start(log):
    """A watermark of the year 6429 once closed every window for good: what is ahead of the clock is left out."""
    log.events(0, 5)
    log.progress(to=YEAR_6429)
    log.due()
    healed = _Log(_windows())
    healed.windows.restore(
        decode_state(log.windows.state()), same_reference=True, latest_ms=60_000, sizes={"events": 1}
    )
    healed.events(20_000, 7)
    healed.progress(to=40_000)
    assert ("15s", 30_000, 7) in healed.due()


def test_a_forged_watermark_ends_with_the_next_true_record(log):
    """At the clock, so that no check can find it: the next progress of the partition counts, although it is smaller."""
    log.progress(to=1000)
    log.progress(to=900_000)
    log.due()
    log.progress(to=2000)
    assert log.windows.watermarks() == {("events", 0): 2000}


@pytest.mark.parametrize(
    ("index", "count"), [(3, 8), (3, -1), (21, 8), (22, 240_000), (23, -1), (23, 1 << 40), (24, 1 << 36), (90, 8)]
)
def test_counts_that_seven_events_cannot_give_are_an_error(log, index, count):
    """Counts, sums of logarithms and their squares, sums of scores, customer groups: each is bounded by the events."""
    part = Sparse(np.array([index], dtype=np.uint32), np.array([count], dtype=np.int64))
    (packed,) = wire_format.pack(part)
    with pytest.raises(ValueError, match="packed counts"):
        log.add(Delta(1, IDENTITY.reference, "01234567", "events", 0, 0, 7, 0, 0, 7, packed))


def test_scores_close_with_the_features(log):
    """One list per end holds both sides of a window."""
    log.events(0, 10)
    log.events(0, 10, "predictions")
    log.progress(to=6_000, accepted=10)
    log.progress("predictions", to=4_000, answered={0: 5})
    assert log.due() == []
    log.progress("predictions", to=6_000, answered={0: 10})
    (group,) = [g for g in [log.windows.due(0.0)] for g in g if any(c.label for c in g)]
    assert [(c.label, c.side) for c in group if c.label] == [("5s", Side.FEATURES), ("5s", Side.SCORE)]


def test_a_scorer_that_stopped_delays_the_score_and_makes_nothing_late(log):
    """Predictions fall silent while events go on: silence does not count while events are unanswered."""
    log.events(0, 10)
    log.events(0, 4, "predictions")
    log.progress("predictions", to=4_000, answered={0: 4})
    for second in range(6, 600, 5):
        log.at_s = float(second)
        log.progress(to=second * 1000, accepted=10 * second)
        log.progress("predictions", to=second * 1000, event=4_000, at_end=True, answered={0: 4})
        log.due()
    assert [c for c in log.closed if c.side is Side.SCORE] == []
    ends = [c.end_ms for c in log.closed if c.label == "5s"]
    assert ends[0] == 5000
    assert 525_000 <= ends[-1] <= 540_000, "features wait for the score as long as for a straggler"
    log.events(0, 6, "predictions")
    log.progress("predictions", to=600_000, answered={0: 6000})
    log.due()
    score = [c for c in log.closed if c.side is Side.SCORE and c.label == "5s"]
    assert int(score[0].window.vectors[aggregate.SCORE][3]) == 10
    assert log.windows.late_events == 0


def test_without_any_prediction_features_are_not_held_up(log):
    """A drift worker beside a scorer that was never started: a shortest window's length is all it waits, once."""
    log.events(0, 10)
    log.progress("predictions", at_end=True)
    log.progress(to=6_000, accepted=10)
    assert log.due() == []
    log.at_s = 5.0
    assert log.due() == [("5s", 5000, 10)]
    for second in range(10, 100, 5):
        log.at_s = float(second)
        log.progress(to=second * 1000 + 1000, accepted=10 * second)
        log.due()
    assert [c.end_ms for c in log.closed if c.label == "5s"][-1] == 90_000


def test_the_first_scores_come_with_their_window(log):
    """Events are counted before the scorer has answered the first of them: the window waits a moment for the score."""
    log.events(0, 10)
    log.progress("predictions", at_end=True)
    log.progress(to=6_000, accepted=10)
    log.due()
    log.events(0, 10, "predictions")
    log.progress("predictions", to=6_000, answered={0: 10})
    log.due()
    assert [(c.label, c.side) for c in log.closed if c.label] == [("5s", Side.FEATURES), ("5s", Side.SCORE)]


def test_predictions_are_never_ahead_of_their_events(log):
    """A prediction's event time may be in the future of its partition's watermark; the events decide."""
    log.events(0, 10)
    log.events(0, 10, "predictions")
    log.progress(to=3_000, accepted=10)
    log.progress("predictions", to=60_000, answered={0: 10})
    assert log.due() == []


def test_vectors_of_another_reference_are_never_added(log):
    """They are counted, and the window is marked as incomplete."""
    log.events(0, 10)
    log.events(0, 5, reference="cd" * 32)
    log.progress(to=6_000)
    assert log.due() == [("5s", 5000, 10)]
    assert log.closed[0].window.foreign
    assert log.windows.foreign_events == 5


def test_a_delta_that_does_not_fit_is_an_error(log):
    """An index beyond the vector, or a series that the reference does not have."""
    (packed,) = wire_format.pack(Sparse(np.array([10_000_000], dtype=np.uint32), np.array([1], dtype=np.int64)))
    with pytest.raises(ValueError, match="vector of"):
        log.add(Delta(1, IDENTITY.reference, "01234567", "events", 0, 0, 1, 0, 0, 1, packed))
    with pytest.raises(IndexError, match="series 7"):
        log.add(Delta(1, IDENTITY.reference, "01234567", "events", 0, 0, 1, 0, 7, 1, packed))


@pytest.mark.parametrize("cut", range(1, 30, 2))
def test_a_restart_anywhere_gives_the_same_windows(cut):  # noqa: C901 - a whole evaluator in miniature
    """Memory, written units and the deltas from `needed_from` on: every later window is the same to the bit."""
    draw = np.random.default_rng(cut)

    def play(log, upto=None):
        for i in range(30):
            if upto is not None and i >= upto:
                return
            pane = int(max(0, i - draw.integers(0, 9))) * 1000
            log.events(pane, int(draw.integers(1, 9)))
            log.events(pane, int(draw.integers(1, 9)), "predictions")
            log.progress(to=i * 1000, accepted=i)
            log.progress("predictions", to=i * 1000, answered={0: i})
            step(log)

    written = {}

    def step(log):
        for closings in log.windows.due(0.0):
            log.closed += closings
            for closing in (c for c in closings if c.label is UNIT and c.window is not None):
                keep(closing.start_ms, closing.window)
            log.memory = None
        for start, window in log.windows.late_units():
            keep(start, window)

    def keep(start, window):
        for series, vector in window.vectors.items():
            for packed in wire_format.pack(aggregate.sparse(vector)):
                written.setdefault(start, []).append(Merged(1, IDENTITY.reference, "01234567", start, series, packed))

    whole = _Log(_windows())
    play(whole)
    draw = np.random.default_rng(cut)
    written.clear()
    first = _Log(_windows())
    play(first, cut)
    memory, position = first.windows.state(), len(first.records)
    needed = first.windows.needed_from(position)
    second = _Log(_windows())
    second.windows.restore(decode_state(memory), same_reference=True)
    for records in list(written.values()):
        for merged in records:
            second.windows.add_merged(merged)
    second.records = list(first.records)
    for offset in range(needed, position):
        second.feed(first.records[offset], offset, replayed=True)
    second.closed = list(first.closed)
    rest = whole.records[position:]
    for i in range(0, len(rest), 4):
        for record in rest[i : i + 4]:
            second.add(record)
        step(second)

    def picture(log):
        return [
            (
                c.side,
                c.label,
                c.end_ms,
                c.window and c.window.events,
                c.window and c.window.ranges,
                None if c.window is None else tuple(sorted((s, v.tobytes()) for s, v in c.window.vectors.items())),
            )
            for c in log.closed
            if c.label is not UNIT
        ]

    assert len(picture(whole)) > 6
    assert picture(second) == picture(whole)
    assert needed <= position


def _spans(log):
    """(end, windows, events, start) of what is judged of the shortest length, None where a window is judged alone."""
    found = [c for c in log.closed if c.label == "5s" and c.side is Side.FEATURES]
    return [(c.end_ms, c.span and (c.span.windows, c.span.events, c.span.start_ms)) for c in found]


def test_a_window_with_too_few_events_is_judged_with_those_before_it():
    """min_events 50: a span has 40 events, as few windows as that takes, and nothing of an empty window alone."""
    log = _Log(_windows(min_events=50))
    for pane, number in ((0, 10), (5000, 20), (10_000, 15), (15_000, 60), (20_000, 5)):
        log.events(pane, number)
    log.progress(to=31_000)
    log.due()
    assert _spans(log) == [
        (5000, None),
        (10_000, (2, 30, 0)),
        (15_000, (3, 45, 0)),
        (20_000, None),
        (25_000, (2, 65, 15_000)),
        (30_000, None),
    ]
    span = next(c.span for c in log.closed if c.label == "5s" and c.end_ms == 15_000)
    assert int(span.vectors[0][3]) == 45
    assert span.ranges == {"events": {0: (0, 10_015)}}
    assert not span.whole, "counting began within its first window"


def test_a_span_is_no_longer_than_the_longest_window():
    """15 s are three windows of 5 s, however few events they have."""
    log = _Log(_windows(min_events=1000))
    for pane in range(0, 40_000, 5000):
        log.events(pane, 1)
    log.progress(to=41_000)
    log.due()
    assert {windows for _, span in _spans(log) if span for windows in span[:1]} == {2, 3}


def test_a_restart_has_the_span_again_with_what_came_late():
    """From the checkpoint and the written units: the same counts, events and offsets."""
    log = _Log(_windows(min_events=100))
    for pane in range(0, 20_000, 5000):
        log.events(pane, 10)
    log.progress(to=21_000)
    log.due()
    log.events(16_000, 7)  # late for its window of 5 s, which a later span holds
    late = list(log.windows.late_units())
    assert [start for start, _ in late] == [15_000]
    units = [(c.start_ms, c.vectors) for c in log.closed if c.label is UNIT and c.side is Side.FEATURES]
    again = _windows(min_events=100)
    again.restore(decode_state(log.windows.state()), same_reference=True)
    for start, vectors in [*units, *((start, window.vectors) for start, window in late)]:
        for series, vector in vectors.items():
            for packed in wire_format.pack(aggregate.sparse(vector)):
                again.add_merged(Merged(1, IDENTITY.reference, IDENTITY.key_id, start, series, packed))
    both = []
    for windows in (log.windows, again):
        one = _Log(windows)
        one.records = list(log.records)
        one.events(20_000, 1)
        one.progress(to=26_000)
        one.due()
        both.append(one)
    spans = [next(c.span for c in one.closed if c.label == "5s" and c.end_ms == 25_000) for one in both]
    seen = [(s.windows, s.events, s.start_ms, s.whole, s.ranges, s.vectors[0].tolist()) for s in spans]
    assert seen[0] == seen[1]
    assert seen[0][:5] == (3, 28, 10_000, True, {"events": {0: (10_000, 20_001)}})
    assert seen[0][5][3] == 28


def test_the_units_of_a_span_are_read_again_after_a_restart():
    """Closed windows that a later span holds: what was written since the first of them is needed."""
    log = _Log(_windows(min_events=100))
    for pane in range(0, 30_000, 5000):
        log.events(pane, 10)
    log.progress(to=31_000)
    log.due()
    log.windows.written = {start: 1000 + start for start in range(0, 30_000, 5000)}
    assert log.windows.needed_since(99_000) == 1000 + 15_000


def test_customers_who_come_again_and_again_make_a_span_longer():
    """400 of 500 events are enough if they count as 350 by customer, or else up to 1,000."""
    reach = Reach(500, 0)
    apart, alike = np.zeros(aggregate.SKETCH_SIZE, dtype=np.int64), np.zeros(aggregate.SKETCH_SIZE, dtype=np.int64)
    apart[:400], alike[:100] = 1, 4
    assert reach.enough(400, apart)
    assert not reach.enough(399, apart)
    assert not reach.enough(400, alike)
    assert reach.enough(1000, alike)
