"""A day is read again by drift workers that are killed meanwhile (row 25)."""

from __future__ import annotations

import random
import time
from fractions import Fraction

import pytest
from support import history
from support.drifting import alerts_of, measurements_of, numbers_of, own_topics, start_worker, units_of
from support.oracle import send
from support.stage import Stage
from support.waiting import wait_until

from schemas.timestamps import parse, render

HOUR_MS = 3_600_000
PER_MINUTE = 30
REPLAY = {
    "DRIFT_PANE": "1m",
    "DRIFT_WINDOWS": "1h,6h",
    "DRIFT_ALLOWED_LATENESS": "1m",
    "DRIFT_STRAGGLER": "60s",
    "DRIFT_IDLE_TIMEOUT": "10s",
}


@pytest.mark.row(25)
@pytest.mark.long_only
@pytest.mark.timeout(900)
def test_a_day_is_replayed_with_the_same_counts_and_alerts(stage: Stage, seed: int) -> None:
    """43,200 events of a day with two episodes, read twice: by one worker in peace, and by two that are killed.

    Equal to the last bit in every window, and each episode is one message that fires and one that resolves.
    """
    draw = random.Random(seed)
    start_ms = (time.time_ns() // 1_000_000 - 30 * HOUR_MS) // (6 * HOUR_MS) * 6 * HOUR_MS
    drifts = ["monthly_charges:shift=+25@4h..8h", "tenure:scale=0.5@14h..18h"]
    source = stage.source(bad=Fraction(1, 100), drifts=drifts)
    for minute in range(24 * 60):
        batch = source.take(PER_MINUTE, 60.0 * minute, start_ms + 60_000 * minute)
        send(stage.bootstrap, stage.names.events, batch)
    calm, stormy = own_topics(stage, "calm"), own_topics(stage, "stormy")
    closed_ms = start_ms + 24 * HOUR_MS - 60_000

    def measured(topics: dict[str, str]) -> bool:
        ends = [m["window"]["end"] for m in measurements_of(stage, topics["TOPIC_MEASUREMENTS"])]
        return bool(ends) and max(ends) >= render(start_ms + 24 * HOUR_MS)

    with start_worker(stage, "calm", **REPLAY, **calm):
        wait_until(lambda: measured(calm), "the day was measured in peace", 300)
    victims = {name: start_worker(stage, name, **REPLAY, **stormy) for name in ("one", "two")}
    try:
        for _ in range(6):
            before = len(measurements_of(stage, stormy["TOPIC_MEASUREMENTS"]))
            victim = draw.choice(sorted(victims))
            victims[victim].wait_ready()
            time.sleep(draw.uniform(0.0, 1.0))
            victims[victim].kill()
            victims[victim] = start_worker(stage, victim, **REPLAY, **stormy)
            history.mark(f"{victim} was killed after {before} measurements")
        wait_until(lambda: measured(stormy), "the day was measured in the storm", 300)
        expected, found = (measurements_of(stage, t["TOPIC_MEASUREMENTS"]) for t in (calm, stormy))
        events = sum(m["sample"]["events"] for m in expected if m["window"]["length"] == "1h")
        twice = len(found) - len({(m["window"]["length"], m["window"]["start"]) for m in found})
        missing = sum(
            numbers_of(found, closed_ms).get(window) != n for window, n in numbers_of(expected, closed_ms).items()
        )
        history.verdict(events, missing, twice)
        assert numbers_of(found, closed_ms) == numbers_of(expected, closed_ms)
        assert twice == 0, "a window is measured twice"
        assert units_of(stage, stormy, closed_ms) == units_of(stage, calm, closed_ms)
        said = {
            name: [
                (a["fingerprint"], a["status"], a["sequence"], a["startsAt"], a["endsAt"])
                for a in alerts_of(stage, topics["TOPIC_ALERTS"])
                if parse(a["startsAt"]) < closed_ms
            ]
            for name, topics in (("calm", calm), ("stormy", stormy))
        }
        assert said["stormy"] == said["calm"]
        episodes = [(fingerprint, starts, status) for fingerprint, status, _, starts, _ in said["stormy"]]
        assert len(episodes) == len(set(episodes)), "an episode is announced twice"
        assert len(episodes) >= 4
    finally:
        for victim in victims.values():
            victim.kill()
