"""The library's record batches are those of Python and aiokafka, byte for byte, whatever the records hold."""

import asyncio
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hostile.corpus import CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st
from support import bundles
from support.events import NOW_MS, raw, record

from kafka_runtime.clients import MAX_BATCH_BYTES, idempotent_producer, transactional_producer
from kafka_runtime.service.settings import KafkaSettings
from kafka_runtime.sinks import Encoded, record_batches
from schemas import headers as h
from schemas.event import DecodedBatch
from schemas.task import Binary, Interval, Multiclass, Regression
from schemas.validation import Rules
from scorer.model import load
from scorer.native.lane import lane_for
from scorer.native.predictions import NativePredictions, SealedBatch
from scorer.pipeline import Pipeline, encoder_for, predictions_of

library = pytest.importorskip("driftline_native", reason="driftline-native is not built: make native")

PRODUCER = (77, 5, 1234)
TASKS = (
    Binary("Yes", 0.5),
    Binary("Yes", 1e-7),
    Regression(),
    Regression(interval=Interval(-1.5, 1e300, 0.9)),
    Multiclass(("gold", 'sil"ver', "ä")),
    Multiclass(tuple(f"c{number}" for number in range(23))),
)


def _model(task, name="churn-small"):
    return SimpleNamespace(manifest=SimpleNamespace(name=name, version="1.4.0", predicts=task))


def _batch(ids, customers, times):
    rows = np.arange(len(ids))
    return DecodedBatch([None] * len(ids), rows, ids, customers, times, rows, None, 0, 0)


def _sealed(predictions, now_ms=NOW_MS):
    made = []
    for batch in predictions.batches(now_ms, transactional=True):
        batch._set_producer_state(*PRODUCER)
        made.append(batch._build())
    return made


def _both(model, asked, limit=MAX_BATCH_BYTES):
    """Return the batches and counts of both lanes; the native one's None for what it hands back."""
    wanted, counted = predictions_of(encoder_for(model), *asked)
    encoded = NativePredictions(library, model, limit).encode(*asked)
    native = None if encoded is None else (_sealed(encoded[0]), encoded[1])
    return native, (record_batches(wanted, NOW_MS, limit, PRODUCER), counted)


# no surrogates: what no UTF-8 can hold is tested below
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", h.SOURCE_OFFSET, h.ATTEMPT, "x", "driftline-"]),
        st.sampled_from([None, b"", b"7", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
    ),
    max_size=4,
)
_RECORDS = st.builds(
    record,
    st.just(b"{}"),
    key=st.none() | st.binary(max_size=200),
    headers=_HEADERS,
    offset=st.integers(0, (1 << 63) - 1),
    timestamp=st.integers(-(1 << 63), (1 << 63) - 1),
    timestamp_type=st.sampled_from([0, 1, None]),
)


