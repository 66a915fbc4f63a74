"""A change stream as users of Debezium have it: PostgreSQL, Kafka Connect, Debezium's connector, converters.

PostgreSQL is the system's (Debian: `apt-get install postgresql`). Kafka Connect is among the jars of the local broker.
Debezium's connector and Apicurio's Avro converter come from Maven; change_stream.sha256 has the hash of each file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Self

import httpx
from support.services import free_port
from support.waiting import wait_until

from driftline.errors import CommandError
from driftline.local_kafka.jars import classpath, find_java

DEBEZIUM = "io.debezium:debezium-connector-postgres:3.6.1.Final:tar.gz:plugin"
CONVERTER = "io.apicurio:apicurio-registry-utils-converter:2.6.13.Final"
#: `get` and `copy-dependencies` as in driftline/local_kafka/jars.py: older versions of the plugin read no checksums.
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_POM = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>driftline</groupId>'
    "<artifactId>converter</artifactId><version>1</version><dependencies><dependency><groupId>{}</groupId>"
    "<artifactId>{}</artifactId><version>{}</version></dependency></dependencies></project>"
)
#: A database that is initialised as root is refused by PostgreSQL: it then belongs to this user of Debian's package.
_USER = "postgres"


def missing() -> str | None:
    """Return why there can be no change stream here; None if there can."""
    if _programs() is None:
        return "PostgreSQL 10 or newer is needed: apt-get install postgresql"
    if os.geteuid() == 0 and _USER not in {user.pw_name for user in pwd.getpwall()}:
        return f"PostgreSQL does not run as root, and there is no user {_USER}"
    if shutil.which("mvn") is None:
        return "Debezium is fetched with Maven: mvn is not on the path"
    try:
        find_java(), classpath()
    except CommandError as error:
        return str(error)
    return None


def fetch(folder: Path) -> Path:
    """Return a folder of Connect plugins, made in `folder`: Debezium and the Avro converter; RuntimeError."""
    pinned = {
        name: digest
        for digest, name in (
            line.split() for line in Path(__file__).with_suffix(".sha256").read_text(encoding="utf-8").splitlines()
        )
    }
    plugins = folder / "plugins"
    (plugins / "converter").mkdir(parents=True)
    group, name, version = CONVERTER.split(":")
    (folder / "pom.xml").write_text(_POM.format(group, name, version), encoding="utf-8")
    copied = f"-DoutputDirectory={plugins / 'converter'}"
    _maven(f"{_PLUGIN}:copy", f"-Dartifact={DEBEZIUM}", f"-DoutputDirectory={folder}")
    _maven("-f", str(folder / "pom.xml"), f"{_PLUGIN}:copy-dependencies", "-DincludeScope=runtime", copied)
    (archive,) = folder.glob("debezium-*.tar.gz")
    for file in (archive, *(plugins / "converter").iterdir()):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if pinned.get(file.name) != digest:
            raise RuntimeError(
                f"{file.name} is not the pinned file: SHA-256 {digest}, expected {pinned.get(file.name)}"
            )
    with tarfile.open(archive) as packed:
        packed.extractall(plugins, filter="data")
    return plugins


def _maven(*arguments: str) -> None:
    done = subprocess.run(["mvn", "-B", "-q", *arguments], capture_output=True, text=True, check=False, timeout=580)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line] or ["no output"]
        raise RuntimeError(f"Maven: {lines[0][:300]}")


def _programs() -> Path | None:
    """Return the folder with the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Postgres:
    """A PostgreSQL of a test's own, with logical decoding; nothing of it stays."""

    def __init__(self) -> None:
        programs = _programs()
        assert programs is not None, "missing() was asked"
        self._programs = programs
        self.port = free_port()
        # Not below pytest's folders, which its user could not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="driftline-postgres-"))
        self._as = {"user": _USER, "group": _USER} if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Initialise the database, start it, and wait until it answers."""
        if self._as:
            shutil.chown(self._folder, _USER, _USER)
        data = str(self._folder / "data")
        made = [str(self._programs / "initdb"), "-D", data, "-U", "driftline", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run(made, check=True, capture_output=True, timeout=120, cwd=self._folder, **self._as)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            "wal_level": "logical",
            "fsync": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", data, *options],
                stdout=log, stderr=log, cwd=self._folder, **self._as,
            )  # fmt: skip
        wait_until(self._answers, "PostgreSQL answers", 60)

    def run(self, sql: str) -> list[str]:
        """Run statements, each in a transaction of its own; return the lines of their results."""
        command = [str(self._programs / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "driftline", "-XqAt"]
        done = subprocess.run(
            [*command, "-v", "ON_ERROR_STOP=1", "-d", "postgres"],
            input=sql, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return done.stdout.splitlines()

    def _answers(self) -> bool:
        try:
            return self.run("SELECT 1;") == ["1"]
        except subprocess.CalledProcessError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            # SIGTERM waits for clients; SIGQUIT does not
            for asked in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
                self._process.send_signal(asked)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(30)
                    break
        shutil.rmtree(self._folder)


class Connect:
    """Kafka Connect in a process of its own, standalone."""

    def __init__(self, bootstrap: str, plugins: Path, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._settings = {
            "bootstrap.servers": bootstrap,
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "offset.storage.file.filename": folder / "connect.offsets",
            "offset.flush.interval.ms": 1000,
            "plugin.path": plugins,
            "plugin.discovery": "only_scan",
            "listeners": f"http://127.0.0.1:{self._port}",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Return the file with what it writes."""
        return self._folder / "connect.log"

    def add(self, name: str, settings: dict[str, str]) -> None:
        """Start a connector and wait until its task runs."""
        url = f"http://127.0.0.1:{self._port}/connectors"
        answer = httpx.post(url, json={"name": name, "config": settings}, timeout=60)
        assert answer.status_code == 201, answer.text

        def runs() -> bool:
            state = httpx.get(f"{url}/{name}/status", timeout=60).json()
            tasks = state.get("tasks", [])
            assert all(task["state"] != "FAILED" for task in tasks), tasks
            return bool(tasks) and all(task["state"] == "RUNNING" for task in tasks)

        wait_until(runs, f"the connector {name} runs", 120)

    def start(self) -> None:
        """Start it and wait until it takes connectors."""
        worker = self._folder / "worker.properties"
        worker.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()), encoding="utf-8")
        command = [find_java(), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "org.apache.kafka.connect.cli.ConnectStandalone", str(worker)],
                stdout=log, stderr=log, cwd=self._folder,
            )  # fmt: skip
        wait_until(self._answers, "Kafka Connect answers", 180)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/connectors", timeout=30).status_code == 200
        except httpx.HTTPError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
