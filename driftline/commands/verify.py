"""`driftline verify`: the command around driftline.verifier."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import read_settings
from kafka_runtime import clients
from kafka_runtime.kafka_types import KafkaError
from kafka_runtime.schema_registry.client import RegistryUnreachableError, connection

if TYPE_CHECKING:
    from driftline.settings import CommandSettings
    from driftline.verifier_events import Registry

# The exit code without differences, while records wait that cannot be read yet, or all of them.
NOT_YET = 3
ANSWERS = {"yes": "yes", "no": "NO", "not_yet": "not yet"}


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

    Exit 3, "not yet": there is no difference, and either the group has reached no input record, or an open transaction
    of another program holds some back.

    Reads all of input, predictions and dead letters as a read_committed consumer does; writes no record.

    Example: `driftline verify --topic customer-events --model artifacts/model`
    """
    from driftline.verifier import Question, verify
    from driftline.verifier_events import NoRegistryError

    settings = read_settings()
    question = Question(
        connection=clients.connection(settings),
        topic=topic or settings.topic_events,
        group=group or settings.scorer_group,
        predictions=settings.topic_predictions,
        dead_letters=settings.topic_dead_letters,
        at_least_once=at_least_once,
        model=model,
        registry=_registry(settings) if settings.schema_registry_url is not None else None,
    )
    bar = terminal.progress_bar(counts=True)
    tasks: dict[str, Any] = {}

    def progress(what: str, count: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(f"reading {terminal.clean(what)}", total=None)
        bar.update(tasks[what], completed=count)

    try:
        with bar:
            findings = asyncio.run(verify(question, progress))
    except NoRegistryError as error:
        raise CommandError(str(error)) from None
    except RegistryUnreachableError as error:
        raise CommandError(f"cannot verify: {error}", 1) from None
    except (KafkaError, LookupError, TimeoutError, OSError) as error:
        why = error
        if isinstance(error, KafkaError):  # the verifier has separate clients, which report only an unreachable broker
            why = asyncio.run(clients.refusal(settings)) or error
        raise CommandError(f"cannot verify: {why}", 1) from None
    if as_json:
        terminal.show_json(findings.as_dict())
    else:
        for line in describe(findings):
            terminal.show(line)
    if findings.answer != "yes":
        raise typer.Exit(NOT_YET if findings.ok else 1)


def _registry(settings: CommandSettings) -> Registry:
    """Return what reads the registry's JSON; RegistryUnreachableError."""
    import httpx

    client = httpx.Client(**connection(settings))
    url = (settings.schema_registry_url or "").rstrip("/")

    def get(path: str) -> Any:
        try:
            answer = client.get(url + path)
            if answer.status_code == 404:
                return None
            return answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise RegistryUnreachableError(f"{url}{path}: {error}") from None

    return get


def describe(findings: Any) -> list[str]:
    """Return the findings as text, a line each."""
    f = findings
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(f.reasons.items()))
    lines = [
        f"{f.inputs:,} events answered: {f.predicted:,} predictions + {f.dead_lettered:,} dead letters"
        + (f" ({reasons})" if reasons else "")
        + (f" + {f.ignored:,} ignored" if f.ignored else ""),
        f"{f.faults['lost']} lost, {f.duplicates} duplicated, {f.pending:,} not reached yet",
    ]
    if f.blocked:
        lines.append(f"{f.blocked:,} held back by an open transaction of another producer")
        lines += [f"  {partition}: from offset {offset} on" for partition, offset in f.blocked_from.items()]
    if f.scores_checked:
        lines.append(f"{f.scores_checked:,} scores computed again, {f.faults['wrong_scores']} differ")
    lines += [f"{kind.replace('_', ' ')}: {count}" for kind, count in f.faults.items() if count]
    lines += [f"  {example}" for example in f.examples]
    lines.append(f"exactly once: {ANSWERS[f.answer]}")
    return lines
