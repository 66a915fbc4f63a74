"""POST /predict: one event, a bare object of features, a list; the stream's own verdicts, named by place."""

import contextlib
import json
import re
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from support import bundles
from support.events import FEATURES, GOOD, GOOD_FEATURES, NOW_MS, record
from support.services import free_port

from kafka_runtime.service.http import HttpThread, serve_docs
from schemas.bundle.inputs import EventMapping
from schemas.validation import Rules
from scorer import http
from scorer.http import MAX_BODY_BYTES, add_predict
from scorer.model import load
from scorer.pipeline import Pipeline
from scorer.predict import MAX_EVENTS, NotAnsweredError, Predictor

ESTIMATOR = bundles.fitted()
ROW = bundles.LAYOUT.columns([[GOOD_FEATURES[name]] for name in bundles.LAYOUT.names])
EXPECTED = float(ESTIMATOR.predict_proba(ROW.frame())[0, 1])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A served model."""
    directory = tmp_path_factory.mktemp("predict") / "model"
    bundles.write(directory, ESTIMATOR)
    return load(directory, None)


@pytest.fixture
def predictor(model):
    """With the default rules."""
    return Predictor(model, Rules())


@contextmanager
def _serving(model):
    """A client of the endpoints, served as the scorer serves them."""
    app = FastAPI(docs_url=None, redoc_url=None)
    predictor = Predictor(model, Rules())
    add_predict(app, lambda: predictor)
    serve_docs(app)
    port = free_port()
    server = HttpThread(app, "127.0.0.1", port)
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    server.stop()


@pytest.fixture(scope="module")
def client(model):
    """One server for the tests that only ask."""
    with _serving(model) as client:
        yield client


def _ask(predictor, asked):
    return predictor.answer(json.dumps(asked).encode(), NOW_MS)


def _problems(predictor, body):
    with pytest.raises(NotAnsweredError) as caught:
        predictor.answer(body if isinstance(body, bytes) else json.dumps(body).encode(), NOW_MS)
    return caught.value.detail


def _without(event, *names):
    return {name: value for name, value in event.items() if name not in names}


def test_an_event_is_answered_with_its_ids(predictor):
    """All fields of the contract, and the ids that came with it."""
    answer = _ask(predictor, GOOD)
    assert answer == {
        "probability": pytest.approx(EXPECTED, abs=1e-12),
        "label": EXPECTED >= 0.5,
        "threshold": 0.5,
        "model": {"name": "churn-small", "version": "1.4.0"},
        "event_id": "01J9",
        "customer_id": "7590-VHVEG",
    }


@pytest.mark.parametrize(
    "absent", [("event_id",), ("customer_id",), ("event_time",), ("event_id", "customer_id", "event_time")]
)
def test_the_envelope_may_be_incomplete(predictor, absent):
    """An id or a time that is absent or null is not missed, and not invented in the answer."""
    answer = _ask(predictor, _without(GOOD, *absent))
    assert answer == _ask(predictor, {**GOOD, **dict.fromkeys(absent)})
    assert answer["probability"] == _ask(predictor, GOOD)["probability"]
    assert {"event_id", "customer_id"} & set(answer) == {"event_id", "customer_id"} - set(absent)


def test_a_bare_object_of_features_is_enough(predictor):
    """Without any envelope; the same probability to the bit, and no ids."""
    answer = _ask(predictor, GOOD_FEATURES)
    assert answer["probability"] == _ask(predictor, GOOD)["probability"]
    assert set(answer) == {"probability", "label", "threshold", "model"}


def test_a_list_is_answered_in_its_order(predictor):
    """Events and bare features may be mixed."""
    other = {**GOOD_FEATURES, "tenure": 100}
    answers = _ask(predictor, [GOOD, other, GOOD_FEATURES])
    assert [a["probability"] for a in answers] == [_ask(predictor, e)["probability"] for e in (GOOD, other, GOOD)]
    assert answers[1]["probability"] != answers[0]["probability"]
    assert [a.get("event_id") for a in answers] == ["01J9", None, None]
    assert _ask(predictor, []) == []


@pytest.mark.parametrize(
    ("event", "loc", "reason"),
    [
        ({**GOOD_FEATURES, "tenure": "12"}, ["tenure"], "wrong_type"),
        ({**GOOD, "features": {**GOOD_FEATURES, "tenure": "12"}}, ["features", "tenure"], "wrong_type"),
        ({**GOOD, "features": _without(GOOD_FEATURES, "tenure")}, ["features", "tenure"], "missing_feature"),
        ({**GOOD_FEATURES, "senior": None}, ["senior"], "missing_feature"),
        ({**GOOD_FEATURES, "tenure": 121}, ["tenure"], "out_of_range"),
        ({**GOOD_FEATURES, "tenure": True}, ["tenure"], "wrong_type"),
        ({**GOOD, "event_id": ""}, ["event_id"], "envelope"),
        ({**GOOD, "event_time": "yesterday"}, ["event_time"], "envelope"),
        ({**GOOD, "event_time": "2999-01-01T00:00:00Z"}, ["event_time"], "event_time_in_future"),
        ({**GOOD, "schema_version": 2}, ["schema_version"], "envelope"),
        ({**GOOD_FEATURES, "note": "x" * 70_000}, [], "too_large"),
        ("tenure", [], "envelope"),
        (12, [], "envelope"),
        (None, [], "envelope"),
        ({}, ["tenure"], "missing_feature"),
        ({"features": 3}, ["tenure"], "missing_feature"),
    ],
)
def test_the_field_at_fault_is_named_where_it_stands(predictor, event, loc, reason):
    """Alone and in a list: the place in the body as it was sent, the reason, a line with the expected form."""
    (problem,) = _problems(predictor, event)
    assert (problem["loc"], problem["type"]) == (["body", *loc], reason)
    assert problem["msg"]
    if loc:
        assert loc[-1] in problem["msg"]
    problems = _problems(predictor, [GOOD, event, GOOD, event])
    assert [p["loc"] for p in problems] == [["body", 1, *loc], ["body", 3, *loc]]
    assert {p["type"] for p in problems} == {reason}


def test_the_contracts_example_of_a_problem(predictor):
    """The fourth of a list: `["body", 3, "features", "tenure"]`."""
    bad = {**GOOD, "features": {**GOOD_FEATURES, "tenure": "twelve"}}
    assert _problems(predictor, [GOOD, GOOD, GOOD, bad]) == [
        {
            "loc": ["body", 3, "features", "tenure"],
            "type": "wrong_type",
            "msg": "features.tenure: expected a number from 0 to 120, got a string of 6 characters",
        }
    ]
    assert _problems(predictor, bad["features"])[0]["msg"].startswith("tenure: expected")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"tenure": NaN}', b"\xef\xbb\xbf{}", b"[" * 200, b'{"a": "\\ud800"}', b"\x00{}"]
)
def test_what_is_no_json_is_not_json(predictor, body):
    """As in the stream: one problem, at the body."""
    (problem,) = _problems(predictor, body)
    assert (problem["loc"], problem["type"]) == (["body"], "not_json")


def test_a_number_beyond_the_doubles_is_not_finite(predictor):
    """1e400 is JSON; the decision is the stream's, also for an unknown field."""
    body = json.dumps(GOOD_FEATURES).replace("70.35", "-1e400").encode()
    assert _problems(predictor, body)[0]["type"] == "not_finite"
    unknown = json.dumps({**GOOD_FEATURES, "x": [1]}).replace("[1]", '[{"y": 1e400}]').encode()
    assert predictor.answer(unknown, NOW_MS) == _ask(predictor, GOOD_FEATURES)


