"""Records of a registry's format → events. Each schema id is compiled once, for one spec.

`event` defines what a record is, as `schemas.validation` does for JSON; `rows` reads the same in batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from schemas.bundle.inputs import EventMapping, Feature
from schemas.formats.avro import Avro
from schemas.formats.json_schema import JsonSchema
from schemas.formats.protobuf import Protobuf
from schemas.formats.registered import (
    PREFIX_BYTES,
    Registered,
    Schemas,
    UnreadableSchemaError,
    schema_id,
    unframed,
)
from schemas.rejection_reasons import Reason, RejectedError

#: What a registry calls the schemas of each format.
KINDS = {"avro": "AVRO", "json-schema": "JSON", "protobuf": "PROTOBUF"}
_READERS: dict[str, type[Avro | JsonSchema | Protobuf]] = {
    "avro": Avro,
    "json-schema": JsonSchema,
    "protobuf": Protobuf,
}
# The size from which a batch in arrays costs less than its records one by one.
FEWEST_ROWS = 4


class Compiled(Protocol):
    """One schema, compiled for one spec."""

    @property
    def misfit(self) -> str | None:
        """Return why its records are no events of the spec; None if they can be."""

    def misfit_of(self, body: bytes) -> str | None:
        """Return the same for the record in these bytes, which may be one of several that the schema has."""

    def event(self, body: bytes) -> object:
        """Return the record in these bytes as the JSON value that it is; RejectedError."""

    def rows(self, bodies: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]] | None:
        """Return per record its values in the order of `leaves_of`, and its number of unknown fields.

        None for a record that only `event` can read; None for all if they can only be read one by one.
        """


def compiled(registered: Registered, features: Sequence[Feature], mapping: EventMapping) -> Compiled:
    """Compile a schema for a spec; UnreadableSchemaError if it is no schema of the spec's format."""
    if registered.kind != KINDS[mapping.format]:
        raise UnreadableSchemaError(f"it is of the type {registered.kind}, and [event] format is {mapping.format!r}")
    return _READERS[mapping.format](registered, features, mapping)


class FormatReader:
    """Reads the records of one spec."""

    def __init__(self, features: Sequence[Feature], mapping: EventMapping, schemas: Schemas) -> None:
        self._features = tuple(features)
        self._mapping = mapping
        self._schemas = schemas
        self._compiled: dict[int, Compiled | UnreadableSchemaError] = {}

    def event(self, value: bytes) -> object:
        """Return a record as the JSON value that it is; RejectedError."""
        found, body = unframed(value)
        return self._of(found).event(body)

    def require_fit(self, value: bytes) -> None:
        """Raise RejectedError if a record's schema does not have what the spec needs."""
        found, body = unframed(value)
        if (misfit := self._of(found).misfit_of(body)) is not None:
            raise RejectedError(Reason.SCHEMA_INCOMPATIBLE, f"schema id {found}: {misfit}")

    def rows(self, values: Sequence[bytes]) -> tuple[list[tuple[Any, ...] | None], list[int]]:
        """Return per record its values in the order of `leaves_of`, or None; and the number of its unknown fields."""
        rows: list[tuple[Any, ...] | None] = [None] * len(values)
        unknown = [0] * len(values)
        members: dict[bytes, list[int]] = {}
        for i, value in enumerate(values):
            members.setdefault(value[:PREFIX_BYTES], []).append(i)
        for prefix, own in members.items():
            found = schema_id(prefix)
            if found is None or len(own) < FEWEST_ROWS:
                continue
            try:
                schema = self._of(found)
            except RejectedError:
                continue  # as the validator says of each
            if (read := schema.rows([values[i][PREFIX_BYTES:] for i in own])) is not None:
                for i, row, surplus in zip(own, *read, strict=True):
                    rows[i], unknown[i] = row, surplus
        return rows, unknown

    def texts(self, values: Sequence[bytes]) -> list[bytes]:
        """Return the JSON behind each schema id; no bytes where something is wrong, which the other functions name."""
        prefixes = {value[:PREFIX_BYTES] for value in values}
        good = {prefix for prefix in prefixes if self._fits(prefix)}
        return [value[PREFIX_BYTES:] if value[:PREFIX_BYTES] in good else b"" for value in values]

    def _fits(self, prefix: bytes) -> bool:
        try:
            self.require_fit(prefix)
        except RejectedError:
            return False
        return True

    def _of(self, found: int) -> Compiled:
        known = self._compiled.get(found)
        if known is None:
            registered = self._schemas.schema(found)
            if registered is None:
                raise RejectedError(Reason.NOT_DECODABLE, f"schema id {found}: the registry has no such schema")
            try:
                known = compiled(registered, self._features, self._mapping)
            except UnreadableSchemaError as error:
                known = error
            self._compiled[found] = known
        if isinstance(known, UnreadableSchemaError):
            raise RejectedError(Reason.SCHEMA_INCOMPATIBLE, f"schema id {found}: {known}")
        return known
