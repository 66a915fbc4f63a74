"""`python -m drift_worker`: the drift service."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import version

import orjson

from drift_worker.settings import DriftSettings
from schemas.bundle import BundleError
from schemas.environment import KNOWN
from streaming import lifecycle, logs
from streaming.registry import RegistryError
from streaming.settings import SettingsError


def main() -> int:
    """Run the service; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m drift_worker",
        description="Counts customer events and predictions in windows and announces drift. Configured by environment "
        "variables only (docs/contracts.md lists them); stops on SIGTERM or SIGINT after finishing the batch in hand.",
        epilog="example: DRIFT_REFERENCE=artifacts/model KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m drift_worker",
    )
    parser.add_argument("--print-settings", action="store_true", help="print the settings, secrets masked, and exit")
    arguments = parser.parse_args()
    lifecycle.refuse_optimised_python()
    try:
        settings = DriftSettings.read(os.environ, KNOWN)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return lifecycle.EXIT_WRONG_USE
    if arguments.print_settings:
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        sys.stdout.write(orjson.dumps(settings.public(), default=str, option=options).decode())
        return lifecycle.EXIT_DONE
    logs.configure(settings, "drift-worker")
    from drift_worker.service import DriftWorker  # noqa: PLC0415 - scipy takes a second that --help need not wait for

    try:
        service = DriftWorker(settings, version("driftline"))
    except (BundleError, RegistryError) as error:
        sys.stderr.write(f"reference refused: {error}\n")
        return lifecycle.EXIT_WRONG_USE
    return lifecycle.run(service.run, settings.scorer_drain_timeout.total_seconds())


if __name__ == "__main__":
    sys.exit(main())
