"""`python -m schemas.documents.export`: the records as JSON Schemas (schemas/json) and AsyncAPI 3 (docs/asyncapi.yaml).

Generated from the types that the services encode and decode with; a test fails when a file differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml  # a development dependency: no program imports this module

from schemas import headers as h
from schemas.alert import Alert, AlertName, Severity
from schemas.bundle.manifest import Manifest
from schemas.documents.json_schema import EVENT_TIME, IDENTIFIER, Schema, event_schema
from schemas.label import MAX_PREDICTION_ID_LENGTH, ClassLabel, Label, ValueLabel
from schemas.measurement import Measurement
from schemas.performance import ClassPerformance, Performance, ValuePerformance
from schemas.prediction import ClassPrediction, Prediction, ValuePrediction
from schemas.rejection_reasons import MAX_DETAIL_BYTES, Reason
from schemas.setting_names import Topics
from schemas.task import MAX_CLASS_LENGTH

JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
OUR_TIME: Schema = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$"}
PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
NUMBER_TEXT: Schema = {"type": "string", "pattern": "^-?[0-9]+$"}

# What the predictions of every task have.
ANSWER: Mapping[str, Schema] = {
    "schema_version": {"const": 1},
    "prediction_id": {"description": "{input topic}-{partition}-{offset}: the same for every attempt"},
    "event_id": {"minLength": 1, "description": "the event's, or the prediction_id where it has none"},
    "customer_id": IDENTIFIER,
    "event_time": EVENT_TIME,
    "scored_at": OUR_TIME,
}
# What the types do not have: definition → member → constraints.
REFINED: Mapping[str, Mapping[str, Schema]] = {
    "Prediction": {
        **ANSWER,
        "probability": PROBABILITY,
        "label": {"description": "probability >= threshold"},
        "threshold": PROBABILITY,
    },
    "ClassPrediction": {
        **ANSWER,
        "label": {"description": "the class with the largest probability"},
        "probability": PROBABILITY,
    },
    "ValuePrediction": ANSWER,
    "ValueInterval": {"level": {"exclusiveMinimum": 0, "exclusiveMaximum": 1}},
    "Alert": {
        "version": {"const": 1},
        "fingerprint": {"pattern": "^[0-9a-f]{16}$"},
        "labels": {
            "properties": {
                "alertname": {"enum": [name.value for name in AlertName]},
                "severity": {"enum": [severity.value for severity in Severity]},
            },
            "required": ["alertname", "severity", "model"],
        },
        "startsAt": OUR_TIME,
        "sequence": {"minimum": 1},
    },
    "Label": {
        "customer_id": IDENTIFIER,
        "label": {"description": "whether the customer belongs to the positive class"},
        "label_time": EVENT_TIME | {"description": "when that was known: RFC 3339 with an offset or Z"},
    },
    "ClassLabel": {
        "customer_id": IDENTIFIER,
        "label": {"minLength": 1, "maxLength": MAX_CLASS_LENGTH, "description": "the class"},
        "label_time": EVENT_TIME | {"description": "when that was known: RFC 3339 with an offset or Z"},
    },
    "ValueLabel": {
        "customer_id": IDENTIFIER,
        "label": {"description": "the outcome, within the double range"},
        "label_time": EVENT_TIME | {"description": "when that was known: RFC 3339 with an offset or Z"},
    },
    "Measurement": {"version": {"const": 1}},
    "Performance": {"version": {"const": 1}},
    "ClassPerformance": {"version": {"const": 1}},
    "ValuePerformance": {"version": {"const": 1}},
    "Cohort": {"start": OUR_TIME, "end": OUR_TIME},
    "Window": {"start": OUR_TIME, "end": OUR_TIME},
}


def json_schemas() -> dict[str, Schema]:
    """Return file name → JSON Schema of every record, and of the bundle's manifest."""
    return {
        "event.json": _titled("Event", "Value of customer-events, in Driftline's own envelope.", event_schema(None)),
        "prediction.json": _of_struct(Prediction),
        "class-prediction.json": _of_struct(ClassPrediction),
        "value-prediction.json": _of_struct(ValuePrediction),
        "prediction-headers.json": _titled(
            "Prediction headers", "Headers of a prediction; values are UTF-8 text.", _headers(_PREDICTION_HEADERS)
        ),
        "dead-letter-headers.json": _titled(
            "Dead letter headers",
            "Headers of a dead letter, after those of the original record; values are UTF-8 text.",
            _headers(_DEAD_LETTER_HEADERS),
        ),
        "label.json": _of_label(Label),
        "class-label.json": _of_label(ClassLabel),
        "value-label.json": _of_label(ValueLabel),
        "alert.json": _of_struct(Alert),
        "measurement.json": _of_struct(Measurement),
        "performance.json": _of_struct(Performance),
        "class-performance.json": _of_struct(ClassPerformance),
        "value-performance.json": _of_struct(ValuePerformance),
        "manifest.json": _of_manifest(),
    }


