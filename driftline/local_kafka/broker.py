"""A real Apache Kafka on this machine: one node, KRaft, as a child process.

The demo, the tests and ``driftline broker`` start a ``LocalBroker``. Data, configuration and log are in one folder, so
a stopped or killed broker can be started again with its data.
"""

import base64
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from driftline.errors import CommandError
from driftline.local_kafka.jars import classpath, find_java

HOST = "127.0.0.1"

SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": (
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
    ),
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One node: replication is impossible.
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # A start makes these topics; 50 partitions each would cost seconds and file handles.
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 1,
    # Groups form at once, and tests may use sessions shorter than the usual floor of 6 s.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # After a SIGKILL the restarted broker waits until its old registration has expired.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    # Half of the default heap would be the log cleaner's 128 MB.
    "log.cleaner.dedupe.buffer.size": 8 << 20,
}
"""What every local broker runs with; a caller's settings replace single entries."""

_JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_LOG4J2 = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""
_READY = "Kafka Server started"
# Outside the range from which Linux and macOS assign ports to outgoing connections. Otherwise a client that reconnects
# while the broker is down could be assigned the broker's port, and the broker could not start again.
_FREE_PORTS = range(20000, 30000)
# Waits until its standard input closes, which happens however the parent ends. Then it stops the broker ($0) and
# removes the data of an ephemeral one ($1).
_WATCH = (
    'read -r _; kill -CONT "$0"; kill -TERM "$0"; while kill -0 "$0"; do sleep 0.2; done; [ -z "$1" ] || rm -rf "$1"'
)


