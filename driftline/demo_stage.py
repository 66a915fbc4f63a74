"""What the demos share: a broker, topics of their own, the services as processes; all removed again at the end."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from driftline.broker import LocalBroker, named_broker
from driftline.demo_view import View
from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings
from driftline.topics import wanted
from schemas.environment import KNOWN, Topics

ROOT = Path(__file__).parent.parent
DATA = ROOT / "training" / "data" / "telco_churn.csv"
SPEC = ROOT / "training" / "specs" / "telco.toml"
START_TIMEOUT_S = 60.0
PORTS = {"scorer": "SCORER_HTTP_PORT", "drift_worker": "DRIFT_HTTP_PORT"}


def start_broker(things: ExitStack, view: View) -> tuple[str, str]:
    """Where Kafka is, and the prefix of the demo's topics on it."""
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
    """The settings of both services and of every command: what `KEY=value python -m scorer` would be given."""
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
    """The same for a command in this process."""
    return read_settings({name: value for name, value in environment.items() if name in KNOWN})


def free_port(wanted_port: int) -> int:
    """The port that is wanted, or any other if that one is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted_port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def make_topics(settings: CommandSettings, view: View) -> None:
    """Every topic that is missing; CommandError if the broker refuses."""
    from streaming.topics import TopicsError, create, describe

    try:
        existing = await describe(settings, [getattr(settings, name) for name in Topics.model_fields])
        topics = wanted(settings, existing, 4, -1, None)
        await create(settings, [topic for topic in topics if topic.name not in existing])
    except TopicsError as error:
        raise CommandError(str(error), 1) from None
    view.step(f"{len(topics)} topics; customer-events has 4 partitions")


@dataclass
class Services:
    """The two services as processes, where they answer, and what they log."""

    folder: Path
    view: View
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)

    def start(self, name: str, environment: Mapping[str, str]) -> None:
        """`python -m {name}` with these settings."""
        self.urls[name] = f"http://127.0.0.1:{environment[PORTS[name]]}"
        self.logs[name] = self.folder / f"{name}.log"
        with self.logs[name].open("ab") as out:
            # a session of its own: Ctrl-C reaches the demo alone, which stops its processes in order
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", name],
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.view.step(f"{name.replace('_', ' ')}: python -m {name}, {self.urls[name]}")

    def stop(self, name: str) -> None:
        """SIGTERM, and what that does not end is killed."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(25)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def check(self) -> None:
        """CommandError if one of them has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                last = self.logs[name].read_text(errors="replace").strip().splitlines()[-1:]
                raise CommandError(f"{name} ended with {process.returncode}: {''.join(last)[:500]}", 1)

    async def wait_ready(self, client: httpx.AsyncClient, name: str) -> None:
        """Until `/readyz` of one of them says so; CommandError after a minute, or if one has ended."""
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
    """Nothing started yet; whatever has been is stopped when the block ends."""
    services = Services(folder, view)
    try:
        yield services
    finally:
        for name in list(services.processes):
            services.stop(name)
