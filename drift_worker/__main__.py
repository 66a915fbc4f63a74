"""`driftline drift-worker`, and `python -m drift_worker`: the drift service."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and sys.path[0] == os.getcwd():  # noqa: PTH109 - pathlib would be imported from there
    # `python -m` puts the current folder first: packages of the same names in that folder would be imported instead
    del sys.path[0]

from collections.abc import Sequence
from typing import NoReturn

from drift_worker.settings import DriftSettings
from kafka_runtime.model_registry import RegistryError
from kafka_runtime.service import lifecycle
from kafka_runtime.service.settings import SettingsError
from schemas.bundle.manifest import BundleError
from schemas.setting_names import KNOWN


def _service(settings: DriftSettings, version: str) -> lifecycle.Service:
    from drift_worker.service import DriftWorker  # noqa: PLC0415 - scipy takes a second that --help need not wait for

    try:
        return DriftWorker(settings, version)
    except (BundleError, RegistryError) as error:
        raise lifecycle.RefusedError(f"reference refused: {error}") from None
    except SettingsError as error:
        raise lifecycle.RefusedError(str(error)) from None


def main(prog: str = "python -m drift_worker", arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the service and end the process; `arguments` are those of the process if none are given."""
    lifecycle.main(
        prog=prog,
        description="Counts customer events and predictions in windows and announces drift.",
        example="DRIFT_REFERENCE=artifacts/model KAFKA_BOOTSTRAP_SERVERS=localhost:9092",
        settings_type=DriftSettings,
        service=_service,
        known=KNOWN,
        arguments=arguments,
    )


if __name__ == "__main__":
    main()
