"""HTTP on a thread of its own: health and metrics must answer, and tell the truth, when the event loop is stuck."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

START_TIMEOUT_S = 10.0
_PROBE: dict[int | str, dict[str, Any]] = {503: {"description": "No, and why", "model": dict[str, Any]}}


def application(
    title: str,
    version: str,
    registry: CollectorRegistry,
    *,
    live: Callable[[], list[str]],
    not_ready: Callable[[], list[str]],
    standby: Callable[[], bool],
    health: Callable[[], dict[str, Any]],
) -> FastAPI:
    """The endpoints that both services have: /livez, /readyz, /health, /metrics."""
    app = FastAPI(title=title, version=version, docs_url=None, redoc_url=None)

    def probe(response: Response, reasons: list[str], waiting: list[str]) -> dict[str, Any]:
        response.status_code = 503 if reasons else 200
        return {"ready": not waiting, "state": "standby" if standby() else "running", "reasons": reasons}

    @app.get("/livez", summary="Would a restart help? 200 if not, 503 with reasons if so", responses=_PROBE)
    def livez(response: Response) -> dict[str, Any]:
        return probe(response, live(), not_ready())

    @app.get("/readyz", summary="Is it doing its work? 200, or 503 with reasons from a closed set", responses=_PROBE)
    def readyz(response: Response) -> dict[str, Any]:
        waiting = not_ready()
        return probe(response, waiting, waiting)

    @app.get("/health", summary="What a person wants to know")
    def describe() -> dict[str, Any]:
        return health()

    @app.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        encode, content_type = choose_encoder("text/plain")
        return Response(encode(registry), headers={"content-type": content_type})

    return app


class HttpThread:
    """uvicorn in a daemon thread."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._host = host
        self._port = port
        config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self) -> None:
        """Listen; OSError if the address cannot be had."""
        # uvicorn would end the process with its own message; ask first
        with socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((self._host, self._port))
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise OSError(f"no HTTP server on {self._host}:{self._port} after {START_TIMEOUT_S:.0f} s")
            time.sleep(0.01)

    def stop(self) -> None:
        """Close within a second or two."""
        self._server.should_exit = True
        self._thread.join(timeout=2.0)
