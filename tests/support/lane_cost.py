"""What a batch's predictions cost in both lanes, by its size: `PYTHONPATH=tests python -m support.lane_cost`.

CPU time of encoding and sealing, without Kafka; the lanes take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path

from aiokafka.producer.message_accumulator import BatchBuilder
from support import bundles
from support.events import NOW_MS, raw, record

from kafka_runtime.clients import MAX_BATCH_BYTES
from kafka_runtime.sinks import _filled
from schemas import headers as h
from schemas.event import EventDecoder
from scorer.model import load
from scorer.native.library import lane_for
from scorer.pipeline import encoder_for, predictions_of

SIZES = (1, 5, 10, 50, 200, 1000, 5000)
RECORDS = 40_000
TURNS = 5


def main() -> None:
    """Print a row per size."""
    with tempfile.TemporaryDirectory() as folder:
        bundles.write(Path(folder))
        model = load(Path(folder), None)
    lane = lane_for("auto", model, "g").predictions
    if lane is None:
        raise SystemExit("driftline-native is not installed: make native")
    decoder, encoder = EventDecoder(model.manifest.features, model.manifest.event), encoder_for(model)
    stamp = h.Stamp("customer-events", 3, "1.4.0", "g")
    gc.freeze()
    gc.disable()
    for size in SIZES:
        records = [record(raw(event_id=f"e-{i:08d}"), offset=10_000_000 + i) for i in range(size)]
        batch = decoder.decode(records, NOW_MS)
        asked = (records, batch, model.predict(batch.columns), stamp, NOW_MS)

        def python(asked=asked) -> None:
            outputs, _ = predictions_of(encoder, *asked)
            for built in _filled(lambda: BatchBuilder(MAX_BATCH_BYTES, 0, is_transactional=1), outputs, NOW_MS):
                built._set_producer_state(1, 2, 3)
                built._build()

        def native(asked=asked) -> None:
            for sealed in lane.encode(*asked)[0].batches(NOW_MS, transactional=True):
                sealed._set_producer_state(1, 2, 3)
                sealed._build()

        spent = {python: 0.0, native: 0.0}
        times = max(20, RECORDS // size)
        for _ in range(TURNS):
            for run in spent:
                started = time.thread_time()
                for _ in range(times):
                    run()
                spent[run] += time.thread_time() - started
        each = [seconds / TURNS / times / size * 1e6 for seconds in spent.values()]
        print(f"{size:5} records: {each[0]:6.2f} and {each[1]:6.2f} µs a record, ratio {each[0] / each[1]:.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
