"""Who reads the drift worker's records: the same counts and names of new categories in both lanes."""

import asyncio
import sys
from itertools import count

import pytest
from hostile.corpus import CORPUS
from prometheus_client import CollectorRegistry
from support import bundles
from support.events import NOW_MS, raw, record, with_features

from drift_worker.lane import lane_for
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.stages.count_events import EventCounter
from drift_worker.telemetry import DriftTelemetry
from kafka_runtime.kafka_types import TopicPartition
from kafka_runtime.native.library import NAME
from schemas.bundle.inputs import EventMapping
from schemas.validation import Rules

SOURCE = TopicPartition("customer-events", 3)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The reference of a small bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    bundles.write(folder)
    return load(folder, None)


def test_without_the_library_python_reads(loaded, monkeypatch):
    """It is optional, and the state names why."""
    monkeypatch.setitem(sys.modules, NAME, None)
    for wanted, why in (("auto", "driftline-native is not installed"), ("python", "SCORER_LANE is python")):
        lane = lane_for(wanted, loaded.manifest, Rules())
        assert (lane.events, lane.records.library) == (None, None)
        assert lane.state() == {key: {"served_by": "python", "why_not_native": why} for key in ("records", "events")}


def test_other_events_are_read_by_python(loaded):
    """Fetched batches are read by the library all the same."""
    pytest.importorskip(NAME, reason="driftline-native is not built: make native")
    manifest = loaded.manifest.model_copy(update={"event": EventMapping(time_unit="ms")})
    lane = lane_for("auto", manifest, Rules())
    assert lane.records.library is not None
    assert (lane.events, lane.why_not_events) == (None, "events are not in the default envelope")


def _counted(loaded, decoder, records):
    async def four(_topic):
        return 4

    ticks = count()
    counter = EventCounter(
        loaded,
        DriftTelemetry(DriftMetrics(CollectorRegistry(), ["customer-events", "predictions"])),
        events_topic="customer-events",
        panes_topic="panes",
        rules=Rules(),
        pane_ms=1000,
        span_ms=3_600_000,
        idle_timeout_s=5.0,
        partitions_of=four,
        decoder=decoder,
        now_ms=lambda: NOW_MS,
        monotonic=lambda: 60.0 * next(ticks),
    )
    asyncio.run(counter.on_assigned(SOURCE, 0, ""))
    written = []
    for first in range(0, len(records), 40):
        result = counter.process(SOURCE, records[first : first + 40], at_end=False)
        if result is not None:
            written.append((result.outputs, result.metadata, result.context))
    assert written
    return written, counter.unseen


def test_both_lanes_count_the_same(loaded):
    """Hostile records, new categories and missing values among good ones: bytes of deltas, progress, and names."""
    pytest.importorskip(NAME, reason="driftline-native is not built: make native")
    decoder = lane_for("auto", loaded.manifest, Rules()).events
    assert decoder is not None
    values = [
        (hostile.value, hostile.key, hostile.headers) if at % 2 else (value, b"7590-VHVEG", ())
        for at, hostile in enumerate(CORPUS)
        for value in (
            raw(event_time=f"2026-11-22T05:59:{at % 60:02}Z"),
            with_features(contract=f"new {at % 3}", payment=None),
        )
    ]
    records = [record(v, key=key, headers=headers, offset=at) for at, (v, key, headers) in enumerate(values)]
    native, python = (_counted(loaded, made, records) for made in (decoder, None))
    assert native == python
    assert {name: len(names) for name, names in python[1].items()}["contract"] >= 3
