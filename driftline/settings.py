"""What commands read from the environment: the same variables as the services."""

from __future__ import annotations

import os
from collections.abc import Mapping

from driftline.errors import CommandError
from schemas.environment import KNOWN, Topics
from streaming.settings import KafkaSettings, SettingsError


class CommandSettings(KafkaSettings, Topics):
    """`KAFKA_*`, `TOPIC_*`, and the group whose answers are meant."""

    scorer_group: str = "driftline-scorer"


def read_settings(environment: Mapping[str, str] | None = None) -> CommandSettings:
    """The settings in this process's environment (or in `environment`); CommandError with every problem."""
    try:
        return CommandSettings.read(os.environ if environment is None else environment, KNOWN)
    except SettingsError as error:
        raise CommandError(str(error), 2) from None
