"""An attack on /metrics: for any content of records, the number of series stays as at the start."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry
from support import bundles
from support.events import NOW_MS, raw, record, with_features

from schemas.prediction import ModelRef, PredictionEncoder
from schemas.validation import Rules
from scorer.metrics import ScorerMetrics
from scorer.model import load
from scorer.pipeline import Pipeline
from scorer.telemetry import ScorerTelemetry

STRANGERS = 2000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A small bundle."""
    directory = tmp_path_factory.mktemp("labels") / "model"
    bundles.write(directory)
    return directory


def _series(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())


def test_a_scorers_series_do_not_grow_with_what_is_sent(bundle) -> None:
    """New categories, unknown fields, spoofed headers, every kind of refusal: each series was there before, or once."""
    registry = CollectorRegistry()
    report = ScorerTelemetry(ScorerMetrics(registry))
    model = load(bundle, None)
    report.model_loaded(model, first=True)
    pipeline, ticks = Pipeline(model, Rules(), "g", 900_000), count()

    def send(start: int) -> int:
        records = []
        for i in range(start, start + STRANGERS, 4):
            headers = [(f"driftline-{i}", b"x"), ("driftline-reason", b"%d" % i)]
            records.append(record(with_features(contract=f"c{i}", payment=f"p{i}"), offset=i, headers=headers))
            records.append(record(raw(**{f"unknown{i}": i, "event_id": f"e{i}"}), offset=i + 1, key=b"k%d" % i))
            records.append(record(raw(schema_version=i + 2), offset=i + 2))
            records.append(record(b"{%d" % i, offset=i + 3, headers=headers))
        answer = pipeline.answer(records, "customer-events", 3, lambda: NOW_MS, lambda: float(next(ticks)))
        report.answered(records, answer)
        return _series(registry)

    assert send(0) == send(STRANGERS)
    assert _series(registry) < 500


def test_a_drift_workers_series_do_not_grow_with_what_is_sent(bundle, counting_of) -> None:
    """New categories, and predictions of unknown models: refused under one label; 20 names are kept."""
    registry = CollectorRegistry()
    counting, _ = counting_of(bundle, registry)
    events, predictions = TopicPartition("events", 0), TopicPartition("predictions", 0)

    def send(start: int) -> int:
        for source in (events, predictions):
            asyncio.run(counting.on_assigned(source, 0, ""))
        strange = [record(with_features(contract=f"c{i}"), offset=i) for i in range(start, start + STRANGERS)]
        encoder = [PredictionEncoder(ModelRef(f"m{i}", f"{i}.0.0"), 0.5) for i in range(start, start + STRANGERS)]
        foreign = [
            record(encode.encode(["id"], ["e"], ["c"], ["2026-11-22T05:59:59Z"], "now", [0.5])[0], offset=i)
            for i, encode in enumerate(encoder)
        ]
        for source, records in ((events, strange), (predictions, foreign)):
            result = counting.process(source, records, at_end=True) or counting.process(source, [], at_end=True)
            counting.on_committed(source, result, records)
        assert {name: len(names) for name, names in counting.unseen.items()} == {"contract": 20}
        return _series(registry)

    assert send(0) == send(STRANGERS)
