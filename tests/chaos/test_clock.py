"""Clocks that jump, and producers with clocks in 1970 or 2099 (row 17)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from support import history
from support.drifting import measurements_of, start_worker
from support.oracle import Sent, assert_exactly_once, send
from support.stage import Stage
from support.waiting import wait_until

from schemas.timestamps import render

DAY_S = 86_400
YEAR_2099_MS = 4_070_908_800_000


def turn(wrong_s: Path, seconds: int) -> None:
    """The scorers' clock is wrong by so much from now on; they never read half a number."""
    new = wrong_s.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(wrong_s)
    history.mark(f"the clock is wrong by {seconds} s")


@pytest.mark.row(17)
def test_a_clock_that_jumps_changes_no_duration(stage: Stage, tmp_path: Path, long: bool) -> None:
    """Half an hour ahead, two days back, right again: everybody stays ready and in the group, durations stay true.

    What is a wall clock's by meaning, the age of an event, may be wrong meanwhile, and the future may be refused. With
    a clock more than an hour ahead of the broker's, the broker takes nothing: alive, not ready, until it is right.
    """
    jumps = [1800, -2 * DAY_S, 0] * (5 if long else 1)
    wrong_s = tmp_path / "wrong_s"
    turn(wrong_s, 0)
    clock = str(Path(__file__).parents[1] / "support" / "clock")
    packages = os.pathsep.join([clock, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"PYTHONPATH": packages, "TEST_CLOCK": str(wrong_s), "SCORER_DEAD_LETTER_LIMIT": "1.0"}
    started = time.monotonic()
    with stage.scorer(**environment) as first, stage.scorer(**environment) as second:
        scorers = (first, second)
        for scorer in scorers:
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")
        source, sent = stage.source(), stage.send_customers(400)
        stage.reader.wait_for(400)
        rebalances = [scorer.metric("driftline_scorer_rebalances_total") for scorer in scorers]
        for jump in jumps:
            turn(wrong_s, jump)
            time.sleep(1.0)  # every loop has run, and every wait for a moment of the wrong clock is in progress
            stage.send_from(source, 400, sent)
            stage.reader.wait_for(len(sent.records))
            for scorer in scorers:
                assert scorer.get("/livez").status_code == 200
                assert scorer.reasons() == []
        assert [scorer.metric("driftline_scorer_rebalances_total") for scorer in scorers] == rebalances
        for scorer in scorers:
            assert scorer.metric("driftline_scorer_producer_rebuilds_total") == 0
            for stage_name in ("decode", "columns", "predict", "encode", "produce", "commit"):
                seconds = scorer.metric("driftline_scorer_stage_seconds_sum", stage=stage_name)
                assert 0 <= seconds < 2 * (time.monotonic() - started), stage_name  # two partitions side by side

        turn(wrong_s, DAY_S)
        stage.send_from(source, 400, sent)
        for scorer in scorers:
            wait_until(lambda s=scorer: "InvalidTimestampError" in str(s.partitions()), "the broker refuses")
            assert scorer.get("/livez").status_code == 200
            wait_until(lambda s=scorer: "fencing" in (s.reasons() or []), "not ready")
        turn(wrong_s, 0)
        stage.reader.wait_for(len(sent.records))
        assert [scorer.stop() for scorer in scorers] == [0, 0]
    assert_exactly_once(sent, stage.reader.answers)
    refused = sum(answer.reason == "event_time_in_future" for answer in stage.reader.answers)
    assert refused == 400 * jumps.count(-2 * DAY_S), "the scorers' clock did jump"


@pytest.mark.row(17)
@pytest.mark.long_only
def test_one_event_from_1970_or_2099_closes_no_window(stage: Stage) -> None:
    """Bad times in the record, in the event, in both: each is answered once, and every window counts its events."""
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    anything = ConfigEntry(  # the broker itself would refuse what is more than an hour ahead
        "message.timestamp.after.max.ms", str((1 << 63) - 1), incremental_operation=AlterConfigOpType.SET
    )
    topic = ConfigResource(ResourceType.TOPIC, stage.names.events, incremental_configs=[anything])
    for future in admin.incremental_alter_configs([topic]).values():
        future.result(30)
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    source, sent = stage.source(), Sent()
    with stage.scorer() as first, stage.scorer() as second, start_worker(stage, "drift", DRIFT_WINDOWS="5s") as worker:
        for service in (first, second, worker):
            service.wait_ready()
        for second_of_20 in range(20):
            good = source.take(100, float(second_of_20), start_ms + 1000 * second_of_20)
            at_ms = start_ms + 1000 * second_of_20
            records = [(key, value, [], i % 4, at_ms) for i, (key, value) in enumerate(good)]
            if second_of_20 == 7:
                event = json.loads(good[0][1])
                for partition in range(4):
                    for event_time in (event["event_time"], "1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z"):
                        value = json.dumps({**event, "event_time": event_time}).encode()
                        records += [(b"k", value, [], partition, ms) for ms in (1, at_ms, YEAR_2099_MS)]
                history.mark("bad times")
            send(stage.bootstrap, stage.names.events, records, sent)
        stage.reader.wait_for(2036)
        counted, future = "driftline_drift_counted_events_total", "driftline_drift_future_events_total"
        topic = stage.names.events
        wait_until(lambda: worker.metric(counted, topic=topic) + worker.metric(future, topic=topic) == 2036, "all read")
        assert worker.metric(future, topic=topic) == 12
        # 20 s in 100 events each, and those of bad records but right times: 12 in the window from second 5 to 10
        starts = [render(start_ms + 5000 * i) for i in range(4)]

        def events_of_windows() -> list[int]:
            found = {m["window"]["start"]: m["sample"]["events"] for m in measurements_of(stage)}
            return [found.get(start, 0) for start in starts]

        wait_until(lambda: events_of_windows() == [500, 512, 500, 500], "four whole windows")
        assert [service.stop() for service in (first, second, worker)] == [0, 0, 0]
    assert_exactly_once(sent, stage.reader.answers)
    assert sum(answer.reason == "event_time_in_future" for answer in stage.reader.answers) == 12
