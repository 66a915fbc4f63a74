"""`driftline export`: the prediction log as a file. The command around driftline.prediction_log.export."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings
from driftline.since import SKEW_MS, horizon_ms, parse_since
from kafka_runtime.kafka_types import KafkaError

if TYPE_CHECKING:
    from driftline.prediction_log.export import Checkpoint, Outcomes, Sink
    from schemas.task import TaskName


def command(
    out: Annotated[Path, typer.Option(help="A file of JSON Lines, or a folder of Parquet files.")],
    topic: Annotated[str | None, typer.Option(help="A topic of predictions.", show_default="TOPIC_PREDICTIONS")] = None,
    with_inputs: Annotated[
        bool, typer.Option("--with-inputs", help="The event that each prediction answers, too.")
    ] = False,
    with_labels: Annotated[bool, typer.Option("--with-labels", help="The outcome, where a label gives it.")] = False,
    form: Annotated[Literal["jsonl", "parquet"], typer.Option("--format", help="How it is written.")] = "jsonl",
    since: Annotated[
        str | None, typer.Option(help="Only predictions written since then: 7d, or an RFC 3339 date-time.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only predictions of the model with this name.")] = None,
    horizon: Annotated[
        str, typer.Option(help="With --with-labels: how long after its prediction a label counts.")
    ] = "90d",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write predictions, up to the topic's present end, to a file that later runs continue.

    The same command continues an interrupted export, or adds new predictions. A state file beside the output (in the
    folder for Parquet) holds the progress. No prediction is lost or doubled. --since counts at the first run only.
    Memory does not grow with the topic; with --with-labels it grows with the number of labelled customers.

    Example: `driftline export --out predictions.jsonl --with-inputs --with-labels`
    """
    from driftline.prediction_log.export import OtherTaskError

    settings = read_settings()
    topic = topic or settings.topic_predictions
    state = out / "_state.json" if form == "parquet" else out.with_name(out.name + ".state.json")
    question = {"topic": topic, "format": form, "inputs": with_inputs, "labels": with_labels, "name": name}
    checkpoint = _checkpoint(out, state, question)
    sink_of = _sinks(out, form, with_inputs=with_inputs, with_labels=with_labels)
    resumed = bool(checkpoint.next)
    try:
        done = asyncio.run(_run(settings, checkpoint, state, sink_of, parse_since(since), horizon_ms(horizon)))
    except (KafkaError, TimeoutError) as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    except OtherTaskError as error:
        raise CommandError(
            f"{error}: an export has one task (--name selects one model; or name another --out)"
        ) from None
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}", 1) from None
    summary = {"out": str(out), "records": done["records"], "all_records": checkpoint.records, "resumed": resumed}
    counted = ("not_a_prediction", *(("inputs_gone",) if with_inputs else ()), *(("labelled",) if with_labels else ()))
    summary |= {what: done[what] for what in counted}
    if as_json:
        terminal.show_json(summary)
        return
    terminal.show(f"{out}: {done['records']:,} predictions" + (f", {checkpoint.records:,} in all" if resumed else ""))
    words = {"inputs_gone": "have no input any more", "labelled": "have a label", "not_a_prediction": "were none"}
    for what in counted:
        if done[what] or what == "labelled":
            terminal.show(f"{done[what]:,} {words[what]}")


def _checkpoint(out: Path, state: Path, question: dict[str, Any]) -> Checkpoint:
    from driftline.prediction_log.export import Checkpoint, read_checkpoint

    try:
        found = read_checkpoint(state)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    if found is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise CommandError(f"{out}: exists, and without {state.name} it is not an export that can be continued")
        return Checkpoint(question)
    if found.question != question:
        begun = found.question
        differs = ", ".join(f"{key} {begun.get(key)!r}" for key in question if begun.get(key) != question[key])
        raise CommandError(f"{state}: the export was begun with {differs}; name another --out")
    return found


def _sinks(out: Path, form: str, *, with_inputs: bool, with_labels: bool) -> Callable[[TaskName], Sink]:
    from driftline.prediction_log.columns import COLUMNS
    from driftline.prediction_log.export import JsonLines

    if form == "jsonl":
        return lambda _: JsonLines(out)
    try:
        from driftline.prediction_log.parquet import ParquetFiles
    except ImportError:
        raise CommandError("--format parquet needs pyarrow: pip install 'driftline[parquet]'") from None
    more = [*(["input"] if with_inputs else []), *(["outcome", "label_time"] if with_labels else [])]
    return lambda task: ParquetFiles(out, [*COLUMNS[task], *more], task)


async def _run(
    settings: CommandSettings,
    checkpoint: Checkpoint,
    state: Path,
    sink_of: Callable[[TaskName], Sink],
    since_ms: int,
    horizon: int,
) -> Any:
    from driftline.prediction_log.export import Export, task_of
    from kafka_runtime.topic_reader import reader

    question = checkpoint.question
    bar = terminal.progress_bar()
    async with AsyncExitStack() as stack:
        stack.enter_context(bar)
        shown = bar.add_task(terminal.clean(question["topic"]), total=None)
        predictions = await stack.enter_async_context(reader(settings, blocked=terminal.note_blocked))
        task = await task_of(predictions, question["topic"], checkpoint, since_ms, question["name"])
        outcomes = await _outcomes(settings, horizon, task) if question["labels"] else None
        inputs = (
            await stack.enter_async_context(reader(settings, blocked=terminal.note_blocked))
            if question["inputs"]
            else None
        )
        about = (outcomes, checkpoint, state, sink_of(task), question["name"], task)
        export = Export(predictions, inputs, settings.topic_events, *about)
        await export.run(question["topic"], since_ms, lambda n, of: bar.update(shown, completed=n, total=of))
    return export.done


async def _outcomes(settings: CommandSettings, horizon: int, task: TaskName) -> Outcomes:
    """Return outcomes by source position, from all labels and all predictions of labelled customers."""
    from driftline.paired_predictions import Paired
    from kafka_runtime.topic_reader import reader

    found = Paired(settings.topic_events, time.time_ns() // 1_000_000, SKEW_MS, everywhere=False, task=task)
    async with reader(settings, blocked=terminal.note_blocked) as reading:
        async for record in reading.scan(settings.topic_labels):
            found.label(record.value)
        async for record in reading.scan(settings.topic_predictions):
            found.prediction(record.value, record.headers)
    return found.outcomes(horizon)
