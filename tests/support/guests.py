"""Members that come and go."""

from __future__ import annotations

import asyncio
import random
import threading

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from support.oracle import Names


class Guests(threading.Thread):
    """One member after the other joins the group, is given partitions, and leaves after a second or two."""

    def __init__(self, bootstrap: str, names: Names, stays: int, seed: int) -> None:
        super().__init__(name="guests", daemon=True)
        self._servers, self._names = bootstrap, names
        self._stays, self._chance = stays, random.Random(seed)
        self.stays = 0  # so far
        self.start()

    def run(self) -> None:
        asyncio.run(self._come_and_go())

    async def _come_and_go(self) -> None:
        while self.stays < self._stays:
            guest = AIOKafkaConsumer(
                self._names.events,
                bootstrap_servers=self._servers,
                group_id=self._names.group,
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
