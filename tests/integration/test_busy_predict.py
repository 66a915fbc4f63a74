"""A scorer behind a busy POST /predict: bounded memory, and an end as soon as it is drained."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from support.stage import Stage
from support.waiting import wait_until

REQUESTS = 20
SIZE = 7_000_000
# What the bodies and their parsed form may add: two of the largest in progress, several times their bytes.
MEMORY_BYTES = 250_000_000


def _body(stage: Stage) -> bytes:
    """1,000 events of 7 KB each, most of it fields that the model does not know."""
    event = json.loads(stage.source().take(1, 0.0, time.time_ns() // 1_000_000)[0][1])
    event |= {f"unknown-{n}": n for n in range((SIZE // 1000 - len(json.dumps(event))) // 20)}
    return json.dumps([event] * 1000).encode()


def _ask(port: int, request: bytes) -> bytes:
    """The beginning of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        with contextlib.suppress(ConnectionError):  # refused before its end
            client.sendall(request)
        try:
            return client.recv(12)
        except ConnectionError:
            return b"closed"  # the answer was lost with the connection


def test_clients_that_have_gone_cost_neither_memory_nor_time_to_stop(stage: Stage) -> None:
    """20 bodies of 7 MB whose clients leave at once: the rest of them is dropped, and SIGTERM ends the process."""
    body = _body(stage)
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with stage.scorer() as scorer:
        scorer.wait_ready()
        for _ in range(REQUESTS):
            client = socket.create_connection(("127.0.0.1", scorer.port), timeout=240)
            with client, contextlib.suppress(ConnectionError):  # refused before its end: there is no room for it
                client.sendall(head + body)
        wait_until(lambda: scorer.get("/livez").status_code == 200, "it answers others")
        started = time.monotonic()
        assert scorer.stop(timeout_s=30.0) == 0
        assert time.monotonic() - started < 30.0
        drained = any('"event":"drained"' in line for line in scorer.log_lines())
    assert drained


def test_many_bodies_at_a_time_are_answered_or_sent_away(stage: Stage) -> None:
    """20 bodies of 7 MB at a time: 200, or 503 with Retry-After; memory stays within its bound."""
    body = _body(stage)
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with stage.scorer() as scorer:
        scorer.wait_ready()
        before = scorer.peak_memory_bytes()
        with ThreadPoolExecutor(REQUESTS) as pool:
            statuses = list(pool.map(lambda _: _ask(scorer.port, head + body), range(REQUESTS)))
        assert set(statuses) <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b"closed"}
        assert b"HTTP/1.1 200" in statuses
        assert scorer.peak_memory_bytes() - before < MEMORY_BYTES
        assert scorer.stop() == 0
