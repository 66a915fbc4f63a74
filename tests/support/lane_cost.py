"""What a batch costs in both lanes, by its size: `PYTHONPATH=tests python -m support.lane_cost`.

CPU time of reading events, and of encoding and sealing predictions, without Kafka. The lanes take turns, so that a busy
machine slows both.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiokafka.producer.message_accumulator import BatchBuilder
from support import bundles
from support.events import NOW_MS, raw, record

from kafka_runtime.clients import MAX_BATCH_BYTES
from kafka_runtime.sinks import _filled
from schemas import headers as h
from schemas.event import EventDecoder
from schemas.validation import Rules
from scorer.model import load
from scorer.native.lane import lane_for
from scorer.pipeline import encoder_for, predictions_of

SIZES = (1, 5, 10, 50, 200, 1000, 5000)
RECORDS = 20_000
TURNS = 5


def main() -> None:
    """Print a row per size."""
    with tempfile.TemporaryDirectory() as folder:
        bundles.write(Path(folder))
        model = load(Path(folder), None)
    lane = lane_for("auto", model, "g", Rules())
    if lane.events is None or lane.predictions is None:
        raise SystemExit(f"the native lane does not serve: {lane.state()}")
    decoder, encoder = EventDecoder(model.manifest.features, model.manifest.event), encoder_for(model)
    stamp = h.Stamp("customer-events", 3, "1.4.0", "g")
    gc.freeze()
    gc.disable()
    for size in SIZES:
        records = [record(raw(event_id=f"e-{i:08d}"), offset=10_000_000 + i) for i in range(size)]
        batch = decoder.decode(records, NOW_MS)
        asked = (records, batch, model.predict(batch.columns), stamp, NOW_MS)

        def encode(asked=asked) -> None:
            outputs, _ = predictions_of(encoder, *asked)
            for built in _filled(lambda: BatchBuilder(MAX_BATCH_BYTES, 0, is_transactional=1), outputs, NOW_MS):
                built._set_producer_state(1, 2, 3)
                built._build()

        def encode_native(asked=asked) -> None:
            for sealed in lane.predictions.encode(*asked)[0].batches(NOW_MS, transactional=True):
                sealed._set_producer_state(1, 2, 3)
                sealed._build()

        ways = {
            "read": (lambda r=records: decoder.decode(r, NOW_MS), lambda r=records: lane.events.decode(r, NOW_MS)),
            "encode": (encode, encode_native),
        }
        shown = []
        for name, (python, native) in ways.items():
            each = [seconds / size * 1e6 for seconds in _seconds(python, native, max(20, RECORDS // max(size, 20)))]
            shown.append(f"{name} {each[0]:6.2f} and {each[1]:6.2f} µs a record, ratio {each[0] / each[1]:4.1f}")
        print(f"{size:5} records: {'; '.join(shown)}", flush=True)  # noqa: T201


def _seconds(python: Callable[[], object], native: Callable[[], object], times: int) -> list[float]:
    """Return the CPU seconds of one call of each."""
    spent = [0.0, 0.0]
    for _ in range(TURNS):
        for number, run in enumerate((python, native)):
            started = time.thread_time()
            for _ in range(times):
                run()
            spent[number] += time.thread_time() - started
    return [seconds / TURNS / times for seconds in spent]


if __name__ == "__main__":
    main()
