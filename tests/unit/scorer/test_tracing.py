"""Spans of a batch: one for the batch, one for each sampled event, whose traces go on in what is written."""

from itertools import count

import pytest
from aiokafka import TopicPartition
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from support import bundles
from support.events import NOW_MS, raw, record

from kafka_runtime.service import tracing
from kafka_runtime.service.settings import TraceSettings
from schemas.setting_names import KNOWN
from schemas.validation import Rules
from scorer.metrics import ScorerMetrics
from scorer.model import load
from scorer.pipeline import Pipeline
from scorer.telemetry import ScorerTelemetry
from scorer.tracing import MOST_LINKS, MOST_SPANS, BatchTraces

SOURCE = TopicPartition("customer-events", 3)
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
STARTED_NS = NOW_MS * 1_000_000


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A small model's pipeline."""
    directory = tmp_path_factory.mktemp("bundle")
    bundles.write(directory)
    return Pipeline(load(directory, None), Rules(), "driftline-scorer", 900_000)


class Traced:
    """A scorer's telemetry, the spans that it has ended, and its metrics."""

    def __init__(self, pipeline, **environment):
        settings = TraceSettings.read({"OTEL_TRACES_EXPORTER": "otlp", **environment}, KNOWN)
        provider = tracing.provider(settings, "driftline-scorer")
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.registry = CollectorRegistry()
        self.traces = BatchTraces(provider, "driftline-scorer", "predictions", "dead-letters")
        self.report = ScorerTelemetry(ScorerMetrics(self.registry), self.traces)
        self._pipeline = pipeline

    def begin(self, records):
        ticks = count()
        answer = self._pipeline.answer(records, *SOURCE, lambda: NOW_MS, lambda: float(next(ticks)))
        self.traces.begin(SOURCE, STARTED_NS, records, answer, "1.4.0")
        return answer

    def answer(self, records):
        answer = self.begin(records)
        self.report.transaction(SOURCE, "committed", 0.5, 0.25)
        self.report.answered(records, answer)
        return answer

    def spans(self, name):
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def traced(pipeline):
    """With the default sampler."""
    return Traced(pipeline)


def _event(offset, trace=None, value=None):
    headers = [("traceparent", trace)] if trace is not None else []
    return record(raw() if value is None else value, offset=offset, headers=headers)


def _parent_in(output):
    return dict(output[2]).get("traceparent")


def test_a_producers_trace_goes_on_in_the_prediction(traced):
    """The event's span is a child of the producer's, and the parent of whoever reads the prediction."""
    answer = traced.answer([_event(7), _event(8, TRACE), _event(9, OTHER)])
    (span,) = traced.spans("publish predictions")
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (
        TRACE[3:35].decode(),
        "b7ad6b7169203331",
    )
    assert span.parent.is_remote
    assert span.kind is SpanKind.PRODUCER
    assert [_parent_in(output) for output in answer.predictions] == [
        None,
        b"00-%s-%016x-01" % (TRACE[3:35], span.context.span_id),
        OTHER,  # its producer did not sample it: passed on as it came
    ]
    (batch,) = traced.spans("process customer-events")
    assert [link.context.trace_id for link in span.links] == [batch.context.trace_id]


def test_a_batch_is_one_span_with_its_times_and_links_to_the_sampled_events(traced):
    """By the messaging conventions; the links have the offsets."""
    traced.answer([_event(7), _event(8, TRACE), _event(9, value=b"{")])
    (batch,) = traced.spans("process customer-events")
    assert batch.kind is SpanKind.CONSUMER
    assert batch.parent is None
    assert batch.start_time == STARTED_NS
    assert [(link.context.span_id, dict(link.attributes)) for link in batch.links] == [
        (0xB7AD6B7169203331, {"messaging.kafka.offset": 8})
    ]
    found = dict(batch.attributes)
    assert {name: found.pop(name) for name in list(found) if not name.endswith("_seconds")} == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "customer-events",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "driftline-scorer",
        "messaging.batch.message_count": 3,
        "driftline.first_offset": 7,
        "driftline.last_offset": 9,
        "driftline.predictions": 2,
        "driftline.dead_letters": 1,
        "driftline.model_version": "1.4.0",
    }
    stages = ("read", "decode", "columns", "predict", "encode", "produce", "commit")
    assert found.keys() == {f"driftline.{stage}_seconds" for stage in stages}
    assert (found["driftline.produce_seconds"], found["driftline.commit_seconds"]) == (0.5, 0.25)


