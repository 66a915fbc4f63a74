"""What a process knows of a registry: one request for each id, and how long a failure and an unknown id last."""

import asyncio
import importlib.util

import pytest
from support.avro_events import framed
from support.events import record
from support.registry import SmallRegistry

from kafka_runtime.processor import State
from kafka_runtime.schema_registry import cache as module
from kafka_runtime.schema_registry.cache import SchemaCache, require_registry
from kafka_runtime.service.settings import RegistrySettings, SettingsError
from schemas.formats.registered import schema_ids
from schemas.setting_names import KNOWN


@pytest.fixture
def registry():
    """A registry that is stopped and started in milliseconds."""
    with SmallRegistry() as running:
        running.register("one", {"schema": '"int"'})
        running.register("two", {"schema": '"long"'})
        yield running


def _cache(registry):
    return SchemaCache(RegistrySettings.read({"SCHEMA_REGISTRY_URL": registry.url}, KNOWN))


def test_many_waiters_are_one_request_and_an_unknown_id_is_asked_for_again_later(registry, monkeypatch):
    """Eight partitions that see a new schema at once; an id that nobody has registered yet."""

    async def run():
        known = _cache(registry)
        assert await asyncio.gather(*(known.fetch({1, 9}) for _ in range(8))) == [None] * 8
        assert await known.fetch({1, 9}) is None
        assert sorted(path.rpartition("/")[2] for path in registry.asked) == ["1", "9"]
        assert (known.schema(1).text, known.schema(9)) == ('"int"', None)
        monkeypatch.setattr(module, "MISSING_HOLDS_S", 0.0)
        await asyncio.sleep(0.001)
        assert await known.fetch({9}) is None
        assert len(registry.asked) == 3

    asyncio.run(run())


def test_records_up_to_the_first_unknown_schema_are_ready(registry, monkeypatch):
    """What is in the way looks again, and is gone when the registry is back."""
    monkeypatch.setattr(module, "FAILURE_HOLDS_S", 0.0)

    async def run():
        known = _cache(registry)
        records = [record(framed(b"", number)) for number in (1, 1, 2, 1)] + [record(b"{}")]
        assert await known.ready(records[:2], schema_ids) is None
        registry.stop()
        blocked = await known.ready(records, schema_ids)
        assert (blocked.state, blocked.ready) == (State.REGISTRY_UNREACHABLE, 2)
        assert "refused" in blocked.detail
        assert "refused" in await blocked.why_still()
        registry.start()
        assert await blocked.why_still() is None
        assert await known.ready(records, schema_ids) is None

    asyncio.run(run())


def test_an_id_that_was_never_fetched_is_a_defect_and_no_rejection():
    """A batch whose schemas nobody fetched must not become dead letters."""
    known = SchemaCache(RegistrySettings.read({"SCHEMA_REGISTRY_URL": "http://localhost:1"}, KNOWN))
    with pytest.raises(RuntimeError, match="schema id 5 was not fetched"):
        known.schema(5)


@pytest.mark.parametrize(
    ("form", "gone"), [("avro", "fastavro"), ("protobuf", "google"), ("protobuf", "google.protobuf")]
)
def test_a_format_needs_the_library_that_reads_it(form, gone, monkeypatch):
    """One line that names the extra; a namespace may be there without the package in it."""
    found = importlib.util.find_spec
    settings = RegistrySettings.read({"SCHEMA_REGISTRY_URL": "http://localhost:1"}, KNOWN)
    require_registry(form, settings)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == gone else found(name))
    with pytest.raises(SettingsError, match=r"needs the extra registry: pip install 'driftline\[registry\]'"):
        require_registry(form, settings)


def test_a_format_needs_the_address_of_its_registry():
    """Plain JSON needs none."""
    none = RegistrySettings.read({}, KNOWN)
    require_registry("json", none)
    with pytest.raises(SettingsError, match="SCHEMA_REGISTRY_URL: needed"):
        require_registry("avro", none)
