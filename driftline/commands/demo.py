"""`driftline demo`: the whole pipeline on this machine."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from driftline.demo.pipeline import run
from driftline.demo.progress import Plan
from driftline.demo.view import View
from driftline.errors import CommandError


def command(
    rate: Annotated[float, typer.Option(min=150, max=20_000, help="Events per second.")] = 400.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards, until Ctrl-C.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of the live view, as without a terminal.")
    ] = False,
) -> None:
    """Score real customers through a real Kafka, inject drift, show the alert, and prove that no record was lost.

    Starts all processes that it needs and removes them afterwards. A broker in KAFKA_BOOTSTRAP_SERVERS is used instead
    of a local one, with separate topics for the demo. Exit 0 only if every event has its answer and the alert fired and
    resolved.

    Example: `driftline demo --rate 1000 --keep`
    """
    plan = Plan(rate, drift_from_s=30.0, drift_until_s=55.0)
    view = View(live=sys.stdout.isatty() and not plain)
    try:
        code = asyncio.run(run(plan, view, keep=keep))
    except KeyboardInterrupt:
        raise CommandError("stopped; all processes that it started have ended", 130) from None
    raise typer.Exit(code)
