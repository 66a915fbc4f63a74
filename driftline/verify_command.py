"""`driftline verify`: the command around driftline.verify."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from driftline.errors import CommandError
from driftline.settings import read_settings
from streaming import clients
from streaming.records import KafkaError


def command(
    topic: Annotated[str | None, typer.Option(help="Input topic; TOPIC_EVENTS if not given.")] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group; SCORER_GROUP if not given.")] = None,
    at_least_once: Annotated[
        bool, typer.Option("--at-least-once", help="Count duplicates instead of failing on them.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Bundle to compute every score again with. It is unpickled: give one you trust.", exists=True
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that every input record was answered exactly once, by a prediction or a dead letter. Exit 1 if not.

    Reads all of input, predictions and dead letters as a read_committed consumer does; writes nothing.

    Example: `driftline verify --topic customer-events --model artifacts/model`
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    from driftline.verify import Question, verify

    settings = read_settings()
    question = Question(
        connection=clients.connection(settings),
        topic=topic or settings.topic_events,
        group=group or settings.scorer_group,
        predictions=settings.topic_predictions,
        dead_letters=settings.topic_dead_letters,
        at_least_once=at_least_once,
        model=model,
    )
    bar = Progress(TextColumn("reading {task.description}"), MofNCompleteColumn(), console=Console(stderr=True),
                   transient=True, disable=not sys.stderr.isatty())  # fmt: skip
    tasks: dict[str, Any] = {}

    def progress(what: str, count: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=None)
        bar.update(tasks[what], completed=count)

    try:
        with bar:
            findings = asyncio.run(verify(question, progress))
    except (KafkaError, LookupError, TimeoutError, OSError) as error:
        raise CommandError(f"cannot verify: {error}", 1) from None
    if as_json:
        print(orjson.dumps(findings.as_dict()).decode())
    else:
        print("\n".join(describe(findings)))
    if not findings.ok:
        raise typer.Exit(1)


def describe(findings: Any) -> list[str]:
    """The findings for a person, a line each."""
    f = findings
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(f.reasons.items()))
    lines = [
        f"{f.inputs:,} events answered: {f.predicted:,} predictions + {f.dead_lettered:,} dead letters"
        + (f" ({reasons})" if reasons else ""),
        f"{f.faults['lost']} lost, {f.duplicates} duplicated, {f.pending:,} not reached yet",
    ]
    if f.scores_checked:
        lines.append(f"{f.scores_checked:,} scores computed again, {f.faults['wrong_scores']} differ")
    lines += [f"{kind.replace('_', ' ')}: {count}" for kind, count in f.faults.items() if count]
    lines += [f"  {example}" for example in f.examples]
    lines.append("exactly once: yes" if f.ok else "exactly once: NO")
    return lines
