"""Events behind a schema registry, written by Confluent's own serializers, on a real broker: while it is away, too."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from support import bundles, protobuf_events
from support.avro_events import SCHEMA, framed
from support.drifting import start_worker
from support.events import FEATURES, GOOD, GOOD_FEATURES
from support.oracle import Sent, assert_exactly_once, send
from support.registry import Apicurio, SmallRegistry
from support.stage import Stage
from support.waiting import wait_until

from schemas.bundle.inputs import EventMapping

REGISTRY_AWAY = "registry_unreachable"


@pytest.fixture
def registry() -> Iterator[SmallRegistry]:
    """A registry that is stopped and started in milliseconds."""
    with SmallRegistry() as running:
        yield running
    running.stop()


_CLIENTS: list[SchemaRegistryClient] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what keeps its connections: a socket that is left open is an error of the test that runs then."""
    yield
    while _CLIENTS:
        _CLIENTS.pop().__exit__(None, None, None)


def _client(url: str) -> SchemaRegistryClient:
    client = SchemaRegistryClient({"url": url})
    _CLIENTS.append(client)
    return client


def _newer() -> dict:
    """The schema with a field that no spec knows: another id."""
    schema = copy.deepcopy(SCHEMA)
    schema["fields"].append({"name": "channel", "type": "string", "default": ""})
    return schema


def _without_tenure() -> dict:
    schema = copy.deepcopy(SCHEMA)
    schema["fields"][3]["type"]["fields"] = schema["fields"][3]["type"]["fields"][1:]
    return schema


class Producer:
    """An upstream team's: Confluent's serializer, one schema."""

    def __init__(self, url: str, topic: str, schema: dict) -> None:
        self._serializer = AvroSerializer(_client(url), json.dumps(schema))
        self._context = SerializationContext(topic, MessageField.VALUE)

    def record(self, i: int) -> tuple:
        features = {
            "tenure": i % 121,
            "monthly_charges": Decimal(2000 + i) / 100,
            "total_charges": None if i % 7 == 0 else 100.0 * i,
            "contract": ("MONTHLY", "YEARLY")[i % 2],
            "payment": None if i % 5 == 0 else "Mail",
            "senior": i % 3 == 0,
            "partner": None,
        }
        event = {"event_id": f"e{i}", "customer_id": i, "event_time": datetime.now(UTC), "features": features}
        value = self._serializer({**event, "channel": "web"}, self._context)
        return str(i).encode(), value, (), i % 4


class ProtobufProducer:
    """An upstream team's with Confluent's serializer: what a file imports is registered, too, and referred to."""

    def __init__(self, url: str, topic: str, kind: Any) -> None:
        self._kind = kind
        self._serializer = ProtobufSerializer(kind, _client(url))
        self._context = SerializationContext(topic, MessageField.VALUE)

    def record(self, i: int) -> tuple:
        features = {"tenure": i % 121, "monthly_charges": 20 + i / 100, "contract": i % 2, "senior": i % 3 == 0}
        features |= {"total_charges": {"value": 100.0 * i}} if i % 7 else {}
        features |= {"payment": "Mail"} if i % 5 else {}
        if "tenure" not in self._kind.DESCRIPTOR.fields_by_name["features"].message_type.fields_by_name:
            del features["tenure"]
        event = self._kind(event_id=f"e{i}", customer_id=2**62 + i, features=features)
        event.event_time.GetCurrentTime()
        if "channel" in self._kind.DESCRIPTOR.fields_by_name:
            event.channel = "web"
        return str(2**62 + i).encode(), self._serializer(event, self._context), (), i % 4


def _bundle(folder: Path, form: str = "avro") -> None:
    features = tuple(
        feature.model_copy(update={"categories": ("MONTHLY", "YEARLY")}) if feature.name == "contract" else feature
        for feature in FEATURES
    )
    bundles.write(folder, bundles.fitted(), event=EventMapping(format=form), features=features)


def _predicted(stage: Stage) -> int:
    return sum(answer.topic == stage.names.predictions for answer in stage.reader.answers)


def _refused(stage: Stage) -> list[tuple[str | None, bytes | None]]:
    return sorted((a.reason, a.value) for a in stage.reader.answers if a.topic == stage.names.dead_letters)


