"""Environment variables of commands: the same as the services'."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from driftline.errors import CommandError
from kafka_runtime.service.setting_types import Group
from kafka_runtime.service.settings import EventSettings, KafkaSettings, RegistrySettings, SettingsError
from schemas.setting_names import KNOWN, Topics

if TYPE_CHECKING:
    from kafka_runtime.schema_registry.cache import FetchedSchemas
    from schemas.validation import Rules


class CommandSettings(KafkaSettings, RegistrySettings, Topics):
    """`KAFKA_*`, `SCHEMA_REGISTRY_*`, `TOPIC_*`, and the services' consumer groups."""

    scorer_group: Group = "driftline-scorer"
    drift_group: Group = "driftline-drift"


def read_settings(environment: Mapping[str, str] | None = None) -> CommandSettings:
    """Return the settings in this process's environment (or in `environment`); CommandError with every problem."""
    try:
        return CommandSettings.read(os.environ if environment is None else environment, KNOWN)
    except SettingsError as error:
        raise CommandError(str(error), 2) from None


def read_rules() -> Rules:
    """Return what makes an event valid, by this process's environment; CommandError with every problem."""
    from schemas.validation import Rules

    try:
        return Rules.of(EventSettings.read(os.environ, KNOWN))
    except SettingsError as error:
        raise CommandError(str(error), 2) from None


def read_schemas(form: str) -> FetchedSchemas | None:
    """Return the registry's schemas for events of this format, None for plain JSON; CommandError."""
    from kafka_runtime.schema_registry.cache import FetchedSchemas, require_registry

    try:
        settings = RegistrySettings.read(os.environ, KNOWN)
        require_registry(form, settings)
    except SettingsError as error:
        raise CommandError(str(error), 2) from None
    return None if form == "json" else FetchedSchemas(settings)
