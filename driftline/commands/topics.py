"""`driftline topics`: the topics of docs/contracts.md, created where missing and compared where they exist."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from driftline import access_plan, terminal
from driftline.errors import CommandError
from driftline.schema_registry import newest_schema
from driftline.settings import read_settings
from driftline.topic_plan import differences, wanted
from kafka_runtime.topics import Topic, TopicsError, create, describe
from schemas.setting_names import Topics

app = typer.Typer(help="Make and check the topics that Driftline uses.", no_args_is_help=True)


_Partitions = Annotated[int, typer.Option(min=1, help="Partitions of a customer-events topic that is made here.")]
_Replication = Annotated[int, typer.Option(help="-1: the broker's default.")]
_MinIsr = Annotated[int | None, typer.Option(min=1, help="min.insync.replicas; the broker's default if not given.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Form(StrEnum):
    """What `create --print` prints."""

    SHELL = "shell"
    STRIMZI = "strimzi"


@app.command("create")
def create_command(
    form: Annotated[
        Form, typer.Argument(help="With --print: kafka-topics.sh commands, or Strimzi's resources with users and ACLs.")
    ] = Form.SHELL,
    partitions: _Partitions = 4,
    replication_factor: _Replication = -1,
    min_isr: _MinIsr = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print what makes the topics instead, for a platform team.")
    ] = False,
    cluster: Annotated[str, typer.Option(help="With --print strimzi: the name of the Kafka resource.")] = "kafka",
    as_json: _Json = False,
) -> None:
    """Create the missing topics. Existing ones are left unchanged.

    Example: `driftline topics create --partitions 12 --replication-factor 3 --min-isr 2`
    """
    settings = read_settings()
    if form is Form.STRIMZI and not only_print:
        raise CommandError("strimzi: expected --print with it; topics are created without a form")
    try:
        names = [getattr(settings, field) for field in Topics.model_fields]
        existing = {} if only_print else asyncio.run(describe(settings, names))
        topics = wanted(settings, existing, partitions, replication_factor, min_isr)
        if only_print and form is Form.STRIMZI:
            users = access_plan.rights(settings, settings.scorer_group, settings.drift_group)
            terminal.show_text(access_plan.strimzi(topics, users, cluster))
            return
        if only_print:
            for topic in topics:
                terminal.show(_shell(topic, settings.kafka_bootstrap_servers))
            return
        missing = [topic for topic in topics if topic.name not in existing]
        asyncio.run(create(settings, missing))
    except TopicsError as error:
        raise CommandError(str(error), 1) from None
    if as_json:
        terminal.show_json({"created": [t.name for t in missing], "existing": sorted(existing)})
        return
    for topic in topics:
        terminal.show(
            f"{topic.name}: {'exists' if topic.name in existing else f'created, {topic.partitions} partitions'}"
        )


@app.command("check")
def check_command(
    partitions: _Partitions = 4,
    replication_factor: _Replication = -1,
    min_isr: _MinIsr = None,
    spec: Annotated[
        Path | None, typer.Option(help="Also check that the newest schema of the events fits this TOML spec.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="With --spec: the subject in the schema registry; {TOPIC_EVENTS}-value.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Print how the cluster's topics differ from what Driftline expects; exit 1 on any difference.

    Example: `driftline topics check --replication-factor 3 --min-isr 2`
    """
    settings = read_settings()
    if subject is not None and spec is None:
        raise CommandError("--subject goes with --spec")
    schema = None if spec is None else newest_schema.check(spec, subject or f"{settings.topic_events}-value")
    try:
        existing = asyncio.run(describe(settings, [getattr(settings, field) for field in Topics.model_fields]))
    except TopicsError as error:
        raise CommandError(str(error), 1) from None
    topics = wanted(settings, existing, partitions, replication_factor, min_isr)
    lines = differences(topics, existing, any_count=settings.topic_events)
    if schema is not None and schema.detail is not None:
        lines.append(f"{schema.subject}: {schema.detail}")
    if as_json:
        shown = {} if schema is None else {"schema": schema.as_json()}
        terminal.show_json({"differences": lines, **shown})
    else:
        for line in lines or ["all topics are as expected"]:
            terminal.show(line)
    if lines:
        raise typer.Exit(1)


def _shell(topic: Topic, servers: str) -> str:
    parts = [f"kafka-topics.sh --bootstrap-server {servers} --create --if-not-exists"]
    parts.append(f"--topic {topic.name} --partitions {topic.partitions}")
    if topic.replication_factor != -1:
        parts.append(f"--replication-factor {topic.replication_factor}")
    parts += [f"--config {name}={value}" for name, value in topic.config.items()]
    return " ".join(parts)
