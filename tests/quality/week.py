"""Customers of day and night, 1.5 standard deviations apart, for weeks.

A stream of quarter hours whose volume and mix of customers cycle by day, summed into hours and days. The code that runs
in production measures, decides, announces and stores them. A week may have fewer days than seven: what lies a week back
is what a window is compared with, and the days between cost time only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from quality.engine import QUARTER_MS, Engine
from quality.stream import FEATURES, LENGTHS, SD, Events, draw

from drift_worker.statistics.seasonal_baseline import HOUR_MS
from schemas.alert import Alert

DAY_MS = LENGTHS["24h"]
APART = 1.5 * SD


def _day(at_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """-1 at three in the night, 1 at three in the afternoon."""
    return np.sin(2 * np.pi * (at_ms / HOUR_MS - 9) / 24)


def _volume(at_ms: int) -> int:
    return int(1300 + 700 * _day(np.array([float(at_ms)]))[0])


def _customers(generator: np.random.Generator, at_ms: NDArray[np.float64]) -> Events:
    """An event at each of these times: of a customer of the day or of the night, who differ in numbers and plans."""
    events = draw(generator, len(at_ms))
    of_day = generator.random(len(at_ms)) < 0.5 + 0.45 * _day(at_ms)
    moved = np.where(of_day, APART / 2, -APART / 2)
    events.numeric[:, :3] += moved[:, None]
    others = ~of_day & (events.codes[:, 2] == 0) & (generator.random(len(at_ms)) < 0.5)
    events.codes[others, 2] = 1
    odds = events.scores / (1 - events.scores) * np.exp(0.05 * moved)
    events.scores = odds / (1 + odds)
    return events


class Weeks(Engine):
    """Quarter after quarter against one reference, which holds as many rows of each time of day as there are events."""

    def __init__(self, seed: int, baseline: str = "week", n: int = 7000) -> None:
        self.generator = np.random.default_rng(seed)
        quarters = np.arange(0, DAY_MS, QUARTER_MS)
        volume = np.array([_volume(at) for at in quarters.tolist()])
        times = self.generator.choice(quarters, n, p=volume / volume.sum()) + self.generator.random(n) * QUARTER_MS
        super().__init__(FEATURES, _customers(self.generator, times), baseline)
        self.pool = self.generator.integers(0, 1 << 63, 200_000).astype(np.uint64) * np.uint64(2)

    def run(self, hours: int, sd: float = 0.0) -> list[Alert]:
        """Return the alerts of this number of hours with the first feature shifted."""
        before = len(self.alerts)
        for _ in range(4 * hours):
            m = _volume(self.now_ms)
            events = _customers(self.generator, self.now_ms + self.generator.random(m) * QUARTER_MS)
            events.numeric[:, 0] += sd * SD
            self.quarter(events, self.generator.choice(self.pool, m))
        return self.alerts[before:]
