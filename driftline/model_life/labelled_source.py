"""Sources of labelled customers for commands: a file, or the topics of events and labels."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import CommandSettings
from driftline.since import parse_since
from kafka_runtime.service.setting_types import Duration
from kafka_runtime.service.settings import EventSettings, SettingsError
from schemas.setting_names import KNOWN

if TYPE_CHECKING:
    from driftline.model_life.labelled_customers import Labelled
    from driftline.training.dataset import Label
    from kafka_runtime.kafka_types import ConsumerRecord
    from schemas.bundle.inputs import DataFormat, EventMapping, Feature
    from schemas.task import Task

_BATCH = 5000

# The options for labelled data, the same for every command that takes a file or the topics: `Where`.
FileOption = Annotated[
    Path | None, typer.Option(help="Recent customers with their label: CSV or JSON Lines.", show_default=False)
]
TargetOption = Annotated[str | None, typer.Option(help="Column of the label in --data.", show_default=False)]
CustomerOption = Annotated[
    str | None, typer.Option("--id", help="Column of the customer in --data.", show_default="each row is another")
]
TopicsOption = Annotated[bool, typer.Option("--from-topics", help="Events and the labels that came later, from Kafka.")]
SinceOption = Annotated[
    str | None, typer.Option(help="With --from-topics: from when on, 30d or a date-time.", show_default="all")
]


FormatOption = Annotated[
    Path | None,
    typer.Option(
        "--spec",
        help="TOML spec whose [data] describes --data: separator, decimal, missing, …",
        show_default="the bundle",
    ),
]


def stated_format(spec: Path | None) -> DataFormat | None:
    """Return how a file of customers is written, from a spec; None without one. CommandError."""
    from driftline.training.spec import SpecError, read_feature_spec

    try:
        return None if spec is None else read_feature_spec(spec).data.format()
    except SpecError as error:
        raise CommandError(str(error)) from None


class LabelSettings(CommandSettings, EventSettings):
    """The definition of a valid event, and the label horizon: the same as the services'."""

    drift_label_horizon: Duration = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Where:
    """The source of labelled data: a file with the column of the label, or the topics."""

    data: Path | None
    target: str | None
    customer: str | None
    from_topics: bool
    since: str | None

    def __post_init__(self) -> None:
        if (self.data is None) != self.from_topics:
            raise CommandError("labelled customers: either --data FILE or --from-topics")
        if self.from_topics and (self.target or self.customer):
            raise CommandError("--target and --id are columns of --data")
        if self.data is not None and self.target is None:
            raise CommandError("--target: the column of --data that holds the label")
        if self.data is not None and self.since is not None:
            raise CommandError("--since goes with --from-topics")


def labelled(
    where: Where,
    features: Sequence[Feature],
    mapping: EventMapping,
    positive: Label | float | None,
    *,
    absent_negative: bool = False,
    form: DataFormat | None = None,
    task: Task | None = None,
) -> Labelled:
    """Return customers with the columns of these features; CommandError, or DatasetError.

    positive: None unless the task is binary. form: of the file. task: of the model; None: binary.
    """
    from driftline.model_life.labelled_customers import read_labelled

    if where.data is not None:
        assert where.target is not None, "the constructor requires it"  # noqa: S101
        name = "binary" if task is None else task.name
        names = [f.name for f in features]
        return read_labelled(where.data, names, where.target, positive, where.customer, form, name)
    return labelled_events(features, mapping, parse_since(where.since), absent_negative=absent_negative, task=task)


def of_both(*models: Sequence[Feature]) -> tuple[Feature, ...]:
    """Return every feature that one of them needs, once; of two with one name, the first one's."""
    return tuple({feature.name: feature for features in reversed(models) for feature in reversed(features)}.values())[
        ::-1
    ]


def labelled_events(
    features: Sequence[Feature],
    mapping: EventMapping,
    since_ms: int,
    *,
    absent_negative: bool = False,
    task: Task | None = None,
) -> Labelled:
    """Return labelled events written since then, from the topics; CommandError."""
    from kafka_runtime.schema_registry.client import RegistryUnreachableError
    from kafka_runtime.topic_reader import READ_ERRORS

    try:
        settings = LabelSettings.read(os.environ, KNOWN)
    except SettingsError as error:
        raise CommandError(str(error), 2) from None
    try:
        return asyncio.run(_read(settings, features, mapping, since_ms, absent_negative=absent_negative, task=task))
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    except RegistryUnreachableError as error:
        raise CommandError(str(error), 1) from None


async def _read(
    settings: LabelSettings,
    features: Sequence[Feature],
    mapping: EventMapping,
    since_ms: int,
    *,
    absent_negative: bool,
    task: Task | None,
) -> Labelled:
    from driftline.model_life.labelled_customers import EventJoin
    from driftline.settings import read_schemas
    from kafka_runtime.topic_reader import reader
    from schemas.validation import Rules

    now_ms = time.time_ns() // 1_000_000
    schemas = read_schemas(mapping.format)
    rules = Rules.of(settings)
    found = EventJoin(features, mapping, rules, absent_negative=absent_negative, schemas=schemas, task=task)
    async with reader(settings, blocked=terminal.note_blocked) as reading:
        async for record in reading.scan(settings.topic_labels, since_ms):
            found.label(record.value, now_ms)
        batch: list[ConsumerRecord] = []
        async for record in reading.scan(settings.topic_events, since_ms):
            batch.append(record)
            if len(batch) == _BATCH:
                found.events(batch, now_ms)
                batch = []
        if batch:
            found.events(batch, now_ms)
    return found.joined(_ms(settings.drift_label_horizon), min(now_ms, found.newest_ms))


def _ms(length: timedelta) -> int:
    return round(length / timedelta(milliseconds=1))
