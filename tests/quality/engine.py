"""Quarter hours of any table, summed into hours and days: measured, judged, announced and learnt as in production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from quality.stream import LENGTHS, POLICY, START_MS, Events

from drift_worker.alerting.episodes import Announcer
from drift_worker.alerting.findings import Finding, Grade, judge
from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.counts.spans import Part, Reach, Span, Trailing
from drift_worker.counts.wire_format import pack
from drift_worker.relations.measure import RelationMeasurer, Sides
from drift_worker.statistics.calm_past import SHAPE_KNOWN, CalmPast, Learn
from drift_worker.statistics.measure import Measurer
from drift_worker.statistics.seasonal_baseline import HOUR_MS, Season, kept
from schemas.alert import Alert
from schemas.bundle.inputs import Feature
from schemas.measurement import WEEK, Measurement, Sample, Window
from schemas.measurement import Span as StatedSpan
from schemas.reference import Reference
from schemas.task import TaskName
from schemas.timestamps import render

QUARTER_MS = LENGTHS["15m"]
MIN_EVENTS = 500
SKETCHES = (aggregate.CUSTOMERS, aggregate.SCORED_CUSTOMERS)


class Engine:
    """Quarter after quarter against one reference."""

    def __init__(
        self,
        features: Sequence[Feature],
        rows: Events,
        baseline: str = "training",
        task: TaskName = "binary",
        classes: Sequence[str] = (),
    ) -> None:
        self.features = features
        categories = [tuple(f.categories or ()) for f in features if f.kind != "numeric"]
        singletons = np.zeros(len(categories), dtype=np.int64)
        reference = Reference(rows.numeric, rows.codes, rows.scores, singletons, rows.predicted)
        self.policy = replace(POLICY, baseline=baseline)
        self.cells = Cells(features, categories, reference, task, tuple(classes))
        self.measurer = Measurer(self.cells, reference, min_events=MIN_EVENTS)
        self.relations = RelationMeasurer(self.cells, MIN_EVENTS)
        self.relation_pasts = {
            length: self.relations.past(ms) for length, ms in LENGTHS.items() if self.policy.learns(length)
        }
        self.season = Season(self.cells, self.measurer.columns, MIN_EVENTS)
        self.announcer = Announcer(self.policy, "simulated", "docs/runbook.md")
        self.now_ms = START_MS
        self.windows: dict[str, dict[int, NDArray[np.int64]]] = {length: {} for length in LENGTHS}
        self.reach = Reach(MIN_EVENTS, max(LENGTHS.values()))
        self.trailing = Trailing(self.reach, aggregate.CUSTOMERS)
        self.span: Span | None = None  # of the last quarter hour, if it was judged with those before it
        self.learnt_to = 0
        self.size = 0  # events of the last quarter hour
        self.before: dict[str, tuple[NDArray[np.int64], int]] = {}
        self.pasts = {
            length: [
                made(ms, seasonal=self.policy.against(length) == WEEK)
                for made in (self.measurer.past_of_features, self.measurer.past_of_score)
            ]
            for length, ms in LENGTHS.items()
            if self.policy.learns(length)
        }
        self.exceeding: list[bool] = []
        self.against: list[str] = []
        self.alerts: list[Alert] = []
        self.newest: dict[
            str, tuple[float, bool]
        ] = {}  # effect of a feature in a quarter hour, and whether it is found

    @property
    def pages(self) -> int:
        """Episodes opened, of either severity."""
        return sum(alert.status == "firing" and alert.sequence == 1 for alert in self.alerts)

    def skip(self, hours: int) -> None:
        """Hours that nobody looks at, nor counts."""
        self.now_ms += hours * HOUR_MS
        for window in self.windows.values():
            window.clear()

    def quarter(self, events: Events, hashes: NDArray[np.uint64]) -> list[Alert]:
        """One quarter hour, and what ends with it; the alerts."""
        m = len(events.scores)
        panes = np.zeros(m, dtype=np.int64)
        labels = events.scores >= 0.5 if self.cells.labelled else np.zeros(m, dtype=np.bool_)
        for _, series, part in (
            *aggregate.count_events(self.cells, panes, events.numeric, events.codes, hashes),
            *aggregate.count_scores(self.cells, panes, events.scores, labels, hashes, events.predicted),
        ):
            for window in self.windows.values():
                if series not in window:
                    window[series] = np.zeros(aggregate.size_of(self.cells, series), dtype=np.int64)
                part.add_to(window[series])
        self.now_ms += QUARTER_MS
        ended = [length for length, ms in LENGTHS.items() if self.now_ms % ms == 0]
        self._reach_back(m)
        judged = [self._judge(length) for length in ended]
        alerts = self.announcer.step(self.now_ms, judged)[0]
        self.alerts += alerts
        for length in ended:
            if length in self.pasts:
                features, score = self.pasts[length]
                how = self._how_to_learn(length)
                self.measurer.learn_features(features, self.announcer.stirring(), how)
                self.measurer.learn_score(score, self.announcer.stirring(), how)
                self.relation_pasts[length].learn(calm=not self.announcer.relations_stir(), how=how)
        if "1h" in ended and self.policy.baseline == WEEK:
            self._keep(self.windows["1h"])
        for length in ended:
            self.windows[length] = {}
        return alerts

    def _reach_back(self, m: int) -> None:
        """Judge the quarter hour that ends together with those before it if it has too few events."""
        start_ms, self.size = self.now_ms - QUARTER_MS, m
        sums = {}
        for series, vector in self.windows["15m"].items():
            sums[series] = aggregate.SeriesSum(len(vector))
            sums[series].add(aggregate.sparse(vector))
        self.trailing.push(start_ms, self.now_ms, Part(m, {}, whole=True, sums=sums))
        span = self.trailing.span()
        self.span = span if span is not None and span.start_ms < start_ms else None

    def _how_to_learn(self, length: str) -> Learn:
        """As `stages.evaluate_windows` does."""
        if length != "15m":
            return Learn.NOW
        if self.span is not None and (
            self.span.start_ms < self.learnt_to or not self.reach.enough(self.span.events, None)
        ):
            return Learn.NOT
        self.learnt_to = self.now_ms
        return Learn.NOW if self.span is None else Learn.LATE

    def _keep(self, hour: dict[int, NDArray[np.int64]]) -> None:
        for series, vector in hour.items():
            if series in aggregate.TOGETHER:
                continue
            name = self.features[series].name if series >= 0 else None
            if series in SKETCHES or self.announcer.calm(name):
                for piece in pack(aggregate.sparse(kept(self.cells, series, vector))):
                    self.season.keep(series, self.now_ms - HOUR_MS, piece)

    def _judge(self, length: str) -> tuple[Measurement, Sequence[Finding]]:
        window, start_ms = self.windows[length], self.now_ms - LENGTHS[length]
        span = self.span if length == "15m" else None
        window = window if span is None else span.vectors
        small = length == "15m" and (span is not None or self.size < MIN_EVENTS)
        slots, least = {}, self.reach.effective if small else None
        if self.policy.against(length) == WEEK:
            slots = self.season.slots(
                start_ms if span is None else span.start_ms, self.now_ms, [s for s in window if s >= aggregate.SCORE]
            )
        past, score_past = self.pasts.get(length, (None, None))
        shorter: Sequence[CalmPast | None] = (None, None)
        if past is None:
            shorter = next((p for p in reversed(self.pasts.values()) if p[0].windows >= SHAPE_KNOWN), shorter)
        features = self.measurer.features(window, slots, past, least=least, shorter=shorter[0], spans=span is not None)
        m, sketch = max(f.events for f in features.values()), window[aggregate.CUSTOMERS]
        before, self.before[length] = self.before.get(length), (sketch, m)
        score = self.measurer.score(window, slots, score_past, least=least, shorter=shorter[1], spans=span is not None)
        sides = Sides(window, window, features, score, m, least)
        related = self.relations.measure(sides, self.relation_pasts.get(length))
        measurement, findings = judge(
            self.policy,
            Measurement(
                model="simulated",
                model_version="1.0.0",
                reference_sha256="0" * 64,
                window=Window(length, render(start_ms), render(self.now_ms)),
                span=None if span is None else StatedSpan(render(span.start_ms), span.windows, span.events),
                complete=True,
                sample=Sample(events=m, late=0, refused=0),
                features=features,
                score=score,
                relations=related,
            ),
            self.measurer.tests,
            aggregate.overlap(sketch, before[0]) / (m * before[1]) if before is not None else 0.0,
        )
        if length == "15m":
            self.exceeding.append(any(finding.grade is not Grade.NONE for finding in findings))
            self.against.append(next(iter(features.values())).against)
            found = {f.feature for f in findings if f.grade is not Grade.NONE}
            self.newest = {name: (one.effect or 0.0, name in found) for name, one in features.items()}
        return measurement, findings
