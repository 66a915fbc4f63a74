"""Stage 1 of the drift worker, without a broker."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from events import NOW_MS
from prometheus_client import CollectorRegistry

from drift_worker.counting import Counted, CountingWork
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.report import Report
from schemas.verdict import Rules
from streaming.transactions import Result


@pytest.fixture
def counting_of() -> Callable[..., tuple[CountingWork, Callable[[Result], Counted]]]:
    """Counting for a bundle, over topics of two partitions, where ten seconds pass between two looks at the clock."""

    async def two(_topic: str) -> int:
        return 2

    def made(
        bundle: Path, registry: CollectorRegistry | None = None
    ) -> tuple[CountingWork, Callable[[Result], Counted]]:
        ticks = count(0, 10)
        work = CountingWork(
            load(bundle, None),
            Report(DriftMetrics(registry or CollectorRegistry(), ["events", "predictions"])),
            events_topic="events",
            panes_topic="panes",
            rules=Rules(),
            pane_ms=1000,
            idle_timeout_s=5.0,
            partitions_of=two,
            now_ms=lambda: NOW_MS,
            monotonic=lambda: float(next(ticks)),
        )
        return work, lambda result: result.context

    return made
