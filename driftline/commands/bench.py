"""`driftline bench`: the speed of both services beside alternatives, in one run on one machine."""

from __future__ import annotations

import signal
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError


def command(
    quick: Annotated[
        bool, typer.Option("--quick", help="The scorer and a copy without a model, backlog only: under a minute.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be repeated.", show_default="everybody")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=3, help="Seconds of each measurement.", show_default="20, with --quick 10")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write docs/benchmark.md and docs/benchmark.svg.")] = False,
) -> None:
    """Measure throughput, CPU per event, event age, memory and cold start of the scorer and of alternatives.

    The scorer is measured on 4 to 200 partitions, and the drift worker on events, on predictions and on both.

    Starts a separate broker, and every contestant as a process. At their first measurement, peers are installed into
    separate environments under the cache folder. The whole run takes about three quarters of an hour; its figures are
    valid only on an otherwise idle machine. Exit 0 for any figures.

    Example: `driftline bench --quick`, or `driftline bench --quick --only driftline --only drift` for a part of it
    """
    if not (Path(__file__).parents[2] / "bench" / "contestants.py").is_file():
        raise CommandError("the benchmark is part of the source repository, not of the package: run it in a checkout")
    if find_spec("confluent_kafka") is None:
        raise CommandError("the benchmark reads and produces with confluent-kafka: pip install 'driftline[dev]'")
    from dataclasses import replace

    from bench import chart, report
    from bench.contestants import CONTESTANTS
    from bench.contestants import QUICK as IN_QUICK
    from bench.run import QUICK, Plan, accepts, measure

    known = {contestant.name: contestant for contestant in CONTESTANTS}
    names = only or (list(IN_QUICK) if quick else list(known))
    if unknown := [name for name in names if name not in known]:
        raise CommandError(f"--only: {', '.join(unknown)} is not one of {', '.join(known)}")
    contestants = [known[name] for name in known if name in names]
    refused = [c for c in contestants if c.kind == "ours" and c.environment and not accepts(c)]
    contestants = [c for c in contestants if c not in refused]
    if not contestants:
        raise CommandError(f"this scorer does not take {dict(refused[0].environment)}")
    plan = QUICK if quick else Plan()
    if duration is not None:
        plan = replace(plan, seconds=duration)
    started = time.monotonic()

    def say(line: str) -> None:
        terminal.note(f"{time.monotonic() - started:6.1f}s  {line}")

    for contestant in refused:
        say(f"{contestant.name}: left out, this scorer does not take {dict(contestant.environment)}")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
            run = measure(contestants, plan, Path(folder), say)
    except KeyboardInterrupt:
        raise CommandError("stopped; all processes that it started have ended", 130) from None
    if as_json:
        terminal.show_json(report.as_json(run), indent=True)
    else:
        terminal.show_text(report.as_text(run))
    if write:
        Path("docs").mkdir(exist_ok=True)
        Path("docs/benchmark.md").write_text(report.as_markdown(run), encoding="utf-8")
        Path("docs/benchmark.svg").write_text(chart.as_svg(run), encoding="utf-8")
        say("written: docs/benchmark.md and docs/benchmark.svg")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
