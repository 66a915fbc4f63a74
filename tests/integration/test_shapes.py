"""Records of other producers through a real broker: on the topic and over HTTP each becomes what is beside it.

Each spec has a scorer and topics of its own. They run side by side, because most of their time is waiting.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Producer
from support.brokers import Broker
from support.oracle import WAIT_S, Sent, assert_exactly_once
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from driftline.training.dataset import read_dataset
from driftline.training.spec import parse_spec
from driftline.training.train import Trained, train
from schemas.bundle.files import write_bundle

SCHEMAS = Path("tests/unit/schemas")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _of_producers(name: str, event: dict[str, Any], verdicts: list[str]) -> list[dict[str, Any]]:
    """Return records that another producer's own library has written, as shapes."""
    features = {
        "tenure": {"kind": "numeric"},
        "monthly_charges": {"kind": "numeric", "parse": "number"},
        "contract": {"kind": "categorical"},
        "senior": {"kind": "boolean"},
    }
    spec = {"event": {"preset": name, **event}, "features": features}
    return [
        {"headers": {}, **line, "name": f"{name}, line {number}", "spec": spec, "verdict": verdict}
        for number, (line, verdict) in enumerate(
            zip(_lines(SCHEMAS / f"producers/{name}.jsonl"), verdicts, strict=True), 1
        )
    ]


SHAPES = (
    _lines(SCHEMAS / "shapes.jsonl")
    + _of_producers(
        "cloudevents", {"only": {"type": ["com.example.customer.updated"]}}, ["accepted"] * 4 + ["ignored"] * 2
    )
    + _of_producers("debezium", {"customer_id": "payload.after.id"}, (["accepted"] * 3 + ["ignored"] * 2) * 2)
)
SIDE_BY_SIDE = 4
TEXTS = ("Month-to-month", "One year")


@dataclass
class Seen:
    """What became of the shapes of one spec, by their names."""

    verdicts: dict[str, str] = field(default_factory=dict)
    predictions: dict[str, dict[str, Any]] = field(default_factory=dict)
    letters: dict[str, bytes | None] = field(default_factory=dict)
    over_http: dict[str, Any] = field(default_factory=dict)
    validated: dict[str, str] = field(default_factory=dict)
    counted: dict[str, float] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


def _spec(spec: dict[str, Any]) -> str:
    """Return the shape's spec as a person writes it, with what training needs."""
    return (
        f"event = {_toml(spec['event'])}\nfeatures = {_toml(spec['features'])}\n"
        'model = {name = "shapes", version = "1.0.0"}\ndata = {target = "left", positive = "yes"}\n'
    )


@cache
def _trained(folder: Path, spec: str, contracts: tuple[object, ...]) -> Trained:
    """Train on customers with these contracts."""
    rows = (f"{i},{20 + i}.5,{contracts[i % len(contracts)]},{i % 2},{'yes' if i % 3 else 'no'}" for i in range(90))
    data = folder / f"customers-{len(contracts)}.csv"
    data.write_text("\n".join(["tenure,monthly_charges,contract,senior,left", *rows, ""]), encoding="utf-8")
    return train(parse_spec(spec), read_dataset(data, parse_spec(spec)), datetime(2026, 1, 1, tzinfo=UTC))


def _bundle(folder: Path, shape: dict[str, Any], out: Path) -> None:
    """Write the bundle of a shape's spec; what the model learns depends on the contracts alone."""
    contracts = tuple(shape["spec"]["features"]["contract"].get("categories", TEXTS))
    plain = {**shape["spec"]["features"], "senior": {"kind": "boolean"}, "monthly_charges": {"kind": "numeric"}}
    trained = _trained(folder, _spec({"event": {}, "features": plain}), contracts)
    spec = parse_spec(_spec(shape["spec"]))
    features = spec.manifest_features({"contract": tuple(sorted(map(str, contracts)))})
    write_bundle(out, trained.manifest.model_copy(update={"event": spec.event, "features": features}), trained.files)


def _send(stage: Stage, shapes: list[dict[str, Any]]) -> tuple[Sent, dict[tuple[int, int], str]]:
    """Produce the shapes, a millisecond apart; return what was sent, and which shape is at (partition, offset)."""
    sent, names = Sent(), {}
    producer = Producer({"bootstrap.servers": stage.bootstrap})
    since = time.time_ns() // 1_000_000 - 60_000

    def delivered(error: object, message: Any, name: str) -> None:
        assert error is None, error
        place = message.partition(), message.offset()
        names[place], sent.records[place] = name, (message.key(), message.value(), [])

    for number, shape in enumerate(shapes):
        producer.produce(
            stage.names.events,
            key=None if shape["key"] is None else shape["key"].encode(),
            value=None if shape["value"] is None else shape["value"].encode(),
            headers=[(name, text.encode()) for name, text in shape["headers"].items()],
            timestamp=shape.get("want", {}).get("kafka_timestamp", since + number),
            on_delivery=lambda error, message, name=shape["name"]: delivered(error, message, name),
        )
    assert producer.flush(WAIT_S) == 0
    return sent, names


def _of_value_alone(shape: dict[str, Any]) -> bool:
    """Return whether POST /predict has all that decides about the shape: neither a key nor a header does."""
    return (
        shape["value"] is not None
        and "ce_specversion" not in shape["headers"]
        and "$" not in json.dumps(shape["spec"]["event"])
    )


