"""Requests of people and probes to a scorer's HTTP, and its answers when it is stuck (row 26)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
import pytest
from support import bundles, history
from support.brokers import Broker
from support.events import GOOD
from support.oracle import assert_exactly_once, send
from support.services import ANSWER_S, Service
from support.stage import Stage
from support.stuck_model import StuckClassifier
from support.waiting import wait_until

HURRY = {"kafka_runtime.group_member.LOOP_STUCK_S": 3, "kafka_runtime.group_member.BATCH_STUCK_S": 3}
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"  # an empty line is missing
CLIENTS = 8
SLOW_CLIENTS = 200


@pytest.fixture
def stuck(broker: Broker, topic_prefix: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose model stops its process on request (`tmp_path / "trap"`)."""
    stage = Stage(broker, topic_prefix, tmp_path / "stuck", tmp_path)
    yield stage
    stage.reader.close()


@pytest.mark.row(26)
@pytest.mark.parametrize("what", ["loop", pytest.param("batch", marks=pytest.mark.long_only)])
def test_a_stuck_scorer_says_so_and_the_other_one_goes_on(stuck: Stage, tmp_path: Path, what: str, long: bool) -> None:
    """/livez is 503 with the reason while the event loop or a batch does not move, answers all the time, and recovers.

    The long form has the limits of production: 30 s for the loop, 60 s for a batch.
    """
    seconds = {"loop": 45.0, "batch": 90.0}[what] if long else 6.0
    trap = tmp_path / "trap"
    bundles.write(stuck.bundle, StuckClassifier(str(trap), seconds))
    events = [json.dumps({**GOOD, "event_id": f"e{i}"}).encode() for i in range(2000)]
    records = [(b"k", event, [], i % 4) for i, event in enumerate(events)]
    support = str(Path(__file__).parents[1])
    packages = os.pathsep.join([support, *filter(None, [os.environ.get("PYTHONPATH")])])
    hurry = None if long else HURRY
    with stuck.scorer(hurry, PYTHONPATH=packages) as first, stuck.scorer(hurry, PYTHONPATH=packages) as second:
        scorers = (first, second)
        for scorer in scorers:
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")
        sent = send(stuck.bootstrap, stuck.names.events, records[:1000])
        stuck.reader.wait_for(1000)
        assert [scorer.get("/livez").status_code for scorer in scorers] == [200, 200]

        trap.write_text(what)
        send(stuck.bootstrap, stuck.names.events, records[1000:], sent)
        wait_until(lambda: not trap.exists(), "a scorer is stuck")
        history.mark(f"the {what} is stuck")
        told: list[str] = []

        def dead() -> bool:
            told[:] = [reason for scorer in scorers for reason in scorer.get("/livez").json()["reasons"]]
            return bool(told)

        wait_until(dead, "somebody is not alive")
        assert ("the event loop has not run" if what == "loop" else "has finished no batch for") in told[0]
        assert all(scorer.get("/metrics").status_code == 200 for scorer in scorers)
        for scorer in scorers:
            wait_until(lambda s=scorer: s.get("/livez").status_code == 200 and s.reasons() == [], "it has recovered")
        stuck.reader.wait_for(2000)
        assert [scorer.stop() for scorer in scorers] == [0, 0]
    assert_exactly_once(sent, stuck.reader.answers)


class Hammer:
    """Many who ask for /metrics without a pause, and many who never come to the end of their request."""

    def __init__(self, scorer: Service) -> None:
        self._port = scorer.port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        self.answers = 0
        self._slow = ExitStack()

    def _ask(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=ANSWER_S) as client:
            while not self._ended.is_set():
                with contextlib.suppress(httpx.TransportError):  # the slow ones may have taken the last connection
                    self.answers += client.get("/metrics").status_code == 200

    def __enter__(self) -> Self:
        for i in range(SLOW_CLIENTS):
            slow = self._slow.enter_context(socket.create_connection(("127.0.0.1", self._port), ANSWER_S))
            # half of them never end their request, the others never read the answer
            slow.sendall(REQUEST if i % 2 else (REQUEST + b"\r\n") * 50)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * ANSWER_S)
        self._slow.close()


@pytest.mark.row(26)
@pytest.mark.long_only
def test_hammering_on_metrics_does_not_disturb_scoring(stage: Stage) -> None:
    """Eight clients without a pause and 200 slow ones: everything is answered meanwhile, no member leaves the group."""
    rounds = 40
    with stage.scorer() as first, stage.scorer() as second:
        scorers = (first, second)
        for scorer in scorers:
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")
        source, sent = stage.source(), stage.send_customers(400)
        stage.reader.wait_for(400)
        sockets = [scorer.sockets() for scorer in scorers]
        rebalances = [scorer.metric("driftline_scorer_rebalances_total") for scorer in scorers]
        with Hammer(first) as hammer:
            for _ in range(rounds):
                stage.send_from(source, 400, sent)
                stage.reader.wait_for(len(sent.records))
                time.sleep(0.5)
            wait_until(lambda: hammer.answers > 100, "they were answered, too")
            assert first.get("/livez").status_code == 200
            assert first.reasons() == []
        assert [scorer.metric("driftline_scorer_rebalances_total") for scorer in scorers] == rebalances
        assert sum(scorer.metric("driftline_scorer_producer_rebuilds_total") for scorer in scorers) == 0
        for scorer, before in zip(scorers, sockets, strict=True):
            wait_until(lambda s=scorer, b=before: s.sockets() <= b + 2, "the connections are closed")
        assert [scorer.stop() for scorer in scorers] == [0, 0]
    assert_exactly_once(sent, stage.reader.answers)
