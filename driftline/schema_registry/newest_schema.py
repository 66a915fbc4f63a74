"""The newest schema of a subject in the registry: does a spec's event fit it, and what would a spec for it be?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline.errors import CommandError
from driftline.settings import read_schemas

if TYPE_CHECKING:
    from kafka_runtime.schema_registry.client import Version


@dataclass(frozen=True, slots=True)
class Checked:
    """The newest version of a subject. detail: why it does not fit, None if it does."""

    subject: str
    version: int | None
    schema_id: int | None
    detail: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the members for `--json`."""
        return {**asdict(self), "fits": self.detail is None}


def newest(subject: str, form: str) -> Version | None:
    """Return the newest version of a subject, None if there is none; CommandError."""
    from kafka_runtime.schema_registry.client import RegistryUnreachableError

    schemas = read_schemas(form)
    if schemas is None:
        raise CommandError("[event] format is 'json': its events have no schema in a registry")
    try:
        return schemas.latest(subject)
    except RegistryUnreachableError as error:
        raise CommandError(str(error), 1) from None


def check(spec: Path, subject: str) -> Checked:
    """Return whether the newest schema fits a spec in every form of its events; CommandError."""
    from driftline.training.spec import SpecError, read_event_spec
    from schemas.formats.reader import compiled
    from schemas.formats.registered import UnreadableSchemaError

    try:
        found = read_event_spec(spec)
    except SpecError as error:
        raise CommandError(str(error)) from None
    version = newest(subject, found.event.format)
    if version is None:
        return Checked(subject, None, None, "the registry has no schema of this subject")
    try:
        # of two forms, records behind a schema id have the last: without the envelope that JsonConverter adds
        detail = compiled(version.schema, found.manifest_features({}), found.event.forms()[-1]).misfit
    except UnreadableSchemaError as error:
        detail = str(error)
    if detail is not None:
        detail = f"version {version.version} (schema id {version.schema_id}): {detail}"
    return Checked(subject, version.version, version.schema_id, detail)
