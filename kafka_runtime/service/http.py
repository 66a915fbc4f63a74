"""HTTP on a separate thread: health and metrics answer while the event loop is stuck."""

from __future__ import annotations

import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import as_file, files
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from kafka_runtime.service import logs
from kafka_runtime.service.process import descriptor_limit

log = logs.get(__name__)

START_TIMEOUT_S = 10.0
# Idle connections included. One more closes the oldest one without a request.
MAX_CONNECTIONS = 256
# Limit of connections that wait to be accepted. asyncio accepts as many at once, and logs each that fails.
BACKLOG = 64
# The most frequent requests, from machines: a log line for each would hide the others.
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
# Scripts and styles of /docs come from the service itself; no other source is allowed.
CSP = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_PROBE: dict[int | str, dict[str, Any]] = {503: {"description": "No, and why", "model": dict[str, Any]}}


def application(
    title: str,
    version: str,
    registry: CollectorRegistry,
    *,
    live: Callable[[], list[str]],
    not_ready: Callable[[], list[str]],
    standby: Callable[[], bool],
    refusal: Callable[[], str | None],
    health: Callable[[], dict[str, Any]],
    exemplars: bool = False,
) -> FastAPI:
    """Return an application with the endpoints of both services: /livez, /readyz, /health, /metrics.

    exemplars: whether a scraper that accepts OpenMetrics gets it: Prometheus' own text format has none.
    """
    app = FastAPI(title=title, version=version, docs_url=None, redoc_url=None)

    def probe(response: Response, reasons: list[str], waiting: list[str]) -> dict[str, Any]:
        response.status_code = 503 if reasons else 200
        answer = {"ready": not waiting, "state": "standby" if standby() else "running", "reasons": reasons}
        words = refusal() if reasons else None
        return answer if words is None else {**answer, "refusal": words}

    @app.get("/livez", summary="Would a restart help? 200 if not, 503 with reasons if so", responses=_PROBE)
    def livez(response: Response) -> dict[str, Any]:
        return probe(response, live(), not_ready())

    @app.get("/readyz", summary="Is it doing its work? 200, or 503 with reasons from a closed set", responses=_PROBE)
    def readyz(response: Response) -> dict[str, Any]:
        waiting = not_ready()
        return probe(response, waiting, waiting)

    @app.get("/health", summary="The state of the process for operators")
    def describe() -> dict[str, Any]:
        return health()

    @app.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", "") if exemplars else "text/plain")
        return Response(encode(registry), headers={"content-type": content_type})

    return app


def status(degraded: Sequence[str], model_version: str, model_date: datetime) -> dict[str, Any]:
    """Return the first members of `/health`, alike for both services."""
    return {
        "status": "degraded" if degraded else "healthy",
        "degraded": list(degraded),
        "model_version": model_version,
        "model_date": model_date.isoformat(),
    }


def serve_docs(app: FastAPI) -> None:
    """Add /docs: Swagger UI on the service's OpenAPI document, all of it from the service. Its links are relative."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        oauth2_redirect_url=None,
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="data:,",
    ).body

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(bytes(page), headers={"content-security-policy": CSP})

    with as_file(files("fastapi_offline") / "static") as assets:
        app.mount("/docs/assets", StaticFiles(directory=assets))


class RequestLog:
    """Gives each request an id, returns the id in `X-Request-ID`, and logs the request when it has ended.

    An exception of the application ends here: it is logged once, and the client gets a 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        started = time.monotonic()
        status: int | None = None  # None: the client left before there was one

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        error: Exception | None = None
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as raised:  # noqa: BLE001 - logged below, with the request that it ended
                error = raised
                if status is None:
                    await _send_500(send_with_id)
            _log_request(scope, status, time.monotonic() - started, error)


def _request_id(scope: Scope) -> str:
    """Return the caller's id if it is plain text of at most 128 characters, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


async def _send_500(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": b"Internal Server Error"})


def _log_request(scope: Scope, status: int | None, seconds: float, error: Exception | None) -> None:
    route = getattr(scope.get("route"), "path", None)  # None: the path is of no route
    write = log.error if error is not None else log.debug if route in QUIET else log.info
    more = {"exc_info": error} if error is not None else {}
    write(
        "http_request",
        method=scope["method"],
        route=route,
        status=status,
        duration_ms=round(1000 * seconds, 3),
        **more,
    )


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with at most MAX_CONNECTIONS connections, and a quarter of the process's descriptors."""

    def connection_made(self, transport: Any) -> None:
        """Take the connection; if there are too many, close the oldest one without a request, else this one."""
        super().connection_made(transport)
        self.made_at = time.monotonic()
        if len(self.connections) <= min(MAX_CONNECTIONS, max(8, descriptor_limit() // 4)):
            return
        others = [other for other in self.connections if other is not self and _idle(other)]
        min(others, key=_age, default=self).transport.close()


def _age(protocol: Any) -> float:
    made_at: float = getattr(protocol, "made_at", 0.0)
    return made_at


def _idle(protocol: Any) -> bool:
    """Return whether no request of the connection is being answered."""
    return not protocol.transport.is_closing() and (protocol.cycle is None or protocol.cycle.response_complete)


class HttpThread:
    """uvicorn in a daemon thread."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._host = host
        self._port = port
        config = uvicorn.Config(
            RequestLog(app),
            host=host,
            port=port,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self) -> None:
        """Listen; raise OSError if the address is not free."""
        # uvicorn would end the process with its own message
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
