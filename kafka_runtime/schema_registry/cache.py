"""The schemas of one process: each id is fetched once.

A service fetches on its event loop, before a batch is processed (`ready`), and its batch thread only reads. A command
fetches where it reads.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Callable, Collection, Sequence

from kafka_runtime.kafka_types import ConsumerRecord
from kafka_runtime.processor import Blocked, State
from kafka_runtime.schema_registry.client import RegisteredSchema, RegistryClient, RegistryUnreachableError, Version
from kafka_runtime.service import logs
from kafka_runtime.service.settings import RegistrySettings, SettingsError

log = logs.get(__name__)

# How long an id that the registry does not have is not asked for again. Its registration may be on the way.
MISSING_HOLDS_S = 10.0
# Ids that the registry does not have: damaged records have random ones.
MOST_MISSING = 10_000
# How long a failure answers further requests: partitions that wait must not each ask on their own.
FAILURE_HOLDS_S = 0.5
# Longer than every wait for one answer, and shorter than what a revocation waits for a batch.
DEADLINE_S = 8.0
#: What the extra `registry` has for a format.
EXTRA = {"avro": ("fastavro",), "protobuf": ("google", "google.protobuf")}
# Requests at a time.
PARALLEL = 8


def schemas_for(form: str, settings: RegistrySettings) -> SchemaCache | None:
    """Return the schemas of a process whose events have this format, None for plain JSON; SettingsError."""
    require_registry(form, settings)
    return None if form == "json" else SchemaCache(settings)


def require_registry(form: str, settings: RegistrySettings) -> None:
    """Raise SettingsError if events of this format could not be read."""
    if form == "json":
        return
    if settings.schema_registry_url is None:
        raise SettingsError(f"SCHEMA_REGISTRY_URL: needed for events whose [event] format is {form!r}")
    # a package is looked for before what is in it
    if any(importlib.util.find_spec(name) is None for name in EXTRA.get(form, ())):
        raise SettingsError(f"[event] format: {form!r} needs the extra registry: pip install 'driftline[registry]'")


class SchemaCache:
    """Schemas by id. `schema` may be called from any thread, the rest on the event loop."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._client = RegistryClient(settings)
        self._known: dict[int, RegisteredSchema] = {}
        self._missing: dict[int, float] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(PARALLEL)
        self._failed: tuple[float, RegistryUnreachableError] | None = None

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema of an id that was fetched; None if the registry has none of it."""
        known = self._known.get(schema_id)
        if known is None and schema_id not in self._missing:
            raise RuntimeError(f"schema id {schema_id} was not fetched")
        return known

    async def ready(
        self, records: Sequence[ConsumerRecord], ids_of: Callable[[Sequence[bytes | None]], Collection[int]]
    ) -> Blocked | None:
        """Fetch the schemas of these records. If that fails, return how many of the first records have theirs."""
        wanted = ids_of([record.value for record in records])
        if not (failed := await self.fetch(wanted)):
            return None
        away = self._unknown(wanted)
        ready = next(i for i, record in enumerate(records) if away.intersection(ids_of([record.value])))

        async def why_still() -> str | None:
            return await self.fetch(away)

        return Blocked(State.REGISTRY_UNREACHABLE, failed, ready, why_still)

    async def fetch(self, ids: Collection[int]) -> str | None:
        """Fetch what is not known; return why that failed, None once every id has its answer."""
        if not (missing := self._unknown(ids)):
            return None
        if self._failed is not None and time.monotonic() - self._failed[0] < FAILURE_HOLDS_S:
            return str(self._failed[1])
        try:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*(asyncio.shield(self._ask(one)) for one in sorted(missing)))
        except TimeoutError:
            return f"no answer within {DEADLINE_S:.0f} s"
        except RegistryUnreachableError as error:
            return str(error)
        return None

    def _unknown(self, ids: Collection[int]) -> set[int]:
        oldest = time.monotonic() - MISSING_HOLDS_S
        if len(self._missing) > MOST_MISSING:
            self._missing = {one: asked for one, asked in self._missing.items() if asked >= oldest}
        return {one for one in ids if one not in self._known and self._missing.get(one, oldest - 1) < oldest}

    def _ask(self, schema_id: int) -> asyncio.Task[None]:
        """Return the request for an id: one, however many partitions wait for it."""
        if schema_id not in self._asking:
            task = asyncio.create_task(self._fetch(schema_id), name=f"schema-{schema_id}")
            self._asking[schema_id] = task
            task.add_done_callback(lambda done: self._asked(schema_id, done))
        return self._asking[schema_id]

    def _asked(self, schema_id: int, done: asyncio.Task[None]) -> None:
        del self._asking[schema_id]
        if not done.cancelled():
            done.exception()  # whoever waited has it, and nobody may have

    async def _fetch(self, schema_id: int) -> None:
        async with self._turns:
            try:
                found = await asyncio.to_thread(self._client.schema, schema_id)
            except RegistryUnreachableError as error:
                self._failed = (time.monotonic(), error)
                raise
        if found is None:
            self._missing[schema_id] = time.monotonic()
            log.warning("schema_not_registered", schema_id=schema_id)
        else:
            self._known[schema_id] = found
            self._missing.pop(schema_id, None)
            log.info("schema_fetched", schema_id=schema_id, type=found.kind)


class FetchedSchemas:
    """Schemas by id, for a command: each is fetched where it is first read."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._client = RegistryClient(settings)
        self._known: dict[int, RegisteredSchema | None] = {}

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema of an id, None if the registry has none of it; RegistryUnreachableError."""
        if schema_id not in self._known:
            self._known[schema_id] = self._client.schema(schema_id)
        return self._known[schema_id]

    def latest(self, subject: str) -> Version | None:
        """Return the newest version of a subject, None if there is none; RegistryUnreachableError."""
        return self._client.latest(subject)
