"""Stage 1 of the drift worker, without a broker."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.events import NOW_MS

from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.stages.count_events import EventCounter
from drift_worker.telemetry import Counted, DriftTelemetry
from kafka_runtime.sinks import Result
from schemas.validation import Rules


@pytest.fixture
def counting_of() -> Callable[..., tuple[EventCounter, Callable[[Result], Counted]]]:
    """Counting for a bundle, over topics of two partitions, where ten seconds pass between two looks at the clock."""

    async def two(_topic: str) -> int:
        return 2

    def made(
        bundle: Path, registry: CollectorRegistry | None = None
    ) -> tuple[EventCounter, Callable[[Result], Counted]]:
        ticks = count(0, 10)
        work = EventCounter(
            load(bundle, None),
            DriftTelemetry(DriftMetrics(registry or CollectorRegistry(), ["events", "predictions"])),
            events_topic="events",
            panes_topic="panes",
            rules=Rules(),
            pane_ms=1000,
            span_ms=86_400_000,
            idle_timeout_s=5.0,
            partitions_of=two,
            now_ms=lambda: NOW_MS,
            monotonic=lambda: float(next(ticks)),
        )
        return work, lambda result: result.context

    return made
