"""Fetched batches: which reader serves, and the same answers for the library's records as for aiokafka's."""

import sys
from itertools import count
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hostile.corpus import CORPUS
from support import bundles
from support.events import NOW_MS, raw

from kafka_runtime.clients import MAX_BATCH_BYTES
from kafka_runtime.native.library import INTERFACE, NAME
from kafka_runtime.native.records import reader_for
from kafka_runtime.sinks import record_batches
from schemas import headers as h
from schemas.validation import Rules
from scorer.model import load
from scorer.native.lane import lane_for
from scorer.pipeline import Pipeline

SOURCE = TopicPartition("customer-events", 3)
PRODUCER = (77, 5, 1234)
TRACE = (h.TRACEPARENT, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def test_without_the_library_aiokafka_reads(monkeypatch):
    """It is optional."""
    monkeypatch.setitem(sys.modules, NAME, None)
    assert reader_for("auto").state() == {
        "served_by": "python",
        "why_not_native": "driftline-native is not installed",
    }
    assert reader_for("python").why_not == "SCORER_LANE is python"


class _Faulty:
    """A library of the right interface, with one fault."""

    INTERFACE, VERSION = INTERFACE, "0.0.9"

    def __init__(self, real, **changes):
        self.is_whole = changes.get("is_whole", real.is_whole)
        self.records_of = changes.get("records_of", real.records_of)


def _later(real):
    def records_of(*asked):
        return [
            SimpleNamespace(**{n: getattr(one, n) for n in _FIELDS} | {"offset": one.offset + 1})
            for one in real(*asked)
        ]

    return records_of


_FIELDS = ("topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda _: {}, None),
        (lambda _: {"is_whole": lambda _: True}, "checks the checksum"),
        (lambda _: {"is_whole": lambda _: False}, "checks the checksum"),
        (lambda _: {"records_of": lambda *_: None}, "does not take"),
        (lambda real: {"records_of": _later(real.records_of)}, "reads the records"),
        (lambda real: {"records_of": lambda *asked: real.records_of(*asked)[:-1]}, "reads the records"),
    ],
    ids=["none", "any checksum", "no checksum", "nothing", "offsets", "one too few"],
)
def test_a_library_that_reads_batches_differently_does_not_serve(monkeypatch, fault, why):
    """The client defines what is in a batch."""
    real = pytest.importorskip(NAME, reason="driftline-native is not built: make native")
    monkeypatch.setitem(sys.modules, NAME, _Faulty(real, **fault(real)))
    reader = reader_for("auto")
    assert (reader.library is None) == (why is not None)
    assert (why or "") in (reader.why_not or "")


def _fetched(rows):
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 26)
    for offset, (key, value, headers) in enumerate(rows):
        assert builder.append(offset, NOW_MS - 500 + offset % 7, key, value, headers)
    return bytes(builder.build())


def test_the_answers_are_those_of_aiokafkas_records(tmp_path):
    """Every hostile record beside good ones, with and without keys, headers and traces."""
    library = pytest.importorskip(NAME, reason="driftline-native is not built: make native")
    bundles.write(tmp_path / "bundle")
    model = load(tmp_path / "bundle", None)
    rows = []
    for at, hostile in enumerate(CORPUS):
        rows.append((hostile.key, hostile.value, list(hostile.headers)))
        rows.append(((None, b"7590-VHVEG", b"")[at % 3], raw(), ([], [TRACE], [("x", None)])[at // 3 % 3]))
    batch = _fetched(rows)
    aiokafkas = list(PartitionRecords(SOURCE, MemoryRecords(batch), [], 0, None, None, True, READ_COMMITTED))
    ours = library.records_of(SOURCE.topic, SOURCE.partition, batch)
    assert len(ours) == len(aiokafkas) == len(rows)
    answers = []
    for records, wanted in ((ours, "auto"), (ours, "python"), (aiokafkas, "python")):
        ticks, lane = count(), lane_for(wanted, model, "g", Rules())
        pipeline = Pipeline(model, Rules(), "g", 900_000, lane=lane.predictions, decoder=lane.events)
        answer = pipeline.answer(records, *SOURCE, lambda: NOW_MS, lambda ticks=ticks: float(next(ticks)))
        if wanted == "auto":
            sealed = []
            for one in answer.predictions.batches(NOW_MS, transactional=True):
                one._set_producer_state(*PRODUCER)
                sealed.append(one._build())
        else:
            sealed = record_batches(answer.predictions, NOW_MS, MAX_BATCH_BYTES, PRODUCER)
        answers.append((sealed, answer.dead_letters, answer.reasons, answer.spoofed_headers, answer.key_mismatches))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][2]
