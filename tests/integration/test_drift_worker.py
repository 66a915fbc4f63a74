"""The drift worker as a process on a real Kafka: drift is announced, no record is lost or doubled after any kill."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from support import preloaded
from support.drifting import PROFILE, alerts_of, measurements_of, numbers_of, own_topics, start_worker, units_of
from support.oracle import send
from support.services import Service
from support.stage import Stage

from schemas.timestamps import parse, render

RATE = 200  # events per second of event time
WAIT_S = 90.0


def _wait(
    condition: Callable[[], bool], what: str, services: Iterable[Service] = (), timeout_s: float = WAIT_S
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        logs = "\n".join(service.tail() for service in services)
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}\n{logs}"
        time.sleep(0.3)


def _customers(stage: Stage, seconds: int, start_ms: int, **options: object) -> Iterable[list[tuple]]:
    """Real customers for this many seconds of event time, a second at a time."""
    source = stage.source(**options)
    for second in range(seconds):
        yield source.take(RATE, float(second), start_ms + second * 1000)


def test_drift_is_announced_and_resolved(stage: Stage) -> None:
    """75 s of customers, charges raised from second 25 to 45: one episode of two messages, on every surface."""
    start_ms = (time.time_ns() // 1_000_000 - 600_000) // 15_000 * 15_000
    with stage.scorer() as scorer, start_worker(stage, "drift") as worker:
        worker.wait_ready()
        scorer.wait_ready()
        for batch in _customers(stage, 75, start_ms, drifts=["monthly_charges:shift=+25@25s..45s"]):
            send(stage.bootstrap, stage.names.events, batch)

        def settled() -> bool:
            ends = [m["window"]["end"] for m in measurements_of(stage) if m["window"]["length"] == "15s"]
            return bool(ends) and max(ends) >= render(start_ms + 75_000)

        _wait(settled, "the last window of 15 s was measured", [worker])
        # silence would close windows without events, and the newest ones are shown: what the worker shows is taken now
        page, drift = worker.get("/drift.html"), worker.get("/drift").json()
        read = worker.metric("driftline_drift_read_records_total")
        counted = worker.metric("driftline_drift_counted_events_total")
        fired_so_far = worker.metric("driftline_drift_alerts_total", status="firing")
        limits = worker.get("/metrics").text
        assert worker.get("/livez").status_code == 200
        assert worker.get("/health").json()["model"]["name"] == "churn-telco"
        assert worker.stop() == 0
        alerts = [a for a in alerts_of(stage) if a["labels"]["alertname"] == "FeatureDrift"]
        assert [(a["status"], a["labels"]["feature"], a["sequence"]) for a in alerts] == [
            ("firing", "monthly_charges", 1),
            ("resolved", "monthly_charges", 2),
        ]
        fired, resolved = alerts
        assert start_ms + 25_000 < parse(fired["startsAt"]) <= start_ms + 35_000
        assert start_ms + 45_000 < parse(resolved["endsAt"]) <= start_ms + 75_000
        assert fired["labels"]["severity"] == "critical"
        assert fired["evidence"]["statistic"]["ks"] > 0.2
        first, following = fired["evidence"]["offsets"][stage.names.events]["0"]
        assert 0 <= first < following

        found = measurements_of(stage)
        for length in ("5s", "15s"):
            ours = [m for m in found if m["window"]["length"] == length]
            assert len({m["window"]["start"] for m in ours}) == len(ours)
            assert sum(m["sample"]["events"] for m in ours) == 75 * RATE
            assert sum(m["score"]["events"] for m in ours) == 75 * RATE
            assert {m["sample"]["late"] for m in ours} == {0}

        assert drift["evaluating"] is True
        assert drift["windows"]["5s"]["features"]["monthly_charges"]["state"] in {"inactive", "not_enough_data"}
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        _is_told(page.text)
        report = _driftline(stage, "report", "--since", "1h", "--out", str(stage.folder / "report.html"))
        assert report.returncode == 0, report.stderr
        _is_told((stage.folder / "report.html").read_text(encoding="utf-8"))
        nothing = _driftline(stage, "report", "--name", "other", "--out", str(stage.folder / "none.html"))
        assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
        assert "there are some of churn-telco" in nothing.stderr
        assert not (stage.folder / "none.html").exists()
        assert read == counted == 2 * 75 * RATE
        assert fired_so_far == len([a for a in alerts_of(stage) if a["status"] == "firing"])
        assert 'driftline_drift_limit{feature="monthly_charges",model="churn-telco",severity="warning"' in limits

        tail = _driftline(stage, "alerts", "tail", "--json", "--from-start", "--count", "2", "--timeout", "60")
        assert tail.returncode == 0, tail.stderr
        assert [json.loads(line)["fingerprint"] for line in tail.stdout.splitlines()] == [
            a["fingerprint"] for a in alerts_of(stage)[:2]
        ]


def _driftline(stage: Stage, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "", "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap, **stage.names.environment}
    return preloaded.run(["-m", "driftline", *arguments], environment)


def _is_told(page: str) -> None:
    """The feature and its episode, with the window's shares and the limits as pictures."""
    for part in (
        "Drift of <bdi>churn-telco</bdi>",
        "Alerts: 0 open, ",
        "FeatureDrift · <bdi>monthly_charges</bdi>",
        "resolved (critical)",
        'aria-label="monthly_charges: shares in the reference',
        "warning 0.1",
        'aria-label="monthly_charges: effect over',
    ):
        assert part in page, part


