"""`driftline bench`: how fast a scorer is, beside what else one could use, in one run on one machine."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

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
    """Measure throughput, CPU per event, event age, memory and cold start beside other ways to do the same.

    Starts a broker of its own and every contestant as a process. Peers are installed into environments of their own
    under the cache folder when they are first measured. The whole run takes about half an hour, and means something
    only on a machine that does nothing else. Exit 0 whatever the figures are.

    Example: `driftline bench --quick`
    """
    if find_spec("confluent_kafka") is None:
        raise CommandError("the benchmark reads and produces with confluent-kafka: pip install 'driftline[dev]'")
    from dataclasses import replace

    from driftline.benchmark import chart, report
    from driftline.benchmark.contestants import CONTESTANTS
    from driftline.benchmark.contestants import QUICK as IN_QUICK
    from driftline.benchmark.run import QUICK, Plan, accepts, measure

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
        print(f"{time.monotonic() - started:6.1f}s  {line}", file=sys.stderr, flush=True)

    for contestant in refused:
        say(f"{contestant.name}: left out, this scorer does not take {dict(contestant.environment)}")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
            run = measure(contestants, plan, Path(folder), say)
    except KeyboardInterrupt:
        raise CommandError("stopped; everything it started is gone", 130) from None
    if as_json:
        print(json.dumps(report.as_json(run), indent=2))
    else:
        print(report.as_text(run))
    if write:
        Path("docs").mkdir(exist_ok=True)
        Path("docs/benchmark.md").write_text(report.as_markdown(run), encoding="utf-8")
        Path("docs/benchmark.svg").write_text(chart.as_svg(run), encoding="utf-8")
        say("written: docs/benchmark.md and docs/benchmark.svg")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
