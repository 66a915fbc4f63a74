"""Ctrl-C ends what promises it, also where it was started with SIGINT ignored: `nohup … &`, many CI runners."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from support.processes import running
from support.stage import Stage

CUSTOMERS = ("--data", "examples/telco_churn.csv", "--spec", "examples/telco.toml")


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("broker", "--ephemeral", "--port", "0"), "Ctrl-C stops it", 0),
        (("alerts", "tail", "--from-start"), "alerts on", 130),
        (("alerts", "forward", "--to", "http://127.0.0.1:9"), "until Ctrl-C", 0),
        (("produce", *CUSTOMERS, "--rate", "20"), "sending", 0),
    ],
)
def test_an_interrupt_ends_it_although_its_parent_ignores_interrupts(stage: Stage, arguments, says, code) -> None:
    """SIGINT once it has begun; the command ends in order."""
    environment = {**os.environ, **stage.names.environment, "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does it; a child inherits it
    try:
        with running(
            [sys.executable, "-u", "-m", "driftline", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as process:
            overdue = threading.Timer(120, process.kill)
            overdue.start()
            output = ""
            while says not in output and (line := process.stdout.readline()):
                output += line
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=100)
            overdue.cancel()
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == code, output + rest
