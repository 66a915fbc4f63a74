"""A real Prometheus and a real Alertmanager on the files of deploy/, hurried: only addresses and intervals differ."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml
from support import prometheus_tools
from support.services import free_port
from support.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
START_S = 120.0


class Program:
    """One of the two, until the context ends."""

    name = ""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{self.name}.log"
        self._arguments = [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn", *arguments]

    def __enter__(self) -> Self:
        with self.log.open("wb") as out:
            command = [prometheus_tools.need(self.name), *self._arguments]
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            wait_until(self._ready, f"{self.name} is ready", START_S)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def _ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def get(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(self.url + path, params=parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Alertmanager(Program):
    """deploy/alertmanager, with `receiver` for every webhook; groups wait a second."""

    name = "alertmanager"

    def __init__(self, folder: Path, receiver: str) -> None:
        config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
        config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        for known in config["receivers"]:
            for webhook in known.get("webhook_configs", []):
                webhook["url"] = receiver
        path = folder / "alertmanager.yml"
        path.write_text(yaml.safe_dump(config))
        storage = f"--storage.path={folder / 'alertmanager'}"
        super().__init__(folder, f"--config.file={path}", storage, "--cluster.listen-address=")

    def alerts(self, *matchers: str) -> list[dict[str, Any]]:
        """Return its alerts, however they are routed."""
        return self.get("/api/v2/alerts", filter=list(matchers))

    def post(self, labels: Mapping[str, str]) -> None:
        """Post a firing alert as Prometheus does."""
        posted = httpx.post(f"{self.url}/api/v2/alerts", json=[{"labels": dict(labels)}], timeout=60)
        assert posted.status_code == 200, posted.text


class Prometheus(Program):
    """deploy/prometheus with its rules; `targets` by job. Scrapes and evaluates every second."""

    name = "prometheus"

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[int]], alertmanager: Alertmanager) -> None:
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
        (known,) = config["alerting"]["alertmanagers"]
        known["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager.port}"]}]
        config["scrape_configs"] = [
            {
                "job_name": job["job_name"],
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in targets[job["job_name"]]]}],
            }
            for job in config["scrape_configs"]
            if job["job_name"] in targets
        ]
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        super().__init__(folder, f"--config.file={path}", f"--storage.tsdb.path={folder / 'prometheus'}")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression has now, without those that are not a number."""
        found = self.get("/api/v1/query", query=expression)["data"]
        assert found["resultType"] == "vector", expression
        return [series for series in found["result"] if series["value"][1] != "NaN"]

    def values(self, label: str, series: str) -> list[str]:
        """Return what Grafana's label_values(series, label) shows."""
        return self.get(f"/api/v1/label/{label}/values", **{"match[]": series})["data"]

    def faults(self) -> list[str]:
        """Return rules that could not be evaluated."""
        groups = self.get("/api/v1/rules")["data"]["groups"]
        return [f"{r['name']}: {r['lastError']}" for g in groups for r in g["rules"] if r.get("lastError")]
