"""What both services' metrics need and prometheus_client lacks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class KnownGauge(Collector):
    """A gauge without labels that is absent until its value is known: prometheus_client's own begins at 0."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        self._value: float | None = None
        registry.register(self)

    def set(self, value: float) -> None:
        """From now on there is a value."""
        self._value = value

    def collect(self) -> Iterator[Metric]:
        """One family, with its only sample if there is one."""
        family = GaugeMetricFamily(self._name, self._text)
        if self._value is not None:
            family.add_metric([], self._value)
        yield family
