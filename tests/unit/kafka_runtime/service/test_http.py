"""HTTP: health and metrics answer on a separate thread, and the answers have the contract's form."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import textwrap
import threading
import time

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from kafka_runtime.service import http
from kafka_runtime.service.http import HttpThread, application


class _Service:
    """What a service knows about itself."""

    def __init__(self):
        self.dead, self.waiting, self.idle, self.refusal = [], [], False, None
        self.registry = CollectorRegistry()
        self.counted = Counter("driftline_test_events_total", "Events", registry=self.registry)

    def application(self):
        return application(
            "Driftline test",
            "0.1.0",
            self.registry,
            live=lambda: self.dead,
            not_ready=lambda: self.waiting,
            standby=lambda: self.idle,
            refusal=lambda: self.refusal,
            health=lambda: {"service": "test", "reasons": self.waiting},
        )


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def service():
    """A service behind a real server; `get` sends a request."""
    service = _Service()
    port = _free_port()
    thread = HttpThread(service.application(), "127.0.0.1", port)
    thread.start()
    service.port, service.thread = port, thread
    service.url = f"http://127.0.0.1:{port}"
    service.get = lambda path: httpx.get(service.url + path, timeout=60.0)
    yield service
    thread.stop()


def test_a_ready_service_says_so(service):
    """200 with the contract's body, on both probes."""
    for path in ("/livez", "/readyz"):
        answer = service.get(path)
        assert answer.status_code == 200
        assert answer.json() == {"ready": True, "state": "running", "reasons": []}
        assert answer.headers["content-type"] == "application/json"


def test_a_member_without_partitions_is_ready_and_says_standby(service):
    """A spare is not ill."""
    service.idle = True
    answer = service.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "state": "standby", "reasons": []})


def test_what_waits_is_not_ready_but_alive(service):
    """503 with the reasons on /readyz; a restart would not help, so /livez stays 200 and correct."""
    service.waiting = ["broker_unreachable", "fencing"]
    ready, live = service.get("/readyz"), service.get("/livez")
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "state": "running", "reasons": ["broker_unreachable", "fencing"]}
    assert live.status_code == 200
    assert live.json() == {"ready": False, "state": "running", "reasons": []}


def test_who_is_rejected_shows_in_which_words(service):
    """On the probe that says no, and nowhere else."""
    service.waiting, service.refusal = ["not_authorised"], "SaslAuthenticationFailed: the secret is wrong"
    assert service.get("/readyz").json()["refusal"] == "SaslAuthenticationFailed: the secret is wrong"
    assert "refusal" not in service.get("/livez").json()
    service.waiting = []
    assert "refusal" not in service.get("/readyz").json()


def test_what_a_restart_would_mend_is_not_live(service):
    """503 with its separate reasons."""
    service.dead = ["loop_stuck"]
    live = service.get("/livez")
    assert live.status_code == 503
    assert live.json()["reasons"] == ["loop_stuck"]
    assert service.get("/readyz").status_code == 200


def test_health_is_the_services_own_json(service):
    """The reasons that the service reports about itself."""
    assert service.get("/health").json() == {"service": "test", "reasons": []}


def test_metrics_have_the_text_formats_content_type(service):
    """Prometheus 3 rejects a target without one, for any Accept header."""
    service.counted.inc(3)
    for accept in ("*/*", "application/openmetrics-text;version=1.0.0", "text/html"):
        answer = httpx.get(f"{service.url}/metrics", headers={"accept": accept})
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        samples = [s for family in text_string_to_metric_families(answer.text) for s in family.samples]
        assert [s.value for s in samples if s.name == "driftline_test_events_total"] == [3.0]


def test_unknown_paths_and_methods_are_http_errors(service):
    """404 and 405, not a stack trace."""
    assert service.get("/nothing").status_code == 404
    assert httpx.post(f"{service.url}/livez").status_code == 405


def test_it_answers_while_the_event_loop_is_blocked(service):
    """A coroutine that holds the loop, as a stuck commit would: the probes are answered all the same."""
    answered = threading.Event()
    answers = []

    def ask():
        answers.extend(service.get(path).status_code for path in ("/livez", "/readyz", "/health", "/metrics"))
        answered.set()

    async def stuck():
        threading.Thread(target=ask).start()
        # nothing else runs on this loop until the answers are here
        assert answered.wait(timeout=60.0)

    asyncio.run(stuck())
    assert answers == [200, 200, 200, 200]


def test_a_probe_that_waits_does_not_keep_the_others_waiting(service):
    """Each request has a thread: one that hangs on a lock of the service is alone with it."""
    lock = threading.Lock()
    entered = threading.Event()

    def reasons():
        entered.set()
        with lock:
            return []

    slow = HttpThread(
        application(
            "slow",
            "0",
            service.registry,
            live=list,
            not_ready=reasons,
            standby=lambda: False,
            refusal=lambda: None,
            health=lambda: {"fine": True},
        ),
        "127.0.0.1",
        port := _free_port(),
    )
    slow.start()
    try:
        with lock:
            hanging = threading.Thread(target=httpx.get, args=(f"http://127.0.0.1:{port}/readyz",))
            hanging.start()
            assert entered.wait(timeout=60.0)
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=60.0).json() == {"fine": True}
            assert httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60.0).status_code == 200
        hanging.join(timeout=60.0)
        assert not hanging.is_alive()
    finally:
        slow.stop()


