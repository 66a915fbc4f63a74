"""The scorer's HTTP API under malicious requests: only its documented answers, and /livez among them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from random import Random

import httpx
import jsonschema
import pytest
import schemathesis
from hostile import targets
from hostile.corpus import CORPUS
from hostile.mutate import mutate
from hypothesis import given, settings
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from support import bundles
from support.services import free_port

from kafka_runtime.service.http import HttpThread, application, serve_docs
from schemas.validation import Rules
from scorer import http
from scorer.model import load
from scorer.predict import Predictor

SEED = 20_261_126
BODIES = 60
SLOW = 100


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The API as a scorer serves it, of a scorer that is not ready."""
    directory = tmp_path_factory.mktemp("http") / "model"
    bundles.write(directory)
    predictor = Predictor(load(directory, None), Rules())
    app = application(
        "Driftline scorer",
        "0",
        CollectorRegistry(),
        live=list,
        not_ready=lambda: ["starting"],
        standby=lambda: False,
        refusal=lambda: None,
        health=lambda: {"service": "scorer"},
    )
    http.add_predict(app, lambda: predictor)
    serve_docs(app)
    server = HttpThread(app, "127.0.0.1", free_port())
    server.start()
    yield "127.0.0.1", server._port
    server.stop()


@pytest.fixture
def client(address) -> Iterator[httpx.Client]:
    """A client."""
    with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=240) as client:
        yield client


@pytest.fixture(scope="module")
def api(address) -> schemathesis.BaseSchema:
    """The API as its own document describes it."""
    return schemathesis.openapi.from_url(f"http://{address[0]}:{address[1]}/openapi.json")


load_all_checks()
EXCLUDED = {
    "/readyz": CHECKS.get_by_names(["not_a_server_error"]),  # it is not ready
    "/predict": CHECKS.get_by_names(["positive_data_acceptance"]),  # no schema can express the future
}


def test_the_api_keeps_to_its_own_document(api):
    """Schemathesis' requests to every path, and to /predict invalid ones: status, type and body are as described."""
    for found in api.get_all_operations():
        operation = found.ok()
        _asked(operation, GenerationMode.POSITIVE)
        if operation.path == "/predict":
            _asked(operation, GenerationMode.NEGATIVE)


def _asked(operation, mode):
    @settings(max_examples=50, deadline=None, database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def is_answered_as_described(case):
        case.call_and_validate(excluded_checks=EXCLUDED.get(operation.path))

    is_answered_as_described()


def _bodies() -> Iterator[bytes]:
    """The corpus, and mutations of good bodies."""
    yield from (hostile.value or b"" for hostile in CORPUS)
    draw, pool = Random(SEED), targets.seeds()["predict"]
    for _ in range(BODIES):
        yield mutate(draw.choice(pool), draw, pool)


def test_predict_answers_anything_as_its_document_says(client):
    """No body makes a 5xx, and every answer is what /openapi.json promises for its status."""
    responses = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    schemas = {
        status: found["content"]["application/json"]["schema"]
        for status, found in responses.items()
        if "content" in found
    }
    judges = {status: jsonschema.Draft202012Validator(schema) for status, schema in schemas.items()}
    seen = set()
    for body in _bodies():
        answer = client.post("/predict", content=body)
        seen.add(answer.status_code)
        assert str(answer.status_code) in responses, (answer.status_code, body[:200])
        assert answer.status_code < 500, body[:200]
        judges[str(answer.status_code)].validate(answer.json())
    assert seen == {200, 422}


def test_every_path_takes_its_own_methods_and_no_other(client):
    """What is not served is 404 or 405; parameters, bodies and odd paths change nothing."""
    paths = client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            answer = client.request(method, path, params={"a": "\x00"}, content=b"" if method == "GET" else b"\xff")
            expected = {503} if path == "/readyz" else {200, 422}
            assert answer.status_code in (expected if method.lower() in methods else {405}), (method, path)
    for path in ("/../etc/passwd", "/%00", "/predict/..", "/" + "a" * 8000, "/%ff%fe", "//livez", "/livez%0d%0aX: y"):
        assert client.get(path).status_code in {400, 404, 405}, path


def test_bytes_that_are_no_http_are_refused_and_forgotten(client, address):
    """Other protocols, headers without end, lengths that are none: the next request is answered."""
    hostile = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"\x00\x00\x00\x1a\x00\x12\x00\x04\x00\x00\x00\x01\x00\x02me",  # Kafka
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    )
    for sent in hostile:
        with socket.create_connection(address, timeout=240) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            with contextlib.suppress(OSError):  # not connected any more: it was refused before its end
                connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        assert client.get("/livez").status_code == 200


def test_slow_clients_keep_nobody_from_livez(client, address, monkeypatch):
    """A hundred clients stop in mid-header, and the maximum in mid-body: the next one must retry later."""
    monkeypatch.setattr(http, "BODY_TIMEOUT_S", 600.0)
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
    with contextlib.ExitStack() as held:

        def send_slowly(sent: bytes) -> None:
            connection = held.enter_context(socket.create_connection(address, timeout=240))
            for byte in (sent[i : i + 1] for i in range(len(sent))):
                connection.sendall(byte)

        for sent in [b"GET /livez HTTP/1.1\r\nhost: "] * SLOW + [head] * http.MAX_REQUESTS:
            send_slowly(sent)
        while client.post("/predict", content=b"{}").status_code != 503:
            send_slowly(head)  # ours had the place of one of the slow ones when that one came
        assert client.get("/livez").status_code == 200
        assert client.get("/metrics").status_code == 200
    while client.post("/predict", content=b"{}").status_code != 422:
        pass  # they have gone, and make room
