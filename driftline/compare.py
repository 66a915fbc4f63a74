"""`driftline compare`: is the challenger better? The command around training.compare and driftline.paired."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from drift_worker.performance import money_of
from driftline.errors import NOT_ENOUGH, CommandError
from driftline.settings import CommandSettings, read_settings
from driftline.since import parse_since
from schemas import rfc3339
from schemas.rfc3339 import render
from streaming.settings import duration
from training.compare import Comparison, Metric, compare, deciding

if TYPE_CHECKING:
    from driftline.paired import Coverage, Labelled, ModelName, Paired
    from schemas.bundle import Business

# A challenger that is right in 2 points more of a hundred, where the two differ on ten, is found at 2,000 customers in
# four of five cases.
MIN_CUSTOMERS = 2000
# As a service allows labels to be ahead of the clock.
SKEW_MS = 300_000


@dataclass(frozen=True, slots=True)
class Findings:
    """mode: `shadow` or `split`. customers: settled so far, of the smaller side. until_ms: events up to then decide.

    value: money per customer, if the bundle says what outcomes are worth. comparison, value: None before that.
    """

    mode: str
    champion: ModelName
    challenger: ModelName
    coverage: Coverage | None
    customers: int
    needed: int
    until_ms: int | None
    comparison: Comparison | None
    value: Comparison | None


def command(
    since: Annotated[
        str | None,
        typer.Option(help="Predictions written since then: an RFC 3339 date-time.", show_default="all that are kept"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels from a JSON Lines file instead of the topic.", show_default=False)
    ] = None,
    metric: Annotated[Metric, typer.Option(help="What better means.")] = "accuracy",
    margin: Annotated[float, typer.Option(min=0.0, help="By how much it must be better, in the metric's unit.")] = 0.0,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the interval.")] = 0.95,
    min_customers: Annotated[
        int, typer.Option(min=30, help="How many labelled customers decide; set it before you look.")
    ] = MIN_CUSTOMERS,
    champion: Annotated[
        str | None, typer.Option(metavar="NAME@VERSION", show_default="who answered last on predictions")
    ] = None,
    challenger: Annotated[
        str | None, typer.Option(metavar="NAME@VERSION", show_default="who scored last on predictions-shadow")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A bundle whose [business] says what outcomes are worth.", show_default=False)
    ] = None,
    horizon: Annotated[
        str, typer.Option(help="How long after its prediction a label may come; younger ones do not count.")
    ] = "90d",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Is the challenger better than the champion? Exit code 0: yes; 1: not shown to be; 3: not enough labels yet.

    The first --min-customers customers decide, in the order of their events, once every label had --horizon to come:
    those who leave are labelled first. Before there are so many there is no verdict, and afterwards looking again asks
    the same ones: the error is spent once.
    In shadow both scored the same events. With a split, name the challenger: its customers stand against the others.

    Example: `driftline compare --since 2026-11-01T00:00:00Z --metric f1 --margin 0.01 --min-customers 3000`
    """
    business = _business(model)
    if metric == "business_value" and business is None:
        raise CommandError("--metric business_value: --model BUNDLE must say what an outcome is worth ([business])")
    settings, now_ms = read_settings(), time.time_ns() // 1_000_000
    found = asyncio.run(_read(settings, labels, _begun(since), now_ms))
    pair = _models(found, _named("--champion", champion), _named("--challenger", challenger))
    if pair is None:
        findings = None
    else:
        findings = decide(
            found, *pair, metric, horizon_ms(horizon), min_customers, business, margin=margin, confidence=confidence
        )
    if as_json:
        print(orjson.dumps(_as_dict(findings, min_customers, found)).decode())
    else:
        _show(findings, min_customers, margin, confidence, business)
    raise typer.Exit(_exit_code(findings))


def decide(
    found: Paired,
    champion: ModelName,
    challenger: ModelName,
    mode: str,
    metric: Metric,
    horizon: int,
    needed: int,
    business: Business | None,
    *,
    margin: float,
    confidence: float,
) -> Findings:
    """The verdict by the rule of training/compare.py; none of it depends on when one looks."""
    sides = (found.of_both if mode == "shadow" else found.of_each)(champion, challenger, horizon)
    coverage = found.coverage(champion, challenger) if mode == "shadow" else None
    counts, times = [], []
    for side in sides:
        _, labelled, until_ms = deciding(side.time_ms, side.rows.customer, needed)
        counts.append(labelled)
        times.append(until_ms)
    known = [at for at in times if at is not None]
    if len(known) < len(sides):
        return Findings(mode, champion, challenger, coverage, min(counts), needed, None, None, None)
    until = max(known)
    kept = [_deciding(side, needed, until, exact=mode == "shadow").rows for side in sides]
    money = money_of(business)
    answers = {
        name: compare(name, *kept, margin=margin if name == metric else 0.0, confidence=confidence, money=money)
        for name in ((metric, "business_value") if money is not None else (metric,))
    }
    value = answers.get("business_value")
    return Findings(mode, champion, challenger, coverage, min(counts), needed, until, answers[metric], value)


def _deciding(side: Labelled, needed: int, until: int, *, exact: bool) -> Labelled:
    """In shadow the first n; in a split, of the larger side, everyone who was known when the smaller one had n."""
    return side.take(deciding(side.time_ms, side.rows.customer, needed)[0] if exact else side.time_ms <= until)


def _business(model: Path | None) -> Business | None:
    from schemas.bundle import MANIFEST, BundleError, parse_manifest

    if model is None:
        return None
    try:
        return parse_manifest((model / MANIFEST).read_bytes()).business
    except (OSError, BundleError) as error:
        raise CommandError(f"--model {model}: {error}") from None


