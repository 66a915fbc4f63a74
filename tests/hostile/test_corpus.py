"""Every record of the corpus has its one outcome: in the pipeline, in the drift worker, over HTTP, on a real Kafka."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from itertools import count
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition
from confluent_kafka import Producer
from hostile.corpus import CORPUS, PREDICTED, Hostile
from support import bundles, protobuf_events
from support.avro_events import SCHEMA, Known, framed
from support.avro_events import body as avro_body
from support.events import FEATURES, NOW_MS, raw, record
from support.oracle import Sent, assert_exactly_once, send
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from driftline.local_kafka.broker import LocalBroker
from kafka_runtime.schema_registry.client import RegisteredSchema
from schemas.bundle.inputs import EventMapping
from schemas.event import EventDecoder
from schemas.prediction import decode_prediction
from schemas.rejection_reasons import Reason
from schemas.validation import Rules
from scorer.model import Model, load
from scorer.pipeline import Pipeline
from scorer.predict import NotAnsweredError, Predictor

EVENTS = TopicPartition("events", 1)
BOMB_BYTES = 40_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The small bundle whose events the corpus abuses."""
    directory = tmp_path_factory.mktemp("corpus") / "model"
    bundles.write(directory)
    return directory


@pytest.fixture(scope="module")
def model(bundle) -> Model:
    """As a scorer serves it."""
    return load(bundle, None)


def _record(hostile: Hostile, offset: int = 0):
    return record(hostile.value, key=hostile.key, headers=hostile.headers, offset=offset)


def test_names_are_said_once_and_every_reason_a_record_can_have_is_there() -> None:
    """A corpus that misses a reason would not notice its loss."""
    assert len({hostile.name for hostile in CORPUS}) == len(CORPUS)
    outside = {Reason.MODEL_ERROR, Reason.SKIPPED, Reason.UNKNOWN_FIELD}  # the model's, a person's, a setting's
    outside |= {Reason.NOT_DECODABLE, Reason.SCHEMA_INCOMPATIBLE}  # of a registry's formats, see below
    assert {hostile.outcome for hostile in CORPUS} == {PREDICTED, *(set(Reason) - outside)}


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_the_pipeline_gives_each_its_outcome(model, hostile):
    """Between good neighbours, which are scored beside any record; a dead letter is the original."""
    ticks = count()
    records = [record(raw(), offset=0), _record(hostile, 1), record(raw(), offset=2)]
    pipeline = Pipeline(model, Rules(), "driftline-scorer", 900_000)
    answer = pipeline.answer(records, "customer-events", 3, lambda: NOW_MS, lambda: float(next(ticks)))
    assert len(answer.predictions) == 2 + (hostile.outcome == PREDICTED)
    if hostile.outcome == PREDICTED:
        key, value, headers = answer.predictions[1]
        assert decode_prediction(value).prediction_id == "customer-events-3-1"
        assert answer.dead_letters == []
    else:
        ((key, value, headers),) = answer.dead_letters
        assert dict(headers)["driftline-reason"].decode() == hostile.outcome
        assert value == hostile.value
    assert key == hostile.key
    assert [found for name, found in headers if name == "driftline-source-offset"] == [b"1"]


@pytest.mark.parametrize("form", ["avro", "json-schema", "protobuf"])
@pytest.mark.parametrize("schema_id", [None, 1, 2, 3])
def test_behind_a_schema_id_each_has_one_outcome(form, schema_id):
    """The whole corpus as the records of a schema that fits, of one that does not, of none, and without framing."""
    kind, text, bad = {
        "avro": ("AVRO", json.dumps(SCHEMA), '"int"'),
        "json-schema": ("JSON", "{}", '{"type": "string"}'),
        "protobuf": ("PROTOBUF", protobuf_events.SCHEMA, 'syntax = "proto3"; message M { int32 a = 1; }'),
    }[form]
    schemas = Known({1: RegisteredSchema(kind, text), 2: RegisteredSchema(kind, bad)})
    decoder = EventDecoder(FEATURES, EventMapping(format=form), Rules(), schemas)
    values = [h.value if schema_id is None or h.value is None else framed(h.value, schema_id) for h in CORPUS]
    records = [
        record(value, key=h.key, headers=h.headers, offset=i)
        for i, (h, value) in enumerate(zip(CORPUS, values, strict=True))
    ]
    batch = decoder.decode(records, NOW_MS)
    reasons = [rejection and rejection.reason for rejection in batch.rejections]
    assert reasons.count(None) == len(batch.accepted)
    if form == "json-schema" and schema_id == 1:
        expected = {h.outcome for h in CORPUS} - {PREDICTED}
        assert expected <= {*reasons}
    elif schema_id is None:
        assert {*reasons} <= {Reason.EMPTY, Reason.TOO_LARGE, Reason.NOT_DECODABLE}
    else:
        assert None not in reasons


