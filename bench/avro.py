"""Events as Avro behind a schema id: the schema of a bundle's features, its records, and a registry that has it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import fastavro

from schemas.bundle import Feature, Manifest, read_bundle, write_bundle
from schemas.timestamps import parse

SCHEMA_ID = 1
_TYPES = {"numeric": "double", "categorical": "string", "boolean": "boolean"}


def schema(features: Sequence[Feature]) -> dict[str, Any]:
    """Return the schema of the default envelope: the time is a timestamp-millis, nullable features are unions."""
    fields = [{"name": f.name, "type": ["null", _TYPES[f.kind]] if f.nullable else _TYPES[f.kind]} for f in features]
    return {
        "type": "record",
        "name": "Event",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "customer_id", "type": "string"},
            {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "features", "type": {"type": "record", "name": "Features", "fields": fields}},
        ],
    }


class Encoder:
    """Writes JSON events as framed records of Avro."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._schema = fastavro.parse_schema(schema(features))
        self._nullable = {feature.name: None for feature in features if feature.nullable}

    def encode(self, event: bytes) -> bytes:
        """Return the framed record of an event in the default envelope."""
        found = json.loads(event)
        found["event_time"] = parse(found["event_time"])
        found["features"] = {**self._nullable, **found["features"]}
        out = io.BytesIO()
        out.write(b"\0" + SCHEMA_ID.to_bytes(4, "big"))
        fastavro.schemaless_writer(out, self._schema, found)
        return out.getvalue()


def with_format(bundle: Path, out: Path) -> Path:
    """Write the same bundle for events in Avro; return its folder."""
    found = read_bundle(bundle)
    event = found.manifest.event.model_copy(update={"format": "avro"})
    manifest: Manifest = found.manifest.model_copy(update={"event": event})
    write_bundle(out, manifest, found.files)
    return out


class Registry:
    """Answers for the one schema, on a free port. A context manager."""

    def __init__(self, features: Sequence[Feature]) -> None:
        answer = json.dumps({"schema": json.dumps(schema(features))}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Return the schema, whatever is asked."""
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="registry", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
