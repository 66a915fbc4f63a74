"""What upstream does in `driftline demo-life`: customers day by day, and later what became of each of them."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from driftline.replay import EventSource
from driftline.settings import CommandSettings
from schemas.rfc3339 import render
from streaming.producing import PlainProducer
from streaming.transactions import Output

DAY_MS = 86_400_000
SLICE = 20  # events that share one event time
# When a label comes, in days after the event: who leaves is known early, who stays only after the month's end.
LEFT_AFTER = (0.2, 0.9)
STAYED_AFTER = (1.0, 1.8)


@dataclass
class Upstream:
    """Sends events and labels in simulated time: a day takes `day_s` seconds.

    truths: per row of the source, whether that customer left. first_ms: the first event's time, epoch milliseconds.
    """

    source: EventSource
    truths: Sequence[bool]
    settings: CommandSettings
    first_ms: int
    day_s: float
    events_per_day: int
    labels: int = 0
    started: float = 0.0
    _due: list[tuple[int, int, str, bool]] = field(default_factory=list)
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def days(self) -> float:
        """Simulated days since the first event."""
        return (time.monotonic() - self.started) / self.day_s if self.started else 0.0

    async def run(self) -> None:
        """Send what is due, for ever."""
        self.started = time.monotonic()
        async with PlainProducer(self.settings) as producer:
            while True:
                while self.source.made + SLICE <= self.days * self.events_per_day:
                    await self._send_slice(producer)
                await self._send_labels(producer)
                await asyncio.sleep(0.05)

    async def _send_slice(self, producer: PlainProducer) -> None:
        at_days = self.source.made / self.events_per_day
        event_ms = self.first_ms + round(at_days * DAY_MS)
        records = self.source.take(SLICE, at_days * DAY_MS / 1000, event_ms)
        await producer.send(self.settings.topic_events, [(key, value, []) for key, value in records])
        for number, (key, _) in enumerate(records):
            customer = key.decode()
            left = self.truths[int(customer.removeprefix("customer-")) - 1]
            after = self._chance.uniform(*(LEFT_AFTER if left else STAYED_AFTER))
            entry = (event_ms + round(after * DAY_MS), self.source.made + number, customer, left)
            heapq.heappush(self._due, entry)

    async def _send_labels(self, producer: PlainProducer) -> None:
        now_ms = self.first_ms + round(self.days * DAY_MS)
        labels: list[Output] = []
        while self._due and self._due[0][0] <= now_ms:
            label_ms, _, customer, left = heapq.heappop(self._due)
            label = {"customer_id": customer, "label": left, "label_time": render(label_ms)}
            labels.append((customer.encode(), orjson.dumps(label), []))
        if labels:
            await producer.send(self.settings.topic_labels, labels)
            self.labels += len(labels)
