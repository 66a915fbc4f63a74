"""`driftline produce`: a customer file as a stream of events, at a rate, with injected drift and bad records."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError

HELP = """
Replay customers as events to `TOPIC_EVENTS`, in a random order, over and over.

What an event looks like comes from the bundle (`--model`) or, before there is one, from the spec (`--spec`).
Every event has its own event_id; its time is now. Customers are named by the id column of the bundle or the spec, or of
`--id`; without one, by the number of their row. The seed decides the order, which customers drift and which records
are bad.

`--drift FEATURE:KIND=VALUE[@FROM[..TO]]`, any number of times; FROM and TO are times since the start (500ms, 30s, 2m):

- `monthly_charges:shift=+25@30s..90s` adds to a number
- `tenure:scale=0.5@30s` multiplies a number
- `contract:swap=Month-to-month>Two year:0.5` turns that share of one category into another
- `total_charges:missing=0.2@10s` leaves out that share of a nullable feature
- `payment_method:unseen=0.1@10s` gives that share a category that training never saw

Numbers stay within the feature's min and max, and whole numbers stay whole.

`--bad-records 50` or `--bad-records 0.01`: so many, or that share, are spoilt as upstream spoils them: cut-off JSON,
a NaN token, a number as text, a feature left out, no bytes, null.

Example: `driftline produce --data examples/telco_churn.csv --rate 500
--drift "monthly_charges:shift=+25@30s"`
"""


def command(
    data: Annotated[Path, typer.Option(help="Customers: CSV with a header, or JSON Lines.", show_default=False)],
    rate: Annotated[
        float, typer.Option(min=0, help="Events per second; 0 is as fast as possible.", show_default=False)
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="Bundle whose events to make.", show_default="SCORER_MODEL, else artifacts/model"),
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="Spec whose events to make, instead.", show_default=False)] = None,
    customer: Annotated[
        str | None,
        typer.Option(
            "--id", help="Column of the customers' ids.", show_default="the one that the bundle or spec names"
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Number of records to send.", show_default="never")] = None,
    drift: Annotated[list[str] | None, typer.Option(help="A change, see above.", show_default=False)] = None,
    bad_records: Annotated[str, typer.Option(help="How many, or which share, to spoil.")] = "0",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same stream.")] = 42,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """See HELP."""
    from driftline.replay.event_source import open_source
    from driftline.replay.sender import ProduceSettings, send
    from kafka_runtime.producer import SendError
    from kafka_runtime.service.settings import SettingsError
    from schemas.setting_names import KNOWN

    try:
        settings = ProduceSettings.read(os.environ, KNOWN)
    except SettingsError as error:
        raise CommandError(str(error).replace("\n", "; ")) from error
    if model is not None and spec is not None:
        raise CommandError("give --model or --spec, not both: it defines the fields of an event")
    bundle = model or Path(os.environ.get("SCORER_MODEL", "artifacts/model"))
    bad, bad_limit = bad_share(bad_records, count)
    run = f"{time.time_ns() // 1_000_000:x}-{secrets.token_hex(3)}"
    source = open_source(
        data, bundle, spec, run=run, seed=seed, drifts=drift or (), bad=bad, bad_limit=bad_limit, id_column=customer
    )
    try:
        seconds = asyncio.run(send(source, settings, settings.topic_events, rate, count))
    except SendError as error:
        raise CommandError(f"{error} ({source.made} records made)", exit_code=1) from error
    summary = {
        "topic": settings.topic_events,
        "records": source.made,
        "bad": dict(sorted(source.refusals.items())),
        "seconds": round(seconds, 3),
    }
    if as_json:
        terminal.show_json(summary)
        return
    spoilt = ", ".join(f"{reason} {n}" for reason, n in sorted(source.refusals.items()))
    terminal.note(
        f"{source.made} records to {settings.topic_events} in {seconds:.1f} s "
        f"({source.made / max(seconds, 1e-9):,.0f}/s); {source.refusals.total()} of them bad"
        + f" ({spoilt})"
        * bool(spoilt)
    )


def bad_share(text: str, count: int | None) -> tuple[Fraction, int | None]:
    """Return `--bad-records` as a share and a limit; without a `count`, "50" means one in a hundred up to 50."""
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise CommandError(f"--bad-records: {text!r} is neither a number of records nor a share such as 0.01") from None
    if "." in text and 0 <= number <= 1:
        return number, None
    if number < 0 or number.denominator != 1 or (count is not None and number > count):
        raise CommandError(
            f"--bad-records: {text!r} is neither a share from 0.0 to 1.0 nor a number of records to spoil"
        )
    return (Fraction(1, 100) if count is None else number / count), int(number)
