"""Customers of day and night, 1.5 standard deviations apart, for weeks.

A stream of quarter hours whose volume and mix of customers cycle by day, summed into hours and days, and measured,
judged, announced and kept by the code that runs in production. A week may have fewer days than seven: what lies a week
back is what a window is compared with, and the days between cost time only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from stream import CATEGORIES, FEATURES, LENGTHS, POLICY, SD, SIZES, START_MS, Events, draw

from drift_worker import counts
from drift_worker.cells import Cells
from drift_worker.decide import Finding, Grade, judge
from drift_worker.deltas import pack
from drift_worker.episodes import Announcer
from drift_worker.measure import Measurer
from drift_worker.season import HOUR_MS, Season, kept
from schemas.alert import Alert
from schemas.measurement import Measurement, Sample, Window
from schemas.reference import Reference
from schemas.rfc3339 import render

QUARTER_MS = LENGTHS["15m"]
DAY_MS = LENGTHS["24h"]
APART = 1.5 * SD
SKETCHES = (counts.CUSTOMERS, counts.SCORED_CUSTOMERS)


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


class Weeks:
    """Quarter after quarter against one reference, which holds as many rows of each time of day as there are events."""

    def __init__(self, seed: int, baseline: str = "week", n: int = 7000) -> None:
        self.generator = np.random.default_rng(seed)
        quarters = np.arange(0, DAY_MS, QUARTER_MS)
        volume = np.array([_volume(at) for at in quarters.tolist()])
        times = self.generator.choice(quarters, n, p=volume / volume.sum()) + self.generator.random(n) * QUARTER_MS
        rows = _customers(self.generator, times)
        reference = Reference(rows.numeric, rows.codes, rows.scores, np.zeros(len(SIZES), dtype=np.int64))
        self.policy = replace(POLICY, baseline=baseline)
        self.cells = Cells(FEATURES, CATEGORIES, reference)
        self.measurer = Measurer(self.cells, reference, min_events=500)
        self.season = Season(self.cells, self.measurer.columns, 500)
        self.announcer = Announcer(self.policy, "simulated", "docs/runbook.md")
        self.pool = self.generator.integers(0, 1 << 63, 200_000).astype(np.uint64) * np.uint64(2)
        self.now_ms = START_MS
        self.windows: dict[str, dict[int, NDArray[np.int64]]] = {length: {} for length in LENGTHS}
        self.before: dict[str, tuple[NDArray[np.int64], int]] = {}
        self.exceeding: list[bool] = []
        self.against: list[str] = []
        self.alerts: list[Alert] = []

    @property
    def pages(self) -> int:
        """Episodes opened, of either severity."""
        return sum(alert.status == "firing" and alert.sequence == 1 for alert in self.alerts)

    def run(self, hours: int, sd: float = 0.0) -> list[Alert]:
        """So many hours with the first feature shifted; the alerts."""
        before = len(self.alerts)
        for _ in range(4 * hours):
            self._quarter(sd)
        return self.alerts[before:]

    def skip(self, hours: int) -> None:
        """Hours that nobody looks at, nor counts."""
        self.now_ms += hours * HOUR_MS
        for window in self.windows.values():
            window.clear()

    def _quarter(self, sd: float) -> None:
        m = _volume(self.now_ms)
        events = _customers(self.generator, self.now_ms + self.generator.random(m) * QUARTER_MS)
        events.numeric[:, 0] += sd * SD
        panes, hashes = np.zeros(m, dtype=np.int64), self.generator.choice(self.pool, m)
        for _, series, part in (
            *counts.count_events(self.cells, panes, events.numeric, events.codes, hashes),
            *counts.count_scores(self.cells, panes, events.scores, events.scores >= 0.5, hashes),
        ):
            for window in self.windows.values():
                if series not in window:
                    window[series] = np.zeros(counts.size_of(self.cells, series), dtype=np.int64)
                part.add_to(window[series])
        self.now_ms += QUARTER_MS
        ended = [length for length, ms in LENGTHS.items() if self.now_ms % ms == 0]
        judged = [self._judge(length) for length in ended]
        self.alerts += self.announcer.step(self.now_ms, judged)[0]
        if "1h" in ended and self.policy.baseline == "week":
            self._keep(self.windows["1h"])
        for length in ended:
            self.windows[length] = {}

    def _keep(self, hour: dict[int, NDArray[np.int64]]) -> None:
        for series, vector in hour.items():
            name = FEATURES[series].name if series >= 0 else None
            if series in SKETCHES or self.announcer.calm(name):
                for piece in pack(counts.sparse(kept(self.cells, series, vector))):
                    self.season.keep(series, self.now_ms - HOUR_MS, piece)

    def _judge(self, length: str) -> tuple[Measurement, Sequence[Finding]]:
        window, start_ms = self.windows[length], self.now_ms - LENGTHS[length]
        slots = {}
        if self.policy.against(length) == "week":
            slots = self.season.slots(start_ms, self.now_ms, [s for s in window if s not in SKETCHES])
        features = self.measurer.features(window, slots)
        m, sketch = max(f.events for f in features.values()), window[counts.CUSTOMERS]
        before, self.before[length] = self.before.get(length), (sketch, m)
        measurement, findings = judge(
            self.policy,
            Measurement(
                model="simulated",
                model_version="1.0.0",
                reference_sha256="0" * 64,
                window=Window(length, render(start_ms), render(self.now_ms)),
                complete=True,
                sample=Sample(events=m, late=0, refused=0),
                features=features,
                score=self.measurer.score(window, slots),
            ),
            self.measurer.tests,
            counts.overlap(sketch, before[0]) / (m * before[1]) if before is not None else 0.0,
        )
        if length == "15m":
            self.exceeding.append(any(finding.grade is not Grade.NONE for finding in findings))
            self.against.append(features[FEATURES[0].name].against)
        return measurement, findings
