"""Processes that die at random moments; the reader watches all the time."""

from __future__ import annotations

import random
import time
from fractions import Fraction

import pytest
from support.oracle import assert_exactly_once
from support.stage import Stage


@pytest.mark.timeout(900)
@pytest.mark.row(1)
def test_a_scorer_killed_again_and_again_loses_and_doubles_nothing(stage: Stage, long: bool, seed: int) -> None:
    """SIGKILL at random moments while events stream in: each has one answer (long form: ten kills, 100,000 events)."""
    kills, count = (10, 100_000) if long else (2, 20_000)
    chance = random.Random(seed)
    source = stage.source(bad=Fraction(1, 50))
    sent = None
    for _ in range(kills):
        sent = stage.send_from(source, count // kills, sent)
        with stage.scorer(SCORER_MAX_BATCH_RECORDS="300") as scorer:
            stage.reader.wait_for(len(stage.reader.answers) + 600)
            time.sleep(chance.uniform(0.0, 0.4))
            scorer.kill()
    with stage.scorer() as scorer:
        scorer.wait_ready()
        stage.reader.wait_for(count)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
