"""How the chart's scaling behaves over a day, computed: replicas, rebalances, event age; beside scaling on plain lag.

`python -m bench.autoscaling` prints the table of docs/capacity.md, `--write` also writes docs/autoscaling.svg. Nothing
is measured here: a scorer answers what the benchmark measured, and the autoscaler follows the algorithm of Kubernetes'
HorizontalPodAutoscaler.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import autoscaling_chart

# What the autoscaler sees is as old as a scrape, and what it decides comes with its next look.
LOOK_S = 15
# The range of rate() and deriv() in the chart's queries.
RANGE_S = 120
# The span of one value of the picture's event ages.
AGES_S = 300
# Kubernetes leaves the number as it is while a metric is within a tenth of its target.
TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is scaled. capacity: events per second of one scorer. start_s: until a new pod is a member of the group."""

    partitions: int = 12
    capacity: float = 75_000.0
    start_s: int = 25
    rebalance_s: int = 1
    minimum: int = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How soon the number may change, in seconds, and by which share it may fall in each such window."""

    up_s: int = 60
    down_s: int = 600
    down_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the autoscaler is told: events per second that arrive, lag in seconds and in records, and replicas now."""

    arriving: float
    lag_s: float
    lag_records: float
    replicas: int


Rule = Callable[[Seen], int]


def by_load_and_lag(partitions: int = 12, events_per_second: float = 50_000.0, lag_s: float = 30.0) -> Rule:
    """Return the chart's rule: what the load needs, in steps that double; behind an old backlog, all that have work.

    A scorer has 1, 2, 4, 8 … partitions: between these numbers one more replica would take nothing off the busiest.
    """

    def desired(seen: Seen) -> int:
        if seen.lag_s > lag_s:
            return partitions
        each = 1 << math.floor(math.log2(max(1.0, partitions * events_per_second / max(seen.arriving, 1.0))))
        return math.ceil(partitions / each)

    return desired


def by_lag_seconds(lag_s: float = 30.0) -> Rule:
    """Return a rule that knows only the age of the backlog, and scales in proportion to it."""
    return lambda seen: _within(seen.lag_s / lag_s, seen.replicas)


def by_lag_records(threshold: float = 50_000.0) -> Rule:
    """Return the usual rule: a replica for each so many records of lag."""
    return lambda seen: _within(seen.lag_records / (threshold * seen.replicas), seen.replicas)


def _within(ratio: float, replicas: int) -> int:
    return replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * replicas)


@dataclass(slots=True)
class Outcome:
    """What came of it. replicas: of each second. age_p99_s, age_most_s: over all events.

    ages_p99_s: over the events of each AGES_S seconds that were answered then; NaN where none were.
    """

    replicas: NDArray[np.int64]
    rebalances: int
    age_p99_s: float
    age_most_s: float
    ages_p99_s: NDArray[np.float64]

    @property
    def replica_hours(self) -> float:
        """Return what was paid for."""
        return float(self.replicas.sum() / 3600)


@dataclass(slots=True)
class _Autoscaler:
    """Recommendations of the last windows, and what was changed within them."""

    rule: Rule
    limits: Limits
    cluster: Cluster
    asked: deque[tuple[int, int]] = field(default_factory=deque)
    changed: deque[tuple[int, int]] = field(default_factory=deque)

    def look(self, now: int, seen: Seen) -> int:
        """Return the number of replicas from now on."""
        wanted = min(max(self.rule(seen), self.cluster.minimum), self.cluster.partitions)
        self.asked.append((now, wanted))
        while self.asked[0][0] <= now - max(self.limits.up_s, self.limits.down_s):
            self.asked.popleft()
        up = min(n for at, n in self.asked if at > now - self.limits.up_s)
        down = max(n for at, n in self.asked if at > now - self.limits.down_s)
        replicas = seen.replicas
        if up > replicas:
            replicas = up
        elif down < replicas:
            fallen = sum(by for at, by in self.changed if at > now - self.limits.down_s and by < 0)
            replicas = min(replicas, max(down, math.ceil((replicas - fallen) * (1 - self.limits.down_share))))
        if replicas != seen.replicas:
            self.changed.append((now, replicas - seen.replicas))
        return replicas