def test_a_rejected_event_ends_its_trace_with_the_reason(traced):
    """The dead letter keeps the producer's own context, as every header of the original."""
    answer = traced.answer([_event(7, TRACE, value=b"{")])
    (span,) = traced.spans("publish dead-letters")
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "not_json")
    assert _parent_in(answer.dead_letters[0]) == TRACE


def test_a_batch_that_was_not_committed_is_an_error_and_its_events_have_no_span_yet(traced):
    """They have one when they are answered."""
    traced.begin([_event(7, TRACE)])
    traced.report.transaction(SOURCE, "fenced", 0.0, 0.0)
    (failed,) = traced.spans("process customer-events")
    assert (failed.status.status_code, failed.attributes["error.type"]) == (StatusCode.ERROR, "fenced")
    assert traced.spans("publish predictions") == []
    traced.begin([_event(7, TRACE)])  # no word about its end: the partition was lost
    traced.answer([_event(7, TRACE)])
    reasons = [span.attributes.get("error.type") for span in traced.spans("process customer-events")]
    assert reasons == ["fenced", "lost", None]
    assert len(traced.spans("publish predictions")) == 1


def test_a_batch_of_many_sampled_events_has_spans_for_some(traced):
    """And links to more; the others are passed on as they came."""
    answer = traced.answer([_event(offset, TRACE) for offset in range(MOST_LINKS + 2)])
    assert len(traced.spans("publish predictions")) == MOST_SPANS
    (batch,) = traced.spans("process customer-events")
    assert len(batch.links) == MOST_LINKS
    assert [_parent_in(output) == TRACE for output in answer.predictions] == [
        row >= MOST_SPANS for row in range(MOST_LINKS + 2)
    ]


@pytest.mark.parametrize(
    ("sampler", "ratio", "plain", "sampled", "event"),
    [
        ("parentbased_always_on", None, True, True, True),
        ("parentbased_traceidratio", "0.0", False, True, True),
        ("parentbased_always_off", None, False, True, True),
        ("traceidratio", "0", False, False, False),
        ("always_off", None, False, False, False),
        ("always_on", None, True, True, True),
    ],
)
def test_the_sampler_decides(pipeline, sampler, ratio, plain, sampled, event):
    """A link to a sampled event counts as a parent. An event that is not taken here is passed on as it came."""
    arguments = {"OTEL_TRACES_SAMPLER": sampler} | ({"OTEL_TRACES_SAMPLER_ARG": ratio} if ratio else {})
    traced = Traced(pipeline, **arguments)
    traced.answer([_event(7)])
    assert bool(traced.spans("process customer-events")) == plain
    before = len(traced.spans("process customer-events"))
    answer = traced.answer([_event(8, TRACE)])
    assert len(traced.spans("process customer-events")) - before == sampled
    assert bool(traced.spans("publish predictions")) == event
    assert (_parent_in(answer.predictions[0]) != TRACE) == event


def test_log_lines_about_a_batch_name_its_span(traced, capsys):
    """So that a reader goes from the line to the trace; other lines name none."""
    traced.answer([_event(7, value=b"{")])
    traced.begin([_event(8)])
    traced.report.transaction(SOURCE, "unknown", 0.0, 0.0)
    traced.report.transaction(SOURCE, "aborted", 0.0, 0.0)
    spans = traced.spans("process customer-events")
    lines = [line for line in capsys.readouterr().err.splitlines() if "records_refused" in line or "_ended" in line]
    for line, span in zip(lines, spans, strict=False):
        assert f"{span.context.trace_id:032x}" in line
        assert f"{span.context.span_id:016x}" in line
    assert len(lines) == 3
    assert "trace_id" not in lines[2]


def test_event_ages_have_a_sampled_event_as_exemplar(traced):
    """For a scraper that accepts OpenMetrics."""
    traced.answer([_event(7), _event(8, TRACE)])
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    text = encode(traced.registry).decode()
    assert content_type.startswith("application/openmetrics-text")
    (line,) = [line for line in text.splitlines() if "trace_id" in line]
    assert line.startswith("driftline_scorer_event_age_seconds_bucket{")
    assert f'# {{trace_id="{TRACE[3:35].decode()}"}}' in line


def test_a_name_from_the_environment_wins(monkeypatch):
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are the SDK's own."""
    settings = TraceSettings()
    assert tracing.provider(settings, "driftline-scorer").resource.attributes["service.name"] == "driftline-scorer"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=churn,deployment.environment.name=prod")
    found = tracing.provider(settings, "driftline-scorer").resource.attributes
    assert (found["service.name"], found["deployment.environment.name"]) == ("churn", "prod")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "churn-scorer")
    assert tracing.provider(settings, "driftline-scorer").resource.attributes["service.name"] == "churn-scorer"