def test_a_busy_port_is_an_error_and_no_exit():
    """The error names the address that was not free; uvicorn alone would end the process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        thread = HttpThread(_Service().application(), "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            thread.start()


def test_stopping_frees_the_port_soon():
    """Also while a client keeps its connection open."""
    port = _free_port()
    thread = HttpThread(_Service().application(), "127.0.0.1", port)
    thread.start()
    with httpx.Client() as client:
        assert client.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        started = time.monotonic()
        thread.stop()
        assert time.monotonic() - started < 3.0
    again = HttpThread(_Service().application(), "127.0.0.1", port)
    again.start()
    again.stop()


# --- requests in the log ---------------------------------------------------------------------------------------------


@pytest.fixture
def lines(monkeypatch):
    """The lines that are logged about requests, as (level, members)."""
    found = []

    class _Log:
        def __getattr__(self, level):
            return lambda event, **members: found.append((level, {"event": event, **members}))

    monkeypatch.setattr(http, "log", _Log())
    return found


def _wait_for(condition):
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.01)


def test_each_request_is_one_line_with_its_route_status_and_duration(service, lines):
    """At info; requests of machines at debug; a path without a route has none, for any spelling."""
    service.get("/health")
    service.get("/readyz")
    service.get("/nothing%0d%0aX")
    _wait_for(lambda: len(lines) == 3)
    durations = [line.pop("duration_ms") for _, line in lines]
    assert all(0.0 < ms < 20_000.0 for ms in durations)
    assert lines == [
        ("info", {"event": "http_request", "method": "GET", "route": "/health", "status": 200}),
        ("debug", {"event": "http_request", "method": "GET", "route": "/readyz", "status": 200}),
        ("info", {"event": "http_request", "method": "GET", "route": None, "status": 404}),
    ]


@pytest.mark.parametrize(
    ("given", "kept"), [("r-1", True), ("a" * 128, True), ("a" * 129, False), ("two words", False), (None, False)]
)
def test_the_callers_request_id_comes_back(service, given, kept):
    """Plain text of at most 128 characters; else a new id."""
    headers = {"x-request-id": given} if given is not None else {}
    answer = httpx.get(f"{service.url}/livez", headers=headers)
    (back,) = answer.headers.get_list("x-request-id")
    assert (back == given) is kept
    assert kept or len(back) == 32


def test_a_defect_is_a_500_and_one_line_with_the_exception(lines):
    """With the request's id for the client, and without a second traceback of the server's."""
    app = _Service().application()

    @app.get("/broken")
    def broken():
        raise ZeroDivisionError("defect")

    thread = HttpThread(app, "127.0.0.1", port := _free_port())
    thread.start()
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/broken", headers={"x-request-id": "r7"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (500, "r7")
        _wait_for(lambda: lines)
    finally:
        thread.stop()
    ((level, line),) = lines
    assert (level, line["route"], line["status"]) == ("error", "/broken", 500)
    assert isinstance(line["exc_info"], ZeroDivisionError)


def test_what_is_logged_during_a_request_has_its_id():
    """Also from the threads that answer."""
    seen = []

    def health():
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))
        return {}

    app = application(
        "t", "0", CollectorRegistry(), live=list, not_ready=list, standby=bool, refusal=lambda: None, health=health
    )
    thread = HttpThread(app, "127.0.0.1", port := _free_port())
    thread.start()
    try:
        httpx.get(f"http://127.0.0.1:{port}/health", headers={"x-request-id": "r9"})
    finally:
        thread.stop()
    assert seen == ["r9"]


# --- more clients than there is room for -----------------------------------------------------------------------------


def test_idle_connections_make_room_for_the_next(service, monkeypatch):
    """The oldest of those without a request is closed; the new one is answered."""
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 20)
    with contextlib.ExitStack() as held:
        idle = [
            held.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60)) for _ in range(60)
        ]
        assert service.get("/livez").status_code == 200
        assert idle[0].recv(1) == b""
        assert len(service.thread._server.server_state.connections) <= 21
        idle[-1].sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle[-1].recv(12) == b"HTTP/1.1 200"


FEW_DESCRIPTORS = """
    import resource, sys
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    from prometheus_client import CollectorRegistry
    from kafka_runtime.service import logs
    from kafka_runtime.service.http import HttpThread, application
    from kafka_runtime.service.settings import LogSettings
    logs.configure(LogSettings(log_format="json"), "test")
    nothing, no = lambda: [], lambda: None
    asked = {"live": nothing, "not_ready": nothing, "standby": no, "refusal": no, "health": dict}
    app = application("t", "0", CollectorRegistry(), **asked)
    HttpThread(app, "127.0.0.1", int(sys.argv[1])).start()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_more_idle_connections_than_descriptors_neither_silence_it_nor_fill_the_log(tmp_path):
    """300 connections that send nothing, 200 descriptors: /readyz answers, and the log stays small."""
    port = _free_port()
    log = tmp_path / "log"
    with log.open("wb") as err, contextlib.ExitStack() as held:
        served = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FEW_DESCRIPTORS), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
        )
        try:
            assert served.stdout.readline() == b"ready\n"
            for _ in range(300):
                with contextlib.suppress(ConnectionError):
                    held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            for _ in range(20):
                assert httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code == 200
        finally:
            served.kill()
            served.communicate()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) < 20, lines[:5]
