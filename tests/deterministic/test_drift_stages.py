"""Both drift stages on a simulated log, by workers that come, go, die and hand over: the sums of one that never rested.

Every partition has one owner at a time, as `test_ownership` shows. This test examines what the owners leave: committed
offsets with their metadata, deltas, checkpoints.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

import msgspec
import pytest
from support.two_stages import DATA, PANES, SOURCES, START_MS, STEP_S, Log, Scorer, Worker, measurements_of

from drift_worker.counts import aggregate, wire_format
from drift_worker.counts.wire_format import Delta
from driftline.replay.event_source import open_source

FIRST_SEED = 20_261_126
STORIES, LONG_STORIES = 2, 300
STORY_S = 12


@pytest.fixture(scope="module")
def story(telco_bundle):
    """Half-second batches of 20 customers on two partitions, some poison among them."""
    source = open_source(DATA, telco_bundle, run="test")
    draw = Random(5)
    batches = []
    for step in range(int(STORY_S / STEP_S)):
        taken = source.take(20, step * STEP_S, START_MS + int(step * STEP_S * 1000))
        batches.append([(draw.randrange(2), key, value if draw.random() > 0.02 else b"{") for key, value in taken])
    return batches


class Crew:
    """Several workers on one log. `owner` maps a partition to its owner; the others do not touch it."""

    def __init__(self, log: Log, bundle, size: int) -> None:
        self.log, self.bundle = log, bundle
        self.workers = [self._hired() for _ in range(size)]
        self.owner = dict.fromkeys([*SOURCES, PANES], 0)

    def _hired(self) -> Worker:
        worker = Worker(self.log, self.bundle)
        worker.start_counting()
        worker.start_evaluating()
        return worker

    def hand_over(self, source, to: int) -> None:
        """The old owner forgets what it has not committed; the new one goes on from what was."""
        work = self._work(source)
        work.on_revoked(source)
        self.owner[source] = to
        self.workers[to]._open(self._work(source), source)

    def _work(self, source):
        worker = self.workers[self.owner[source]]
        return worker.evaluating if source == PANES else worker.counting

    def step(self, at_s: float, draw: Random | None) -> None:
        """Owners read their partitions, in batches of any size; a write may fail, and its reader then starts again."""
        for worker in self.workers:
            worker.at_s = at_s
        for source in [*SOURCES, PANES]:
            worker, work = self.workers[self.owner[source]], self._work(source)
            while True:
                position = worker.positions[source]
                records = self.log.records.get(source, [])
                new = records[position : position + (draw.randrange(1, 40) if draw else 10_000)]
                worker.positions[source] += len(new)
                at_end = worker.positions[source] == len(records)
                result = work.process(source, new, at_end=at_end)
                if result is not None and draw is not None and draw.random() < 0.1:
                    self.hand_over(source, draw.randrange(len(self.workers)))  # the attempt leaves no trace
                    worker, work = self.workers[self.owner[source]], self._work(source)
                    continue
                if result is not None:
                    self.log.commit(source, result, worker.positions[source], worker.wall_ms)
                    work.on_committed(source, result, new)
                if at_end:
                    break


def _tell(story, bundle, seed: int | None, log: Log | None = None) -> Log:
    """The log after the story: with a seed, by three workers among whom partitions move all the time."""
    log = log or Log()
    draw = None if seed is None else Random(seed)
    crew = Crew(log, bundle, 1 if draw is None else 3)
    scorer = Scorer(log, crew.workers[0])
    for step in range(len(story) + 18):
        for partition, key, value in story[step] if step < len(story) else ():
            log.write(SOURCES[partition], key, value, wall_ms=crew.workers[0].wall_ms)
        crew.workers[0].at_s = step * STEP_S
        scorer.answer()
        while draw is not None and step < len(story) and draw.random() < 0.3:
            crew.hand_over(draw.choice([*SOURCES, PANES]), draw.randrange(3))
        crew.step(step * STEP_S, draw if step < len(story) else None)
    return log


def _sums(log: Log) -> dict[tuple[int, int], tuple[int, Counter[int]]]:
    """(pane, series) → events, and the count of every index."""
    parts: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    events: Counter[tuple[int, int]] = Counter()
    for value in log.values("panes"):
        found = wire_format.decode(value)
        if isinstance(found, Delta):
            part = wire_format.unpack(found.packed, 1 << 31)
            parts[found.pane_ms, found.series].update(
                dict(zip(part.indices.tolist(), part.counts.tolist(), strict=True))
            )
            events[found.pane_ms, found.series] += found.events
    return {place: (events[place], counted) for place, counted in parts.items()}


def _windows(log: Log) -> dict:
    """What was measured of every window, without how it came about."""
    kept = ("psi", "ks", "events", "effective", "missing_ratio", "unseen_ratio", "mean")
    return {
        (m.window.length, m.window.start): (
            m.sample.events,
            {name: [getattr(f, k) for k in kept] for name, f in m.features.items()},
            m.score and [getattr(m.score, k) for k in kept],
        )
        for m in measurements_of(log)
        if m.sample.events
    }


@pytest.fixture(scope="module")
def uninterrupted(story, telco_bundle) -> Log:
    """One worker that never rests."""
    return _tell(story, telco_bundle, None)


def test_workers_that_die_repeat_and_hand_over_leave_the_same_sums(story, telco_bundle, uninterrupted, long):
    """Every pane's counts and every window's numbers are those of one uninterrupted run, to the bit."""
    sums, windows = _sums(uninterrupted), _windows(uninterrupted)
    assert sum(events for (_, series), (events, _) in sums.items() if series == 0) > 400
    assert aggregate.SCORE in {series for _, series in sums}
    for seed in range(FIRST_SEED, FIRST_SEED + (LONG_STORIES if long else STORIES)):
        log = _tell(story, telco_bundle, seed)
        assert _sums(log) == sums, f"seed {seed}"
        assert _windows(log) == windows, f"seed {seed}"
        ours = [(m.window.length, m.window.start) for m in measurements_of(log)]
        assert len(ours) == len(set(ours)), f"seed {seed}: a window was measured twice"


class _Forgetful(Log):
    """Writes a batch's records, and now and then not its offset: deltas come twice."""

    def commit(self, source, result, position, wall_ms):
        before = self.offsets.get(source, (0, ""))
        super().commit(source, result, position, wall_ms)
        if source in SOURCES and position % 7 == 0:
            self.offsets[source] = before


def test_deltas_that_come_twice_are_found(story, telco_bundle, uninterrupted):
    """The planted bug: outputs without their offset."""
    log = _tell(story, telco_bundle, FIRST_SEED, _Forgetful())
    assert _sums(log) != _sums(uninterrupted)
    assert msgspec.json.decode(log.offsets[SOURCES[0]][1])
