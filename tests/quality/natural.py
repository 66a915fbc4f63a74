"""Streams as they really are: neighbouring events are alike, though the population never changes.

A small table whose features depend on a region. The reference is drawn over the same mix of regions, so that nothing
drifts; what varies is who comes when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from quality import predictions
from quality.engine import Engine
from quality.stream import Events

from schemas.bundle.inputs import Feature
from schemas.task import TaskName

SIZES = (4, 3, 6)
NAMES = ("income", "age", "usage", "visits", "spent", "sensor")
FEATURES = tuple(Feature(name=name, kind="numeric", nullable=True) for name in NAMES) + tuple(
    Feature(name=name, kind="categorical", categories=tuple(f"{name}{j}" for j in range(size)), nullable=True)
    for name, size in zip(("region", "plan", "device"), SIZES, strict=True)
)
REGIONS = np.full(4, 0.25)
M, N = 500, 7000
DAY = 96  # quarter hours
Floats = NDArray[np.float64]


def scores(generator: np.random.Generator, numeric: Floats, region: NDArray[np.int64]) -> Floats:
    """What a model would say: of income, age and the region."""
    logit = -1 + 0.8 * numeric[:, 0] + 0.4 * numeric[:, 1] + 0.5 * (region == 0)
    odds: Floats = np.exp(np.nan_to_num(logit) + 0.3 * generator.normal(size=len(region)))
    return odds / (1 + odds)


def of_regions(generator: np.random.Generator, region: NDArray[np.int64]) -> Events:
    """One new customer of each of these regions."""
    n = len(region)
    x = np.empty((n, len(NAMES)))
    x[:, 0] = generator.normal(size=n) + 0.4 * (region - 1.5) / 1.118
    x[:, 1] = generator.normal(size=n)
    x[:, 2] = generator.gamma(2.0, 30.0, n)
    x[:, 3] = generator.poisson(2.0 + 0.2 * region, n)
    x[:, 4] = np.where(generator.random(n) < 0.6, 0.0, np.round(generator.gamma(1.5, 20.0, n), 2))
    x[:, 5] = generator.normal(20.0, 3.0, n)
    plan = generator.choice(3, n, p=[0.45, 0.35, 0.2])
    codes = np.column_stack([region, plan, generator.integers(0, 6, n)]).astype(np.int32)
    return Events(x, codes, scores(generator, x, region), [])


@dataclass
class Mix:
    """Which regions the next events come from; a stream's state is kept in here."""

    generator: np.random.Generator
    quarter: int = 0
    logs: Floats = field(default_factory=lambda: np.zeros(4))
    m: int = M

    def regions(self, shares: Floats) -> NDArray[np.int64]:
        """Independent customers."""
        return self.generator.choice(4, self.m, p=shares)


def steady(mix: Mix) -> NDArray[np.int64]:
    """Every event is an independent draw."""
    return mix.regions(REGIONS)


