"""`python -m scorer`: the scorer service."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import version

import orjson

from schemas.bundle import BundleError
from schemas.environment import KNOWN
from scorer.settings import ScorerSettings
from streaming import lifecycle, logs
from streaming.registry import RegistryError
from streaming.settings import SettingsError


def main() -> int:
    """Run the service; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scorer",
        description="Scores customer events from Kafka, exactly once. Configured by environment variables only "
        "(docs/contracts.md lists them); stops on SIGTERM or SIGINT after finishing the batch in hand.",
        epilog="example: SCORER_MODEL=artifacts/model KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m scorer",
    )
    parser.add_argument("--print-settings", action="store_true", help="print the settings, secrets masked, and exit")
    arguments = parser.parse_args()
    lifecycle.refuse_optimised_python()
    try:
        settings = ScorerSettings.read(os.environ, KNOWN)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return lifecycle.EXIT_WRONG_USE
    if arguments.print_settings:
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        sys.stdout.write(orjson.dumps(settings.public(), default=str, option=options).decode())
        return lifecycle.EXIT_DONE
    logs.configure(settings, "scorer")
    from scorer.service import Scorer  # noqa: PLC0415 - scikit-learn takes a second that --help need not wait for

    try:
        service = Scorer(settings, version("driftline"))
    except (BundleError, RegistryError) as error:
        sys.stderr.write(f"model refused: {error}\n")
        return lifecycle.EXIT_WRONG_USE
    lifecycle.settle_memory()
    return lifecycle.run(service.run, settings.scorer_drain_timeout.total_seconds())


if __name__ == "__main__":
    sys.exit(main())
