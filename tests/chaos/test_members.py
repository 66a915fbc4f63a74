"""Members that come and go all the time (row 5)."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from oracle import Sent, assert_exactly_once
from services import Service
from stage import Stage
from waiting import wait_until

MEGABYTE = 1 << 20
PATIENCE_S = 30.0


class Guests(threading.Thread):
    """One member after the other joins the group, is given partitions, and leaves after a second or two."""

    def __init__(self, stage: Stage, stays: int, seed: int) -> None:
        super().__init__(name="guests", daemon=True)
        self._stage, self._stays, self._chance = stage, stays, random.Random(seed)
        self.stays = 0  # so far
        self.start()

    def run(self) -> None:
        asyncio.run(self._come_and_go())

    async def _come_and_go(self) -> None:
        while self.stays < self._stays:
            guest = AIOKafkaConsumer(
                self._stage.names.events,
                bootstrap_servers=self._stage.bootstrap,
                group_id=self._stage.names.group,
                enable_auto_commit=False,
                partition_assignment_strategy=(StickyPartitionAssignor,),
                session_timeout_ms=6000,
                heartbeat_interval_ms=300,
            )
            await guest.start()
            await asyncio.sleep(self._chance.uniform(1.0, 2.0))
            await guest.stop()
            self.stays += 1
            await asyncio.sleep(self._chance.uniform(0.0, 1.0))


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
        guests = Guests(stage, stays, seed)
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
