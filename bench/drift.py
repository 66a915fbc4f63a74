"""A drift worker on a backlog: the whole process, from Kafka, on events, on their predictions, and on both."""

from __future__ import annotations

import secrets
import sys
import time
from typing import Self

from bench.contestants import Contestant
from bench.figures import WARM_UP, Backlog
from bench.processes import Machine, Process, can_sample
from bench.stage import Stage
from driftline.errors import CommandError

START_TIMEOUT_S = 60.0
SAMPLE_S = 0.2
# A backlog has been counted when no offset is committed for this time; a worker commits every 5 s at the latest.
QUIET_S = 12.0
SINGLE, USUAL = ("panes", "measurements", "alerts"), ("labels", "label-state", "none")


class DriftTrial:
    """One start of one drift worker, with topics and a group of its own, so that it begins at the beginning.

    events, predictions: topics with a backlog. What the contestant does not read is an empty topic instead.
    """

    def __init__(self, stage: Stage, contestant: Contestant, events: str, predictions: str) -> None:
        self.stage = stage
        self.contestant = contestant
        self.group = f"{contestant.name}-{secrets.token_hex(3)}"
        self._written = {"events": events, "predictions": predictions}

    def __enter__(self) -> Self:
        self.stage.create([self._topic(name) for name in SINGLE], partitions=1)
        self.stage.create([self._topic(name) for name in USUAL])
        return self

    def __exit__(self, *_: object) -> None:
        self.stage.delete([self._topic(name) for name in (*SINGLE, *USUAL)])

    def _topic(self, name: str) -> str:
        return f"{self.group}-{name}"

    def start(self, http_port: int) -> Process:
        """Return the drift worker's process."""
        read = {name: self._written[name] if name in self.contestant.reads else self._topic("none")
                for name in ("events", "predictions")}  # fmt: skip
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.stage.bootstrap,
            "SCORER_MODEL": str(self.stage.bundle(self.contestant)),
            "SCORER_LANE": "python",  # also where the library is installed: it is a contestant of its own
            "DRIFT_GROUP": self.group,
            "DRIFT_HTTP_PORT": str(http_port),
            "TOPIC_EVENTS": read["events"],
            "TOPIC_PREDICTIONS": read["predictions"],
            "TOPIC_PANES": self._topic("panes"),
            "TOPIC_MEASUREMENTS": self._topic("measurements"),
            "TOPIC_ALERTS": self._topic("alerts"),
            "TOPIC_LABELS": self._topic("labels"),
            "TOPIC_LABEL_STATE": self._topic("label-state"),
            **self.contestant.environment,
        }
        return Process([sys.executable, "-m", "drift_worker"], environment, self.stage.folder / f"{self.group}.log")


def drift_backlog(trial: DriftTrial, offered: int, limit_s: float, http_port: int) -> Backlog:
    """Measure the CPU with which a drift worker counts `offered` waiting customer events.

    A customer event is an event, a prediction, or where both are read, one of each. What is counted is known by the
    committed offsets, from the first tenth on, for at most `limit_s` seconds. Looking costs the process nothing.
    """
    each = len(trial.contestant.reads)
    wanted = each * offered
    seen: list[tuple[float, float, int]] = []  # when, CPU seconds until then, committed
    before = Machine.now()
    with trial.start(http_port) as process:
        grown_at = started = time.time()
        first = 0.0
        while True:
            process.check()
            committed, now = trial.stage.committed(trial.group), time.time()
            if not seen or committed > seen[-1][2]:
                seen.append((now, process.sample().cpu_s if can_sample() else 0.0, committed))
                grown_at = now
            if committed and not first:
                first = now
            if not first and now - started > START_TIMEOUT_S:
                raise CommandError(f"nothing is counted within {START_TIMEOUT_S:g} s", 1)
            if committed >= wanted or (first and (now - first > limit_s or now - grown_at > QUIET_S)):
                break
            time.sleep(SAMPLE_S)
        after = Machine.now()
    rate, cpu_us = counted(seen, each)
    return Backlog(
        rate=rate,
        cpu_us=cpu_us if can_sample() else None,
        peak_bytes=process.peak_bytes if can_sample() else None,
        answered=min(seen[-1][2], wanted) // each,
        offered=offered,
        others=after.others_share(before) if before is not None and after is not None else None,
    )


def counted(seen: list[tuple[float, float, int]], each: int) -> tuple[float, float]:
    """Return customer events per second and CPU microseconds per customer event, from the first tenth on.

    seen: (epoch seconds, CPU seconds until then, committed offsets), ascending. each: records of a customer event.
    """
    warm = next((i for i, one in enumerate(seen) if one[2] >= WARM_UP * seen[-1][2]), 0)
    (start, cpu_start, done), (end, cpu_end, all_done) = seen[warm], seen[-1]
    events = (all_done - done) / each
    if events <= 0 or end <= start:
        raise CommandError("the backlog was counted at once: a longer one is needed", 1)
    return events / (end - start), (cpu_end - cpu_start) / events * 1e6
