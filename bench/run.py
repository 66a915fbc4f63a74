"""One run: the backlog of all contestants in turns, then their event age."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import confluent_kafka
from confluent_kafka import KafkaException

from bench import environments
from bench.contestants import PARTITIONS, Contestant
from bench.drift import DriftTrial, drift_backlog
from bench.figures import STEADY_RATE, Age, Figures
from bench.measure import Trial, ages, backlog, free_port
from bench.processes import Machine, inherited
from bench.stage import Stage
from driftline.errors import CommandError
from driftline.local_kafka.jars import KAFKA_VERSION

RATES = (100, 1_000, 10_000)
# Events per second. A slower contestant gets one round: a second one takes long and would not change the result.
ONE_ROUND_BELOW = 1_000
# The most for the predictions of a backlog, and for a drift worker that counts it.
PREDICT_S = 120.0
DRIFT_S = 60.0
# A contestant's rate on a backlog must exceed a rate by this factor before its event age is measured there.
HEADROOM = 1.1
# The backlog, by the form of its events.
TOPICS = {form: f"backlog-{form}" for form in ("json", "table", "wide", "avro", "protobuf")}
PREDICTIONS = "backlog-predictions"
# Events of 5 KB are so many times fewer: a backlog of 2.5 GB would not stay in memory.
WIDE_FEWER = 5


@dataclass(frozen=True)
class Plan:
    """The size of a run. backlog: events that wait; rounds: backlog runs of each; seconds: of each measurement."""

    backlog: int = 500_000
    rounds: int = 3
    seconds: float = 20.0
    rates: Sequence[int] = RATES

    def offered(self, form: str) -> int:
        """Return the number of events of a form that wait."""
        return self.backlog // WIDE_FEWER if form == "wide" else self.backlog


QUICK = Plan(backlog=300_000, rounds=2, seconds=10.0, rates=())


@dataclass
class Run:
    """The results of a run: contestants, place and time. others: share of the machine used by other programs before."""

    plan: Plan
    contestants: Sequence[Contestant]
    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    others_before: float | None = None
    figures: dict[str, Figures] = field(default_factory=dict)


def measure(contestants: Sequence[Contestant], plan: Plan, folder: Path, say: Callable[[str], None]) -> Run:
    """Measure all contestants. One that fails has the reason in its figures; the others continue."""
    run = Run(plan, contestants, datetime.now(UTC).strftime("%Y-%m-%d"), machine(), versions(contestants))
    run.figures = {contestant.name: Figures() for contestant in contestants}
    run.others_before = others_now()
    for contestant in contestants:
        if contestant.module is not None and find_spec(contestant.module) is None:
            run.figures[contestant.name].error = f"{contestant.module} is not installed (make native)"
            say(f"{contestant.name}: {run.figures[contestant.name].error}")
    pythons = {c.name: environments.python_for(c.requirements, say) for c in contestants}
    with Stage(folder) as stage:
        for contestant in contestants:
            if contestant.model is not None:
                stage.model(contestant.model, contestant.task).result()  # no training during a measurement
        for form in dict.fromkeys(c.form for c in contestants if c.partitions == PARTITIONS):
            stage.create([TOPICS[form]])
            stage.feeder.send(TOPICS[form], 0, plan.offered(form), form=form)
        if any(contestant.kind == "drift" for contestant in contestants):
            _predict(stage, plan)
        say(f"Kafka on {stage.bootstrap}; {plan.backlog:,} events wait")
        for number in range(plan.rounds):
            # Every other round backwards: so no contestant always runs first, or after the same neighbour.
            for contestant in contestants if number % 2 else contestants[::-1]:
                _backlog(stage, contestant, pythons[contestant.name], run, say)
        for contestant in contestants:
            _ages(stage, contestant, pythons[contestant.name], run, say)
    return run


def _predict(stage: Stage, plan: Plan) -> None:
    """Write the predictions of the backlog, as a scorer does."""
    stage.create([PREDICTIONS])
    scorer = Contestant("predictions", "", "exactly-once", None, "ours")
    with Trial(stage, scorer, Path(sys.executable), TOPICS["json"], PREDICTIONS) as trial:
        backlog(trial, plan.backlog, PREDICT_S)


def _backlog(stage: Stage, contestant: Contestant, python: Path, run: Run, say: Callable[[str], None]) -> None:
    figures = run.figures[contestant.name]
    if (
        contestant.partitions != PARTITIONS
        or figures.error
        or (figures.rate is not None and figures.rate < ONE_ROUND_BELOW)
    ):
        return
    try:
        if contestant.kind == "drift":
            with DriftTrial(stage, contestant, TOPICS["json"], PREDICTIONS) as worker:
                found = drift_backlog(worker, run.plan.backlog, DRIFT_S, free_port())
        else:
            with Trial(stage, contestant, python, TOPICS[contestant.form]) as trial:
                found = backlog(trial, run.plan.offered(contestant.form), run.plan.seconds)
    except (CommandError, KafkaException) as error:
        figures.error = str(error)
        say(f"{contestant.name}: {error}")
        return
    figures.backlogs.append(found)
    cpu = "" if found.cpu_us is None else f", {found.cpu_us:,.1f} CPU µs per event"
    memory = "" if found.peak_bytes is None else f", {found.peak_bytes / 1e6:.0f} MB"
    others = "" if found.others is None else f"; other programs used {found.others:.0%} of the machine"
    say(f"{contestant.name}: {found.rate:,.0f} events/s{cpu}{memory} ({found.answered:,} answers{others})")


def _ages(stage: Stage, contestant: Contestant, python: Path, run: Run, say: Callable[[str], None]) -> None:
    figures = run.figures[contestant.name]
    if figures.error or contestant.form != "json" or contestant.kind == "drift":
        return
    rates = [rate for rate in run.plan.rates if figures.rate is None or figures.rate > HEADROOM * rate]
    if contestant.partitions != PARTITIONS:
        rates = [STEADY_RATE]
    if not rates and run.plan.rates == ():
        return

    def note(age: Age) -> None:
        figures.ages.append(age)
        kept_up = age.p50_ms is not None and age.p99_ms is not None
        text = f"p50 {age.p50_ms:.1f}, p99 {age.p99_ms:.1f} ms" if kept_up else "does not keep up"
        cpu = "" if age.cpu_us is None else f", {age.cpu_us:,.0f} CPU µs per event"
        others = "" if age.others is None else f" (other programs used {age.others:.0%} of the machine)"
        say(f"{contestant.name} at {age.rate:,} events/s: {text}{cpu}{others}")

    try:
        with Trial(stage, contestant, python) as trial:
            figures.cold_start_s = ages(trial, rates, run.plan.seconds, note)
    except (CommandError, KafkaException) as error:
        figures.error = str(error)
        say(f"{contestant.name}: {error}")


def others_now() -> float | None:
    """Return the share of the machine that other programs use, measured for two seconds before the benchmark starts."""
    before = Machine.now()
    if before is None:
        return None
    time.sleep(2)
    after = Machine.now()
    return after.others_share(before) if after is not None else None


def machine() -> dict[str, str | int]:
    """Return CPU, cores and memory, as far as the system reports them."""
    found: dict[str, str | int] = {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count() or 0}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        found["cpu"] = names[0] if names else platform.processor()
    else:
        found["cpu"] = platform.processor()
    found["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    return found


def versions(contestants: Sequence[Contestant]) -> dict[str, str]:
    """Return the measured versions by name; for peers, the libraries that their requirements pin."""
    names = ("driftline", "aiokafka", "confluent-kafka", "scikit-learn", "numpy", "pandas", "msgspec", "orjson")
    found = {"python": platform.python_version(), "kafka": KAFKA_VERSION, **{name: version(name) for name in names}}
    found["librdkafka"] = confluent_kafka.libversion()[0]
    for contestant in contestants:
        if contestant.requirements is not None:
            found |= environments.pinned(contestant.requirements)
    return found


def accepts(contestant: Contestant) -> bool:
    """Return whether the scorer accepts this contestant's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "scorer", "--print-settings"],
        env={**inherited(), **contestant.environment},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
