"""An EventSource's records into Kafka, at a rate, until a count or a signal."""

from __future__ import annotations

import asyncio
import signal
import time

from driftline import terminal
from driftline.replay.event_source import EventSource
from kafka_runtime.producer import PlainProducer
from kafka_runtime.service.settings import KafkaSettings
from schemas.setting_names import Topics

# Records handed to the broker at a time: 1 MB of events of 500 bytes, at full speed 25 ms.
BATCH_RECORDS = 2000
# The longest pause between two looks at the clock: below it, the pace looks even and Ctrl-C is immediate.
TICK_S = 0.02


class ProduceSettings(KafkaSettings, Topics):
    """Where to send: `KAFKA_*` and `TOPIC_EVENTS`."""


async def send(source: EventSource, settings: KafkaSettings, topic: str, rate: float, count: int | None) -> float:
    """Send until `count` records or a signal; returns the seconds it took. SendError if the broker fails."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def finish(number: int) -> None:
        loop.remove_signal_handler(number)  # a second signal ends the process at once
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, finish, number)
    async with PlainProducer(settings) as producer:
        await producer.partitions(topic)
        ids = "the number of their row (--id names a column)" if source.numbered else "their id"
        terminal.note(f"sending customers, named by {ids}, to {topic}")
        with terminal.progress_bar(counts=True) as progress:
            task = progress.add_task(terminal.clean(topic), total=count)
            start = time.monotonic()
            while not stop.is_set() and (count is None or source.made < count):
                elapsed = time.monotonic() - start
                due = BATCH_RECORDS if rate == 0 else min(BATCH_RECORDS, int(elapsed * rate) + 1 - source.made)
                due = due if count is None else min(due, count - source.made)
                if due > 0:
                    records = source.take(due, elapsed, time.time_ns() // 1_000_000)
                    await producer.send(topic, [(key, value, []) for key, value in records])
                    progress.update(task, completed=source.made)
                else:
                    await asyncio.sleep(min(TICK_S, max(0.0, source.made / rate - elapsed)))
            return time.monotonic() - start