def test_at_most_a_thousand_events(predictor):
    """1,000 are answered, 1,001 are not."""
    assert len(_ask(predictor, [GOOD_FEATURES] * MAX_EVENTS)) == 1000
    assert _problems(predictor, [GOOD_FEATURES] * (MAX_EVENTS + 1))[0]["type"] == "too_large"


def test_unknown_fields_are_ignored_or_refused_as_in_the_stream(model):
    """Under the rule that the operator set."""
    odd = {**GOOD_FEATURES, "shoe_size": 44}
    assert _ask(Predictor(model, Rules()), odd) == _ask(Predictor(model, Rules()), GOOD_FEATURES)
    (problem,) = _problems(Predictor(model, Rules(reject_unknown_fields=True)), odd)
    assert (problem["loc"], problem["type"]) == (["body", "shoe_size"], "unknown_field")


FLAT = EventMapping(event_id="id", customer_id="", event_time="", features="")
NESTED = EventMapping(event_id="meta.id", customer_id="meta.customer", event_time="at", features="payload.customer")


@pytest.mark.parametrize(
    ("mapping", "event", "ids"),
    [
        (FLAT, {"id": "7", **GOOD_FEATURES}, {"event_id": "7"}),
        (FLAT, GOOD_FEATURES, {}),
        (FLAT, GOOD, {"event_id": "01J9", "customer_id": "7590-VHVEG"}),
        (NESTED, {"meta": {"id": "7"}, "payload": {"customer": GOOD_FEATURES}}, {"event_id": "7"}),
        (NESTED, {"meta": None, "payload": {"customer": GOOD_FEATURES}}, {}),
        (NESTED, {"payload": {"customer": GOOD_FEATURES}}, {}),
        (NESTED, GOOD, {"event_id": "01J9", "customer_id": "7590-VHVEG"}),
        (NESTED, GOOD_FEATURES, {}),
    ],
)
def test_an_event_may_have_the_bundles_own_shape_or_ours(tmp_path, predictor, mapping, event, ids):
    """With an [event] table: the mapped event, Driftline's envelope and bare features give the same probability."""
    bundles.write(tmp_path / "model", ESTIMATOR, event=mapping)
    mapped = Predictor(load(tmp_path / "model", None), Rules())
    answer = _ask(mapped, event)
    assert answer["probability"] == _ask(predictor, GOOD)["probability"]
    assert {name: answer[name] for name in ("event_id", "customer_id") if name in answer} == ids


