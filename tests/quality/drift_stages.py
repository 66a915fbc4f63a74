"""What a record costs a drift worker, by stage and without Kafka. Prints, and judges nothing.

PYTHONPATH=tests python -m quality.drift_stages    (make bench runs it)

One batch of events and one of their predictions, as a fetch has them, go through each stage again and again. The least
CPU time of a stage counts, so that other programs disturb little. A whole process takes more than the sum of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from prometheus_client import CollectorRegistry

from bench.run import machine
from bench.stage import DATA, SPEC
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.stages.count_events import READ_RECORDS, EventCounter
from drift_worker.telemetry import DriftTelemetry
from driftline.replay.event_source import open_source
from driftline.training.spec import read_spec
from driftline.training.train import train_bundle
from kafka_runtime import fetched
from schemas.event import EventDecoder
from schemas.headers import CONTENT_TYPE, Stamp
from schemas.prediction import ModelRef, PlainDecoder, encoder_of
from schemas.timestamps import parse_batch
from schemas.validation import Rules

EVENTS, PREDICTIONS = TopicPartition("events", 0), TopicPartition("predictions", 0)
Row = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]


def least(stage: Callable[[], int], rounds: int) -> float:
    """Return the least CPU microseconds per record of a stage, which returns how many records it has worked on."""
    found = []
    for _ in range(rounds):
        started = time.thread_time()
        records = stage()
        found.append((time.thread_time() - started) / records * 1e6)
    return min(found)


def batch(rows: Sequence[Row], now_ms: int) -> bytes:
    """Return the records as one batch of a fetch."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 24)
    for offset, (key, value, headers) in enumerate(rows):
        builder.append(offset, now_ms, key, value, list(headers))
    raw = bytearray(builder.build())
    raw[:8] = struct.pack(">q", 0)
    return bytes(raw)


def read(source: TopicPartition, raw: bytes) -> list[Any]:
    """Return the records of a fetch as a drift worker reads them, checksum included."""
    part = fetcher.PartitionRecords(source, fetcher.MemoryRecords(raw), [], 0, None, None, True, fetcher.READ_COMMITTED)
    found: list[Any] = part.take(None)[0]
    return found


def stages(bundle: Path, rounds: int) -> list[tuple[str, float | None, float | None]]:
    """Return each stage with its microseconds per event and per prediction."""
    fetched.install([EVENTS.topic, PREDICTIONS.topic])
    loaded, now_ms = load(bundle, None), time.time_ns() // 1_000_000
    manifest = loaded.manifest
    customers = open_source(DATA, bundle, run="bench").take(READ_RECORDS, 0.0, now_ms)
    events: list[Row] = [(key, value, ()) for key, value in customers]
    counter = _counter(bundle, now_ms)
    decoder = EventDecoder(manifest.features, manifest.event, Rules())
    records = read(EVENTS, batch(events, now_ms))
    decoded = decoder.decode(records, now_ms)
    model = ModelRef(manifest.name, manifest.version)
    values = encoder_of(model, manifest.predicts).encode(
        [f"events-0-{i}" for i in range(READ_RECORDS)],
        *(decoded.event_ids, decoded.customer_ids, decoded.event_times, decoded.event_times[0]),
        [0.25 + i / (2 * READ_RECORDS) for i in range(READ_RECORDS)],
    )
    headers = Stamp(EVENTS.topic, 0, manifest.version, "bench").batch(records, CONTENT_TYPE)
    scored: list[Row] = [
        (customer.encode(), value, own)
        for customer, value, own in zip(decoded.customer_ids, values, headers, strict=True)
    ]
    fetches = batch(events, now_ms), batch(scored, now_ms)
    answers = read(PREDICTIONS, fetches[1])
    plain = PlainDecoder(manifest.predicts, model)
    predictions = plain.decode(values, _never)
    times = [prediction.event_time for prediction in predictions]
    shares = decoder.read(records, now_ms)

    def process(source: TopicPartition, found: list[Any]) -> Callable[[], int]:
        def to_deltas() -> int:
            done = 0
            while True:
                done += len(found)
                if counter.process(source, found, at_end=False) is not None:
                    return done

        return to_deltas

    def once(stage: Callable[..., Any], *given: Any) -> Callable[[], int]:
        def run() -> int:
            stage(*given)
            return READ_RECORDS

        return run

    hashed = once(loaded.hash_customers, decoded.customer_ids)
    rows: list[tuple[str, Callable[[], int] | None, Callable[[], int] | None]] = [
        ("fetched bytes → records, checksum", once(read, EVENTS, fetches[0]), once(read, PREDICTIONS, fetches[1])),
        ("decode", once(decoder.read, records, now_ms), once(plain.decode, values, _never)),
        ("columns and checks", once(decoder.assemble, shares), None),
        ("times", None, once(parse_batch, times)),
        ("hash of the customers", hashed, hashed),
        ("all of the counting stage, deltas included", process(EVENTS, records), process(PREDICTIONS, answers)),
    ]
    return [
        (
            name,
            None if of_events is None else least(of_events, rounds),
            None if of_predictions is None else least(of_predictions, rounds),
        )
        for name, of_events, of_predictions in rows
    ]


def _never(index: int) -> None:
    raise RuntimeError(f"prediction {index} is not plain")


def _counter(bundle: Path, now_ms: int) -> EventCounter:
    async def four(_topic: str) -> int:
        return 4

    counter = EventCounter(
        load(bundle, None),
        DriftTelemetry(DriftMetrics(CollectorRegistry(), [EVENTS.topic, PREDICTIONS.topic])),
        events_topic=EVENTS.topic,
        panes_topic="panes",
        rules=Rules(),
        pane_ms=60_000,
        span_ms=86_400_000,
        idle_timeout_s=60.0,
        partitions_of=four,
        now_ms=lambda: now_ms,
    )
    for source in (EVENTS, PREDICTIONS):
        asyncio.run(counter.on_assigned(source, 0, ""))
    return counter


def main() -> int:
    """Print a table of the stages."""
    parser = argparse.ArgumentParser(prog="python -m quality.drift_stages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="of each stage; the least counts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        bundle = Path(folder) / "model"
        train_bundle(read_spec(SPEC), DATA, bundle, datetime.now(UTC).replace(microsecond=0))
        gc.freeze()
        found = stages(bundle, arguments.rounds)
    sys.stdout.write(f"{machine()}, batches of {READ_RECORDS}\n\n| stage | µs per event | µs per prediction |\n")
    sys.stdout.write("| --- | ---: | ---: |\n")
    for name, event_us, prediction_us in found:
        cells = ["–" if us is None else f"{us:.2f}" for us in (event_us, prediction_us)]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