_TYPES = {"numeric": "double", "categorical": "string", "boolean": "boolean"}
_IN_AVRO = {
    "type": "record",
    "name": "Event",
    "fields": [
        *({"name": name, "type": "string"} for name in ("event_id", "customer_id", "event_time")),
        {"name": "features", "type": {"type": "record", "name": "Features", "fields": [
            {"name": f.name, "type": ["null", _TYPES[f.kind]], "default": None} for f in FEATURES]}},
    ],
}  # fmt: skip
_IN_PROTOBUF = (
    'syntax = "proto3"; message Event { string event_id = 1; string customer_id = 2; string event_time = 3; '
    "Features features = 4; } message Features { "
    + "".join(
        f"optional {_TYPES[f.kind].replace('boolean', 'bool')} {f.name} = {i}; " for i, f in enumerate(FEATURES, 1)
    )
    + "}"
)


def test_what_a_format_can_hold_has_the_outcome_of_its_json():
    """Of the corpus, every event whose values have the schema's types: numbers, ids and times of every kind."""
    kind = protobuf_events.message_class(_IN_PROTOBUF)
    schemas = Known({1: RegisteredSchema("AVRO", json.dumps(_IN_AVRO)), 2: RegisteredSchema("PROTOBUF", _IN_PROTOBUF)})
    held = {"avro": [], "protobuf": []}
    for hostile in CORPUS:
        if hostile.outcome in {"empty", "too_large", "not_json"}:
            continue  # of the text, which is not there any more
        try:
            event = json.loads(hostile.value or b"")
            version = event.pop("schema_version", 1)
            if version is True or version != 1 or len(event) > 4:
                continue  # the schemas have the four others
            event = {name: event[name] for name in ("event_id", "customer_id", "event_time", "features")}
            written = {
                "avro": framed(avro_body(_IN_AVRO, event), 1),
                "protobuf": framed(protobuf_events.body(event, kind=kind), 2),
            }
        except Exception:  # noqa: BLE001, S112 - no such event, in the words of three libraries
            continue
        for form, value in written.items():
            held[form].append((hostile, value))
    for form, pairs in held.items():
        assert len(pairs) > 20
        decoder = EventDecoder(FEATURES, EventMapping(format=form), Rules(), schemas)
        for copies in (1, 5):
            for hostile, value in pairs:
                records = [record(value, key=hostile.key, headers=hostile.headers)] * copies
                found = {r and r.reason.value for r in decoder.decode(records, NOW_MS).rejections}
                assert found == {None if hostile.outcome == PREDICTED else hostile.outcome}, (form, hostile.name)


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_predict_answers_or_names_the_problem(model, hostile):
    """What is refused in the stream for its JSON is refused here for the same; nothing else is raised."""
    problems = []
    try:
        answer = Predictor(model, Rules()).answer(hostile.value or b"", NOW_MS)
    except NotAnsweredError as error:
        answer = problems = error.detail
    json.dumps(answer, allow_nan=False).encode()
    types = {problem["type"] for problem in problems}
    assert types <= set(Reason)
    assert hostile.outcome != "not_json" or types == {"not_json"}
    assert hostile.value != raw() or not problems


def test_the_drift_worker_counts_or_refuses_each(bundle, counting_of):
    """The numbers of counted, refused and future match the corpus; as predictions, the same records are foreign."""
    outcomes = [hostile.outcome for hostile in CORPUS]
    counting, counted = counting_of(bundle)
    records = [_record(hostile, offset) for offset, hostile in enumerate(CORPUS)]
    asyncio.run(counting.on_assigned(EVENTS, 0, ""))
    result = counting.process(EVENTS, records, at_end=True) or counting.process(EVENTS, [], at_end=True)
    found = counted(result)
    assert found.read == len(CORPUS)
    assert found.counted == outcomes.count(PREDICTED)
    assert found.future == outcomes.count("event_time_in_future")
    expected = set(outcomes) - {PREDICTED, "event_time_in_future"}
    assert found.refused == {reason: outcomes.count(reason) for reason in expected}


