"""`driftline backtest`: the command around driftline.policy_backtest."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings
from driftline.since import parse_since
from kafka_runtime.kafka_types import KafkaError
from kafka_runtime.topic_reader import Reader, reader
from schemas.alert import RELATIONAL, Alert, decode_alert
from schemas.measurement import decode_measurement, is_window
from schemas.timestamps import render

if TYPE_CHECKING:
    from driftline.policy_backtest import Episode, Replay

_CONFIRM = re.compile(r"([^:,]+):([1-9][0-9]?)/([1-9][0-9]?)")
_WHY = {
    "no_decision": "hold no decision (an older version wrote them)",
    "cut": "ended together with others that the topic no longer holds",
    "too_old": "had ended more than a day before they were measured, and were not announced (--backlog decides them)",
}


def command(
    policy: Annotated[Literal["classic", "calibrated"] | None, typer.Option(help="The rule, as DRIFT_POLICY.")] = None,
    effect_warning: Annotated[float | None, typer.Option(min=1e-9, help="As DRIFT_EFFECT_WARNING.")] = None,
    effect_critical: Annotated[float | None, typer.Option(min=1e-9, help="As DRIFT_EFFECT_CRITICAL.")] = None,
    false_pages: Annotated[
        float | None, typer.Option(min=1e-9, max=1000.0, help="As DRIFT_FALSE_PAGES_PER_MONTH.")
    ] = None,
    confirm: Annotated[
        str | None, typer.Option(help="As DRIFT_CONFIRM, for some window lengths or all: 15m:2/3,1h:1/1.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Show only what was open since then: 30d, or an RFC 3339 date-time.")
    ] = None,
    backlog: Annotated[
        bool, typer.Option("--backlog", help="Decide windows, too, that were too old to be announced.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Repeat past decisions under another policy, and show them beside the announced alerts.

    Without an option, each window keeps the value that it was decided with; without any option both sides are equal. A
    feature's limits from its bundle stay. Every measurement that the topic holds (30 days) is read, independent of
    --since. Alerts announced before the first of them are not shown. No record is written.

    Example: `driftline backtest --effect-warning 0.15 --confirm 15m:3/4 --since 7d`
    """
    from driftline.policy_backtest import Change, Replay, episodes_of

    change = Change(policy, effect_warning, effect_critical, false_pages, _confirm(confirm))
    start_ms = parse_since(since)
    settings = read_settings()
    replay = Replay(change, backlog=backlog)
    try:
        with terminal.status("reading measurements …"):
            alerts = asyncio.run(_read(settings, replay))
    except (KafkaError, TimeoutError, OSError) as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    known = replay.since()
    announced = [e for e in episodes_of(alerts) if e.model in known and e.start >= known[e.model]]
    shown = [[e for e in side if _open_since(e, start_ms)] for side in (announced, episodes_of(replay.alerts))]
    if as_json:
        terminal.show_json(_as_dict(replay, *shown), indent=True)
    else:
        _show(replay, *shown)


def _confirm(text: str | None) -> Mapping[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for entry in text.split(",") if text is not None else ():
        match = _CONFIRM.fullmatch(entry.strip())
        if match is None or int(match[2]) > int(match[3]):
            raise CommandError(f"--confirm: {entry.strip()!r}: expected LENGTH:k/N with k at most N, like 15m:2/3")
        found[match[1].strip()] = int(match[2]), int(match[3])
    return found


async def _read(settings: CommandSettings, replay: Replay) -> list[Alert]:
    """Read every measurement into the replay; return the announced alerts."""
    async with reader(settings, blocked=terminal.note_blocked) as reading:
        await _measurements(reading, settings.topic_measurements, replay)
        alerts = []
        async for record in reading.scan(settings.topic_alerts):
            try:
                alerts += [decode_alert(record.value)] if record.value is not None else []
            except ValueError as error:
                terminal.note(f"{settings.topic_alerts}, offset {record.offset}: {error}")
        return alerts


async def _measurements(reading: Reader, topic: str, replay: Replay) -> None:
    async for record in reading.scan(topic):
        if record.value is None or not is_window(record.key):
            continue
        try:
            measurement = decode_measurement(record.value)
        except ValueError as error:
            terminal.note(f"{topic}, offset {record.offset}: {error}")
        else:
            replay.take(measurement)


def _open_since(episode: Episode, start_ms: int) -> bool:
    return episode.end is None or episode.end >= render(start_ms)


def _as_dict(replay: Replay, announced: Sequence[Episode], replayed: Sequence[Episode]) -> dict[str, Any]:
    from driftline.policy_backtest import side_by_side

    return {
        "policy": {model: policy.stated() for model, policy in replay.policies().items()},
        "since": replay.since(),
        "windows": replay.decided,
        "left_out": replay.left_out,
        "announced": [episode.as_dict() for episode in announced],
        "backtest": [episode.as_dict() for episode in replayed],
        "both": sum(None not in pair for pair in side_by_side(announced, replayed)),
    }


def _show(replay: Replay, announced: Sequence[Episode], replayed: Sequence[Episode]) -> None:
    from driftline.policy_backtest import side_by_side

    pairs = side_by_side(announced, replayed)
    if pairs:
        columns = ("feature", "announced", "messages", "under this policy", "messages")
        rows = []
        for one, other in pairs:
            episode = one or other
            assert episode is not None, "a pair has a side"  # noqa: S101
            rows.append((_subject(episode), *_cells(one), *_cells(other)))
        terminal.show_table(columns, rows, right=("messages",))
    both = sum(None not in pair for pair in pairs)
    announced_and_replayed = f"{_sum(announced)} announced, {_sum(replayed)} under this policy"
    terminal.show(f"{replay.decided:,} windows decided again: {announced_and_replayed}, {both} on both sides")
    for reason, count in Counter(replay.left_out).items():
        if count:
            terminal.note(f"{count:,} windows left out: they {_WHY[reason]}")


def _subject(episode: Episode) -> str:
    if episode.features:
        return "group: " + ", ".join(episode.features)
    if episode.alertname in RELATIONAL:
        return "features together"
    return episode.feature or ("the score" if "Drift" in episode.alertname else "all")


def _cells(episode: Episode | None) -> tuple[str, str]:
    if episode is None:
        return "–", ""
    end = "open" if episode.end is None else f"to {terminal.second(episode.end)}"
    return f"{episode.alertname} {episode.severity}, {terminal.second(episode.start)} {end}", str(episode.messages)


def _sum(episodes: Sequence[Episode]) -> str:
    count = len(episodes)
    return f"{count} episode{'' if count == 1 else 's'} ({sum(e.messages for e in episodes)} messages)"
