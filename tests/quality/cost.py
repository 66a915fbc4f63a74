"""What the drift engine costs: counting an event, evaluating a window. Prints, and judges nothing.

PYTHONPATH=tests python -m quality.cost    (make bench runs it)
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from quality.stream import FEATURES, LENGTHS, POLICY, Stream, draw

from drift_worker.alerting.findings import judge
from drift_worker.counts import aggregate
from drift_worker.counts.spans import Part, Reach, Trailing
from drift_worker.relations.measure import Sides

EVENTS, WINDOW, ROUNDS = 5000, 10_000, 20
QUARTER_MS = LENGTHS["15m"]


def best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls: the least that other programs took part in."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


@dataclass(frozen=True)
class Cost:
    """Microseconds an event, milliseconds a window, kilobytes a window."""

    count_us: float
    evaluate_ms: float
    relations_ms: float
    relations_kb: float
    span_ms: float
    span_kb: float


def measured() -> Cost:
    """One batch counted, one window measured and judged, one span brought up to date."""
    stream = Stream(1, 7000)
    events = draw(stream.generator, EVENTS)
    panes, hashes = np.zeros(EVENTS, dtype=np.int64), stream.hash(events.customers)
    parts = [_part(stream) for _ in range(7)]
    for _ in range(4):  # from the third on, windows are compared with a past as well
        stream.close(draw(stream.generator, WINDOW, f"{stream.seen.windows}-"))
    assert stream.relation_past is not None
    assert stream.relation_past.known
    gc.freeze()
    gc.disable()

    def count() -> None:
        list(aggregate.count_events(stream.cells, panes, events.numeric, events.codes, hashes))

    measurement = stream.close(draw(stream.generator, WINDOW))
    vectors = stream.vectors
    features = stream.measurer.features(vectors, past=stream.past)
    sides = Sides(vectors, vectors, features, stream.measurer.score(vectors, past=stream.score_past), WINDOW)

    def evaluate() -> None:
        found = stream.measurer.features(vectors, past=stream.past)
        stream.measurer.score(vectors, past=stream.score_past)
        judge(POLICY, measurement, stream.measurer.tests, 0.0)
        assert len(found) == len(FEATURES)

    def relate() -> None:
        stream.relations.measure(sides, stream.relation_past)

    trailing = Trailing(Reach(500, LENGTHS["24h"]), aggregate.CUSTOMERS)
    at = iter(range(10_000))

    def reach_back() -> None:
        number = next(at)
        trailing.push(number * QUARTER_MS, (number + 1) * QUARTER_MS, parts[number % len(parts)])
        trailing.span()

    try:
        return Cost(
            best(count) / EVENTS * 1e6,
            best(evaluate) * 1e3,
            best(relate) * 1e3,
            sum(vectors[series].nbytes for series in aggregate.TOGETHER) / 1000,
            best(reach_back) * 1e3,
            sum(one.nbytes for part in trailing.parts.values() for one in part.sums.values()) / 1000,
        )
    finally:
        gc.enable()


def _part(stream: Stream) -> Part:
    """A window of 100 events."""
    stream.close(draw(stream.generator, 100, f"{stream.seen.windows}-"))
    sums = {series: aggregate.SeriesSum(len(vector)) for series, vector in stream.vectors.items()}
    for series, vector in stream.vectors.items():
        sums[series].add(aggregate.sparse(vector))
    return Part(100, {}, whole=True, sums=sums)


def main() -> None:
    """Print it."""
    found = measured()
    sys.stdout.write(
        f"counting an event of {len(FEATURES)} features, in batches of {EVENTS:,}: {found.count_us:.2f} µs\n"
        f"evaluating a window of {len(FEATURES)} features against 7,000 reference rows: {found.evaluate_ms:.2f} ms\n"
        f"its relations: {found.relations_ms:.2f} ms, {found.relations_kb:.1f} kB\n"
        f"bringing a span of five windows of 100 events up to date: {found.span_ms:.2f} ms, {found.span_kb:,.0f} kB\n"
    )


if __name__ == "__main__":
    main()