_SOURCE_HEADERS: dict[str, Schema] = {
    h.SOURCE_TOPIC: {"type": "string"},
    h.SOURCE_PARTITION: NUMBER_TEXT,
    h.SOURCE_OFFSET: NUMBER_TEXT,
    h.SOURCE_TIMESTAMP: NUMBER_TEXT | {"description": "the input's Kafka timestamp, epoch ms"},
    h.SOURCE_TIMESTAMP_TYPE: {"enum": ["create", "append"]},
    h.MODEL_VERSION: {"type": "string"},
    h.GROUP: {"type": "string", "description": "the consumer group that answered"},
}
_PREDICTION_HEADERS: dict[str, Schema] = _SOURCE_HEADERS | {
    "content-type": {"const": "application/json"},
    h.TRACEPARENT: {"type": "string", "description": "the input's, if it has the W3C form"},
}
_DEAD_LETTER_HEADERS: dict[str, Schema] = _SOURCE_HEADERS | {
    h.REASON: {"enum": [reason.value for reason in Reason]},
    h.DETAIL: {"type": "string", "maxLength": MAX_DETAIL_BYTES, "description": "one line a person can act on"},
    h.ATTEMPT: NUMBER_TEXT | {"description": "how often it has been redriven"},
    h.TRUNCATED: {"type": "string", "description": "stubs: comma-separated out of key, value, headers"},
    h.SIZE: NUMBER_TEXT | {"description": "stubs: bytes of the original value"},
    h.SHA256: {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "stubs: of the original value"},
}
_OPTIONAL_HEADERS = {h.TRACEPARENT, h.TRUNCATED, h.SIZE, h.SHA256}


def _headers(known: Mapping[str, Schema]) -> Schema:
    required = [name for name in known if name not in _OPTIONAL_HEADERS]
    return {"type": "object", "properties": dict(known), "required": required}


def _titled(title: str, text: str, schema: Schema) -> Schema:
    return {"$schema": JSON_SCHEMA, "title": title, "description": text, **schema}


def _of_struct(struct: Any) -> Schema:
    (root,), definitions = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    for name, members in REFINED.items():
        for member, constraints in members.items():
            if name in definitions:
                definitions[name]["properties"][member] |= constraints
    own = definitions.pop(root["$ref"].rpartition("/")[2])
    schema: Schema = _tidy({"$schema": JSON_SCHEMA, **own, **({"$defs": definitions} if definitions else {})})
    return schema


def _of_label(struct: Any) -> Schema:
    schema = _of_struct(struct)
    text = {"type": "string", "minLength": 1, "maxLength": MAX_PREDICTION_ID_LENGTH}
    schema["properties"]["prediction_id"] = {"anyOf": [text, {"type": "null"}], "default": None}
    return schema


def _of_manifest() -> Schema:
    schema: Schema = _tidy({"$schema": JSON_SCHEMA, **Manifest.model_json_schema(by_alias=True)})
    return schema