def batches(mix: Mix) -> NDArray[np.int64]:
    """Fifty customers of one region at a time."""
    return np.repeat(mix.generator.integers(0, 4, mix.m // 50), 50)


def breathing(mix: Mix, half_life: float = 4.0, sd: float = 0.5) -> NDArray[np.int64]:
    """The logarithms of the regions' weights are AR(1), half-life in quarter hours."""
    rho = 0.5 ** (1.0 / half_life) if mix.quarter else 0.0
    mix.logs = rho * mix.logs + np.sqrt(1.0 - rho * rho) * mix.generator.normal(0.0, sd, 4)
    weights = np.exp(mix.logs)
    return mix.regions(weights / weights.sum())


def slow(mix: Mix) -> NDArray[np.int64]:
    """The same with a half-life of four hours."""
    return breathing(mix, half_life=16.0)


def day_and_night(mix: Mix) -> NDArray[np.int64]:
    """7.5 points more of one region by day, and less by night."""
    moved = 0.075 * np.sin(2 * np.pi * mix.quarter / DAY)
    return mix.regions(REGIONS + np.array([moved, -moved, 0.0, 0.0]))


def week_and_weekend(mix: Mix) -> NDArray[np.int64]:
    """Ten points between weekdays and weekends, around the mean of the week: the first day is a Sunday."""
    weekend = mix.quarter // DAY % 7 in {0, 6}
    moved = 0.10 * (-5 / 7 if weekend else 2 / 7)
    return mix.regions(REGIONS + np.array([moved, -moved, 0.0, 0.0]))


def bursts(mix: Mix) -> NDArray[np.int64]:
    """Once in two hours on average a campaign: a third of a quarter hour comes from one region."""
    region = steady(mix)
    if mix.generator.random() < 1 / 8:
        region[: mix.m // 3] = mix.generator.integers(4)
    return region


Stationary = Callable[[Mix], NDArray[np.int64]]
STREAMS: dict[str, tuple[str, Stationary]] = {
    "steady": ("independent customers", steady),
    "batches": ("batches of 50 customers of one region", batches),
    "breathing": ("the mix of regions breathes, half-life 1 h, log-sd .5", breathing),
    "slow": ("the same, half-life 4 h", slow),
    "offset": ("five features off by a constant .2 sd", steady),
    "day": ("day and night, shares ± 7.5 points", day_and_night),
    "week": ("weekdays and weekends, 10 points apart", week_and_weekend),
    "bursts": ("campaigns: a third of a quarter hour from one region", bursts),
}


class Days:
    """A stationary stream, day after day, all window lengths together."""

    def __init__(self, name: str, seed: int, baseline: str = "training", task: TaskName = "binary", m: int = M) -> None:
        """m: events a quarter hour."""
        self.generator = np.random.default_rng([list(STREAMS).index(name), seed])
        self._regions = STREAMS[name][1]
        self._offset = 0.2 if name == "offset" else 0.0
        self._mix = Mix(self.generator, m=m)
        # over the same mix of regions: as many rows of each moment as there are events
        mixed = Mix(np.random.default_rng([list(STREAMS).index(name), seed, 1]))
        seen = []
        for mixed.quarter in range(7 * DAY if name == "week" else 20 * DAY if name in {"breathing", "slow"} else DAY):
            seen.append(mixed.generator.choice(self._regions(mixed), 50))
        self._predict = predictions.PREDICT.get(task, lambda events, _: events)
        rows = self._predict(of_regions(self.generator, self.generator.choice(np.concatenate(seen), N)), 0.0)
        self.engine = Engine(FEATURES, rows, baseline, task, predictions.CLASSES if task == "multiclass" else ())

    @property
    def about_the_prediction(self) -> int:
        """Episodes opened about the prediction itself, not about a feature."""
        named = [a for a in self.engine.alerts if a.labels["alertname"] in predictions.OF_THE_PREDICTION]
        return sum(a.status == "firing" and a.sequence == 1 and "feature" not in a.labels for a in named)

    def run(self, quarters: int, sd: float = 0.0, moved: float = 0.0) -> int | None:
        """So many quarter hours with `sd` on the feature `age`; the number of the first one that opened an episode.

        moved: by how much predictions of another task than binary move.
        """
        first = None
        for at in range(quarters):
            region = self._regions(self._mix)
            self._mix.quarter += 1
            events = of_regions(self.generator, region)
            if self._offset:
                events.numeric[:, [0, 1, 5]] += self._offset * np.array([1.08, 1.0, 3.0])
                events.numeric[:, 2] += self._offset * 32.0
                events.numeric[:, 3] += self.generator.random(len(region)) < self._offset * 1.5
            events.numeric[:, 1] += sd
            events = self._predict(events, moved)
            hashes = self.generator.integers(0, 1 << 63, len(region)).astype(np.uint64) * np.uint64(2)
            alerts = self.engine.quarter(events, hashes)
            if first is None and any(a.status == "firing" and a.sequence == 1 for a in alerts):
                first = at
        return first