@given(st.data(), st.sampled_from(TASKS), st.integers(62, 6000))
@settings(max_examples=150, deadline=None)
def test_every_batch_is_byte_for_byte_what_python_makes(data, task, limit):
    """Keys, headers, texts, doubles and sizes of any kind."""
    rows = data.draw(st.lists(st.tuples(_RECORDS, _TEXTS, _TEXTS, _TEXTS), min_size=1, max_size=12))
    records, ids, customers, times = (list(column) for column in zip(*rows, strict=True))
    numbers = st.floats() if isinstance(task, Regression) else st.floats(0.0, 1.0)
    shape = task.shape(len(rows))
    drawn = data.draw(st.lists(numbers, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    scores = np.array(drawn).reshape(shape)
    stamp = h.Stamp("customer-events", data.draw(st.integers(0, 300)), "1.4.0", "grüppe")
    asked = (records, _batch(ids, customers, tuple(times)), scores, stamp, NOW_MS)
    native, python = _both(_model(task, data.draw(_TEXTS)), asked, limit)
    assert native == python


@pytest.mark.parametrize(
    ("rows", "limits"),
    [(1, (62, MAX_BATCH_BYTES)), (300, range(60_000, 60_030)), (5000, (MAX_BATCH_BYTES,)), (9000, (7_000_000,))],
)
def test_batches_are_split_where_aiokafkas_are(rows, limits):
    """Also where the number of a record takes one more byte."""
    records = [record(b"{}", offset=at) for at in range(rows)]
    ids = [f"e-{at % 90:09d}" for at in range(rows)]
    scores = np.random.default_rng(rows).random(rows)
    stamp = h.Stamp("customer-events", 3, "1.4.0", "g")
    for limit in limits:
        native, python = _both(_model(TASKS[0]), (records, _batch(ids, ids, ids), scores, stamp, NOW_MS), limit)
        assert native == python


@pytest.mark.parametrize("rows", [1, 2, 5, 130])
def test_a_batch_that_fills_its_limit_is_split_where_aiokafkas_is(rows):
    """To the byte: the limit is what these records need, one less, and one more."""
    records = [record(b"{}", offset=at) for at in range(rows + 1)]
    ids = [f"e-{at:09d}" for at in range(rows + 1)]
    scores = np.full(rows + 1, 0.25)
    stamp = h.Stamp("customer-events", 3, "1.4.0", "g")
    few = (records[:rows], _batch(ids[:rows], ids[:rows], ids[:rows]), scores[:rows], stamp, NOW_MS)
    (whole,) = record_batches(predictions_of(encoder_for(_model(TASKS[0])), *few)[0], NOW_MS, MAX_BATCH_BYTES, PRODUCER)
    counts = set()
    for limit in range(len(whole) - 1, len(whole) + 2):
        asked = (records, _batch(ids, ids, ids), scores, stamp, NOW_MS)
        native, python = _both(_model(TASKS[0]), asked, limit)
        assert native == python
        counts.add(len(native[0][0]))
    assert len(counts) == (1 if rows == 1 else 2), "the limit made no difference"


def test_doubles_are_written_as_msgspec_writes_them():
    """Any bits, and the numbers around powers of ten."""
    draw = np.random.default_rng(11)
    any_bits = draw.integers(0, 1 << 64, 40_000, dtype=np.uint64).view(np.float64)
    decimals = np.array(
        [sign * digits * 10.0**power for power in range(-30, 30) for digits in (1, 3, 9.5) for sign in (1, -1)]
    )
    scores = np.concatenate([any_bits, decimals, draw.random(10_000), [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324]])
    records = [record(b"{}", offset=at) for at in range(len(scores))]
    texts = ["x"] * len(scores)
    stamp = h.Stamp("t", 0, "1", "g")
    asked = (records, _batch(texts, texts, texts), scores, stamp, NOW_MS)
    native, python = _both(_model(Regression()), asked)
    assert native == python


@pytest.mark.parametrize(
    ("records", "ids"),
    [
        ([record(b"{}")], ["\ud800"]),
        ([record(b"{}")], [7]),
        ([record(b"{}")], ["a", "b"]),
        ([record(b"{}", key=bytearray(b"k"))], ["a"]),
        ([record(b"{}", offset=1 << 63)], ["a"]),
        ([record(b"{}", timestamp=None)], ["a"]),
    ],
    ids=["surrogate", "no text", "more ids than records", "another type of key", "offset", "no timestamp"],
)
def test_what_is_not_of_the_expected_form_is_handed_back(records, ids):
    """None, and no exception: Python decides what becomes of it."""
    native = NativePredictions(library, _model(TASKS[0]), MAX_BATCH_BYTES)
    stamp = h.Stamp("t", 0, "1", "g")
    assert native.encode(records, _batch(ids, ids, ids), np.array([0.5]), stamp, NOW_MS) is None


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model, loaded from its bundle as the scorer loads it."""
    directory = tmp_path_factory.mktemp("bundle")
    bundles.write(directory)
    return load(directory, None)


def _answers(model, records):
    """Return the answers to the same records with the lane and without."""
    lane = lane_for("auto", model, "driftline-scorer", Rules())
    native = {"served_by": "native", "why_not_native": None}
    assert lane.state() == {"events": native, "predictions": native}
    found = []
    for predictions, decoder in ((lane.predictions, lane.events), (None, None)):
        ticks = count()
        pipeline = Pipeline(model, Rules(), "driftline-scorer", 900_000, lane=predictions, decoder=decoder)
        found.append(pipeline.answer(records, "customer-events", 3, lambda: NOW_MS, lambda: float(next(ticks))))  # noqa: B023
    return found


def _equal(native, python):
    assert isinstance(native.predictions, Encoded)
    assert _sealed(native.predictions) == record_batches(python.predictions, NOW_MS, MAX_BATCH_BYTES, PRODUCER)
    # whoever looks at single predictions sees those of Python
    assert list(native.predictions) == list(native.predictions[:]) == python.predictions
    assert native.dead_letters == python.dead_letters
    assert (native.spoofed_headers, native.reasons) == (python.spoofed_headers, python.reasons)


def test_the_hostile_corpus_has_the_same_answers(model):
    """Between good records, in one batch: what is rejected leaves no trace in the others."""
    records = []
    for hostile in CORPUS:
        records.append(record(raw(), offset=len(records)))
        records.append(record(hostile.value, key=hostile.key, headers=hostile.headers, offset=len(records)))
    native, python = _answers(model, records)
    assert native.dead_letters
    _equal(native, python)


def test_a_sealed_batch_is_what_a_producer_needs():
    """The calls of aiokafka's accumulator and sender; a retry sends the same bytes."""
    asked = (
        [record(b"{}", offset=at) for at in range(3)],
        _batch(["a"] * 3, ["b"] * 3, ["c"] * 3),
        np.array([0.1, 0.5, 0.9]),
        h.Stamp("t", 0, "1", "g"),
        NOW_MS,
    )
    predictions, _ = NativePredictions(library, _model(TASKS[0]), MAX_BATCH_BYTES).encode(*asked)
    (sealed,) = predictions.batches(NOW_MS, transactional=False)
    theirs = BatchBuilder(MAX_BATCH_BYTES, 0, is_transactional=0)
    for key, value, headers in predictions:
        assert theirs.append(key=key, value=value, timestamp=NOW_MS, headers=headers) is not None
    assert isinstance(sealed, SealedBatch)
    assert sealed.record_count() == theirs.record_count() == 3
    assert sealed.size() == theirs.size()
    sealed.close()
    assert sealed.closed()
    unsent = sealed._build()
    for batch in (sealed, theirs):
        batch._set_producer_state(7, 8, 9)
    assert sealed._build() == sealed._build() == bytes(theirs._build()) != unsent


def test_the_producers_do_not_compress():
    """A sealed batch is not compressed either: both lanes write the same bytes."""

    async def codecs():
        kafka = KafkaSettings()
        made = [transactional_producer(kafka, "id"), idempotent_producer(kafka)]
        found = [(p._message_accumulator._compression_type, p._message_accumulator._batch_size) for p in made]
        for producer in made:
            await producer.stop()
        return found

    assert asyncio.run(codecs()) == [(0, MAX_BATCH_BYTES)] * 2