def test_the_drift_worker_takes_none_of_them_for_a_prediction(bundle, counting_of):
    """On the predictions' topic each is refused, and read on."""
    counting, counted = counting_of(bundle)
    predictions = TopicPartition("predictions", 0)
    asyncio.run(counting.on_assigned(predictions, 0, ""))
    records = [_record(hostile, offset) for offset, hostile in enumerate(CORPUS)]
    result = counting.process(predictions, records, at_end=True) or counting.process(predictions, [], at_end=True)
    assert counted(result).refused == {"not_a_prediction": len(CORPUS)}


@pytest.mark.timeout(600)
def test_all_of_it_through_a_real_kafka(broker: LocalBroker, topic_prefix: str, bundle: Path, tmp_path: Path) -> None:
    """Good records between them, a bomb behind Kafka's compression: one outcome each, and no process has crashed."""
    stage = Stage(broker, topic_prefix, bundle, tmp_path)
    sent = Sent()
    producer = Producer(
        {
            "bootstrap.servers": stage.bootstrap,
            "message.max.bytes": BOMB_BYTES + 1_000_000,
            "compression.type": "gzip",
            "partitioner": "consistent",
        }
    )
    producer.produce(
        stage.names.events, b"0" * BOMB_BYTES, key=b"bomb", partition=2,
        on_delivery=lambda _, m: sent.records.update({(2, m.offset()): (b"bomb", m.value(), [])}),
    )  # fmt: skip
    assert producer.flush(60) == 0
    records = []
    for i, hostile in enumerate(CORPUS):
        records.append((hostile.key, hostile.value, list(hostile.headers), i % 4))
        records.append((b"good", raw(event_id=f"good {i}"), [], i % 4))
    send(stage.bootstrap, stage.names.events, records, sent)
    drift = {
        "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap,
        "SCORER_MODEL": str(bundle),
        "LOG_LEVEL": "debug",
        **stage.names.environment,
    }
    total = len(records) + 1
    with (
        stage.scorer(LOG_LEVEL="debug", SCORER_DEAD_LETTER_LIMIT="1.0") as scorer,
        Service("drift_worker", drift, tmp_path / "drift.log") as worker,
    ):
        stage.reader.wait_for(total)
        for service, metric in ((scorer, "driftline_scorer_consumed_records_total"),):
            wait_until(lambda s=service, m=metric: s.metric(m) == total, "all are counted")
        # the same records as events, and what the scorer made of them as predictions
        wait_until(lambda: _read(worker, stage.names.events) == total, "the drift worker has read all")
        for service in (scorer, worker):
            assert service.get("/livez").status_code == 200
        assert worker.stop() == 0
        assert scorer.stop() == 0
    stage.reader.close()
    assert_exactly_once(sent, stage.reader.answers)
    outcome_of = {hostile.value: hostile.outcome for hostile in CORPUS}
    for answer in stage.reader.answers:
        key, value, _ = sent.records[answer.source]
        if key == b"bomb":
            assert answer.reason == "too_large"
            headers = dict(answer.headers)
            assert headers["driftline-sha256"].decode() == hashlib.sha256(b"0" * BOMB_BYTES).hexdigest()
        elif answer.topic == stage.names.dead_letters:
            assert (answer.key, answer.value) == (key, value)
            assert answer.reason in {outcome_of.get(value), "too_large"}
    reasons = [answer.reason for answer in stage.reader.answers if answer.reason is not None]
    expected = [hostile.outcome for hostile in CORPUS if hostile.outcome != PREDICTED] + ["too_large"]
    assert sorted(reasons) == sorted(expected)


def _read(worker: Service, topic: str) -> float:
    """Records of a topic that a drift worker has counted, refused or found to be in the future."""
    try:
        return worker.metric("driftline_drift_read_records_total", topic=topic)
    except httpx.TransportError:
        time.sleep(0.5)
        return 0.0
