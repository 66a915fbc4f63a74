"""What the drift engine costs: counting an event, evaluating a window. Prints, and judges nothing.

PYTHONPATH=tests python -m quality.cost    (make bench runs it)
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

import numpy as np
from quality.stream import FEATURES, POLICY, Stream, draw

from drift_worker.alerting.findings import judge
from drift_worker.counts import aggregate

EVENTS, WINDOW, ROUNDS = 5000, 10_000, 20


def best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls: the least that other programs took part in."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


def measured() -> tuple[float, float]:
    """One batch counted, one window measured and judged: µs per event, ms per window."""
    stream = Stream(1, 7000)
    events = draw(stream.generator, EVENTS)
    panes, hashes = np.zeros(EVENTS, dtype=np.int64), stream.hash(events.customers)
    gc.freeze()
    gc.disable()

    def count() -> None:
        list(aggregate.count_events(stream.cells, panes, events.numeric, events.codes, hashes))

    measurement = stream.close(draw(stream.generator, WINDOW))
    vectors = stream.vectors

    def evaluate() -> None:
        features = stream.measurer.features(vectors, past=stream.past)
        stream.measurer.score(vectors, past=stream.score_past)
        judge(POLICY, measurement, stream.measurer.tests, 0.0)
        assert len(features) == len(FEATURES)

    try:
        return best(count) / EVENTS * 1e6, best(evaluate) * 1e3
    finally:
        gc.enable()


def main() -> None:
    """Print both."""
    per_event, per_window = measured()
    sys.stdout.write(
        f"counting an event of {len(FEATURES)} features, in batches of {EVENTS:,}: {per_event:.2f} µs\n"
        f"evaluating a window of {len(FEATURES)} features against 7,000 reference rows: {per_window:.2f} ms\n"
    )


if __name__ == "__main__":
    main()