class LocalBroker:
    """One Apache Kafka broker (with its controller) on 127.0.0.1.

    A context manager: entering starts it, leaving stops it. It does not outlive the process that started it.

    Args:
        data_dir: Where data, server.properties and broker.log lie; None is a temporary folder, removed by ``close()``.
        port: Where clients connect; 0 picks a free one, which is kept over restarts.
        settings: Broker settings that replace or add to ``SETTINGS``, by their Kafka names.
        listeners: Protocols that are served beside PLAINTEXT (``SSL``, ``SASL_PLAINTEXT``, ``SASL_SSL``), each on a
            separate free port; what they need (keys, mechanisms) is in ``settings``.
        cluster_id: Whose member it is, if it is one of several brokers; None is a cluster of its own.
        start_timeout: Seconds until ``start()`` gives up. After a SIGKILL a start takes some seconds longer.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = 0,
        settings: Mapping[str, str | int] | None = None,
        listeners: Sequence[str] = (),
        cluster_id: str | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self.ephemeral = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="driftline-kafka-")) if data_dir is None else data_dir.resolve()
        self.port = port or _free_port()
        self._ports = {"PLAINTEXT": self.port} | {protocol: _free_port() for protocol in listeners}
        self.log_path = self.data_dir / "broker.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._cluster_id = cluster_id or new_cluster_id()
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Return the address that clients connect to, ``127.0.0.1:port``; the same over restarts."""
        return f"{HOST}:{self.port}"

    def address(self, protocol: str) -> str:
        """Return the address for clients that use ``protocol``; the same over restarts."""
        return f"{HOST}:{self._ports[protocol]}"

    @property
    def pid(self) -> int:
        """Return the process id of the Java process.

        Raises:
            CommandError: The broker is not started.
        """
        if self._process is None:
            raise CommandError("the local broker is not started", exit_code=1)
        return self._process.pid

    def start(self) -> Self:
        """Start the broker and wait until it answers; on a folder with data it goes on with that data.

        Raises: CommandError: The port is taken, the folder cannot be written, jars or Java are missing, or the broker
        ended or was not ready in time (the text names the log).
        """
        if self._process is not None:
            raise CommandError("the local broker is already started", exit_code=1)
        if not _is_free(self.port):
            raise CommandError(f"port {self.port} is in use: stop what listens there, or choose another with --port")
        java, jars = find_java(), classpath()
        try:
            self._write_configuration()
        except OSError as error:
            raise CommandError(f"cannot write the broker's folder {self.data_dir}: {error.strerror}") from error
        command = [java, *_JVM, f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}", "-cp", jars]
        properties = str(self.data_dir / "server.properties")
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format([*command, "kafka.tools.StorageTool"], properties)
        with self.log_path.open("ab") as log:
            log_start = log.tell()
            # A separate session: Ctrl-C in a terminal reaches the command alone, which stops the broker in order.
            self._process = subprocess.Popen(
                [*command, "kafka.Kafka", properties],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._watch = subprocess.Popen(
                ["/bin/sh", "-c", _WATCH, str(self.pid), str(self.data_dir) if self.ephemeral else ""],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._wait_until_ready(log_start)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout: float = 20.0) -> None:
        """Stop in order (SIGTERM), kill after ``timeout`` seconds. No effect if not started."""
        if self._process is None:
            return
        self._end_watch()
        try:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash of the machine would. No effect if not started."""
        self._end_watch()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def suspend(self) -> None:
        """Freeze the broker (SIGSTOP): connections stay open, no request is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a frozen broker (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, timeout: float) -> int | None:
        """Wait up to ``timeout`` seconds for the broker to end by itself; returns its exit code, None while it runs."""
        if self._process is None:
            raise CommandError("the local broker is not started", exit_code=1)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Stop, and remove the folder of an ephemeral broker."""
        self.stop()
        if self.ephemeral:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write_configuration(self) -> None:
        controller_port = _free_port()
        clients = ",".join(f"{protocol}://{self.address(protocol)}" for protocol in self._ports)
        addresses: dict[str, str | int] = {
            "listeners": f"{clients},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": clients,
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "log.dirs": str(self.data_dir / "log"),
        }
        self.data_dir.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{name}={setting}\n" for name, setting in {**addresses, **self._settings}.items())
        (self.data_dir / "server.properties").write_text(text, encoding="utf-8")
        (self.data_dir / "log4j2.properties").write_text(_LOG4J2, encoding="utf-8")

    def _format(self, command: list[str], properties: str) -> None:
        done = subprocess.run(
            [*command, "format", "--cluster-id", self._cluster_id, "--config", properties],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise CommandError(f"the broker's folder {self.data_dir} could not be prepared: {said[-1]}", exit_code=1)

    def _wait_until_ready(self, log_start: int) -> None:
        """Wait for the line that Kafka writes when it is registered and takes requests."""
        deadline = time.monotonic() + self._start_timeout
        with self.log_path.open("rb") as log:
            log.seek(log_start)
            said = b""
            while _READY.encode() not in said:
                said = said[-200:] + log.read()
                if (code := self.wait(0.05)) is not None:
                    raise CommandError(
                        f"the broker ended with exit code {code}: {self._last_error(log_start)}", exit_code=1
                    )
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"the broker was not ready within {self._start_timeout:g} s; see {self.log_path}", exit_code=1
                    )

    def _last_error(self, log_start: int) -> str:
        """Return the first error in the log, shortened, and where to read on (an ephemeral broker's log is removed)."""
        text = self.log_path.read_bytes()[log_start:].decode("utf-8", "replace")
        found = re.findall(r"^.*(?:Exception|Error|ERROR|FATAL).*$", text, re.MULTILINE)
        line = found[0][:300] if found else "no error in its log"
        return line if self.ephemeral else f"{line} (see {self.log_path})"

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None


def new_cluster_id() -> str:
    """Return an id in Kafka's format: 16 random bytes, URL-safe base64.

    It never begins with "-", which would be read as an option.
    """
    while (cluster_id := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return cluster_id


def named_broker(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the broker that the user names with ``KAFKA_BOOTSTRAP_SERVERS``, None if none: it replaces a local one."""
    return environ.get("KAFKA_BOOTSTRAP_SERVERS") or None


def _free_port() -> int:
    while not _is_free(port := secrets.choice(_FREE_PORTS)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Kafka itself listens: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
