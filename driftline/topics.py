"""`driftline topics`: the topics of docs/contracts.md, made where they are missing and compared where they exist."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
import typer

from driftline.errors import CommandError
from driftline.settings import read_settings
from schemas.environment import Topics
from streaming.topics import Topic, TopicsError, create, describe

DAY_MS = 86_400_000
# fields of Topics whose partition count is copied from the existing input topic
AS_THE_INPUT = ("topic_predictions", "topic_shadow", "topic_dead_letters")

app = typer.Typer(help="Make and check the topics that Driftline uses.", no_args_is_help=True)


def wanted(
    settings: Topics, existing: dict[str, Topic], partitions: int, replication_factor: int, min_isr: int | None
) -> list[Topic]:
    """Every topic as docs/contracts.md describes it; `partitions` is for customer-events where it does not exist."""
    events = existing.get(settings.topic_events)
    as_input = events.partitions if events is not None else partitions
    retention_days = {
        "topic_events": 7,
        "topic_predictions": 7,
        "topic_shadow": 3,
        "topic_dead_letters": 14,
        "topic_labels": 90,
        "topic_panes": 2,
        "topic_measurements": 30,
    }
    partition_counts = dict.fromkeys(AS_THE_INPUT, as_input) | {
        "topic_events": partitions,
        "topic_labels": 4,
        "topic_label_state": 4,
    }
    out = []
    for field in Topics.model_fields:
        config = {"compression.type": "producer"}
        if field in retention_days:
            config |= {"cleanup.policy": "delete", "retention.ms": str(retention_days[field] * DAY_MS)}
        else:
            config |= {"cleanup.policy": "compact"}
        if field == "topic_alerts":
            # the history of 90 days can be read, and the last state of every alert for ever
            config |= {"min.compaction.lag.ms": str(90 * DAY_MS)}
        if min_isr is not None:
            config["min.insync.replicas"] = str(min_isr)
        out.append(Topic(getattr(settings, field), partition_counts.get(field, 1), replication_factor, config))
    return out


def differences(wanted_topics: list[Topic], existing: dict[str, Topic], *, any_count: str) -> list[str]:
    """One line per topic that is missing or differs. The topic `any_count` may have any number of partitions."""
    lines = []
    for topic in wanted_topics:
        found = existing.get(topic.name)
        if found is None:
            lines.append(f"{topic.name}: missing")
            continue
        if found.partitions != topic.partitions and topic.name != any_count:
            lines.append(f"{topic.name}: {found.partitions} partitions, expected {topic.partitions}")
        if topic.replication_factor not in {-1, found.replication_factor}:
            lines.append(
                f"{topic.name}: replication factor {found.replication_factor}, expected {topic.replication_factor}"
            )
        lines += [
            f"{topic.name}: {name} is {found.config.get(name)}, expected {value}"
            for name, value in topic.config.items()
            if found.config.get(name) != value
        ]
    return lines


_Partitions = Annotated[int, typer.Option(min=1, help="Partitions of a customer-events topic that is made here.")]
_Replication = Annotated[int, typer.Option(help="-1: the broker's default.")]
_MinIsr = Annotated[int | None, typer.Option(min=1, help="min.insync.replicas; the broker's default if not given.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def create_command(
    partitions: _Partitions = 4,
    replication_factor: _Replication = -1,
    min_isr: _MinIsr = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the kafka-topics.sh commands instead, for a platform team.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Make the topics that are missing. Existing ones are left as they are.

    Example: `driftline topics create --partitions 12 --replication-factor 3 --min-isr 2`
    """
    settings = read_settings()
    try:
        names = [getattr(settings, field) for field in Topics.model_fields]
        existing = {} if only_print else asyncio.run(describe(settings, names))
        topics = wanted(settings, existing, partitions, replication_factor, min_isr)
        if only_print:
            print("\n".join(_shell(topic, settings.kafka_bootstrap_servers) for topic in topics))
            return
        missing = [topic for topic in topics if topic.name not in existing]
        asyncio.run(create(settings, missing))
    except TopicsError as error:
        raise CommandError(str(error), 1) from None
    if as_json:
        print(orjson.dumps({"created": [t.name for t in missing], "existing": sorted(existing)}).decode())
        return
    for topic in topics:
        print(f"{topic.name}: {'exists' if topic.name in existing else f'created, {topic.partitions} partitions'}")


@app.command("check")
def check_command(
    partitions: _Partitions = 4,
    replication_factor: _Replication = -1,
    min_isr: _MinIsr = None,
    as_json: _Json = False,
) -> None:
    """Print how the cluster's topics differ from what Driftline expects; exit 1 on any difference.

    Example: `driftline topics check --replication-factor 3 --min-isr 2`
    """
    settings = read_settings()
    try:
        existing = asyncio.run(describe(settings, [getattr(settings, field) for field in Topics.model_fields]))
    except TopicsError as error:
        raise CommandError(str(error), 1) from None
    topics = wanted(settings, existing, partitions, replication_factor, min_isr)
    lines = differences(topics, existing, any_count=settings.topic_events)
    if as_json:
        print(orjson.dumps({"differences": lines}).decode())
    else:
        print("\n".join(lines) or "all topics are as expected")
    if lines:
        raise typer.Exit(1)


def _shell(topic: Topic, servers: str) -> str:
    parts = [f"kafka-topics.sh --bootstrap-server {servers} --create --if-not-exists"]
    parts.append(f"--topic {topic.name} --partitions {topic.partitions}")
    if topic.replication_factor != -1:
        parts.append(f"--replication-factor {topic.replication_factor}")
    parts += [f"--config {name}={value}" for name, value in topic.config.items()]
    return " ".join(parts)
