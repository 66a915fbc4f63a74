"""An EventSource's records into Kafka, at a rate, until a count or a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from driftline.replay import EventSource
from schemas.environment import Topics
from streaming.producing import PlainProducer
from streaming.settings import KafkaSettings

# Records handed to the broker at a time: 1 MB of events of 500 bytes, at full speed 25 ms.
BATCH_RECORDS = 2000
# The longest pause between two looks at the clock: below it, pace is even to the eye and Ctrl-C at once.
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
    bar = Progress(
        TextColumn(topic), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)
    )
    # What the library would repeat many times a second is in the one line of SendError.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    async with PlainProducer(settings) as producer:
        await producer.partitions(topic)
        with bar if sys.stderr.isatty() else Progress(disable=True) as progress:
            task = progress.add_task("", total=count)
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
