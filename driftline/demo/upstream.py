"""The upstream system of `driftline demo-life`: customers day by day, and later the outcome of each of them."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from driftline.replay.event_source import EventSource
from driftline.settings import CommandSettings
from kafka_runtime.producer import PlainProducer
from kafka_runtime.sinks import Output
from schemas.timestamps import render

DAY_MS = 86_400_000
TICK_S = 0.05
LONGEST_TICK_S = 0.5
SLICE = 20  # events that share one event time
# When a label arrives, in days after the event: early for customers who leave, after the month's end for others.
LEFT_AFTER = (0.2, 0.9)
STAYED_AFTER = (1.0, 1.8)


@dataclass
class Upstream:
    """Sends events and labels in simulated time: a day takes `day_s` seconds, or longer while it has to wait.

    truths: per row of the source, whether that customer left. first_ms: the first event's time, epoch milliseconds.
    days: simulated days since the first event. waiting: whether time is paused because a service is behind. most: the
    day at which time stops.
    """

    source: EventSource
    truths: Sequence[bool]
    settings: CommandSettings
    first_ms: int
    day_s: float
    events_per_day: int
    labels: int = 0
    days: float = 0.0
    waiting: bool = False
    most: float = math.inf
    _due: list[tuple[int, int, str, bool]] = field(default_factory=list)
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    def advance(self, seconds: float) -> None:
        """Advance by this much real time."""
        if not self.waiting:
            self.days = max(self.days, min(self.days + seconds / self.day_s, self.most))

    async def run(self) -> None:
        """Send due events without end. On an overloaded machine, days pass more slowly."""
        async with PlainProducer(self.settings) as producer:
            before = time.monotonic()
            while True:
                now = time.monotonic()
                self.advance(min(now - before, LONGEST_TICK_S))
                before = now
                while self.source.made + SLICE <= self.days * self.events_per_day:
                    await self._send_slice(producer)
                await self._send_labels(producer)
                await asyncio.sleep(TICK_S)

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
