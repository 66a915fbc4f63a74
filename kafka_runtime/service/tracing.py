"""Spans by OTLP over HTTP: OpenTelemetry's SDK, set up by its own variables.

Only a service whose traces are on imports this module: the SDK is the extra `otel`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from kafka_runtime.service.settings import TraceSettings

# A drained process waits this long for a collector that takes its last spans.
CLOSE_S = 2.0


class ParentOrLinks(ParentBased):
    """Takes a span with a sampled parent or a link to a sampled span; `root` decides about spans without a parent.

    Events of many traces meet in a batch: without this, most of these traces would end before it.
    """

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return whether a span is taken."""
        if links and any(link.context.trace_flags.sampled for link in links):
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        return super().should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)


def provider(settings: TraceSettings, service: str) -> TracerProvider:
    """Return what makes spans, with sampler and resource of the settings; nothing receives the spans yet.

    service: the name of the resource, if neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES has one.
    """
    ours = {"service.name": service, "service.version": version("driftline")}
    # in this order: attributes that are given to `create` alone win over the environment's
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    # `close` has a time limit, the SDK's own handler at exit has none
    return TracerProvider(sampler=_sampler(settings), resource=resource, shutdown_on_exit=False)


def _sampler(settings: TraceSettings) -> Sampler:
    name = settings.otel_traces_sampler or "parentbased_always_on"
    roots: dict[str, Sampler] = {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "traceidratio": TraceIdRatioBased(float(settings.otel_traces_sampler_arg or 1)),
    }
    root = roots[name.removeprefix("parentbased_")]
    return ParentOrLinks(root) if name.startswith("parentbased_") else root


def exporting(settings: TraceSettings, service: str) -> TracerProvider:
    """Return a provider whose spans are sent in batches, from a thread of its own."""
    made = provider(settings, service)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def close(made: TracerProvider) -> None:
    """Send the spans that have ended, within CLOSE_S."""
    closing = threading.Thread(target=made.shutdown, name="spans", daemon=True)
    closing.start()
    closing.join(CLOSE_S)
