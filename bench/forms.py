"""Events in other forms: as tables of databases have them, and behind a schema id in Avro and Protobuf.

`table` is JSON whose times are milliseconds since the epoch and whose numbers are strings, as Debezium writes decimals.
`wide` is the default envelope with texts that no model reads, up to 5 KB in all.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import fastavro
from google.protobuf.message_factory import GetMessageClass

from kafka_runtime.schema_registry.client import RegisteredSchema
from schemas.bundle.files import read_bundle, write_bundle
from schemas.bundle.inputs import Feature
from schemas.bundle.manifest import Manifest
from schemas.formats.protobuf_schema import messages_of
from schemas.timestamps import parse

#: The schema's id in the registry, by format.
IDS = {"avro": 1, "protobuf": 2}
#: The size of an event in the form `wide`, at most.
WIDE_BYTES = 5_000
# Characters of each such text, and of its name and punctuation.
_WIDE_TEXT, _WIDE_AROUND = 32, 19
_AVRO_TYPES = {"numeric": "double", "categorical": "string", "boolean": "boolean"}
_PROTO_TYPES = {"numeric": "double", "categorical": "string", "boolean": "bool"}


def avro_schema(features: Sequence[Feature]) -> dict[str, Any]:
    """Return the schema of the default envelope: the time is a timestamp-millis, nullable features are unions."""
    types = _AVRO_TYPES
    fields = [{"name": f.name, "type": ["null", types[f.kind]] if f.nullable else types[f.kind]} for f in features]
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


def proto_schema(features: Sequence[Feature]) -> str:
    """Return the same as a .proto text: the time is a Timestamp, nullable features are `optional`."""
    fields = [
        f"  {'optional ' if feature.nullable else ''}{_PROTO_TYPES[feature.kind]} {feature.name} = {number};"
        for number, feature in enumerate(features, 1)
    ]
    return "\n".join(
        [
            'syntax = "proto3";',
            'import "google/protobuf/timestamp.proto";',
            "message Event {",
            "  string event_id = 1;",
            "  string customer_id = 2;",
            "  google.protobuf.Timestamp event_time = 3;",
            "  Features features = 4;",
            "}",
            "message Features {",
            *fields,
            "}",
        ]
    )


def encoder(form: str, features: Sequence[Feature]) -> Callable[[bytes], bytes] | None:
    """Return what makes the record of an event in the default envelope; None for the default envelope itself."""
    made = {"table": _table_encoder, "wide": _wide_encoder, "avro": _avro_encoder, "protobuf": _protobuf_encoder}
    return made[form](features) if form in made else None


def _table_encoder(features: Sequence[Feature]) -> Callable[[bytes], bytes]:
    numbers = {feature.name for feature in features if feature.kind == "numeric"}

    def encode(event: bytes) -> bytes:
        found = json.loads(event)
        found["event_time"] = parse(found["event_time"])
        values = found["features"].items()
        found["features"] = {n: str(v) if n in numbers and v is not None else v for n, v in values}
        return json.dumps(found).encode()

    return encode


def _wide_encoder(_: Sequence[Feature]) -> Callable[[bytes], bytes]:
    def encode(event: bytes) -> bytes:
        left = WIDE_BYTES - len(event) - len(b',"context":{}')
        members = [f'"attribute_{i:03}":"{i:0{_WIDE_TEXT}}"' for i in range(left // (_WIDE_TEXT + _WIDE_AROUND))]
        return event[:-1] + b',"context":{' + ",".join(members).encode() + b"}}"

    return encode


def _prefix(form: str) -> bytes:
    return b"\0" + IDS[form].to_bytes(4, "big")


def _avro_encoder(features: Sequence[Feature]) -> Callable[[bytes], bytes]:
    parsed = fastavro.parse_schema(avro_schema(features))
    nullable = {feature.name: None for feature in features if feature.nullable}

    def encode(event: bytes) -> bytes:
        found = json.loads(event)
        found["event_time"] = parse(found["event_time"])
        found["features"] = {**nullable, **found["features"]}
        out = io.BytesIO()
        out.write(_prefix("avro"))
        fastavro.schemaless_writer(out, parsed, found)
        return out.getvalue()

    return encode


def _protobuf_encoder(features: Sequence[Feature]) -> Callable[[bytes], bytes]:
    (message, _) = messages_of(RegisteredSchema("PROTOBUF", proto_schema(features)))
    kind: Any = GetMessageClass(message)

    def encode(event: bytes) -> bytes:
        found = json.loads(event)
        seconds, ms = divmod(parse(found["event_time"]) or 0, 1000)
        value = kind(
            event_id=found["event_id"],
            customer_id=found["customer_id"],
            event_time={"seconds": seconds, "nanos": ms * 10**6},
            features={name: value for name, value in found["features"].items() if value is not None},
        )
        written: bytes = value.SerializeToString()
        return _prefix("protobuf") + b"\0" + written

    return encode


def with_form(bundle: Path, out: Path, form: str) -> Path:
    """Write the same bundle for events in a form; return its folder."""
    found = read_bundle(bundle)
    manifest: Manifest = found.manifest
    event, features = manifest.event, manifest.features
    if form == "table":
        event = event.model_copy(update={"time_unit": "ms"})
        parsed = {"parse": "number"}
        features = tuple(f.model_copy(update=parsed) if f.kind == "numeric" else f for f in features)
    else:
        event = event.model_copy(update={"format": form})
    write_bundle(out, manifest.model_copy(update={"event": event, "features": features}), found.files)
    return out


class Registry:
    """Answers for the two schemas, on a free port. A context manager."""

    def __init__(self, features: Sequence[Feature]) -> None:
        answers = {
            f"/schemas/ids/{IDS['avro']}": json.dumps({"schema": json.dumps(avro_schema(features))}).encode(),
            f"/schemas/ids/{IDS['protobuf']}": json.dumps(
                {"schema": proto_schema(features), "schemaType": "PROTOBUF"}
            ).encode(),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Return the schema of an id."""
                answer = answers.get(self.path, b"{}")
                self.send_response(200 if self.path in answers else 404)
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
