"""The native lane on a real broker: two scorers, one with the library and one without, write the same records."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

import pytest
from support.events import NOW_MS, record
from support.oracle import assert_exactly_once
from support.stage import Stage

from driftline.replay.event_source import open_source
from kafka_runtime.clients import MAX_BATCH_BYTES
from kafka_runtime.sinks import Encoded, record_batches
from schemas.validation import Rules
from scorer.model import load
from scorer.native.lane import lane_for
from scorer.pipeline import Pipeline

pytest.importorskip("driftline_native", reason="driftline-native is not built: make native")

PRODUCER = (77, 5, 1234)
NATIVE = {"served_by": "native", "why_not_native": None}
PYTHON = {"served_by": "python", "why_not_native": "SCORER_LANE is python"}
_SCORED_AT = re.compile(rb'"scored_at":"[^"]*"')


def test_real_customers_have_the_same_batches(telco_bundle: Path) -> None:
    """5,000 events of the Telco customers through the whole pipeline."""
    model = load(telco_bundle, None)
    events = open_source(Path("examples/telco_churn.csv"), model=telco_bundle, run="test").take(5000, 0.0, NOW_MS)
    records = [record(value, key=key, offset=at) for at, (key, value) in enumerate(events)]
    found = []
    for wanted in ("auto", "python"):
        ticks, lane = count(), lane_for(wanted, model, "g", Rules())
        pipeline = Pipeline(model, Rules(), "g", 900_000, lane=lane.predictions, decoder=lane.events)
        found.append(pipeline.answer(records, "t", 3, lambda: NOW_MS, lambda ticks=ticks: float(next(ticks))))
    native, python = (answer.predictions for answer in found)
    assert isinstance(native, Encoded)
    sealed = []
    for batch in native.batches(NOW_MS, transactional=True):
        batch._set_producer_state(*PRODUCER)
        sealed.append(batch._build())
    assert sealed == record_batches(python, NOW_MS, MAX_BATCH_BYTES, PRODUCER)
    assert len(sealed) > 1
    assert len(native) == 5000


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_both_lanes_write_the_same_records_in_the_same_places(stage: Stage, delivery: str) -> None:
    """Keys, values, headers, partitions and order; each scorer answers the same events, its group apart."""
    sent = stage.send_customers(3000)
    written = {}
    for lane in ("auto", "python"):
        answered = len(stage.reader.answers)
        environment = {"SCORER_LANE": lane, "SCORER_DELIVERY": delivery, "SCORER_GROUP": f"{stage.names.events}-{lane}"}
        with stage.scorer(**environment) as scorer:
            scorer.wait_ready()
            stage.reader.wait_for(answered + 3000)
            serves = scorer.get("/health").json()["lane"]
            assert scorer.stop() == 0
        assert serves == dict.fromkeys(("records", "events", "predictions"), NATIVE if lane == "auto" else PYTHON)
        answers = stage.reader.answers[answered:]
        assert_exactly_once(sent, answers)
        written[lane] = sorted(
            (
                (a.topic, a.partition, a.offset),
                a.key,
                _SCORED_AT.sub(b"", a.value or b""),
                [(name, value) for name, value in a.headers if name != "driftline-group"],
            )
            for a in answers
        )
    assert [row[1:] for row in written["auto"]] == [row[1:] for row in written["python"]]
