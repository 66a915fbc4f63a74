"""Metric types of both services that prometheus_client does not have."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class KnownGauge(Collector):
    """A gauge without labels that is absent until its value is known: prometheus_client's own begins at 0."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        self._value: float | None = None
        registry.register(self)

    def set(self, value: float) -> None:
        """Set the value, which is exported from now on."""
        self._value = value

    def collect(self) -> Iterator[Metric]:
        """Yield one family, with its only sample if there is one."""
        family = GaugeMetricFamily(self._name, self._text)
        if self._value is not None:
            family.add_metric([], self._value)
        yield family


class AskedGauge(Collector):
    """A gauge without labels whose value is read at each scrape; absent while `source` returns None."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry, source: Callable[[], float | None]) -> None:
        self._name, self._text, self._source = name, text, source
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield one family, with its only sample if there is one."""
        family = GaugeMetricFamily(self._name, self._text)
        if (value := self._source()) is not None:
            family.add_metric([], value)
        yield family


class PartsGauge(Collector):
    """Whether each part of a process works: 1 or 0; a part that this process does not have is absent.

    A part may end, or stop for a person, while the rest of the process goes on. `source` returns every part with the
    reason why it does not work, None while it does.
    """

    def __init__(self, name: str, text: str, parts: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        #: Every value that the label may have.
        self.label_values = {"part": tuple(parts)}
        self.source: Callable[[], Mapping[str, str | None]] = dict
        self._labelnames = ("part",)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield one family with a sample for each part of this process."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labelnames)
        for part, reason in self.source().items():
            family.add_metric([part], float(reason is None))
        yield family


def put(gauge: Gauge, labels: Sequence[str], value: float | None) -> None:
    """Set the value of one series, or remove the series where the value is not known."""
    if value is not None:
        gauge.labels(*labels).set(value)
        return
    with contextlib.suppress(KeyError):
        gauge.remove(*labels)


def described(parts: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the members of `/health` about the parts: each with its state, and the names of those that do not work."""
    return {
        "parts": {part: {"up": reason is None, "reason": reason} for part, reason in parts.items()},
        "degraded": [part for part, reason in parts.items() if reason is not None],
    }
