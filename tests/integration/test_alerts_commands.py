"""`driftline alerts list` and `forward` as an operator runs them, against a real broker and a real HTTP server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import preloaded
from support.oracle import send
from support.processes import running
from support.receiver import Receiver
from support.stage import Stage

from schemas.alert import Alert

BEGAN, ENDED = "2026-11-22T05:00:00.000Z", "2026-11-22T06:00:00.000Z"


def _message(feature: str, status: str = "firing", severity: str = "warning") -> tuple[bytes, bytes]:
    alert = Alert(
        fingerprint=f"of-{feature}",
        status="resolved" if status == "resolved" else "firing",
        labels={"alertname": "FeatureDrift", "severity": severity, "model": "churn-telco", "feature": feature},
        annotations={"summary": f"{feature} moved"},
        starts_at=BEGAN,
        ends_at=ENDED if status == "resolved" else None,
        sequence=1,
        evidence={},
    )
    return alert.key(), alert.encode()


def _environment(stage: Stage) -> dict[str, str]:
    topics = {name: value for name, value in stage.names.environment.items() if name.startswith("TOPIC_")}
    return {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap, **topics}


def _alerts_topic(stage: Stage) -> str:
    return stage.names.environment["TOPIC_ALERTS"]


def _list(stage: Stage, *arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(["-m", "driftline", "alerts", "list", *arguments], _environment(stage))


@contextmanager
def _forwarding(stage: Stage, *arguments: str) -> Iterator[subprocess.Popen]:
    log = stage.folder / "forward.log"
    command = [sys.executable, "-m", "driftline", "alerts", "forward", *arguments]
    with log.open("wb") as out:
        try:
            with running(command, env=_environment(stage), stdout=out, stderr=out, cwd=Path.cwd()) as process:
                yield process
        finally:
            sys.stdout.write(log.read_text())  # pytest shows it


def test_list_shows_what_is_open_and_all_the_history(stage: Stage) -> None:
    """Nothing at first; then the last message of each open alert, byte for byte; garbage is named and passed over."""
    assert _list(stage).stdout == f"no open alerts on {_alerts_topic(stage)}\n"
    history = [
        _message("tenure"),
        _message("contract"),
        _message("tenure", "resolved"),
        _message("contract", severity="critical"),
    ]
    send(stage.bootstrap, _alerts_topic(stage), [*history, (b"of-partner", b"{")])
    found = _list(stage, "--json")
    assert (found.returncode, found.stdout) == (0, history[3][1].decode() + "\n")
    assert "offset 4: not an alert" in found.stderr
    assert _list(stage, "--all", "--json").stdout.splitlines() == [value.decode() for _, value in history]
    assert _list(stage).stdout == f"{BEGAN}  FIRING    critical  FeatureDrift contract: contract moved\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_forward_tells_a_broken_receiver_how_things_stand_and_ends_on_a_signal(
    stage: Stage, number: signal.Signals
) -> None:
    """What was over before is not fired again; a new alert comes at once, an end with its time; exit code 0."""
    send(
        stage.bootstrap,
        _alerts_topic(stage),
        [_message("tenure"), (b"x", b"[]"), _message("contract"), _message("tenure", "resolved")],
    )
    with (
        Receiver([503, "nothing"]) as receiver,
        _forwarding(stage, "--to", receiver.url, "--every", "300ms") as process,
    ):
        receiver.wait_for(3)
        assert all(
            {(a["labels"]["feature"], a.get("endsAt")) for a in alerts} == {("tenure", ENDED), ("contract", None)}
            for _, _, alerts in receiver.posts[:3]
        )
        send(stage.bootstrap, _alerts_topic(stage), [_message("partner"), _message("contract", "resolved")])

        def settled(posts: list[list[dict]]) -> bool:
            return [a["labels"]["feature"] for a in posts[-1]] == ["partner"]

        receiver.wait(settled)
        ends = [a for _, _, alerts in receiver.posts for a in alerts if a["labels"]["feature"] == "contract"]
        assert [a["endsAt"] for a in ends if "endsAt" in a] == [ENDED] * 3
        process.send_signal(number)
        assert process.wait(60) == 0
    log = (stage.folder / "forward.log").read_text()
    assert "answered 503 because; trying again" in log
    assert "offset 1: not forwarded: not an alert" in log
    assert "Traceback" not in log


def test_a_topic_that_is_not_there_is_one_line_and_exit_code_1(stage: Stage) -> None:
    """Nothing to read is not nothing open."""
    environment = {**_environment(stage), "TOPIC_ALERTS": "nowhere"}
    for arguments in (["list"], ["forward", "--to", "http://127.0.0.1:9"]):
        done = preloaded.run(["-m", "driftline", "alerts", *arguments], environment)
        assert done.returncode == 1, done.stderr
        assert "nowhere" in done.stderr
        assert "Traceback" not in done.stderr