def _tidy(schema: Any) -> Any:
    """Return the schema with docstrings as single lines, and without titles that only repeat a member's name."""
    if isinstance(schema, list):
        return [_tidy(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str) and " " in value:
            continue
        if key == "description" and isinstance(value, str):
            tidy[key] = " ".join(value.split())
        else:
            tidy[key] = _tidy(value)
    return tidy


def asyncapi() -> Schema:
    """Return the AsyncAPI 3.0 document: which program reads and writes what, with the default topic names."""
    topics = {name: field.default for name, field in Topics.model_fields.items()}

    def channel(setting: str, message: str, text: str, cleanup: str, *others: str) -> Schema:
        return {
            "address": topics[setting],
            "description": f"{text} The topic is named by {setting.upper()}.",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (message, *others)},
            "bindings": {"kafka": {"topic": topics[setting], "topicConfiguration": {"cleanup.policy": [cleanup]}}},
        }

    def operation(action: str, name: str, text: str) -> Schema:
        return {"action": action, "channel": {"$ref": f"#/channels/{name}"}, "summary": text}

    def message(title: str, key: Schema, **parts: Any) -> Schema:
        return {"title": title, "contentType": "application/json", "bindings": {"kafka": {"key": key}}, **parts}

    customer = {"type": "string", "description": "customer_id, UTF-8"}
    same_key = {"type": "string", "description": "the event's key, byte for byte; may be null"}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Driftline",
            "version": "1",
            "description": "Records that Driftline reads and writes; `version` is theirs. Read every topic with "
            "isolation.level=read_committed. docs/contracts.md describes them.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "customerEvents": channel("topic_events", "event", "Customer events, written upstream.", "delete"),
            "predictions": channel(
                "topic_predictions",
                "prediction",
                "One prediction per accepted event.",
                "delete",
                "classPrediction",
                "valuePrediction",
            ),
            "deadLetters": channel(
                "topic_dead_letters", "deadLetter", "Rejected records, each with its reason.", "delete"
            ),
            "labels": channel(
                "topic_labels",
                "label",
                "Outcomes of customers, written upstream.",
                "delete",
                "classLabel",
                "valueLabel",
            ),
            "measurements": channel("topic_measurements", "measurement", "The numbers of a closed window.", "delete"),
            "alerts": channel("topic_alerts", "alert", "Episodes of drift.", "compact"),
        },
        "operations": {
            "scorerReadsEvents": operation("receive", "customerEvents", "The scorer reads customer events."),
            "scorerWritesPredictions": operation("send", "predictions", "In the partition of its event."),
            "scorerWritesDeadLetters": operation("send", "deadLetters", "In the partition of its record."),
            "driftWorkerReadsEvents": operation("receive", "customerEvents", "The drift worker counts events."),
            "driftWorkerReadsPredictions": operation("receive", "predictions", "The drift worker counts scores."),
            "driftWorkerReadsLabels": operation("receive", "labels", "The drift worker joins labels and predictions."),
            "driftWorkerWritesMeasurements": operation("send", "measurements", "One per window that closes."),
            "driftWorkerWritesAlerts": operation("send", "alerts", "Firing, firing again if severer, resolved."),
        },
        "components": {
            "messages": {
                "event": message("Customer event", customer, payload=_reference("event")),
                "prediction": message(
                    "Prediction", same_key, headers=_reference("prediction-headers"), payload=_reference("prediction")
                ),
                "classPrediction": message(
                    "Prediction of several classes",
                    same_key,
                    headers=_reference("prediction-headers"),
                    payload=_reference("class-prediction"),
                ),
                "valuePrediction": message(
                    "Prediction of a regression",
                    same_key,
                    headers=_reference("prediction-headers"),
                    payload=_reference("value-prediction"),
                ),
                "deadLetter": message(
                    "Dead letter",
                    same_key,
                    contentType="application/octet-stream",
                    headers=_reference("dead-letter-headers"),
                    payload={"description": "the original bytes; of a stub, the first KiB; null stays null"},
                ),
                "label": message("Label", customer, payload=_reference("label")),
                "classLabel": message("Label of several classes", customer, payload=_reference("class-label")),
                "valueLabel": message("Label of a regression", customer, payload=_reference("value-label")),
                "measurement": message(
                    "Measurement",
                    {
                        "type": "string",
                        "description": "{model}/{window}; keys with a further part are internal; under "
                        "{model}/performance a cohort: performance.json, class-performance.json or "
                        "value-performance.json",
                    },
                    payload=_reference("measurement"),
                ),
                "alert": message(
                    "Alert", {"type": "string", "description": "the fingerprint"}, payload=_reference("alert")
                ),
            }
        },
    }


def _reference(name: str) -> Schema:
    multi = "application/schema+json;version=draft-2020-12"
    return {"schemaFormat": multi, "schema": {"$ref": f"../schemas/json/{name}.json"}}


def files() -> dict[str, str]:
    """Return every generated file: path from the repository's root → text."""
    texts = {f"schemas/json/{name}": json.dumps(schema, indent=2) + "\n" for name, schema in json_schemas().items()}
    # through JSON, so that no object occurs twice, which would become a YAML anchor
    document = yaml.safe_dump(json.loads(json.dumps(asyncapi())), sort_keys=False, allow_unicode=True, width=120)
    head = "# Generated by python -m schemas.documents.export; do not edit.\n"
    return {**texts, "docs/asyncapi.yaml": head + document}


def main() -> int:
    """Write every file that differs; with --check only name them, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m schemas.documents.export", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write no file; exit 1 if a file is stale")
    check = parser.parse_args().check
    stale = [name for name, text in files().items() if not Path(name).is_file() or Path(name).read_text() != text]
    for name in stale:
        sys.stdout.write(f"{name}: {'stale' if check else 'written'}\n")
        if not check:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(files()[name], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
