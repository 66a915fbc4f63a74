"""What others write into the topics: two years of events in no order, and forged records on an internal topic."""

from __future__ import annotations

import time
from random import Random

import pytest
from support import history
from support.drifting import measurements_of, start_worker
from support.oracle import Sent, assert_exactly_once, send
from support.preloaded import OWN_INTERPRETER
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from drift_worker.counts.wire_format import LAYOUT, Progress, encode

YEARS_MS = 2 * 365 * 86_400_000
# What a first start over such a dump may take.
EVENTS = 200_000
MOST_BYTES = 250 << 20
SHORT = {"DRIFT_WINDOWS": "2s,4s", "DRIFT_IDLE_TIMEOUT": "2s", "DRIFT_MIN_EVENTS": "50"}


def _alive_until(services: tuple[Service, ...], condition, what: str) -> None:
    """Wait, and see at every look that no restart is asked for."""

    def looked() -> bool:
        assert [service.get("/livez").status_code for service in services] == [200] * len(services)
        return bool(condition())

    wait_until(looked, what)


@pytest.mark.long_only
@pytest.mark.row(31)
def test_events_of_two_years_in_no_order_close_their_windows_in_bounded_memory(stage: Stage, seed: int) -> None:
    """A dump by customer: every event is scored once and counted, what is too old for any window is late."""
    draw, source, topic = Random(seed), stage.source(seed=seed), stage.names.events
    now_ms = time.time_ns() // 1_000_000
    records = [source.take(1, 0.0, now_ms - draw.randrange(YEARS_MS))[0] for _ in range(EVENTS)]
    with stage.scorer() as scorer, start_worker(stage, "drift", **SHORT, **OWN_INTERPRETER) as worker:
        for service in (scorer, worker):
            service.wait_ready()
        sent = send(stage.bootstrap, topic, records)
        stage.reader.wait_for(EVENTS)

        def counted() -> float:
            return worker.metric("driftline_drift_counted_events_total", topic=topic)

        _alive_until((scorer, worker), lambda: counted() == EVENTS, "every event is counted")
        _alive_until((scorer, worker), lambda: worker.metric("driftline_drift_windows_total"), "windows close")
        _alive_until((scorer, worker), lambda: worker.metric("driftline_drift_late_events_total"), "old ones are late")
        for service in (scorer, worker):
            wait_until(lambda s=service: s.reasons() == [], "it is ready")
        used = worker.get("/health").json()
        history.mark(f"the drift worker took {used['cpu_s']} s of CPU and {worker.peak_memory_bytes() >> 20} MB")
        assert worker.peak_memory_bytes() < MOST_BYTES
        assert (scorer.stop(), worker.stop()) == (0, 0)
    assert_exactly_once(sent, stage.reader.answers)


def _progress(topic: str, **claims: object) -> bytes:
    """A progress record of partition 0 as a stranger would write it."""
    true = {
        "layout": LAYOUT,
        "topic": topic,
        "partition": 0,
        "first": 0,
        "next": 0,
        "read": 0,
        "counted": 0,
        "refused": {},
        "future": 0,
        "watermark_ms": None,
        "event_ms": None,
        "at_end": True,
        "partitions": 4,
        "accepted_next": 0,
        "answered": {},
    }
    return encode(Progress(**{**true, **claims}))


@pytest.mark.row(32)
def test_forged_internal_records_are_counted_and_change_nothing(stage: Stage) -> None:
    """A watermark in the year 6429, 10,000 partitions, 10^14 rejections, no record at all: drift goes on meanwhile."""
    names, sent = stage.names, Sent()
    panes = names.environment["TOPIC_PANES"]
    forged = [
        b"\xff no record",
        _progress(names.events, watermark_ms=140_700_000_000_000, event_ms=140_700_000_000_000),
        _progress(names.events, partitions=10_000),
        _progress(names.events, refused={"not_json": 10**14}),
    ]
    with stage.scorer() as scorer, start_worker(stage, "drift", **SHORT) as worker:
        for service in (scorer, worker):
            service.wait_ready()
        stage.send_customers(400, sent)
        send(stage.bootstrap, panes, [(None, value, [], 0) for value in forged])
        stage.reader.wait_for(400)
        _alive_until(
            (scorer, worker),
            lambda: worker.metric("driftline_drift_unreadable_records_total", topic=panes) == len(forged),
            "every forged record is counted",
        )
        wait_until(lambda: worker.reasons() == [], "it is ready")

        def measured() -> int:
            return sum(m["sample"]["events"] for m in measurements_of(stage) if m["window"]["length"] == "2s")

        _alive_until((scorer, worker), lambda: measured() == 400, "every event is in a window")
        assert {name for m in measurements_of(stage) for name in m["missing_partitions"]} == set()
        assert {m["sample"]["late"] for m in measurements_of(stage)} == {0}
        assert (scorer.stop(), worker.stop()) == (0, 0)
    assert_exactly_once(sent, stage.reader.answers)