def _asked_over_http(scorer: Service, shapes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for each shape the prediction, or the type of its problem."""
    found = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{scorer.port}", timeout=60, verify=False) as client:  # noqa: S501 - plain HTTP
        for shape in filter(_of_value_alone, shapes):
            answer = client.post("/predict", content=shape["value"])
            given = answer.json()
            found[shape["name"]] = given if answer.status_code == 200 else [one["type"] for one in given["detail"]]
    return found


def _run(stage: Stage, shapes: list[dict[str, Any]]) -> Seen:
    """Serve a model of the shapes' spec, produce them, and return what became of them."""
    spec, bundle, seen = stage.folder / "spec.toml", stage.folder / "model", Seen()
    spec.write_text(_spec(shapes[0]["spec"]), "utf-8")
    _bundle(stage.folder.parent, shapes[0], bundle)
    with stage.scorer(SCORER_MODEL=str(bundle)) as scorer:
        sent, names = _send(stage, shapes)
        stage.reader.wait_for(sum(shape["verdict"] != "ignored" for shape in shapes))
        scorer.wait_ready()
        consumed = "driftline_scorer_consumed_records_total"
        wait_until(lambda: scorer.metric(consumed) == len(shapes), "every record has an outcome")
        for outcome in ("predicted", "dead_lettered", "ignored"):
            seen.counted[outcome] = scorer.metric("driftline_scorer_records_total", outcome=outcome)
        seen.over_http = _asked_over_http(scorer, shapes)
        assert scorer.stop() == 0
    answered = {answer.source for answer in stage.reader.answers}
    assert_exactly_once(Sent({at: one for at, one in sent.records.items() if at in answered}), stage.reader.answers)
    seen.verdicts = dict.fromkeys(names.values(), "ignored")
    for answer in stage.reader.answers:
        name = names[answer.source]
        if answer.topic == stage.names.predictions:
            seen.verdicts[name], seen.predictions[name] = "accepted", json.loads(answer.value or b"")
        else:
            seen.verdicts[name], seen.letters[name] = answer.reason or "", answer.value
    found = stage.driftline("verify", "--topic", stage.names.events, "--model", str(bundle), "--json")
    seen.verified = json.loads(found.stdout)
    found = stage.driftline("validate", "--spec", str(spec), "--topic", stage.names.events, "--json")
    verdicts = [
        one["reason"] if one["verdict"] == "refused" else one["verdict"] for one in json.loads(found.stdout)["records"]
    ]
    seen.validated = dict(zip([shape["name"] for shape in shapes], verdicts, strict=True))
    return seen


def test_shapes_have_their_verdicts_on_a_real_broker(broker: Broker, topic_prefix: str, tmp_path: Path) -> None:
    """Predictions, dead letters with their reason and bytes, counters; POST /predict, `verify`, `validate`."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for shape in SHAPES:
        groups.setdefault(json.dumps(shape["spec"]), []).append(shape)
    for shape in SHAPES[0], next(s for s in SHAPES if "categories" in s["spec"]["features"]["contract"]):
        _bundle(tmp_path, shape, tmp_path / f"first-{shape['name']}")  # trained once, before there are threads
    stages = []
    for number in range(len(groups)):
        folder = tmp_path / str(number)
        folder.mkdir()
        stages.append(Stage(broker, f"{topic_prefix}-{number}", folder / "model", folder, partitions=1))
    try:
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            found = list(pool.map(_run, stages, groups.values()))
    finally:
        for stage in stages:
            stage.reader.close()
    expected = {shape["name"]: shape["verdict"] for shape in SHAPES}
    assert {name: verdict for seen in found for name, verdict in seen.verdicts.items()} == expected
    assert {name: verdict for seen in found for name, verdict in seen.validated.items()} == expected
    for seen, shapes in zip(found, groups.values(), strict=True):
        _assert_consistent(seen, shapes)


def _assert_consistent(seen: Seen, shapes: list[dict[str, Any]]) -> None:
    """Assert that all that was seen of one spec fits together, and the members that a shape names."""
    verdicts = [shape["verdict"] for shape in shapes]
    accepted, ignored = verdicts.count("accepted"), verdicts.count("ignored")
    expected = {"predicted": accepted, "dead_lettered": len(shapes) - accepted - ignored, "ignored": ignored}
    assert seen.counted == expected
    verified = {**expected, "inputs": len(shapes), "duplicates": 0, "scores_checked": accepted, "answer": "yes"}
    assert {name: seen.verified[name] for name in verified} == verified
    assert not any(seen.verified["faults"].values()), seen.verified
    for shape in shapes:
        name, verdict = shape["name"], shape["verdict"]
        if verdict == "accepted":
            prediction, want = seen.predictions[name], {**shape.get("want", {})}
            assert {member: prediction[member] for member in want} == want, name
        elif verdict != "ignored":
            assert seen.letters[name] == (shape["value"] and shape["value"].encode()), name
        if name in seen.over_http:
            given = seen.over_http[name]
            same = {m: seen.predictions[name][m] for m in given} if verdict == "accepted" else [verdict]
            assert given == same, name