def simulate(load: NDArray[np.float64], rule: Rule, limits: Limits | None = None) -> Outcome:
    """Let the load (events per second, a number for each second) come, and scale by the rule."""
    cluster = Cluster()
    rate = np.asarray(load, np.float64) / cluster.partitions
    arrived = np.concatenate([[0.0], np.cumsum(rate)])
    scaler = _Autoscaler(rule, limits or Limits(), cluster)
    done = np.zeros(cluster.partitions)
    consumed, lags = np.zeros(len(rate) + 1), np.zeros(len(rate) + 1)
    replicas = wanted = min(max(cluster.minimum, math.ceil(2 * load[0] / cluster.capacity)), cluster.partitions)
    ready_at = paused_until = rebalances = 0
    members = np.zeros(len(rate), np.int64)
    ages, weights = np.zeros((2, len(rate), cluster.partitions))
    for now in range(len(rate)):
        if wanted != replicas and now >= ready_at:
            replicas, rebalances, paused_until = wanted, rebalances + 1, now + cluster.rebalance_s
        if now >= paused_until:
            share = np.bincount(np.arange(cluster.partitions) % replicas, minlength=replicas)
            able = cluster.capacity / share[np.arange(cluster.partitions) % replicas]
            step = np.minimum(arrived[now + 1] - done, able)
            ages[now], weights[now] = _age(arrived, done, now), step
            done = done + step
        consumed[now + 1], lags[now + 1] = done.sum(), arrived[now + 1] * cluster.partitions - done.sum()
        members[now] = replicas
        if now % LOOK_S == 0 and wanted == replicas:
            since = max(0, now - RANGE_S)
            span = max(1, now - since)
            growth = max(0.0, (lags[now] - lags[since]) / span)
            seen = Seen(
                (consumed[now] - consumed[since]) / span + growth,
                float(_age(arrived, done, now).max()),
                lags[now],
                replicas,
            )
            wanted = scaler.look(now, seen)
            ready_at = now + (cluster.start_s if wanted > replicas else 1)
    spans = range(0, len(rate), AGES_S)
    tails = [_tail(ages[at : at + AGES_S], weights[at : at + AGES_S])[0] for at in spans]
    return Outcome(members, rebalances, *_tail(ages, weights), np.array(tails))


def _age(arrived: NDArray[np.float64], done: NDArray[np.float64], now: int) -> NDArray[np.float64]:
    """Return how long the next record of each partition has waited, in whole seconds."""
    came = np.searchsorted(arrived, done, side="right") - 1
    return np.maximum(0, now - came).astype(np.float64)


def _tail(ages: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """Return the p99 and the largest of the ages, of which `weights` events each are; NaN without events."""
    if not weights.any():
        return math.nan, math.nan
    order = np.argsort(ages, axis=None)
    reached = np.cumsum(weights.ravel()[order])
    at = int(np.searchsorted(reached, 0.99 * reached[-1]))
    return float(ages.ravel()[order][at]), float(ages[weights > 0].max())


def day(quiet: float = 30_000.0, busy: float = 250_000.0, campaign: float = 4.0) -> NDArray[np.float64]:
    """Return a day's load: a wave with its top in the afternoon, and a campaign that multiplies it for an hour."""
    seconds = np.arange(86_400)
    wave = quiet + (busy - quiet) * (0.5 - 0.5 * np.cos(2 * np.pi * (seconds - 3 * 3600) / 86_400)) ** 2
    return np.where((seconds >= 12 * 3600) & (seconds < 13 * 3600), np.minimum(campaign * wave, 2.5 * busy), wave)


def main() -> int:
    """Print the table of docs/capacity.md; with --write, write its picture, too."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscaling", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/autoscaling.svg")
    write = parser.parse_args().write
    usual = Limits(up_s=15, down_s=300, down_share=1.0)
    rules = (
        ("load and lag in seconds (the chart)", by_load_and_lag(), Limits()),
        ("lag in seconds alone, the same limits", by_lag_seconds(), Limits()),
        ("lag in records, Kubernetes' own limits", by_lag_records(), usual),
    )
    load, found = day(), {}
    for name, rule, limits in rules:
        of = found[name] = simulate(load, rule, limits)
        sys.stdout.write(
            f"| {name} | {of.replica_hours:.0f} | {of.replicas.min()} to {of.replicas.max()} | {of.rebalances} "
            f"| {of.age_p99_s:.0f} s | {of.age_most_s:.0f} s |\n"
        )
    if write:
        Path("docs/autoscaling.svg").write_text(autoscaling_chart.as_svg(load, found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