def test_avro_is_scored_and_counted_and_an_outage_of_the_registry_only_delays(
    stage: Stage, registry: SmallRegistry
) -> None:
    """Logical types, a schema that does not fit, an id that is first seen while the registry is away."""
    bundle = stage.folder / "model"
    _bundle(bundle)
    producer = Producer(registry.url, stage.names.events, SCHEMA)
    newer = Producer(registry.url, stage.names.events, _newer())
    wrong = Producer(registry.url, stage.names.events, _without_tenure())
    good = [producer.record(i) for i in range(200)]
    later = [newer.record(i) for i in range(200, 240)]
    bad = [wrong.record(i) for i in range(3)] + [
        (b"1", b'{"a":1}'),
        (b"1", framed(b"", 999)),
        (b"1", good[0][1] + b"\0"),
    ]
    with (
        stage.scorer(SCORER_MODEL=str(bundle), SCHEMA_REGISTRY_URL=registry.url) as scorer,
        start_worker(stage, "drift", SCORER_MODEL=str(bundle), SCHEMA_REGISTRY_URL=registry.url) as worker,
    ):
        sent = send(stage.bootstrap, stage.names.events, good + bad)
        stage.reader.wait_for(len(sent.records))
        assert _predicted(stage) == 200
        expected = ["not_decodable"] * 3 + ["schema_incompatible"] * 3
        assert [reason for reason, _ in _refused(stage)] == expected
        assert sorted(value for _, value in _refused(stage)) == sorted(record[1] for record in bad)
        details = {
            dict(a.headers)["driftline-detail"].decode() for a in stage.reader.answers if a.reason == expected[-1]
        }
        assert {detail.partition(": ")[2] for detail in details} == {"features.tenure: the schema has no such field"}
        counted = "driftline_drift_counted_events_total"
        wait_until(lambda: worker.metric(counted, topic=stage.names.events) == 200, "the drift worker has counted")

        registry.stop()
        send(stage.bootstrap, stage.names.events, later[:20], sent)
        wait_until(lambda: REGISTRY_AWAY in (scorer.reasons() or ()), "the scorer says why it is not ready")
        send(stage.bootstrap, stage.names.events, [producer.record(i) for i in range(240, 280)], sent)
        registry.start()
        send(stage.bootstrap, stage.names.events, later[20:], sent)
        stage.reader.wait_for(len(sent.records))
        wait_until(lambda: scorer.reasons() == [], "the scorer is ready again")
        wait_until(lambda: worker.metric(counted, topic=stage.names.events) == 280, "the drift worker has counted all")
        assert scorer.metric("driftline_scorer_unknown_fields_total") == len(later)
    assert_exactly_once(sent, stage.reader.answers)
    assert _predicted(stage) == 280
    arguments = ("verify", "--topic", stage.names.events, "--model", str(bundle), "--json")
    verified = stage.driftline(*arguments, SCHEMA_REGISTRY_URL=registry.url)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["scores_checked"] == 280
    prediction = next(json.loads(a.value) for a in stage.reader.answers if a.topic == stage.names.predictions)
    assert prediction["event_time"].endswith("Z")
    assert prediction["customer_id"].isdigit()


def test_records_of_known_schemas_are_scored_while_the_registry_is_away(stage: Stage, registry: SmallRegistry) -> None:
    """In a partition without a new schema, and in one with a new schema up to its first record."""
    bundle = stage.folder / "model"
    _bundle(bundle)
    producer = Producer(registry.url, stage.names.events, SCHEMA)
    newer = Producer(registry.url, stage.names.events, _newer())
    old = [(*producer.record(i)[:3], 0) for i in range(20)]
    new = [(*newer.record(i)[:3], 0) for i in range(20, 25)]
    other = [(*producer.record(i)[:3], 1) for i in range(25, 45)]
    with stage.scorer(SCORER_MODEL=str(bundle), SCHEMA_REGISTRY_URL=registry.url) as scorer:
        sent = send(stage.bootstrap, stage.names.events, old[:1])
        stage.reader.wait_for(1)
        registry.stop()
        send(stage.bootstrap, stage.names.events, old[1:] + new + old[:1], sent)
        send(stage.bootstrap, stage.names.events, other, sent)
        stage.reader.wait_for(40)
        wait_until(lambda: REGISTRY_AWAY in (scorer.reasons() or ()), "the scorer says why it is not ready")
        assert scorer.get("/livez").status_code == 200
        assert len(stage.reader.answers) == 40
        registry.start()
        stage.reader.wait_for(len(sent.records))
    assert_exactly_once(sent, stage.reader.answers)
    assert _predicted(stage) == 46