def test_a_mapped_events_problem_names_its_own_path(tmp_path):
    """Nested: the whole path; something that is no object on the way to an id is an envelope's defect."""
    bundles.write(tmp_path / "model", ESTIMATOR, event=NESTED)
    mapped = Predictor(load(tmp_path / "model", None), Rules())
    bad = {"payload": {"customer": {**GOOD_FEATURES, "tenure": "x"}}}
    assert _problems(mapped, bad)[0]["loc"] == ["body", "payload", "customer", "tenure"]
    (problem,) = _problems(mapped, {"meta": 5, "payload": {"customer": GOOD_FEATURES}})
    assert (problem["loc"], problem["type"]) == (["body", "meta"], "envelope")


def test_a_model_that_fails_on_one_event_is_a_model_error_at_its_place(model):
    """Nothing is answered, and the reason is the dead letter's."""

    def predict(columns):
        if (columns.numeric[:, 0] == 13).any():
            raise ArithmeticError
        return np.full(columns.n, 0.25)

    failing = type(model)(model.manifest, "ab", False, predict, "frame", "")
    (problem,) = _problems(Predictor(failing, Rules()), [GOOD_FEATURES, {**GOOD_FEATURES, "tenure": 13}])
    assert (problem["loc"], problem["type"]) == (["body", 1], "model_error")
    assert "ArithmeticError" in problem["msg"]


def test_the_stream_and_predict_give_the_same_bits(model):
    """60 different customers, alone, in a list, and as a batch of records."""
    columns = bundles.columns()
    rows = [dict(zip(bundles.LAYOUT.names, row, strict=True)) for row in zip(*columns.values, strict=True)]
    records = [record(json.dumps({**GOOD, "features": row}).encode(), offset=i) for i, row in enumerate(rows)]
    answer = Pipeline(model, Rules(), "group", 900_000).answer(records, "t", 0, lambda: NOW_MS, lambda: 0.0)
    streamed = [json.loads(value)["probability"] for _, value, _ in answer.predictions]
    predictor = Predictor(model, Rules())
    assert len(streamed) == 60
    assert [a["probability"] for a in _ask(predictor, rows)] == streamed
    assert [_ask(predictor, row)["probability"] for row in rows] == streamed


def test_over_http(client):
    """200 with an answer or a list, 422 with the contract's detail."""
    assert client.post("/predict", json=GOOD_FEATURES).json()["probability"] == pytest.approx(EXPECTED, abs=1e-12)
    assert [a["event_id"] for a in client.post("/predict", json=[GOOD, GOOD]).json()] == ["01J9", "01J9"]
    refused = client.post("/predict", json={**GOOD_FEATURES, "tenure": -1})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "tenure"]


