"""The measurements of one contestant."""

from __future__ import annotations

import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

from bench.contestants import Contestant
from bench.figures import Age, Backlog, age_ms, cpu_between, quantile, steady_window
from bench.processes import Machine, Process, Sample, can_sample
from bench.stage import Reader, Stage, Watch
from driftline.errors import CommandError

# Limit of every start: the slowest imports (scikit-learn, pandas) take 3 s alone and 10 s on a busy machine. 200
# partitions need half a minute more.
START_TIMEOUT_S = 120.0
SAMPLE_S = 0.1
# A backlog ends when all of it can be read, or when no more became readable for this time.
QUIET_S = 1.0
# Event age: the first seconds at each rate are not counted. A contestant whose last answer is missing after KEEP_UP_S
# has not kept up (the slowest to commit does so every 5 s).
WARM_UP_S = 2.0
KEEP_UP_S = 6.0
COLD_START_EVENTS = 20
# A rate is invalid if events leave later than this behind their schedule.
LATE_S = 1.0


class Trial:
    """One start of one contestant, with separate topics and a separate group, so that it begins at the beginning.

    events: the topic to read; None: a separate empty one. output: the topic to write, which is kept; None: a separate
    one.
    """

    def __init__(
        self,
        stage: Stage,
        contestant: Contestant,
        python: Path,
        events: str | None = None,
        output: str | None = None,
    ) -> None:
        self.stage = stage
        self.contestant = contestant
        self._python = python
        self._name = f"{contestant.name}-{secrets.token_hex(3)}"
        self.output = output or f"{self._name}-predictions"
        self._outputs_to_make = [] if output else [self.output]
        self._dead_letters = f"{self._name}-dead-letters"
        self.events = events or f"{self._name}-events"
        self._events_to_make = [] if events else [self.events]

    def __enter__(self) -> Self:
        # The broker's clock on every answer: the same for all, independent of the records' content.
        partitions = self.contestant.partitions
        if self._outputs_to_make:
            self.stage.create(self._outputs_to_make, {"message.timestamp.type": "LogAppendTime"}, partitions)
        self.stage.create([self._dead_letters, *self._events_to_make], partitions=partitions)
        return self

    def __exit__(self, *_: object) -> None:
        self.stage.delete([*self._outputs_to_make, self._dead_letters, *self._events_to_make])

    def start(self) -> Process:
        """Return the contestant's process."""
        contestant = self.contestant
        model = self.stage.bundle(contestant)
        if contestant.script is None:
            command: Sequence[str] = [sys.executable, "-m", "scorer"]
            environment: Mapping[str, str] = {
                "KAFKA_BOOTSTRAP_SERVERS": self.stage.bootstrap,
                "SCORER_MODEL": str(model),
                "SCORER_GROUP": self._name,
                "SCORER_HTTP_PORT": str(free_port()),
                "TOPIC_EVENTS": self.events,
                "TOPIC_PREDICTIONS": self.output,
                "TOPIC_DEAD_LETTERS": self._dead_letters,
                "SCORER_LANE": "python",  # also where the library is installed: it is a contestant of its own
                **self.stage.registry(contestant.form),
            }
        else:
            script = Path(__file__).parent / "peers" / contestant.script
            command = [str(self._python), str(script)]
            environment = {
                "BENCH_BOOTSTRAP": self.stage.bootstrap,
                "BENCH_MODEL": str(model),
                "BENCH_GROUP": self._name,
                "BENCH_INPUT": self.events,
                "BENCH_OUTPUT": self.output,
            }
        log = self.stage.folder / f"{self._name}.log"
        return Process(command, {**environment, **contestant.environment}, log)


