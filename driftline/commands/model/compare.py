"""`driftline compare`: is the challenger better?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from driftline import terminal
from driftline.errors import NOT_ENOUGH, CommandError
from driftline.model_life.model_comparison import LOSSES, ONE_LOOK_CUSTOMERS, Comparison, Metric, metric_of, relative
from driftline.settings import read_settings
from driftline.since import horizon_ms, parse_since
from schemas import timestamps
from schemas.timestamps import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from driftline.model_life.challenger_comparison import Findings
    from driftline.paired_predictions import ModelName, Paired
    from schemas.bundle.manifest import AnyBusiness
    from schemas.measurement import Measurement


# As far back as `driftline report` looks: the newest windows are in it, whatever their length.
SHARES_SINCE_MS = 7 * 86_400_000


def command(
    since: Annotated[
        str | None,
        typer.Option(help="Predictions written since then: an RFC 3339 date-time.", show_default="all that are kept"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels from a JSON Lines file instead of the topic.", show_default=False)
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="What better means.", show_default="accuracy; of a regression mae")
    ] = None,
    margin: Annotated[
        float,
        typer.Option(min=0.0, help="By how much it must be better: in the metric's unit; mae, rmse: a share of it."),
    ] = 0.0,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the interval.")] = 0.95,
    min_customers: Annotated[
        int, typer.Option(min=30, help="How many labelled customers decide; set it before you look.")
    ] = ONE_LOOK_CUSTOMERS,
    champion: Annotated[
        str | None, typer.Option(metavar="NAME@VERSION", show_default="who answered last on predictions")
    ] = None,
    challenger: Annotated[
        str | None, typer.Option(metavar="NAME@VERSION", show_default="who scored last on predictions-shadow")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A bundle with the worth of outcomes in [business].", show_default=False)
    ] = None,
    horizon: Annotated[
        str, typer.Option(help="How long after its prediction a label may arrive; younger ones do not count.")
    ] = "90d",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare challenger and champion.

    Exit code 0: the challenger is better; 1: not shown to be; 3: not enough labels yet.

    The first --min-customers customers decide, in the order of their events, once --horizon has passed for every label:
    labels of customers who leave arrive first. With fewer customers there is no result. Later runs use the same
    customers, so the error probability applies once. In shadow mode both models scored the same events. With a split,
    name the challenger: its customers are compared with the others. The shares of missing values and unseen categories
    are those of the drift worker's newest window.

    Example: `driftline compare --since 2026-11-01T00:00:00Z --metric f1 --margin 0.01 --min-customers 3000`
    """
    from driftline.drift_history import read_newest, share_lines
    from driftline.model_life.challenger_comparison import decide, models, read_pairs
    from schemas.bundle.manifest import BUSINESS

    business, classes = _business(model)
    if metric == "business_value" and business is None:
        raise CommandError("--metric business_value: --model BUNDLE must hold the worth of outcomes ([business])")
    settings, now_ms = read_settings(), time.time_ns() // 1_000_000
    named = _named("--champion", champion), _named("--challenger", challenger)
    found = asyncio.run(read_pairs(settings, labels, _begun(since), now_ms, named[0], classes))
    try:
        asked = metric_of(metric, found.task, "accuracy")
    except ValueError as error:
        raise CommandError(str(error)) from None
    if business is not None and not isinstance(business, BUSINESS[found.task]):
        raise CommandError(f"--model {model}: its [business] is of another task than {found.task}")
    pair = models(found, *named)
    findings: Findings | None = None
    newest: Mapping[str, Measurement] = {}
    if pair is not None:
        findings = decide(
            found, *pair, asked, horizon_ms(horizon), min_customers, business, margin=margin, confidence=confidence
        )
        newest = asyncio.run(read_newest(settings, pair[0][0], now_ms - SHARES_SINCE_MS))
    if as_json:
        terminal.show_json(_as_dict(findings, min_customers, found, newest))
    else:
        _show(findings, min_customers, margin, confidence, business)
        for line in share_lines(newest):
            terminal.show(line)
    raise typer.Exit(_exit_code(findings))


