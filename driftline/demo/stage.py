"""Shared parts of the demos: a broker, separate topics, the services as processes; all are removed at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from driftline import example_files
from driftline.demo.view import View
from driftline.errors import CommandError
from driftline.local_kafka.broker import LocalBroker, named_broker
from driftline.settings import CommandSettings, read_settings
from driftline.topic_plan import wanted
from schemas.alert import Alert, decode_alert
from schemas.setting_names import KNOWN, Topics

DATA = example_files.folder() / "telco_churn.csv"
SPEC = example_files.folder() / "telco.toml"
START_TIMEOUT_S = 300.0  # limit for a busy machine; on an idle one a start takes three
COMMANDS = {"scorer": "scorer", "drift_worker": "drift-worker"}
PORTS = {"scorer": "SCORER_HTTP_PORT", "drift_worker": "DRIFT_HTTP_PORT"}


def start_broker(things: ExitStack, view: View) -> tuple[str, str]:
    """Start a broker or use the given one; return its address and the prefix of the demo's topics."""
    named = named_broker()
    if named is not None:
        view.step(f"Kafka at {named} (named in KAFKA_BOOTSTRAP_SERVERS)")
        return named, f"demo-{secrets.token_hex(3)}-"
    view.say("starting Apache Kafka (the first time its jars are fetched, which takes a minute)")
    started = time.monotonic()
    broker = things.enter_context(LocalBroker())
    view.step(f"Apache Kafka on {broker.bootstrap_servers}, ready in {time.monotonic() - started:.1f} s")
    return broker.bootstrap_servers, ""


def environment_of(bootstrap: str, prefix: str, model: str, profile: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of both services and of every command, as for `KEY=value driftline scorer`."""
    topics = {name.upper(): prefix + info.default for name, info in Topics.model_fields.items()}
    return {
        **({} if not prefix else topics),
        **({name: value for name, value in os.environ.items() if name.startswith("KAFKA_")}),
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "SCORER_MODEL": model,
        "SCORER_GROUP": f"{prefix}driftline-scorer",
        "DRIFT_GROUP": f"{prefix}driftline-drift",
        "SCORER_HTTP_PORT": str(free_port(8000)),
        "DRIFT_HTTP_PORT": str(free_port(8001)),
        **profile,
    }


def settings_of(environment: Mapping[str, str]) -> CommandSettings:
    """Return the same settings for a command in this process."""
    return read_settings({name: value for name, value in environment.items() if name in KNOWN})


def free_port(wanted_port: int) -> int:
    """Return the preferred port, or any other if that one is in use."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted_port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def make_topics(settings: CommandSettings, view: View) -> None:
    """Create every missing topic; CommandError if the broker rejects it."""
    from kafka_runtime.topics import TopicsError, create, describe

    try:
        existing = await describe(settings, [getattr(settings, name) for name in Topics.model_fields])
        topics = wanted(settings, existing, 4, -1, None)
        await create(settings, [topic for topic in topics if topic.name not in existing])
    except TopicsError as error:
        raise CommandError(str(error), 1) from None
    view.step(f"{len(topics)} topics; customer-events has 4 partitions")


@dataclass
class Services:
    """The two services as processes, with their addresses and logs."""

    folder: Path
    view: View
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)

    def start(self, name: str, environment: Mapping[str, str]) -> None:
        """Start a service with these settings."""
        self.urls[name] = f"http://127.0.0.1:{environment[PORTS[name]]}"
        self.logs[name] = self.folder / f"{name}.log"
        with self.logs[name].open("ab") as out:
            # a separate session: Ctrl-C reaches the demo alone, which stops its processes in order
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "driftline", COMMANDS[name]],
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.view.step(f"driftline {COMMANDS[name]}: {self.urls[name]}")

    def stop(self, name: str) -> None:
        """Stop with SIGTERM; kill processes that do not end."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(25)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def check(self) -> None:
        """Raise CommandError if one of them has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                last = self.logs[name].read_text(errors="replace").strip().splitlines()[-1:]
                raise CommandError(f"{name} ended with {process.returncode}: {''.join(last)[:500]}", 1)

    async def wait_ready(self, client: httpx.AsyncClient, name: str) -> None:
        """Wait until `/readyz` of one of them is 200; CommandError after a minute, or if one has ended."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            self.check()
            try:
                if (await client.get(f"{self.urls[name]}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise CommandError(f"{name} is not ready after {START_TIMEOUT_S:.0f} s: {self.logs[name]}", 1)
            await asyncio.sleep(0.1)


@contextmanager
def services_in(folder: Path, view: View) -> Iterator[Services]:
    """Open a set of services without starting any; stop the started ones when the block ends."""
    services = Services(folder, view)
    try:
        yield services
    finally:
        for name in list(services.processes):
            services.stop(name)


async def alerts(settings: CommandSettings) -> AsyncGenerator[Alert]:
    """Yield every alert that is announced from now on; other records are ignored."""
    from kafka_runtime import clients
    from kafka_runtime.kafka_types import TopicPartition

    reader = clients.reader(settings)
    try:
        await reader.start()
        source = TopicPartition(settings.topic_alerts, 0)
        reader.assign([source])
        await reader.seek_to_end(source)
        while True:
            for record in (await reader.getmany(source, timeout_ms=500)).get(source, []):
                alert = None
                with contextlib.suppress(ValueError):
                    alert = decode_alert(record.value or b"")
                if alert is not None:
                    yield alert
    finally:
        await reader.stop()
