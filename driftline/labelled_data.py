"""Where commands find customers whose label is known: a file, or the topics of events and labels."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field

from driftline.errors import CommandError
from driftline.settings import CommandSettings
from driftline.since import parse_since
from schemas.environment import KNOWN
from streaming.settings import Duration, SettingsError

if TYPE_CHECKING:
    from schemas.bundle import EventMapping, Feature
    from streaming.records import ConsumerRecord
    from training.dataset import Label
    from training.labelled import Labelled

_BATCH = 5000

# What a person says about labelled data, the same for every command that takes one file of it or the topics: `Where`.
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


class LabelSettings(CommandSettings):
    """What makes an event valid, and how long a label may take: as the services have it."""

    scorer_max_event_bytes: Annotated[int, Field(ge=1024, le=900_000)] = 65_536
    scorer_unknown_fields: Literal["ignore", "reject"] = "ignore"
    scorer_max_future_skew: Duration = timedelta(minutes=5)
    drift_label_horizon: Duration = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Where:
    """What a person said about labelled data: one of a file, with the column of the label, and the topics."""

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
    positive: Label,
    *,
    absent_negative: bool = False,
) -> Labelled:
    """Customers with the columns of these features; CommandError, or DatasetError."""
    from training.labelled import read_labelled

    if where.data is not None:
        assert where.target is not None, "the constructor asked for it"  # noqa: S101
        return read_labelled(where.data, [f.name for f in features], where.target, positive, where.customer)
    return labelled_events(features, mapping, parse_since(where.since), absent_negative=absent_negative)


def of_both(*models: Sequence[Feature]) -> tuple[Feature, ...]:
    """Every feature that one of them needs, once; of two with one name, the first one's."""
    return tuple({feature.name: feature for features in reversed(models) for feature in reversed(features)}.values())[
        ::-1
    ]


def labelled_events(
    features: Sequence[Feature], mapping: EventMapping, since_ms: int, *, absent_negative: bool = False
) -> Labelled:
    """Events written since then that a label belongs to, from the topics; CommandError."""
    from streaming.reading import READ_ERRORS

    try:
        settings = LabelSettings.read(os.environ, KNOWN)
    except SettingsError as error:
        raise CommandError(str(error), 2) from None
    try:
        return asyncio.run(_read(settings, features, mapping, since_ms, absent_negative=absent_negative))
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None


async def _read(
    settings: LabelSettings,
    features: Sequence[Feature],
    mapping: EventMapping,
    since_ms: int,
    *,
    absent_negative: bool,
) -> Labelled:
    from schemas.verdict import Rules
    from streaming.reading import reader
    from training.labelled import EventJoin

    now_ms = time.time_ns() // 1_000_000
    rules = Rules(
        max_event_bytes=settings.scorer_max_event_bytes,
        max_future_skew_ms=_ms(settings.scorer_max_future_skew),
        reject_unknown_fields=settings.scorer_unknown_fields == "reject",
    )
    found = EventJoin(features, mapping, rules, absent_negative=absent_negative)
    async with reader(settings) as reading:
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