def _business(model: Path | None) -> tuple[AnyBusiness | None, Sequence[str]]:
    """Return what the bundle's outcomes are worth, and its classes."""
    from schemas.bundle.manifest import MANIFEST, BundleError, parse_manifest

    if model is None:
        return None, ()
    try:
        manifest = parse_manifest((model / MANIFEST).read_bytes())
    except (OSError, BundleError) as error:
        raise CommandError(f"--model {model}: {error}") from None
    return manifest.business, manifest.classes or ()


def _begun(since: str | None) -> int:
    """Return epoch milliseconds. A time relative to now would select other customers at every run."""
    if since is not None and timestamps.parse(since) is None:
        raise CommandError("--since: expected an RFC 3339 date-time, the same at every look")
    return parse_since(since)


def _named(option: str, text: str | None) -> ModelName | None:
    if text is None:
        return None
    name, _, version = text.partition("@")
    if not name or not version:
        raise CommandError(f"{option}: expected NAME@VERSION, like churn-telco@1.4.0")
    return name, version


def _exit_code(findings: Findings | None) -> int:
    if findings is None or findings.comparison is None or findings.comparison.better is None:
        return NOT_ENOUGH
    return 0 if findings.comparison.better else 1


def _verdict(findings: Findings | None) -> str:
    return {0: "better", 1: "not_better", NOT_ENOUGH: "not_enough_data"}[_exit_code(findings)]


def _as_dict(
    findings: Findings | None, needed: int, found: Paired, newest: Mapping[str, Measurement]
) -> dict[str, Any]:
    from driftline.drift_history import newest_shares

    base: dict[str, Any] = {"verdict": _verdict(findings), "customers": 0, "needed": needed}
    if findings is not None:
        base |= asdict(findings)
        for side in ("champion", "challenger"):
            base[side] = dict(zip(("name", "version"), base[side], strict=True))
        until = base.pop("until_ms")
        if not base["also"]:
            del base["also"]
        base["until"] = None if until is None else render(until)
    shares = newest_shares(newest)
    data = None if shares is None else {"window": msgspec.to_builtins(shares[0].window), "features": shares[1]}
    return {**base, "data": data, "left_out": dict(found.left_out)}


def _show(
    findings: Findings | None, needed: int, margin: float, confidence: float, business: AnyBusiness | None
) -> None:
    if findings is None:
        terminal.show(f"not enough data: 0 of {needed:,} labelled customers (no challenger's predictions were found)")
        return
    f = findings
    terminal.show(f"champion {'@'.join(f.champion)}, challenger {'@'.join(f.challenger)}, {f.mode}")
    if f.coverage is not None:
        share = f.coverage.both / f.coverage.champion if f.coverage.champion else 0.0
        terminal.show(
            f"{f.coverage.both:,} of {f.coverage.champion:,} answered events have both predictions ({share:.1%})"
        )
    if f.comparison is None or f.until_ms is None:
        terminal.show(f"not enough data: {f.customers:,} of {needed:,} customers whose labels had their time")
        return
    columns = ("", "champion", "challenger", "advantage", f"{confidence:.0%} interval")
    rows = [_cells(f.comparison)]
    if f.value is not None and business is not None and f.value.metric != f.comparison.metric:
        rows.append(_cells(f.value, f" ({business.currency} per customer)"))
    rows += [_cells(one) for one in f.also]
    terminal.show_table(columns, rows, right=columns[1:])
    c = f.comparison
    terminal.show(f"decided by {c.customers:,} customers, {c.rows:,} predictions, made up to {render(f.until_ms)}")
    by = f" by more than {margin:g}{' of the champion' if relative(c.metric) else ''}" if margin else ""
    words = {0: f"better{by}: yes", 1: f"better{by}: not shown", NOT_ENOUGH: f"not enough data: {c.reason}"}
    terminal.show(words[_exit_code(f)])


def _cells(c: Comparison, unit: str = "") -> list[str]:
    form = "+.1%" if relative(c.metric) else "+.4f"
    known = c.low is not None and c.high is not None
    interval = f"{terminal.number(c.low, form)} to {terminal.number(c.high, form)}" if known else terminal.UNKNOWN
    less = " (less is better)" if c.metric in LOSSES else ""
    sides = (terminal.number(c.champion, ".4f"), terminal.number(c.challenger, ".4f"))
    return [f"{c.metric}{unit}{less}", *sides, terminal.number(c.advantage, form), interval]
