"""Every command that prints, with hostile text in every field that a stranger can write: only text is printed.

A terminal acts on control characters, and the table library on markup. What is printed must be printable, line by line.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support import bundles, preloaded
from support.oracle import send
from support.processes import running
from support.stage import Stage

from schemas.alert import Alert

HOSTILE = "\x1b[2J\x1b]8;;http://x\x07\x9b31m[/nothing][link=http://x]y[/link]\u202e\r:smile:{0}%s"
RAW = HOSTILE.encode()


def check(done: subprocess.CompletedProcess[str] | str) -> str:
    """Both streams together, once nothing in them is anything but text."""
    printed = done if isinstance(done, str) else done.stdout + done.stderr
    assert "Traceback" not in printed, printed
    wrong = {character for line in printed.split("\n") for character in line if not character.isprintable()}
    assert not wrong, (wrong, printed)
    return printed


@pytest.fixture
def topics(stage: Stage) -> Stage:
    """Hostile records on every topic that a command reads."""
    letters = [
        (RAW, RAW, [("driftline-reason", b"wrong_type"), ("driftline-detail", RAW), ("driftline-source-topic", RAW),
                    ("driftline-source-partition", RAW), ("driftline-source-offset", RAW),
                    ("driftline-attempt", RAW)], 0),
        (RAW, RAW, [("driftline-reason", RAW)], 0),
        (None, None, [], 1),
    ]  # fmt: skip
    send(stage.bootstrap, stage.names.dead_letters, letters)
    labels = {"alertname": HOSTILE, "feature": HOSTILE, "severity": "critical", "model": HOSTILE, HOSTILE: HOSTILE}
    alerts = [
        Alert(fingerprint=HOSTILE, status="firing", labels=named, annotations={"summary": HOSTILE}, starts_at=HOSTILE,
              ends_at=ends, sequence=1, evidence=evidence).encode()
        for named in (labels, {**labels, "feature": "group"}, {})
        for ends in (None, HOSTILE)
        for evidence in ({}, {"window": {"end": HOSTILE}, "features": [{"feature": HOSTILE}, {}, 3]},
                         {"window": 7, "features": "x"})
    ]  # fmt: skip
    alerts += [RAW, b"{\n" + RAW + b"}", b"[" * 5000]
    send(
        stage.bootstrap, f"{stage.names.prefix}-alerts", [(f"{RAW}{n}", value, [], 0) for n, value in enumerate(alerts)]
    )
    source = [("driftline-source-topic", RAW), ("driftline-source-partition", b"9" * 5000),
              ("driftline-source-offset", b"9" * 30), ("driftline-model-version", RAW)]  # fmt: skip
    events = [("driftline-source-topic", stage.names.events.encode()), ("driftline-source-partition", b"0"),
              ("driftline-source-offset", b"0"), ("driftline-source-timestamp", b"9" * 5000)]  # fmt: skip
    prediction = json.dumps(
        {"schema_version": 1, "prediction_id": HOSTILE, "event_id": HOSTILE, "customer_id": HOSTILE,
         "event_time": "2026-11-22T06:00:00Z", "scored_at": "2026-11-22T06:00:00Z", "probability": 0.5, "label": True,
         "threshold": 0.5, "model": {"name": HOSTILE, "version": HOSTILE}}
    ).encode()  # fmt: skip
    predictions = [(RAW, prediction, headers, 0) for headers in (source, events, [])] + [(RAW, RAW, source, 0)]
    send(stage.bootstrap, stage.names.events, [(RAW, RAW, [], 0)])
    send(stage.bootstrap, stage.names.predictions, predictions)
    send(stage.bootstrap, stage.names.shadow, predictions)
    label = json.dumps({"customer_id": HOSTILE, "label": True, "label_time": "2026-11-22T07:00:00Z"}).encode()
    send(stage.bootstrap, f"{stage.names.prefix}-labels", [(RAW, label, [], 0), (RAW, RAW, [], 0)])
    send(stage.bootstrap, f"{stage.names.prefix}-measurements", [(RAW, RAW, [], 0), (b"m/window/1h", RAW, [], 0)])
    return stage


@pytest.mark.timeout(900)
def test_records_of_strangers_are_text(topics: Stage, tmp_path: pathlib.Path) -> None:
    """Dead letters, alerts, predictions, labels and measurements, by every command that reads them."""
    commands = (
        ("dead-letters", "show"), ("dead-letters", "show", "--json"), ("dead-letters", "count"),
        ("dead-letters", "count", "--json"), ("dead-letters", "redrive", "--dry-run"), ("dead-letters", "redrive"),
        ("alerts", "list"), ("alerts", "list", "--all"), ("alerts", "list", "--all", "--json"),
        ("alerts", "tail", "--from-start", "--count", "20", "--timeout", "3"),
        ("alerts", "tail", "--from-start", "--count", "20", "--timeout", "3", "--json"),
        ("backtest",), ("backtest", "--json"), ("report", "--out", str(tmp_path / "page.html")),
        ("verify",), ("verify", "--json"), ("compare",), ("compare", "--json"),
        ("export", "--out", str(tmp_path / "log.jsonl"), "--with-inputs", "--with-labels"),
        ("topics", "check"), ("evaluate", "--model", str(topics.bundle), "--from-topics"),
    )  # fmt: skip
    for command in commands:
        done = topics.driftline(*command)
        assert done.returncode in {0, 1, 3}, (command, done.stderr)
        printed = check(done)
        if command == ("dead-letters", "show"):
            assert "\\u001b[2J" in printed
            assert "[/nothing]" in printed


def test_an_answer_over_http_is_text(topics: Stage) -> None:
    """What a receiver of alerts answers is shown, and only shown."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(500)
            self.send_header("content-length", str(len(RAW)))
            self.end_headers()
            self.wfile.write(RAW)

        def log_message(self, *_: object) -> None:
            pass

    alert = Alert(fingerprint="f", status="firing", labels={"alertname": "A"}, annotations={}, sequence=1, evidence={},
                  starts_at="2026-11-22T06:00:00Z")  # fmt: skip
    send(topics.bootstrap, f"{topics.names.prefix}-alerts", [(b"f", alert.encode(), [], 0)])
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    named = {**os.environ, **topics.names.environment, "KAFKA_BOOTSTRAP_SERVERS": topics.bootstrap}
    command = [sys.executable, "-m", "driftline", "alerts", "forward", "--to", f"http://127.0.0.1:{server.server_port}"]
    printed = ""
    with running(command, env=named, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        overdue = threading.Timer(120, process.kill)
        overdue.start()
        while "answered 500" not in printed and (line := process.stdout.readline()):
            printed += line
        overdue.cancel()
    server.shutdown()
    server.server_close()
    assert "answered 500" in printed
    check(printed)


def driftline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command without a broker; KAFKA_BOOTSTRAP_SERVERS names none."""
    named = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", **environment}
    return preloaded.run(["-m", "driftline", *arguments], named)


def test_names_in_a_persons_files_are_text(tmp_path: pathlib.Path) -> None:
    """Columns, categories, a model's name and a file's: by every command that reads customers, a spec or a bundle."""
    folder = tmp_path / f"{HOSTILE.replace('/', '_')}\udcff"
    folder.mkdir()
    rows = "\n".join(f"{n},{'ab'[n % 2]}{HOSTILE},{'yes' if n % 3 else 'no'}" for n in range(400))
    data = folder / "customers.csv"
    data.write_text(f'"number{HOSTILE}","kind{HOSTILE}",target{HOSTILE}\n{rows}\n', encoding="utf-8", newline="")
    inferred = driftline("spec", "infer", "--data", str(data), "--target", f"target{HOSTILE}")
    check(inferred)
    spec = folder / "spec.toml"
    quoted = {name: json.dumps(f"{name}{HOSTILE}") for name in ("number", "kind", "target")}
    spec.write_text(
        f'[model]\nname = "m"\nversion = "1.0.0"\n[data]\ntarget = {quoted["target"]}\npositive = "yes"\n'
        f'[estimator]\nkind = "logistic_regression"\n[features.{quoted["number"]}]\nkind = "numeric"\n'
        f'[features.{quoted["kind"]}]\nkind = "categorical"\n',
        encoding="utf-8",
    )
    model, new = str(folder / "model"), str(folder / "new")
    arguments = ("--spec", str(spec), "--data", str(data))
    for command in (
        ("train", *arguments, "--out", model),
        ("train", *arguments, "--out", str(folder / "json"), "--json"),
        ("train", "--spec", str(folder / "none.toml"), "--data", str(data), "--out", model),
        ("rebaseline", "--model", model, "--data", str(data), "--out", new),
        ("evaluate", "--model", model, "--data", str(data), "--target", f"target{HOSTILE}"),
        ("evaluate", "--model", model, "--data", str(data), "--target", f"no{HOSTILE}"),
        ("predict", "--model", model, str(folder / "none.json")),
        ("predict", "--model", model, str(data)),
        ("produce", "--model", model, "--data", str(data), "--rate", "1", "--drift", HOSTILE),
        ("produce", "--model", model, "--data", str(data), "--rate", "1", "--count", "1"),
        ("keys", "--out", str(folder / "keys")),
        ("sign", "--key", str(folder / "keys" / "private.pem"), model),
        ("promote", "--candidate", new, "--to", model, "--data", str(data), "--target", f"target{HOSTILE}"),
        ("rollback", "--model", model),
        ("export", "--out", str(folder / "x" / "log")),
        ("compare", "--champion", HOSTILE),
        ("report", "--since", HOSTILE),
        (HOSTILE,),
        ("train", f"--{HOSTILE}"),
    ):
        check(driftline(*command))
    for name in ("TOPIC_EVENTS", "KAFKA_BOOTSTRAP_SERVERS", "SCORER_GROUP", f"SCORER_{HOSTILE}"):
        check(driftline("topics", "create", "--print", **{name.replace("=", ""): HOSTILE}))


@pytest.fixture
def registry_of_a_stranger() -> Iterator[tuple[str, list[tuple[int, object]]]]:
    """Its address, and the answers that it gives one after the other; the last one for ever."""
    answers: list[tuple[int, object]] = [(500, RAW)]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, document = answers.pop(0) if len(answers) > 1 else answers[0]
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


def test_what_a_registry_answers_is_text(registry_of_a_stranger, tmp_path: pathlib.Path) -> None:
    """Errors, a schema's names and defaults, an unknown type; by every command that asks it."""
    url, answers = registry_of_a_stranger
    record = {"type": "record", "name": "a", "doc": HOSTILE, "fields": [{"name": f"f{HOSTILE}", "type": "double"}]}
    objects = {"type": "object", "title": HOSTILE, "properties": {f"p{HOSTILE}": {"enum": [HOSTILE]}}}
    schemas = {
        "AVRO": json.dumps(record),
        "PROTOBUF": f'syntax="proto3"; /* {HOSTILE} */ message A{HOSTILE} {{ double x = 1; }}',
        "JSON": json.dumps(objects),
        HOSTILE: HOSTILE,
    }
    spec = tmp_path / "spec.toml"
    spec.write_text(f'[event]\nformat = "avro"\n[features.{json.dumps(HOSTILE)}]\nkind = "numeric"\n', encoding="utf-8")
    events = tmp_path / "events"
    events.write_text(base64.b64encode(b"\0\0\0\0\7" + RAW).decode() + "\n")
    answered = [
        (200, {"subject": HOSTILE, "version": 1, "id": 7, "schema": schema, "schemaType": kind})
        for kind, schema in schemas.items()
    ]
    infer, validate = (
        ("spec", "infer", "--subject", f"s{HOSTILE}"),
        ("validate", "--spec", str(spec), "--events", str(events)),
    )
    for answer in [(500, RAW), (404, {"error_code": 40401, "message": HOSTILE}), (200, {HOSTILE: HOSTILE}), *answered]:
        answers[:] = [answer]
        check(driftline(*infer, SCHEMA_REGISTRY_URL=url))
    for answer in [(401, RAW), answered[0]]:
        answers[:] = [answer]
        check(driftline(*validate, SCHEMA_REGISTRY_URL=url))


def test_events_and_specs_of_strangers_are_text(tmp_path: pathlib.Path) -> None:
    """Names, values, keys and headers, by the commands that read them from files; and specs that are refused."""
    names = {part: f"{part}{HOSTILE}" for part in ("id", "n", "k")}
    quoted = {part: json.dumps(name) for part, name in names.items()}
    spec = tmp_path / "spec.toml"
    spec.write_text(
        f'[model]\nname = "m"\nversion = "1.0.0"\n[event]\nevent_id = {quoted["id"]}\ncustomer_id = ""\n'
        f'event_time = ""\nfeatures = ""\n[features.{quoted["n"]}]\nkind = "numeric"\n[features.{quoted["k"]}]\n'
        f'kind = "categorical"\ncategories = [{quoted["k"]}]\n',
        encoding="utf-8",
    )
    rows = [{names["id"]: HOSTILE, names["n"]: 1, names["k"]: HOSTILE}, {names["id"]: "e2", names["n"]: HOSTILE},
            {names["id"]: "e3", names["n"]: 1, names["k"]: HOSTILE, f"x{HOSTILE}": 1}, {HOSTILE: HOSTILE}]  # fmt: skip
    lines = [json.dumps(row) for row in rows]
    events, records, refused = tmp_path / "events.jsonl", tmp_path / "records.jsonl", tmp_path / "refused.toml"
    events.write_text("\n".join([*lines, "{" + HOSTILE.replace("\r", "")]), encoding="utf-8")
    made = [json.dumps({"key": HOSTILE, "headers": {HOSTILE: HOSTILE}, "value": line}) for line in lines]
    records.write_text("\n".join(made), encoding="utf-8")
    accepted = check(driftline("validate", "--spec", str(spec), "--events", str(events)))
    assert "Renamed" not in accepted
    for command in (
        ("validate", "--spec", str(spec), "--events", str(events), "--json"),
        ("validate", "--spec", str(spec), "--records", str(records)),
        ("spec", "infer", "--event", str(records)),
        ("retrain", "--model", str(tmp_path), "--spec", str(spec), "--data", str(events), "--out", str(tmp_path / "r")),
        ("skip", "--topic", HOSTILE, "--partition", "0", "--to-offset", "1", "--why", HOSTILE),
        ("dead-letters", "show", "--reason", HOSTILE),
        ("alerts", "forward", "--to", f"http://{HOSTILE}"),
        ("topics", "create", "--print", "strimzi", "--cluster", HOSTILE),
        ("scorer", "--print-settings"),
    ):
        check(driftline(*command, KAFKA_SASL_USERNAME=HOSTILE, RUNBOOK_URL=HOSTILE))
    name = json.dumps(HOSTILE)
    for text in (
        HOSTILE, f"[model]\nname = {name}\n", f"[{name}]\na = 1\n",
        f"[features.{name}]\nkind = {name}\n[event]\nformat = {name}\ntime_zone = {name}\n",
        f'[features.x]\nkind = "numeric"\nfrom = {name}\n[event]\nonly = {{ {name} = [{name}] }}\n',
    ):  # fmt: skip
        refused.write_text(text, encoding="utf-8", newline="")
        check(driftline("validate", "--spec", str(refused), "--events", str(events)))


@pytest.mark.parametrize("service", ["scorer", "drift-worker"])
def test_a_bundle_of_a_stranger_ends_a_service_with_text(service: str, tmp_path: pathlib.Path) -> None:
    """The line names what is wrong in the manifest, and shows what it holds."""
    folder = tmp_path / "model"
    bundles.write(folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for change in ({"name": HOSTILE}, {HOSTILE: HOSTILE}):
        (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
        done = driftline(service, SCORER_MODEL=str(folder))
        assert done.returncode == 2, done.stderr
        check(done)
    assert driftline(service, SCORER_MODEL=f"{folder}{HOSTILE.replace('/', '')}").returncode == 2
