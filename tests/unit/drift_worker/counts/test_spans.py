"""A span is the sum of the last windows, no more of them than it needs, whatever comes late."""

from random import Random

import numpy as np
import pytest

from drift_worker.counts.aggregate import SeriesSum, sparse
from drift_worker.counts.spans import Part, Reach, Trailing

SIZE = 6
SKETCH = 9  # a series that no part has: every event counts as independent
EACH_MS = 1000


def _part(draw, start_ms):
    counts = np.array([draw.randrange(5) for _ in range(SIZE)], dtype=np.int64)
    counts[0] += 1
    part = Part(int(counts.sum()), {"events": {0: (start_ms, start_ms + EACH_MS)}}, whole=True)
    part.sums[3] = SeriesSum(SIZE)
    part.sums[3].add(sparse(counts))
    return part, counts


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_sum_of_the_fewest_last_windows_that_are_enough(seed):
    """Also where windows are empty, and where counts come late for one of them."""
    draw = Random(seed)
    reach = Reach(min_events=50, most_ms=draw.choice([4000, 9000, 60_000]))
    trailing, truth = Trailing(reach, SKETCH), {}
    for start in range(0, 60_000, EACH_MS):
        end = start + EACH_MS
        part, counts = _part(draw, start) if draw.random() < 0.7 else (None, None)
        trailing.push(start, end, part)
        if part is not None:
            truth[start] = counts
        if draw.random() < 0.3:
            late_for, late = draw.choice(list(truth) or [start]), np.eye(SIZE, dtype=np.int64)[draw.randrange(SIZE)]
            if trailing.add(late_for, 3, SIZE, sparse(late), 1):
                truth[late_for] = truth[late_for] + late
            else:
                assert late_for not in trailing.parts
        within = [at for at in sorted(truth) if at >= end - reach.most_ms]
        span = trailing.span()
        if span is None:
            assert not within
            continue
        kept = list(trailing.parts)
        assert kept == within[len(within) - len(kept) :], "the last ones, and none is left out"
        wanted = sum(truth[at] for at in kept)
        assert span.vectors[3].tolist() == wanted.tolist()
        assert (span.events, span.windows, span.start_ms) == (int(wanted.sum()), len(kept), kept[0])
        assert span.ranges == {"events": {0: (kept[0], kept[-1] + EACH_MS)}}
        assert len(kept) == len(within) or span.events >= 40, "what was dropped was not needed"


def test_only_the_windows_from_a_start_on_are_summed_where_that_is_asked_for():
    """The other side's span may be longer; and what another side needs is kept."""
    draw = Random(1)
    trailing, counts = Trailing(Reach(min_events=10, most_ms=60_000), SKETCH), {}
    for start in range(0, 5000, EACH_MS):
        part, counts[start] = _part(draw, start)
        trailing.push(start, start + EACH_MS, part, keep_from_ms=1000)
    assert trailing.oldest == 1000
    span = trailing.span(3000)
    assert span is not None
    assert span.vectors[3].tolist() == (counts[3000] + counts[4000]).tolist()
    assert trailing.span(9000) is None


def test_a_restart_has_the_same_sums():
    """Windows by name, and their counts from the log in any order."""
    draw = Random(2)
    live, again = (Trailing(Reach(min_events=30, most_ms=60_000), SKETCH) for _ in range(2))
    pieces = []
    for start in range(0, 8000, EACH_MS):
        part, counts = _part(draw, start)
        live.push(start, start + EACH_MS, part)
        pieces.append((start, counts))
    for start, part in live.parts.items():
        again.restore(start, Part(0, part.ranges, whole=part.whole))
    for start, counts in reversed(pieces):
        assert again.add(start, 3, SIZE, sparse(counts), int(counts.sum())) == (start in live.parts)
    one, other = live.span(), again.span()
    assert one is not None
    assert other is not None
    assert (one.events, one.windows, one.start_ms, one.ranges) == (
        other.events,
        other.windows,
        other.start_ms,
        other.ranges,
    )
    assert one.vectors[3].tolist() == other.vectors[3].tolist()


def test_another_reference_begins_without_windows():
    """Their counts are those of other bins."""
    trailing = Trailing(Reach(min_events=10, most_ms=60_000), SKETCH)
    trailing.push(0, EACH_MS, _part(Random(3), 0)[0])
    trailing.clear()
    assert (trailing.oldest, trailing.span()) == (None, None)
