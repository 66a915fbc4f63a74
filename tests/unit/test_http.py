"""HTTP: health and metrics answer on their own thread, and what they say has the contract's form."""

import asyncio
import socket
import threading
import time

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from streaming.http import HttpThread, application


class _Service:
    """What a service knows about itself."""

    def __init__(self):
        self.dead, self.waiting, self.idle = [], [], False
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
            health=lambda: {"service": "test", "reasons": self.waiting},
        )


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def service():
    """A service behind a real server; `get` asks it."""
    service = _Service()
    port = _free_port()
    thread = HttpThread(service.application(), "127.0.0.1", port)
    thread.start()
    service.url = f"http://127.0.0.1:{port}"
    service.get = lambda path: httpx.get(service.url + path, timeout=10.0)
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
    """503 with the reasons on /readyz; a restart would not help, so /livez stays 200 and still tells the truth."""
    service.waiting = ["broker_unreachable", "fencing"]
    ready, live = service.get("/readyz"), service.get("/livez")
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "state": "running", "reasons": ["broker_unreachable", "fencing"]}
    assert live.status_code == 200
    assert live.json() == {"ready": False, "state": "running", "reasons": []}


def test_what_a_restart_would_mend_is_not_live(service):
    """503 with the reasons of its own."""
    service.dead = ["loop_stuck"]
    live = service.get("/livez")
    assert live.status_code == 503
    assert live.json()["reasons"] == ["loop_stuck"]
    assert service.get("/readyz").status_code == 200


def test_health_is_the_services_own_json(service):
    """Whatever the service says about itself."""
    assert service.get("/health").json() == {"service": "test", "reasons": []}


def test_metrics_have_the_text_formats_content_type(service):
    """Prometheus 3 refuses a target without one, whatever it was asked for."""
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
        assert answered.wait(timeout=20.0)

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
            assert entered.wait(timeout=10.0)
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=10.0).json() == {"fine": True}
            assert httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10.0).status_code == 200
        hanging.join(timeout=10.0)
        assert not hanging.is_alive()
    finally:
        slow.stop()


def test_a_busy_port_is_an_error_and_no_exit():
    """The service says which address it could not have; uvicorn alone would end the process."""
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
