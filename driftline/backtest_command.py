"""`driftline backtest`: the command around driftline.backtest."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer
from rich.console import Console
from rich.table import Table

from driftline.errors import CommandError
from driftline.settings import CommandSettings, read_settings
from driftline.since import parse_since
from schemas.alert import Alert, decode_alert
from schemas.measurement import decode_measurement, is_window
from schemas.rfc3339 import render
from streaming.reading import Reader, reader
from streaming.records import KafkaError

if TYPE_CHECKING:
    from driftline.backtest import Episode, Replay

_CONFIRM = re.compile(r"([^:,]+):([1-9][0-9]?)/([1-9][0-9]?)")
_WHY = {
    "no_decision": "do not say what they were decided on (they were written by an older version)",
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
    """Decide again what was measured, under another policy, and show it beside what was announced.

    What is not said stays as it was when each window was decided; without any option both sides are alike. A feature's
    own limits, from its bundle, stay. Every measurement that the topic holds (30 days) is read, whatever --since says.
    What was announced before the first of them is not shown. Nothing is written.

    Example: `driftline backtest --effect-warning 0.15 --confirm 15m:3/4 --since 7d`
    """
    from driftline.backtest import Change, Replay, episodes_of

    change = Change(policy, effect_warning, effect_critical, false_pages, _confirm(confirm))
    start_ms = parse_since(since)
    settings = read_settings()
    replay = Replay(change, backlog=backlog)
    try:
        with Console(stderr=True).status("reading measurements …"):
            alerts = asyncio.run(_read(settings, replay))
    except (KafkaError, TimeoutError, OSError) as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    known = replay.since()
    announced = [e for e in episodes_of(alerts) if e.model in known and e.start >= known[e.model]]
    shown = [[e for e in side if _open_since(e, start_ms)] for side in (announced, episodes_of(replay.alerts))]
    if as_json:
        print(orjson.dumps(_as_dict(replay, *shown), option=orjson.OPT_INDENT_2).decode())
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
    """Every measurement into the replay; the alerts that were announced."""
    async with reader(settings) as reading:
        await _measurements(reading, settings.topic_measurements, replay)
        alerts = []
        async for record in reading.scan(settings.topic_alerts):
            try:
                alerts += [decode_alert(record.value)] if record.value is not None else []
            except ValueError as error:
                sys.stderr.write(f"{settings.topic_alerts}, offset {record.offset}: {error}\n")
        return alerts


async def _measurements(reading: Reader, topic: str, replay: Replay) -> None:
    async for record in reading.scan(topic):
        if record.value is None or not is_window(record.key):
            continue
        try:
            measurement = decode_measurement(record.value)
        except ValueError as error:
            sys.stderr.write(f"{topic}, offset {record.offset}: {error}\n")
        else:
            replay.take(measurement)


def _open_since(episode: Episode, start_ms: int) -> bool:
    return episode.end is None or episode.end >= render(start_ms)


def _as_dict(replay: Replay, announced: Sequence[Episode], replayed: Sequence[Episode]) -> dict[str, Any]:
    from driftline.backtest import side_by_side

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
    from driftline.backtest import side_by_side

    console = Console(width=None if sys.stdout.isatty() else 160)
    pairs = side_by_side(announced, replayed)
    if pairs:
        table = Table(box=None)
        for name in ("feature", "announced", "messages", "under this policy", "messages"):
            table.add_column(name, justify="right" if name == "messages" else "left")
        for one, other in pairs:
            episode = one or other
            assert episode is not None, "a pair has a side"  # noqa: S101
            table.add_row(_subject(episode), *_cells(one), *_cells(other))
        console.print(table, highlight=False)
    both = sum(None not in pair for pair in pairs)
    print(f"{replay.decided:,} windows decided again: {_sum(announced)} announced, {_sum(replayed)} under this policy, "
          f"{both} on both sides")  # fmt: skip
    for reason, count in Counter(replay.left_out).items():
        if count:
            print(f"{count:,} windows left out: they {_WHY[reason]}", file=sys.stderr)


def _subject(episode: Episode) -> str:
    if episode.features:
        return "group: " + ", ".join(episode.features)
    return episode.feature or ("the score" if "Drift" in episode.alertname else "all")


def _cells(episode: Episode | None) -> tuple[str, str]:
    if episode is None:
        return "–", ""
    end = "open" if episode.end is None else f"to {_second(episode.end)}"
    return f"{episode.alertname} {episode.severity}, {_second(episode.start)} {end}", str(episode.messages)


def _sum(episodes: Sequence[Episode]) -> str:
    count = len(episodes)
    return f"{count} episode{'' if count == 1 else 's'} ({sum(e.messages for e in episodes)} messages)"


def _second(time: str) -> str:
    return f"{time[:10]} {time[11:19]}Z"
