"""`driftline drift-worker`: run the drift service."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    print_settings: Annotated[
        bool, typer.Option("--print-settings", help="Print the settings, secrets masked, and exit.")
    ] = False,
) -> None:
    """Count customer events and predictions in windows, and publish alerts on drift, until SIGTERM or Ctrl-C.

    Environment variables alone configure it; docs/contracts.md lists them. A signal ends it after the current batch, a
    second one at once. Exit code 1: it failed, or did not drain in time; 2: wrong configuration, or no reference.

    Example: DRIFT_REFERENCE=artifacts/model KAFKA_BOOTSTRAP_SERVERS=localhost:9092 driftline drift-worker
    """
    from drift_worker.__main__ import main

    main("driftline drift-worker", ["--print-settings"] if print_settings else [])
