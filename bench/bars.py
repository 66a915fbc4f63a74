"""The project's targets, compared with the measurements. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.figures import STEADY_RATE, Figures

COPY = "copy-aiokafka-eos"
# Where the optional native lane is built.
NATIVE = "driftline-native"
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


# CPU per event of the scorer at a steady 1,000/s that the targets are shares of: commit c4b20c7, 2 idle cores.
BEFORE_EXACTLY_ONCE_US = 496.0
BEFORE_AT_LEAST_ONCE_US = 709.0
# A copy by librdkafka, whose event age at 1,000/s ours is compared with.
YARDSTICK = "copy-librdkafka-eos"


def bars(measured: Measured) -> list[Bar]:
    """Return every target, in the order of importance. What a run did not measure has no value."""
    out = [
        Bar("exactly-once, pure Python, throughput ÷ aiokafka's copy", ratio(measured, "driftline", COPY), 0.45, "×",
            at_least=True),
        Bar("exactly-once, native lane, throughput ÷ aiokafka's copy", ratio(measured, NATIVE, COPY), 0.8, "×",
            at_least=True),
        Bar("gradient boosting (100 trees) ÷ linear, throughput", ratio(measured, "driftline-boosting", "driftline"),
            0.6, "×", at_least=True),
        Bar("regression ÷ binary, throughput", ratio(measured, "driftline-regression", "driftline"), 0.9, "×",
            at_least=True),
        Bar("five classes ÷ binary, throughput", ratio(measured, "driftline-classes", "driftline"), 0.7, "×",
            at_least=True),
        *(
            Bar(f"{title}, CPU per customer event (event and prediction) ÷ the scorer's in Python",
                _share(_cpu(measured, name), _cpu(measured, "driftline")), 1.0, "×", at_least=False)
            for name, title in (("drift", "drift worker"), ("drift-native", "drift worker, native lane"))
        ),
    ]  # fmt: skip
    yardstick = _ages_of(measured, YARDSTICK)
    for name, title, p50, p99 in (
        ("driftline", "4 partitions", 1.0, 1.2),
        ("driftline-64", "64 partitions", 2.0, 2.4),
        ("driftline-200", "200 partitions", None, 5.0),
    ):
        ages = _ages_of(measured, name)
        for i, (quantile, limit) in enumerate((("p50", p50), ("p99", p99))):
            if limit is not None:
                what = f"exactly-once, {title}, event age at 1,000/s, {quantile} ÷ that of librdkafka's copy"
                out.append(Bar(what, _share(ages[i], yardstick[i]), limit, "×", at_least=False))
    best, ages = _best_peer(measured), _ages_of(measured, "driftline-alo")
    for i, (quantile, limit) in enumerate((("p50", 0.6), ("p99", 1.0))):
        what = f"at-least-once, event age at 1,000/s, {quantile} ÷ the best peer's"
        out.append(Bar(what, _share(ages[i], best[i]), limit, "×", at_least=False))
    for name, title, before, limit in (
        ("driftline", "exactly-once", BEFORE_EXACTLY_ONCE_US, 0.4),
        ("driftline-alo", "at-least-once", BEFORE_AT_LEAST_ONCE_US, 0.3),
    ):
        steady = measured[name].age(STEADY_RATE) if name in measured else None
        what = f"{title}, CPU per event at a steady 1,000/s ÷ {before:.0f} µs"
        out.append(Bar(what, _share(None if steady is None else steady.cpu_us, before), limit, "×", at_least=False))
    return [*out, *_sizes(measured), *_meaningful(measured)]


def _sizes(measured: Measured) -> list[Bar]:
    """Return the targets of memory and starts."""
    memory = [(title, _of(measured, name, lambda f: f.peak_bytes), limit) for name, title, limit in (
        ("driftline", "scorer", 300), ("drift", "drift worker", 150))]  # fmt: skip
    return [
        *(
            Bar(f"memory of a {title} under a backlog", peak and peak / 1e6, limit, "MB", at_least=False)
            for title, peak, limit in memory
        ),
        Bar("cold start", _of(measured, "driftline", lambda f: f.cold_start_s), 4, "s", at_least=False),
        Bar("first answer of 200 partitions", _of(measured, "driftline-200", lambda f: f.cold_start_s), 30, "s",
            at_least=False),
    ]  # fmt: skip


def _meaningful(measured: Measured) -> list[Bar]:
    """Return the targets beside other ways to do the same, and those of other forms of events."""
    return [
        Bar("exactly-once, events of 5 KB ÷ of 0.5 KB, throughput", ratio(measured, "driftline-wide", "driftline"),
            0.2, "×", at_least=True),
        Bar("exactly-once, epoch times and numbers as strings ÷ the default envelope",
            ratio(measured, "driftline-table", "driftline"), 0.7, "×", at_least=True),
        Bar("exactly-once, events in Avro ÷ the default envelope", ratio(measured, "driftline-avro", "driftline"),
            0.8, "×", at_least=True),
        Bar("exactly-once, events in Protobuf ÷ the default envelope",
            ratio(measured, "driftline-protobuf", "driftline"), 0.8, "×", at_least=True),
        Bar("at-least-once, throughput ÷ exactly-once", ratio(measured, "driftline-alo", "driftline"), 1.0, "×",
            at_least=True),
        Bar("exactly-once, throughput ÷ Bytewax in batches", ratio(measured, "driftline", "bytewax-batch"), 2, "×",
            at_least=True),
        Bar("exactly-once, throughput ÷ FastStream in batches", ratio(measured, "driftline", "faststream-batch"), 3,
            "×", at_least=True),
        Bar("exactly-once, throughput ÷ librdkafka batches by hand", ratio(measured, "driftline", "librdkafka-batch"),
            1.5, "×", at_least=True),
        Bar("exactly-once, throughput ÷ Quix Streams", ratio(measured, "driftline", "quix-eos"), 200, "×",
            at_least=True),
    ]  # fmt: skip


def ratio(measured: Measured, above: str, below: str) -> float | None:
    """Return how many times faster one is than the other on a backlog of the same run."""
    a, b = _of(measured, above, lambda f: f.rate), _of(measured, below, lambda f: f.rate)
    return a / b if a is not None and b is not None else None


def _of(measured: Measured, name: str, figure: Callable[[Figures], float | None]) -> float | None:
    return figure(measured[name]) if name in measured else None


def _cpu(measured: Measured, name: str) -> float | None:
    return _of(measured, name, lambda f: f.cpu_us)


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _ages_of(measured: Measured, name: str) -> tuple[float | None, float | None]:
    """Return p50 and p99 of the event age at a steady 1,000/s, ms."""
    age = measured[name].age(STEADY_RATE) if name in measured else None
    return (None, None) if age is None else (age.p50_ms, age.p99_ms)


def _best_peer(measured: Measured) -> tuple[float | None, float | None]:
    """Return the smallest p50 and the smallest p99 of a peer, perhaps of two."""
    peers = [name for name in measured if not name.startswith(("drift", "copy"))]
    p50, p99 = (
        ([a for a in found if a is not None] for found in zip(*[_ages_of(measured, p) for p in peers], strict=True))
        if peers
        else ([], [])
    )
    return min(p50, default=None), min(p99, default=None)
