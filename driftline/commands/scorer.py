"""`driftline scorer`: run the scorer service."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    print_settings: Annotated[
        bool, typer.Option("--print-settings", help="Print the settings, secrets masked, and exit.")
    ] = False,
) -> None:
    """Score customer events from Kafka, exactly once, until SIGTERM or Ctrl-C.

    Environment variables alone configure it; docs/contracts.md lists them. A signal ends it after the current batch,
    a second one at once. Exit code 1: it failed, or did not drain in time; 2: wrong configuration, or no model.

    Example: SCORER_MODEL=artifacts/model KAFKA_BOOTSTRAP_SERVERS=localhost:9092 driftline scorer
    """
    from scorer.__main__ import main

    main("driftline scorer", ["--print-settings"] if print_settings else [])
