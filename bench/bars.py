"""The project's targets, compared with the measurements. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.figures import Figures

Measured = Mapping[str, Figures]


@dataclass(frozen=True)
class Bar:
    """value: None if the run did not measure it. at_least: which side of `limit` is good."""

    what: str
    value: float | None
    limit: float
    unit: str
    at_least: bool

    @property
    def reached(self) -> bool | None:
        """Return whether the target is reached; None if it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def bars(measured: Measured) -> list[Bar]:
    """Return every target, in the order of importance."""
    mb = 1e6
    peak = _of(measured, "driftline", lambda f: f.peak_bytes)
    out = [
        Bar("exactly-once, throughput ÷ aiokafka's copy", ratio(measured, "driftline", "copy-aiokafka-eos"),
            0.5, "×", at_least=True),
        Bar("exactly-once, throughput", _of(measured, "driftline", lambda f: f.rate),
            45_000, "events/s", at_least=True),
        Bar("exactly-once, CPU per event", _of(measured, "driftline", lambda f: f.cpu_us), 20, "µs", at_least=False),
        Bar("exactly-once, gradient boosting, throughput", _of(measured, "driftline-boosting", lambda f: f.rate),
            25_000, "events/s", at_least=True),
        Bar("exactly-once, epoch times and numbers as strings ÷ the default envelope",
            ratio(measured, "driftline-table", "driftline"), 0.7, "×", at_least=True),
        Bar("exactly-once, events in Avro, throughput", _of(measured, "driftline-avro", lambda f: f.rate),
            30_000, "events/s", at_least=True),
        Bar("exactly-once, events in Protobuf, throughput", _of(measured, "driftline-protobuf", lambda f: f.rate),
            30_000, "events/s", at_least=True),
        Bar("at-least-once, throughput ÷ exactly-once", ratio(measured, "driftline-alo", "driftline"),
            1.0, "×", at_least=True),
        Bar("exactly-once, throughput ÷ Bytewax in batches", ratio(measured, "driftline", "bytewax-batch"),
            2, "×", at_least=True),
        Bar("exactly-once, throughput ÷ FastStream in batches", ratio(measured, "driftline", "faststream-batch"),
            3, "×", at_least=True),
        Bar("exactly-once, throughput ÷ Quix Streams", ratio(measured, "driftline", "quix-eos"),
            200, "×", at_least=True),
    ]  # fmt: skip
    for name, title, rate, p50, p99 in (
        ("driftline", "exactly-once", 100, 10, 50),
        ("driftline", "exactly-once", 1_000, 30, 100),
        ("driftline", "exactly-once", 10_000, None, 200),
        ("driftline-alo", "at-least-once", 1_000, 8, 50),
    ):
        if p50 is not None:
            out.append(_age(measured, name, f"{title}, event age at {rate:,}/s, p50", rate, "p50_ms", p50))
        out.append(_age(measured, name, f"{title}, event age at {rate:,}/s, p99", rate, "p99_ms", p99))
    fastest = _fastest_peer(measured, 1_000)
    if fastest is not None:
        out.append(_age(measured, "driftline-alo", "at-least-once, event age at 1,000/s, p99, against the best peer",
                        1_000, "p99_ms", fastest))  # fmt: skip
    out += [
        Bar("memory under a backlog", peak / mb if peak is not None else None, 300, "MB", at_least=False),
        Bar("cold start", _of(measured, "driftline", lambda f: f.cold_start_s), 4, "s", at_least=False),
    ]
    return out


def ratio(measured: Measured, above: str, below: str) -> float | None:
    """Return how many times faster one is than the other on a backlog of the same run."""
    a, b = _of(measured, above, lambda f: f.rate), _of(measured, below, lambda f: f.rate)
    return a / b if a is not None and b is not None else None


def _of(measured: Measured, name: str, figure: Callable[[Figures], float | None]) -> float | None:
    return figure(measured[name]) if name in measured else None


def _age(measured: Measured, name: str, what: str, rate: int, figure: str, limit: float) -> Bar:
    age = measured[name].age(rate) if name in measured else None
    return Bar(what, getattr(age, figure) if age is not None else None, limit, "ms", at_least=False)


def _fastest_peer(measured: Measured, rate: int) -> float | None:
    peers: Sequence[Figures] = [f for name, f in measured.items() if not name.startswith(("driftline", "copy"))]
    known = [age.p99_ms for f in peers if (age := f.age(rate)) is not None and age.p99_ms is not None]
    return min(known, default=None)