def test_validate_reads_a_topic_behind_a_registry(stage: Stage, registry: SmallRegistry) -> None:
    """The verdicts before anything is deployed; a file, or no address of the registry, is an error of one line."""
    spec = stage.folder / "spec.toml"
    lines = ['[event]\nformat = "avro"', "[features]"]
    lines += [f'{f.name} = {{kind = "{f.kind}", nullable = {str(f.nullable).lower()}}}' for f in FEATURES]
    spec.write_text("\n".join(lines))
    producer = Producer(registry.url, stage.names.events, SCHEMA)
    wrong = Producer(registry.url, stage.names.events, _without_tenure())
    send(stage.bootstrap, stage.names.events, [producer.record(i) for i in range(8)] + [wrong.record(9)])
    arguments = ("validate", "--spec", str(spec), "--topic", stage.names.events, "--json")
    bundle = stage.folder / "model"
    _bundle(bundle)
    for without in (arguments, ("verify", "--topic", stage.names.events, "--model", str(bundle))):
        done = stage.driftline(*without)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "SCHEMA_REGISTRY_URL" in done.stderr
    found = stage.driftline(*arguments, SCHEMA_REGISTRY_URL=registry.url)
    assert found.returncode == 1, found.stderr
    summary = json.loads(found.stdout)["summary"]
    assert (summary["accepted"], list(summary["reasons"])) == (8, ["schema_incompatible"])


def test_a_first_spec_and_the_gate_for_the_next_schema(stage: Stage, registry: SmallRegistry) -> None:
    """`spec infer --subject` proposes a spec; `topics check --spec` fails for the schema that lacks a field of it."""
    subject = f"{stage.names.events}-value"
    registry.register(subject, {"schema": json.dumps(SCHEMA)})
    spec, where = stage.folder / "spec.toml", {"SCHEMA_REGISTRY_URL": registry.url}
    made = stage.driftline("spec", "infer", "--subject", subject, "--out", str(spec), **where)
    assert made.returncode == 0, made.stderr
    arguments = ("topics", "check", "--spec", str(spec), "--json")
    assert json.loads(stage.driftline(*arguments, **where).stdout)["schema"] == {
        "subject": subject, "version": 1, "schema_id": 1, "detail": None, "fits": True,
    }  # fmt: skip
    registry.register(subject, {"schema": json.dumps(_without_tenure())})
    checked = stage.driftline(*arguments, **where)
    assert checked.returncode == 1
    found = json.loads(checked.stdout)
    assert found["schema"]["detail"] == "version 2 (schema id 2): features.tenure: the schema has no such field"
    assert f"{subject}: {found['schema']['detail']}" in found["differences"]
    gone = stage.driftline(*arguments, "--subject", "none", **where)
    assert (gone.returncode, json.loads(gone.stdout)["schema"]["fits"]) == (1, False)
    registry.stop()
    away = stage.driftline(*arguments, **where)
    assert (away.returncode, away.stderr.count("\n")) == (1, 1), away.stderr