def _begun(since: str | None) -> int:
    """Epoch milliseconds. A time that is counted from now would ask other customers at every look."""
    if since is not None and rfc3339.parse(since) is None:
        raise CommandError("--since: expected an RFC 3339 date-time, the same at every look")
    return parse_since(since)


def _named(option: str, text: str | None) -> ModelName | None:
    if text is None:
        return None
    name, _, version = text.partition("@")
    if not name or not version:
        raise CommandError(f"{option}: expected NAME@VERSION, like churn-telco@1.4.0")
    return name, version


def horizon_ms(text: str) -> int:
    """--horizon in ms; CommandError."""
    try:
        length = duration(text)
    except ValueError as error:
        raise CommandError(f"--horizon: {error}") from None
    assert isinstance(length, timedelta), "duration gives one for a string"  # noqa: S101
    return round(length / timedelta(milliseconds=1))


async def _read(settings: CommandSettings, labels: Path | None, since_ms: int, now_ms: int) -> Paired:
    """All three topics, in the order that lets predictions of customers without a label be forgotten at once."""
    from driftline.paired import Paired
    from streaming.reading import READ_ERRORS, reader

    found = Paired(settings.topic_events, now_ms, SKEW_MS)
    try:
        if labels is not None:
            with labels.open("rb") as lines:
                for line in lines:
                    found.label(line.strip())
        async with reader(settings) as reading:
            if labels is None:
                async for record in reading.scan(settings.topic_labels):
                    found.label(record.value)
            async for record in reading.scan(settings.topic_shadow, since_ms):
                found.shadow(record.value, record.headers)
            async for record in reading.scan(settings.topic_predictions, since_ms):
                found.prediction(record.value, record.headers)
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    return found


def _models(
    found: Paired, champion: ModelName | None, challenger: ModelName | None
) -> tuple[ModelName, ModelName, str] | None:
    """Whom to compare, and how; None if there is no challenger yet."""
    answering, shadowing = found.models("predictions"), found.models("shadow")
    if challenger is not None and challenger not in shadowing:
        if challenger not in answering:
            return None
        others = [name for name in answering if name != challenger]
        if champion is None and not others:
            return None
        return champion or others[0], challenger, "split"
    if not shadowing and len({name for name, _ in answering}) > 1:
        names = ", ".join("@".join(name) for name in answering)
        raise CommandError(f"no shadow predictions, and several models answer: {names}: name the --challenger")
    if not shadowing or not answering:
        return None
    return champion or answering[0], challenger or shadowing[0], "shadow"


def _exit_code(findings: Findings | None) -> int:
    if findings is None or findings.comparison is None or findings.comparison.better is None:
        return NOT_ENOUGH
    return 0 if findings.comparison.better else 1


def _verdict(findings: Findings | None) -> str:
    return {0: "better", 1: "not_better", NOT_ENOUGH: "not_enough_data"}[_exit_code(findings)]


def _as_dict(findings: Findings | None, needed: int, found: Paired) -> dict[str, Any]:
    base: dict[str, Any] = {"verdict": _verdict(findings), "customers": 0, "needed": needed}
    if findings is not None:
        base |= asdict(findings)
        for side in ("champion", "challenger"):
            base[side] = dict(zip(("name", "version"), base[side], strict=True))
        until = base.pop("until_ms")
        base["until"] = None if until is None else render(until)
    return {**base, "left_out": dict(found.left_out)}


def _show(findings: Findings | None, needed: int, margin: float, confidence: float, business: Business | None) -> None:
    from rich.console import Console
    from rich.table import Table

    if findings is None:
        print(f"not enough data: 0 of {needed:,} labelled customers (no challenger's predictions were found)")
        return
    f = findings
    console = Console(width=None if sys.stdout.isatty() else 160)
    print(f"champion {'@'.join(f.champion)}, challenger {'@'.join(f.challenger)}, {f.mode}")
    if f.coverage is not None:
        share = f.coverage.both / f.coverage.champion if f.coverage.champion else 0.0
        print(f"{f.coverage.both:,} of {f.coverage.champion:,} answered events have both predictions ({share:.1%})")
    if f.comparison is None or f.until_ms is None:
        print(f"not enough data: {f.customers:,} of {needed:,} customers whose labels had their time")
        return
    table = Table(box=None)
    for name in ("", "champion", "challenger", "advantage", f"{confidence:.0%} interval"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(*_cells(f.comparison))
    if f.value is not None and business is not None and f.value.metric != f.comparison.metric:
        table.add_row(*_cells(f.value, f" ({business.currency} per customer)"))
    console.print(table, highlight=False)
    c = f.comparison
    print(f"decided by {c.customers:,} customers, {c.rows:,} predictions, made up to {render(f.until_ms)}")
    by = f" by more than {margin:g}" if margin else ""
    words = {0: f"better{by}: yes", 1: f"better{by}: not shown", NOT_ENOUGH: f"not enough data: {c.reason}"}
    print(words[_exit_code(f)])


def _cells(c: Comparison, unit: str = "") -> list[str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f}"

    interval = "–" if c.low is None else f"{c.low:+.4f} to {c.high:+.4f}"
    advantage = "–" if c.advantage is None else f"{c.advantage:+.4f}"
    less = " (less is better)" if c.metric == "brier" else ""
    return [f"{c.metric}{unit}{less}", number(c.champion), number(c.challenger), advantage, interval]
