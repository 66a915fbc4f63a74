"""`python -m bench.feed`: makes events in a separate process, on request.

Each line on standard input is a request, {"topic", "rate", "count", "sampled", "form"} (rate 0: as fast as it can;
form: of bench/forms.py; sampled: the share of events with a sampled trace context, the others have one that is not;
null: no event has one), each line on standard output its answer. librdkafka sends: the yardstick shares no
client code with what it measures.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Producer

from bench.forms import encoder
from driftline.replay.event_source import EventSource, open_source
from schemas.bundle.files import read_bundle

# Events of a backlog are sent 2,000 at a time per call of the source; a larger number is not faster.
CHUNK = 2000
# The shortest sleep: at 10,000 events a second ten events leave together.
TICK_S = 0.001


def main() -> int:
    """Answer requests until standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    source = open_source(arguments.data, arguments.model, run="bench")
    features = read_bundle(arguments.model).manifest.features
    common = {
        "bootstrap.servers": arguments.bootstrap,
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "log_level": 3,
    }
    bulk = Producer({**common, "linger.ms": 20, "batch.size": 1_000_000, "queue.buffering.max.messages": 1_000_000})
    paced = Producer({**common, "linger.ms": 0})
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if request["rate"] == 0:
            encode = encoder(request["form"], features)
            answer = fill(bulk, source, request["topic"], request["count"], request["sampled"], encode)
        else:
            answer = pace(paced, source, request["topic"], request["rate"], request["count"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def fill(
    producer: Producer,
    source: EventSource,
    topic: str,
    count: int,
    sampled: float | None = None,
    encode: Callable[[bytes], bytes] | None = None,
) -> dict[str, float]:
    """Send `count` events as fast as possible; return the seconds it took."""
    started = time.monotonic()
    left = count
    chance = random.Random(42)
    while left > 0:
        chunk = source.take(min(CHUNK, left), 0.0, time.time_ns() // 1_000_000)
        for key, value in chunk:
            sent = value if encode is None or value is None else encode(value)
            producer.produce(topic, key=key, value=sent, headers=_trace(chance, sampled))
        producer.poll(0)
        left -= len(chunk)
    _flush(producer)
    return {"seconds": time.monotonic() - started}


def _trace(chance: random.Random, sampled: float | None) -> list[tuple[str, str | bytes | None]]:
    if sampled is None:
        return []
    ids = (chance.getrandbits(127) + 1, chance.getrandbits(63) + 1, chance.random() < sampled)
    return [("traceparent", b"00-%032x-%016x-%02x" % ids)]


def pace(producer: Producer, source: EventSource, topic: str, rate: float, count: int) -> dict[str, float]:
    """Send `count` events at `rate` per second; their event time is the moment they are given to the producer.

    late_s: how far the last event was behind its schedule.
    """
    first_ms = time.time_ns() // 1_000_000
    started = time.monotonic()
    sent = 0
    while sent < count:
        elapsed = time.monotonic() - started
        due = min(int(elapsed * rate) + 1, count) - sent
        if due <= 0:
            time.sleep(max(TICK_S, sent / rate - elapsed))
            continue
        for key, value in source.take(due, 0.0, time.time_ns() // 1_000_000):
            producer.produce(topic, key=key, value=value)
        producer.poll(0)
        sent += due
    late = time.monotonic() - started - (count - 1) / rate
    _flush(producer)
    return {"first_ms": first_ms, "seconds": time.monotonic() - started, "late_s": late}


def _flush(producer: Producer) -> None:
    if (left := producer.flush(60)) > 0:
        raise RuntimeError(f"{left} events were not delivered within 60 s")


if __name__ == "__main__":
    sys.exit(main())