@pytest.mark.timeout(900)
@pytest.mark.row(25)
def test_workers_that_are_killed_in_mid_window_count_the_same(stage: Stage, long: bool, seed: int) -> None:
    """Two workers, one or the other killed four times (long form: twenty), beside one that is left alone: same bits."""
    seconds, times = (360, 20) if long else (90, 4)
    draw = random.Random(seed if long else 1)
    calm, stormy = own_topics(stage, "calm"), own_topics(stage, "stormy")
    start_ms = (time.time_ns() // 1_000_000 - 3_600_000) // 15_000 * 15_000
    closed_ms = start_ms + 1000 * (seconds - 5)  # what ends later is closed by silence, whenever that begins
    batches = list(_customers(stage, seconds, start_ms, drifts=["tenure:scale=0.5@30s..60s"], bad=Fraction(1, 100)))
    with (
        start_worker(stage, "calm", **calm) as quiet,
        start_worker(stage, "one", **stormy) as one,
        start_worker(stage, "two", **stormy) as two,
    ):
        for worker in (quiet, one, two):
            worker.wait_ready()
        victims = {"one": one, "two": two}
        kills = sorted(draw.sample(range(8, seconds - 10), times))
        for second, batch in enumerate(batches):
            send(stage.bootstrap, stage.names.events, batch)
            time.sleep(0.15)
            if second in kills:
                name = draw.choice(sorted(victims))
                victims[name].kill()
                victims[name] = start_worker(stage, name, **stormy)
        try:

            def measured(topics: dict[str, str]) -> bool:
                found = measurements_of(stage, topics["TOPIC_MEASUREMENTS"])
                return any(
                    m["window"]["length"] == "15s" and parse(m["window"]["end"]) >= start_ms + 1000 * seconds
                    for m in found
                )

            for topics in (calm, stormy):
                _wait(lambda t=topics: measured(t), "the last window was measured", [quiet, *victims.values()])
            expected, found = (measurements_of(stage, t["TOPIC_MEASUREMENTS"]) for t in (calm, stormy))
            assert numbers_of(found, closed_ms) == numbers_of(expected, closed_ms)
            windows = [(m["window"]["length"], m["window"]["start"]) for m in found]
            assert len(windows) == len(set(windows)), "no window is measured twice"
            units, expected_units = (units_of(stage, t, closed_ms - 5000) for t in (stormy, calm))
            assert units == expected_units
            assert len(expected_units) > 15 * 20
            said, expected_said = (
                [
                    (a["fingerprint"], a["status"], a["sequence"], a["startsAt"], a["endsAt"])
                    for a in alerts_of(stage, t["TOPIC_ALERTS"])
                    if parse(a["startsAt"]) < closed_ms
                ]
                for t in (stormy, calm)
            )
            assert said == expected_said
            assert len(said) >= 2
        finally:
            for victim in victims.values():
                victim.kill()


def test_a_worker_that_was_killed_compares_with_the_weeks_before_it(stage: Stage) -> None:
    """Two hours of one week; another process reads what was kept of the second, and looks at it a week later."""
    hour, week = 3_600_000, 7 * 24 * 3_600_000
    start_ms = (time.time_ns() // 1_000_000 - week) // hour * hour - 6 * hour
    environment = {"DRIFT_BASELINE": "week", "DRIFT_WINDOWS": "30m,1h", "DRIFT_PANE": "1m", "DRIFT_STRAGGLER": "2s"}
    source = stage.source()

    def play(worker: Service, began_ms: int) -> dict:
        """Three hours; the measurement of the second, whose end is known by the third."""
        for at_ms in range(began_ms, began_ms + 3 * hour, 600_000):
            send(stage.bootstrap, stage.names.events, source.take(RATE, (at_ms - start_ms) / 1000, at_ms))
        wanted = {"length": "1h", "start": render(began_ms + hour), "end": render(began_ms + 2 * hour)}
        found: list[dict] = []

        def measured() -> bool:
            found[:] = [m for m in measurements_of(stage) if m["window"] == wanted and m["features"]]
            return bool(found)

        _wait(measured, f"the hour from {wanted['start']} was measured", [worker])
        return found[0]

    with start_worker(stage, "before", **environment) as worker:
        worker.wait_ready()
        first = play(worker, start_ms)
        worker.kill()
    with start_worker(stage, "after", **environment) as worker:
        second = play(worker, start_ms + week)
        assert worker.stop() == 0
    assert {f["against"] for f in first["features"].values()} == {"training"}
    assert {f["against"] for f in second["features"].values()} == {"week"}
    assert 0 < second["features"]["tenure"]["reference"] <= first["features"]["tenure"]["events"] == 6 * RATE
    assert second["features"]["monthly_charges"]["significant"] is False


@pytest.mark.row(11)
def test_poison_is_counted_and_never_raises(stage: Stage) -> None:
    """What the scorer refuses, and garbage among the predictions and the panes: counted by reason, still ready."""
    start_ms = time.time_ns() // 1_000_000 - 60_000
    good = next(iter(_customers(stage, 1, start_ms)))
    event = json.loads(good[0][1])
    nested = b"[" * 50_000
    poison = [None, b"", b"{", b"\xff\xfe", b"\x00\x00\x00\x00\x01x", nested, b"[]", b"{}", b'{"a": NaN}']
    poison += [
        json.dumps({**event, **change}).encode()
        for change in (
            {"event_time": "2099-01-01T00:00:00Z"},
            {"event_time": 7},
            {"features": {**event["features"], "tenure": "12"}},
            {"features": {**event["features"], "tenure": 1e300}},
            {"features": {}},
            {"customer_id": ""},
        )
    ]
    with start_worker(stage, "poison") as worker:
        worker.wait_ready()
        send(stage.bootstrap, stage.names.events, [*good, *[(b"k", value) for value in poison]])
        send(
            stage.bootstrap,
            stage.names.predictions,
            [(b"k", value, [("driftline-source-offset", b"\xff")]) for value in poison],
        )
        send(stage.bootstrap, stage.names.environment["TOPIC_PANES"], [(None, value) for value in poison])

        def all_read() -> bool:
            return worker.metric("driftline_drift_read_records_total") == len(good) + 2 * len(poison)

        _wait(all_read, "everything was read", [worker])
        events, predictions = stage.names.events, stage.names.predictions
        assert worker.metric("driftline_drift_counted_events_total") == len(good)
        assert worker.metric("driftline_drift_future_events_total", topic=events) == 1
        assert worker.metric("driftline_drift_refused_events_total", reason="not_a_prediction") == len(poison)
        refused = worker.metric("driftline_drift_refused_events_total") - len(poison)
        assert refused == len(poison) - 1
        assert worker.metric("driftline_drift_refused_events_total", reason="empty") == 2
        assert worker.metric("driftline_drift_read_records_total", topic=predictions) == len(poison)
        _wait(
            lambda: worker.metric("driftline_drift_unreadable_records_total") == len(poison), "garbage panes", [worker]
        )
        assert worker.get("/readyz").json() == {"ready": True, "state": "running", "reasons": []}
        assert worker.stop() == 0


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"DRIFT_WINDOWS": "5s,5s,x", "DRIFT_CONFIRM": "1h:2/3"}, ["DRIFT_WINDOWS", "DRIFT_CONFIRM"]),
        ({"DRIFT_WINDOW": "5s"}, ["DRIFT_WINDOW: no such setting; the nearest is DRIFT_WINDOWS"]),
        ({"DRIFT_REFERENCE": "/nonexistent"}, ["reference refused", "manifest.json"]),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(tmp_path: Path, environment: dict[str, str], says: list[str]) -> None:
    """Every problem is named, and there is no traceback."""
    with Service("drift_worker", environment, tmp_path / "log") as worker:
        assert worker.process.wait(60) == 2
        text = worker.tail()
    assert "Traceback" not in text
    assert all(part in text for part in says)


def test_readiness_is_refused_while_the_broker_is_away(tmp_path: Path, telco_bundle: Path) -> None:
    """Alive, not ready, with the reason; SIGTERM still ends it."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "SCORER_MODEL": str(telco_bundle), **PROFILE}
    with Service("drift_worker", environment, tmp_path / "log") as worker:

        def answers() -> bool:
            try:
                return "broker_unreachable" in worker.get("/readyz").text
            except httpx.TransportError:
                return False

        _wait(answers, "not ready", [worker])
        assert worker.get("/livez").status_code == 200
        assert worker.stop() == 0
