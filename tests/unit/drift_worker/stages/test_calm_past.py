"""What the evaluator learns of a calm stream is a function of the log: the same after deaths."""

import random

import pytest
from support.two_stages import DATA, START_MS, STEP_S, Worker, measurements_of, play

from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.counts.windows import Side
from driftline.replay.event_source import open_source

DAY_MS = 86_400_000
LEARNING = Policy(
    {"4s": 4000, "10s": 10_000, "24h": DAY_MS}, {"4s": Confirm(2, 3), "10s": Confirm(2, 3), "24h": Confirm(1, 1)}
)
STORY_S = 40


@pytest.fixture(scope="module")
def story(telco_bundle):
    """Forty calm seconds."""
    source, draw = open_source(DATA, telco_bundle, run="test", drifts=[]), random.Random(3)
    return [
        [
            (draw.randrange(2), key, value)
            for key, value in source.take(60, step * STEP_S, START_MS + int(step * STEP_S * 1000) - draw.randrange(800))
        ]
        for step in range(int(STORY_S / STEP_S))
    ]


@pytest.fixture
def learning(monkeypatch):
    """A policy with a window of a day: the shorter ones learn."""
    monkeypatch.setattr(Worker, "policy", LEARNING)


def _kept(worker):
    pasts = {**worker.evaluating._past, **worker.evaluating._relation_past}
    return {key: past.vector.tobytes() for key, past in pasts.items()}


@pytest.mark.usefixtures("learning")
def test_what_is_learnt_is_the_same_to_the_bit_wherever_a_worker_dies(story, telco_bundle):
    """Deaths of either stage and lost commits, with a window that waits or without: the same past, the same p."""
    log, worker = play(story, telco_bundle)
    assert {key: past.windows for key, past in worker.evaluating._past.items()}["4s", Side.FEATURES] >= 5
    assert worker.evaluating._relation_past["4s"].windows >= 5
    assert worker.evaluating._relation_past["4s"].score[0] >= 3
    compared = [m for m in measurements_of(log) if any(f.past for f in m.features.values())]
    assert len(compared) >= 4
    victims = {11: ("evaluating",), 23: ("commit",), 38: ("counting", "evaluating"), 52: ("evaluating",)}
    again, survivor = play(story, telco_bundle, kill=lambda step: victims.get(step, ()))
    assert _kept(survivor) == _kept(worker)
    pasts = [
        {(m.window.length, m.window.end): {n: f.past for n, f in m.features.items()} for m in measurements_of(each)}
        for each in (log, again)
    ]
    assert pasts[0] == pasts[1]
    related = [{(m.window.length, m.window.end): m.relations for m in measurements_of(each)} for each in (log, again)]
    assert related[0] == related[1]
    assert any(one.past is not None for found in related[0].values() for one in found.moved)
    assert all(f.past is None for m in measurements_of(log) if m.window.length == "24h" for f in m.features.values())


@pytest.mark.usefixtures("learning")
def test_a_past_of_other_features_begins_anew(story, telco_bundle):
    """A checkpoint whose past does not fit is no reason not to start."""
    _, worker = play(story[:40], telco_bundle)
    last = worker.evaluating
    with pytest.raises(ValueError, match="not a calm past"):
        last._calm_past("4s", Side.FEATURES, last._past["4s", Side.SCORE].vector)
    worker.evaluating._restore_past({"4s/features": [], "10s/features": [], "4s/relations": []})
    assert worker.evaluating._relation_past["4s"].windows == 0
    assert worker.evaluating._past["4s", Side.FEATURES].windows == 0


def test_without_a_window_of_a_day_nothing_is_learnt(story, telco_bundle):
    """Somebody must hold against the reference, or a slow movement would become usual."""
    _, worker = play(story[:20], telco_bundle)
    assert worker.evaluating._past == {}
