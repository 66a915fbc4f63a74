"""A drift worker as a process, and everything that it has written, for tests that look at it from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping

from confluent_kafka.admin import AdminClient, NewTopic
from support.services import Service
from support.stage import Stage

from drift_worker.counts.wire_format import Merged, decode, unpack
from schemas.timestamps import parse

PROFILE = {
    "DRIFT_PANE": "1s",
    "DRIFT_WINDOWS": "5s,15s",
    "DRIFT_ALLOWED_LATENESS": "1s",
    "DRIFT_IDLE_TIMEOUT": "10s",
    "DRIFT_STRAGGLER": "60s",
    "DRIFT_MIN_EVENTS": "200",
}


def start_worker(stage: Stage, name: str, *, hurry: Mapping[str, float] | None = None, **environment: str) -> Service:
    """Start a process with short windows."""
    return Service(
        "drift_worker",
        {
            "KAFKA_BOOTSTRAP_SERVERS": stage.bootstrap,
            "SCORER_MODEL": str(stage.bundle),
            **stage.names.environment,
            **PROFILE,
            **environment,
        },
        stage.folder / f"{name}.log",
        hurry,
    )


def own_topics(stage: Stage, name: str) -> dict[str, str]:
    """Return the settings of a second drift service over the same events: another group and other output topics."""
    topics = {
        f"TOPIC_{kind.upper()}": f"{stage.names.prefix}-{name}-{kind}" for kind in ("panes", "measurements", "alerts")
    }
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics.values()]).values():
        future.result(timeout=60)
    return {**topics, "DRIFT_GROUP": f"{stage.names.prefix}-{name}"}


def measurements_of(stage: Stage, topic: str | None = None) -> list[dict]:
    """Return the measurements, without the counts."""
    records = stage.records(topic or stage.names.environment["TOPIC_MEASUREMENTS"])
    return [json.loads(value) for key, value in records if key and not key.endswith(b"/counts")]


def alerts_of(stage: Stage, topic: str | None = None) -> list[dict]:
    """Return the announced alerts."""
    return [json.loads(value) for _, value in stage.records(topic or stage.names.environment["TOPIC_ALERTS"])]


def numbers_of(measurements: list[dict], closed_ms: int) -> dict:
    """Return the numbers per window that events have closed; batches may differ, and so the covered offsets."""
    return {
        (m["window"]["length"], m["window"]["start"]): (
            m["sample"]["events"],
            m["sample"]["late"],
            m["features"],
            m["relations"],
        )
        for m in measurements
        if parse(m["window"]["end"]) <= closed_ms
    }


def units_of(stage: Stage, topics: dict[str, str], until_ms: int) -> dict:
    """Return the written counts of every unit of time and series, added up."""
    units: dict[tuple[int, int], dict[int, int]] = {}
    for key, value in stage.records(topics["TOPIC_MEASUREMENTS"]):
        record = decode(value) if key and key.endswith(b"/counts") else None
        if isinstance(record, Merged) and record.start_ms < until_ms:
            cells = units.setdefault((record.start_ms, record.series), {})
            part = unpack(record.packed, 1 << 31)
            for index, number in zip(part.indices.tolist(), part.counts.tolist(), strict=True):
                cells[index] = cells.get(index, 0) + number
    return units