def backlog(trial: Trial, offered: int, limit_s: float) -> Backlog:
    """Measure the rate at which the contestant answers the `offered` waiting events, for at most `limit_s` seconds.

    Only what a read_committed consumer can read counts, from the first tenth on. The time is the broker's: from one
    answer's append to another's.
    """
    samples: list[Sample] = []
    with closing(Watch(trial.stage.bootstrap, trial.output)) as watch:
        before = Machine.now()
        with trial.start() as process:
            first = 0.0
            readable, grown_at = 0, process.started_at
            while True:
                process.check()
                if can_sample():
                    samples.append(process.sample())
                now = time.time()
                seen = watch.readable()
                if seen > readable:
                    readable, grown_at = seen, now
                    first = first or now
                if first == 0.0 and now - process.started_at > START_TIMEOUT_S:
                    raise CommandError(f"no answer within {START_TIMEOUT_S:g} s", 1)
                if (first and now - first > limit_s) or (readable >= offered and now - grown_at > QUIET_S):
                    break
                time.sleep(SAMPLE_S)
            after = Machine.now()
        written_ms = watch.timestamps_ms()
    window = steady_window(written_ms)
    if window is None:
        raise CommandError(f"only {len(written_ms)} answers, all at once: a longer --duration is needed", 1)
    start_ms, end_ms, events = window
    cpu_us = None
    if samples:
        pairs = [(sample.at, sample.cpu_s) for sample in samples]
        cpu_us = cpu_between(pairs, start_ms / 1000, end_ms / 1000) / events * 1e6
    return Backlog(
        rate=events / (end_ms - start_ms) * 1000,
        cpu_us=cpu_us,
        peak_bytes=process.peak_bytes if samples else None,
        answered=len(written_ms),
        offered=offered,
        others=_others(before, after),
    )


def ages(trial: Trial, rates: Sequence[int], seconds: float, report: Callable[[Age], None]) -> float:
    """Measure event age at each of `rates` (events per second), in turn on one process; return the cold start, seconds.

    The trial's events topic is empty at first. Each Age is handed to `report` as soon as it is known.
    """
    feed = trial.stage.feeder.send
    feed(trial.events, 0, COLD_START_EVENTS)
    partitions = trial.contestant.partitions
    with Reader(trial.stage.bootstrap, trial.output, partitions) as reader, trial.start() as process:
        _wait_for(reader, process, COLD_START_EVENTS, START_TIMEOUT_S)
        cold_start_s = reader.seen[0][0] / 1e9 - process.started_at
        for rate in rates:
            offered = round(rate * (WARM_UP_S + seconds))
            start, wanted = len(reader.seen), len(reader.seen) + offered
            before, cpu_before = Machine.now(), process.sample().cpu_s if can_sample() else None
            sent = feed(trial.events, rate, offered)
            process.check()
            if sent["late_s"] > LATE_S:
                raise CommandError(f"the machine is too busy to make {rate} events a second", 1)
            kept_up = _wait_for(reader, process, wanted, KEEP_UP_S)
            cpu_us = (process.sample().cpu_s - cpu_before) / offered * 1e6 if cpu_before is not None else None
            others = _others(before, Machine.now())
            # duplicates count as what they are: answers that a reader gets
            timed = [age_ms(*answer) for answer in reader.seen[start:]]
            counted = sorted(age for at_ms, age in timed if at_ms >= sent["first_ms"] + WARM_UP_S * 1000)
            p50, p99 = (quantile(counted, 0.5), quantile(counted, 0.99)) if kept_up else (None, None)
            report(Age(rate, len(counted), p50, p99, cpu_us, others))
            if not kept_up:
                break  # it will not keep up with a higher rate either
    return cold_start_s


def _wait_for(reader: Reader, process: Process, count: int, timeout_s: float) -> bool:
    """Wait until the reader has seen `count` answers; return False on time-out.

    At the start of a process: raise an error.
    """
    deadline = time.monotonic() + timeout_s
    while len(reader.seen) < count:
        process.check()
        if time.monotonic() > deadline:
            if timeout_s == START_TIMEOUT_S:
                raise CommandError(f"no answer within {START_TIMEOUT_S:g} s", 1)
            return False
        time.sleep(0.05)
    return True


def _others(before: Machine | None, after: Machine | None) -> float | None:
    return after.others_share(before) if before is not None and after is not None else None


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