def test_protobuf_is_scored_and_counted_and_a_new_schema_waits_for_the_registry(
    stage: Stage, registry: SmallRegistry
) -> None:
    """Imports, a Timestamp, ids beyond 2^53, messages in messages behind a map; every command that Avro has."""
    bundle = stage.folder / "model"
    _bundle(bundle, "protobuf")
    whole = protobuf_events.message_class(protobuf_events.MAIN, references=protobuf_events.PARTS)
    around = "message Around { map<string, int32> a = 1; message Other { string event_id = 1; } message Event {"
    newer = protobuf_events.SCHEMA.replace("message Event {", around)
    newer = newer.replace("Features features = 4;", "Features features = 4; string channel = 5; }")
    text = protobuf_events.SCHEMA.replace("int32 tenure = 1;", "")
    producer = ProtobufProducer(registry.url, stage.names.events, whole)
    wrong = ProtobufProducer(registry.url, stage.names.events, protobuf_events.message_class(text))
    fresh = ProtobufProducer(registry.url, stage.names.events, protobuf_events.message_class(newer, "Around").Event)
    good = [producer.record(i) for i in range(200)]
    later = [fresh.record(i) for i in range(200, 220)]
    bad = [wrong.record(i) for i in range(3)] + [
        (b"1", b'{"a":1}'),
        (b"1", framed(b"\0", 999)),
        (b"1", good[0][1][:6] + b"\xff"),
        (b"1", good[0][1][:5] + b"\x02\x0e" + good[0][1][6:]),
    ]
    where = {"SCHEMA_REGISTRY_URL": registry.url}
    with (
        stage.scorer(SCORER_MODEL=str(bundle), **where) as scorer,
        start_worker(stage, "drift", SCORER_MODEL=str(bundle), **where) as worker,
    ):
        sent = send(stage.bootstrap, stage.names.events, good + bad)
        stage.reader.wait_for(len(sent.records))
        assert _predicted(stage) == 200
        assert [reason for reason, _ in _refused(stage)] == ["not_decodable"] * 4 + ["schema_incompatible"] * 3
        assert sorted(value for _, value in _refused(stage)) == sorted(record[1] for record in bad)
        registry.stop()
        send(stage.bootstrap, stage.names.events, later, sent)
        wait_until(lambda: REGISTRY_AWAY in (scorer.reasons() or ()), "the scorer says why it is not ready")
        assert len(stage.reader.answers) == 207
        registry.start()
        stage.reader.wait_for(len(sent.records))
        counted = "driftline_drift_counted_events_total"
        wait_until(lambda: worker.metric(counted, topic=stage.names.events) == 220, "the drift worker has counted")
        assert scorer.metric("driftline_scorer_unknown_fields_total") == len(later)
        assert scorer.metric("driftline_scorer_key_mismatches_total") == 0
    assert_exactly_once(sent, stage.reader.answers)
    verified = stage.driftline("verify", "--topic", stage.names.events, "--model", str(bundle), "--json", **where)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["scores_checked"] == 220
    _commands_read_protobuf(stage, registry, {"schema": text, "schemaType": "PROTOBUF"})


def test_protobuf_of_a_real_registry(stage: Stage, tmp_path: Path, *, long: bool) -> None:
    """Apicurio returns a schema as it was registered: as text, or as the serializer's Base64 with references."""
    if not long:
        pytest.skip("starts Apicurio: 20 s of processor time and a download; --long does")
    if (why := Apicurio.missing()) is not None:
        pytest.skip(why)
    bundle = stage.folder / "model"
    _bundle(bundle, "protobuf")
    whole = protobuf_events.message_class(protobuf_events.MAIN, references=protobuf_events.PARTS)
    lacking = protobuf_events.SCHEMA.replace("int32 tenure = 1;", "")
    with Apicurio(tmp_path) as registry:
        producer = ProtobufProducer(registry.url, stage.names.events, whole)
        wrong = ProtobufProducer(registry.url, stage.names.events, protobuf_events.message_class(lacking))
        as_text = registry.register("text-value", {"schema": protobuf_events.SCHEMA, "schemaType": "PROTOBUF"})["id"]
        good = [producer.record(i) for i in range(200)]
        good += [(key, framed(value[5:], as_text), *rest) for key, value, *rest in good[:20]]
        assert good[0][1][:5] != good[-1][1][:5]
        with stage.scorer(SCORER_MODEL=str(bundle), SCHEMA_REGISTRY_URL=registry.url):
            sent = send(stage.bootstrap, stage.names.events, good + [wrong.record(i) for i in range(3)])
            stage.reader.wait_for(len(sent.records))
        assert_exactly_once(sent, stage.reader.answers)
        assert _predicted(stage) == 220
        assert [reason for reason, _ in _refused(stage)] == ["schema_incompatible"] * 3
        where = {"SCHEMA_REGISTRY_URL": registry.url}
        verified = stage.driftline("verify", "--topic", stage.names.events, "--model", str(bundle), "--json", **where)
        assert json.loads(verified.stdout)["scores_checked"] == 220, verified.stdout + verified.stderr
        _commands_read_protobuf(stage, registry, {"schema": lacking, "schemaType": "PROTOBUF"})


