"""A receiver of OTLP over HTTP: every span that it is sent, as OpenTelemetry's collector would decode it."""

from __future__ import annotations

import gzip
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from driftline.local_kafka.broker import _free_port


class Collector:
    """Listens on a port of its own; a context manager."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._lock = Lock()
        self._spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces", self.path
                collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", int(self.url.rpartition(":")[2])), Handler)

    def _take(self, request: ExportTraceServiceRequest) -> None:
        with self._lock:
            for resource in request.resource_spans:
                names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                self._spans += [(names[0], span) for scope in resource.scope_spans for span in scope.spans]

    def spans(self, name: str, service: str) -> list[Span]:
        """Return the spans of this name that this service has sent so far."""
        with self._lock:
            return [span for of, span in self._spans if (of, span.name) == (service, name)]

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
