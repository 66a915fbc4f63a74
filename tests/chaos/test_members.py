"""Members that come and go all the time (row 5)."""

from __future__ import annotations

import time

import pytest
from support.guests import Guests
from support.oracle import Sent, assert_exactly_once
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

MEGABYTE = 1 << 20
PATIENCE_S = 30.0


def held(scorer: Service) -> tuple[int, int, int]:
    """Tasks, sockets and memory."""
    return scorer.tasks(), scorer.sockets(), scorer.memory_bytes()


@pytest.mark.timeout(900)
@pytest.mark.row(5)
def test_members_that_join_and_leave_every_second_or_two(stage: Stage, long: bool, seed: int) -> None:
    """Row 5: there is progress all the time, nothing is lost or doubled, and tasks, sockets and memory stay flat."""
    stays = 40 if long else 6
    sent, source = Sent(), stage.source()
    with (
        stage.scorer(SCORER_MAX_BATCH_RECORDS="100") as first,
        stage.scorer(SCORER_MAX_BATCH_RECORDS="100") as second,
    ):
        scorers = (first, second)

        def settled() -> bool:
            return all(s.reasons() == [] and s.assigned() == 2 for s in scorers)

        wait_until(settled, "two partitions each")
        stage.send_from(source, 400, sent)
        stage.reader.wait_for(400)
        before = [held(scorer) for scorer in scorers]
        guests = Guests(stage.bootstrap, stage.names, stays, seed)
        answered, since, progress = 400, time.monotonic(), set()
        while guests.is_alive():
            stage.send_from(source, 50, sent)
            if len(stage.reader.answers) > answered:
                answered, since = len(stage.reader.answers), time.monotonic()
                progress.add(guests.stays)
            assert time.monotonic() - since < PATIENCE_S, f"no progress for {PATIENCE_S} s (seed {seed})"
            time.sleep(0.1)
        assert guests.stays == stays, "the guests met an error"
        assert len(progress) >= stays / 3, f"progress only in stays {sorted(progress)} of {stays} (seed {seed})"
        wait_until(settled, "two partitions each again")
        stage.reader.wait_for(len(sent.records))
        wait_until(
            lambda: all(
                s.tasks() <= b[0] + 2 and s.sockets() <= b[1] + 2 for s, b in zip(scorers, before, strict=True)
            ),
            f"tasks and sockets as they were: {before}",
        )
        for scorer, (_, _, memory) in zip(scorers, before, strict=True):
            assert scorer.memory_bytes() < memory + 40 * MEGABYTE
            assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
