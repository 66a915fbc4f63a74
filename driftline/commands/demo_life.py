"""`driftline demo-life`: a model from its training to its successor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from driftline.demo.model_life import run
from driftline.demo.view import View
from driftline.errors import CommandError


def command(
    day: Annotated[float, typer.Option(min=1.0, max=60.0, help="Seconds that a day takes.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the prediction log.")] = Path(
        "artifacts/demo-life"
    ),
) -> None:
    """Show drift that costs accuracy, in the scores and then measured; an alert; a better model, compared and promoted.

    Starts all processes that it needs and removes them afterwards, except what is written to --out. Exit 0 only if
    performance fell and recovered, and scikit-learn finds every number of the summary in the topics.

    Example: `driftline demo-life --day 8`
    """
    view = View(live=False, unit="d")
    try:
        asyncio.run(run(view, day, out))
    except KeyboardInterrupt:
        raise CommandError("stopped; all processes that it started have ended", 130) from None