def test_a_body_has_a_limit(client):
    """413 with the reason, whether the length is announced or not."""
    body = b" " * (MAX_BODY_BYTES + 1)
    for content in (body, iter([body[: MAX_BODY_BYTES // 2]] * 3)):
        refused = client.post("/predict", content=content)
        assert refused.status_code == 413
        assert refused.json()["detail"][0]["type"] == "too_large"


def test_requests_at_a_time_have_a_limit(model, monkeypatch):
    """One more than the most must retry later; when there is room again, it is answered."""
    monkeypatch.setattr(http, "MAX_REQUESTS", 1)
    entered, release = threading.Event(), threading.Event()

    def slow(columns):
        entered.set()
        assert release.wait(20)
        return model.predict(columns)

    with _serving(type(model)(model.manifest, "ab", False, slow, "frame", "")) as client:
        statuses = []
        first = threading.Thread(target=lambda: statuses.append(client.post("/predict", json=GOOD).status_code))
        first.start()
        assert entered.wait(20)
        assert client.get("/openapi.json").status_code == 200  # others are answered meanwhile
        refused = client.post("/predict", json=GOOD)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        release.set()
        first.join(20)
        assert statuses == [200]
        assert client.post("/predict", json=GOOD).status_code == 200


def _raw(body):
    return b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@contextmanager
def _busy(model):
    """A service whose model is computing until `release` is set; `asked` are the events that the model has seen."""
    entered, release, asked = threading.Event(), threading.Event(), []

    def slow(columns):
        asked.append(columns.n)
        entered.set()
        assert release.wait(20)
        return model.predict(columns)

    with _serving(type(model)(model.manifest, "ab", False, slow, "frame", "")) as client:
        first = threading.Thread(target=lambda: client.post("/predict", json=GOOD))
        first.start()
        assert entered.wait(20)
        try:
            yield client, release, asked
        finally:
            release.set()
            first.join(20)


def test_work_whose_client_has_gone_is_dropped(model, monkeypatch):
    """It makes room at once, and the model never sees it; who still waits is answered."""
    monkeypatch.setattr(http, "MAX_REQUESTS", 11)
    with _busy(model) as (client, release, asked):
        address = (client.base_url.host, client.base_url.port)
        for _ in range(10):
            with socket.create_connection(address, timeout=60) as gone:
                gone.sendall(_raw(json.dumps([GOOD, GOOD]).encode()))
        with contextlib.ExitStack() as held:
            deadline = time.monotonic() + 20
            while True:  # until those that have gone make room
                waiting = held.enter_context(socket.create_connection(address, timeout=0.5))
                waiting.sendall(_raw(json.dumps([GOOD, GOOD, GOOD]).encode()))
                try:
                    assert waiting.recv(4096).startswith(b"HTTP/1.1 503 ")
                except TimeoutError:
                    break
                assert time.monotonic() < deadline
            release.set()
            waiting.settimeout(20)
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert asked == [1, 3]


def test_the_bytes_of_bodies_at_a_time_have_a_limit(model, monkeypatch):
    """503 with Retry-After for what does not fit, announced or not; once the others are answered, it fits."""
    monkeypatch.setattr(http, "MAX_BODIES_BYTES", 10_000)
    body = json.dumps(GOOD).encode().ljust(6000)
    with _busy(model) as (client, release, _):
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=60) as waiting:
            waiting.sendall(_raw(body))
            for content in (body, iter([body])):
                deadline = time.monotonic() + 20
                while (refused := client.post("/predict", content=b" " * 6000)).status_code != 503:
                    assert time.monotonic() < deadline, "the body that waits has not arrived"
                refused = client.post("/predict", content=content)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            release.set()
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert client.post("/predict", content=body).status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(client, monkeypatch):
    """408; the place is free again."""
    monkeypatch.setattr(http, "BODY_TIMEOUT_S", 0.2)
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=60) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")


def test_the_openapi_document_describes_the_served_models_features(client):
    """Names, kinds, ranges, what may be missing; and an example that the scorer accepts."""
    document = client.get("/openapi.json").json()
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    bare, event, several = content["schema"]["anyOf"]
    assert list(bare["properties"]) == [f.name for f in FEATURES]
    assert bare["properties"]["tenure"] == {"type": "number", "minimum": 0, "maximum": 120}
    assert bare["properties"]["payment"] == {"type": ["string", "null"], "examples": ["Mail"]}
    assert bare["required"] == ["tenure", "monthly_charges", "contract", "senior"]
    assert event["required"] == ["features"]
    assert several["maxItems"] == 1000
    for example in content["examples"].values():
        assert client.post("/predict", json=example["value"]).status_code == 200


def test_the_documentation_page_asks_nobody_but_us(client):
    """Every link of /docs is relative and answered, and the page's policy forbids any other."""
    page = client.get("/docs")
    assert page.status_code == 200
    links = re.findall(r"(?:src|href|url)\s*[=:]\s*[\"']([^\"']+)", page.text)
    assert {"openapi.json", "docs/assets/swagger-ui-bundle.js", "docs/assets/swagger-ui.css"} <= set(links)
    assert "//" not in "".join(links)
    assert "http" not in page.headers["content-security-policy"]
    for link in links:
        if not link.startswith("data:"):
            assert client.get(f"/{link}").status_code == 200
    assert "SwaggerUIBundle" in client.get("/docs/assets/swagger-ui-bundle.js").text[:2000]