def _commands_read_protobuf(stage: Stage, registry: SmallRegistry | Apicurio, lacking: dict) -> None:
    """A first spec from the text of a schema, the gate for the next one, and records beside the spec."""
    subject, spec = f"{stage.names.events}-value", stage.folder / "spec.toml"
    where = {"SCHEMA_REGISTRY_URL": registry.url}
    registry.register(subject, {"schema": protobuf_events.SCHEMA, "schemaType": "PROTOBUF"})
    made = stage.driftline("spec", "infer", "--subject", subject, "--out", str(spec), **where)
    assert made.returncode == 0, made.stderr
    arguments = ("topics", "check", "--spec", str(spec), "--json")
    assert json.loads(stage.driftline(*arguments, **where).stdout)["schema"]["fits"]
    registry.register(subject, lacking)
    registry.register(subject, {**lacking, "schema": lacking["schema"].replace("Event", "Event2")})
    found = json.loads(stage.driftline(*arguments, **where).stdout)["schema"]
    assert found["detail"].endswith("features.tenure: the schema has no such field")
    read = stage.driftline("validate", "--spec", str(spec), "--topic", stage.names.events, "--json", **where)
    summary = json.loads(read.stdout)["summary"]
    assert (summary["accepted"], summary["reasons"]["schema_incompatible"]["count"]) == (220, 3)


def test_json_behind_a_schema_id_is_scored(stage: Stage, registry: SmallRegistry) -> None:
    """Confluent's JSON Schema serializer; a schema that excludes a field is named."""
    bundle = stage.folder / "model"
    bundles.write(bundle, bundles.fitted(), event=EventMapping(format="json-schema"))
    fields = {f.name: {} for f in FEATURES}
    whole = {"type": "object", "properties": {"features": {"type": "object", "properties": fields}}}
    lacking = copy.deepcopy(whole)
    del lacking["properties"]["features"]["properties"]["tenure"]
    lacking["properties"]["features"]["additionalProperties"] = False
    context = SerializationContext(stage.names.events, MessageField.VALUE)
    client = _client(registry.url)
    good, bad = (JSONSerializer(json.dumps({"title": "E", **schema}), client) for schema in (whole, lacking))
    records = [(b"c", good({**GOOD, "event_id": f"e{i}"}, context), (), i % 4) for i in range(40)]
    other = {**GOOD, "features": {name: v for name, v in GOOD_FEATURES.items() if name != "tenure"}}
    records.append((b"c", bad(other, context)))
    with stage.scorer(SCORER_MODEL=str(bundle), SCHEMA_REGISTRY_URL=registry.url) as scorer:
        sent = send(stage.bootstrap, stage.names.events, records)
        stage.reader.wait_for(len(records))
        assert scorer.reasons() == []
    assert_exactly_once(sent, stage.reader.answers)
    assert [reason for reason, _ in _refused(stage)] == ["schema_incompatible"]
    assert _predicted(stage) == 40


def test_a_real_registry_is_away_for_two_minutes(stage: Stage, tmp_path: Path, *, long: bool) -> None:
    """Apicurio is frozen under load: it accepts connections and does not answer. Nothing is lost or refused."""
    if not long:
        pytest.skip("starts Apicurio: 20 s of processor time and a download; --long does")
    if (why := Apicurio.missing()) is not None:
        pytest.skip(why)
    bundle = stage.folder / "model"
    _bundle(bundle)
    with Apicurio(tmp_path) as registry:
        producer = Producer(registry.url, stage.names.events, SCHEMA)
        newer = Producer(registry.url, stage.names.events, _newer())
        fresh = [newer.record(i) for i in range(1000, 1100)]
        with stage.scorer(SCORER_MODEL=str(bundle), SCHEMA_REGISTRY_URL=registry.url) as scorer:
            sent: Sent = send(stage.bootstrap, stage.names.events, [producer.record(i) for i in range(100)])
            stage.reader.wait_for(100)
            registry.freeze()
            until = time.monotonic() + 120
            i = 0
            while time.monotonic() < until:
                send(stage.bootstrap, stage.names.events, [producer.record(i + 100 + j) for j in range(20)], sent)
                if fresh and i > 100:
                    send(stage.bootstrap, stage.names.events, [fresh.pop()], sent)
                i += 20
                time.sleep(0.2)
            assert REGISTRY_AWAY in (scorer.reasons() or ())
            registry.thaw()
            stage.reader.wait_for(len(sent.records))
            wait_until(lambda: scorer.reasons() == [], "the scorer is ready again")
    assert_exactly_once(sent, stage.reader.answers)
    assert _predicted(stage) == len(sent.records)
