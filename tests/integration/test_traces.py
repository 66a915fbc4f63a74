"""A producer's trace through Kafka: its span, the scorer's, and the context that the prediction carries."""

from __future__ import annotations

import json
import time

import httpx
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.collector import Collector
from support.oracle import assert_exactly_once, send
from support.stage import Stage
from support.waiting import wait_until


def test_a_producers_trace_is_seen_end_to_end(stage: Stage) -> None:
    """Three spans in one receiver: the producer's, the scorer's child of it, and the batch that links to it."""
    with Collector() as collector:
        provider = TracerProvider(resource=Resource.create({"service.name": "shop"}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
        tracer = provider.get_tracer("shop")
        records: list[tuple] = []
        for key, value in stage.source().take(20, 0.0, time.time_ns() // 1_000_000):
            span = tracer.start_span("send customer-events", kind=SpanKind.PRODUCER)
            carrier: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
            span.end()
            records.append((key, value, [("traceparent", carrier["traceparent"].encode())]))
        records.append((b"bad", b"{", records[0][2]))
        records += stage.source(seed=2).take(5, 0.0, time.time_ns() // 1_000_000)
        sent = send(stage.bootstrap, stage.names.events, records)
        traces = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        with stage.scorer(**traces) as scorer:
            stage.reader.wait_for(len(records))
            consumed = "driftline_scorer_consumed_records_total"
            wait_until(lambda: scorer.metric(consumed) == len(records), "all are answered and counted")
            accept = {"accept": "application/openmetrics-text; version=1.0.0"}
            metrics = httpx.get(f"http://127.0.0.1:{scorer.port}/metrics", headers=accept, timeout=60.0).text
            assert scorer.stop() == 0  # what it has not sent by now, it sends before it ends
        provider.shutdown()
        produced = {span.span_id: span for span in collector.spans("send customer-events", "shop")}
        published = collector.spans(f"publish {stage.names.predictions}", "driftline-scorer")
        (rejected,) = collector.spans(f"publish {stage.names.dead_letters}", "driftline-scorer")
        batches = collector.spans(f"process {stage.names.events}", "driftline-scorer")
    exemplars = {
        sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert exemplars
    assert exemplars <= {span.trace_id.hex() for span in produced.values()}
    assert_exactly_once(sent, stage.reader.answers)
    assert len(produced) == len(published) == 20
    for span in published:
        assert span.trace_id == produced[span.parent_span_id].trace_id
        assert span.start_time_unix_nano < span.end_time_unix_nano
    linked = [link.span_id for batch in batches for link in batch.links]
    first = records[0][2][0][1].decode().split("-")
    assert sorted(linked) == sorted([*produced, bytes.fromhex(first[2])])
    assert rejected.trace_id.hex() == first[1]
    # the reader of a prediction continues the trace from the scorer's span
    predictions = {a.source: dict(a.headers) for a in stage.reader.answers if a.topic == stage.names.predictions}
    carried = sorted(h["traceparent"] for h in predictions.values() if "traceparent" in h)
    ids = [(span.trace_id.hex().encode(), span.span_id.hex().encode()) for span in published]
    assert [context[:52] for context in carried] == sorted(b"00-%s-%s" % pair for pair in ids)
    assert all(int(context[53:], 16) & 1 for context in carried), "sampled"
    (letter,) = (a for a in stage.reader.answers if a.topic == stage.names.dead_letters)
    assert dict(letter.headers)["traceparent"] == records[0][2][0][1]
    (line,) = (line for line in scorer.log_lines() if "records_refused" in line)
    assert json.loads(line)["trace_id"] in {batch.trace_id.hex() for batch in batches}
