"""Requests to a registry: what is an answer, and what is none."""

import base64
import json

import pytest
from support.registry import SmallRegistry

from kafka_runtime.schema_registry.client import RegisteredSchema, RegistryClient, RegistryUnreachableError
from kafka_runtime.service.settings import RegistrySettings
from schemas.setting_names import KNOWN


@pytest.fixture
def registry():
    """A registry that is stopped and started in milliseconds."""
    with SmallRegistry() as running:
        yield running


def _client(registry, **settings):
    named = {f"SCHEMA_REGISTRY_{name}": value for name, value in settings.items()}
    return RegistryClient(RegistrySettings.read({"SCHEMA_REGISTRY_URL": registry.url, **named}, KNOWN))


def test_a_schema_has_its_type_and_all_that_it_refers_to(registry):
    """References of references come first; without a type it is Avro."""
    registry.register("inner", {"schema": '"int"'})
    one = [{"name": "inner", "subject": "inner", "version": 1}]
    registry.register("outer", {"schema": '"long"', "references": one})
    both = [{"name": "outer", "subject": "outer", "version": 1}, *one]
    registry.register("whole", {"schema": '"string"', "references": both})
    registry.register("json", {"schema": "{}", "schemaType": "JSON"})
    client = _client(registry)
    expected = RegisteredSchema("AVRO", '"string"', (("inner", '"int"'), ("outer", '"long"')))
    assert client.schema(3) == expected
    assert client.schema(4).kind == "JSON"
    assert client.latest("whole").schema == expected
    assert (client.latest("whole").schema_id, client.latest("whole").version) == (3, 1)


def test_what_the_registry_does_not_have_is_none(registry):
    """Its own 404, of an id and of a subject."""
    assert _client(registry).schema(17) is None
    assert _client(registry).latest("none") is None


def test_a_404_of_another_program_is_no_answer(registry):
    """An address without the path of the API must not reject every record."""
    settings = RegistrySettings.read({"SCHEMA_REGISTRY_URL": registry.url + "/nowhere"}, KNOWN)
    with pytest.raises(RegistryUnreachableError, match="answered 404"):
        RegistryClient(settings).schema(1)


def test_the_password_is_read_for_each_request_from_its_file(registry, tmp_path):
    """A rotated password needs no restart; a wrong one is no answer."""
    registry.register("one", {"schema": '"int"'})
    path = tmp_path / "password"
    path.write_text("old\n")
    client = _client(registry, USERNAME="driftline", PASSWORD_FILE=str(path))
    registry.needs = {"Authorization": "Basic " + base64.b64encode(b"driftline:new").decode()}
    with pytest.raises(RegistryUnreachableError, match=r"answered 401: .*Unauthorized"):
        client.schema(1)
    path.write_text("new\n")
    assert client.schema(1) is not None
    token = str(tmp_path.name)
    registry.needs = {"Authorization": f"Bearer {token}"}
    assert _client(registry, TOKEN=token).schema(1) is not None


def test_a_registry_that_is_away_and_one_that_is_no_registry_are_no_answer(registry):
    """Connection refused; JSON without a schema; a reference to nothing."""
    client = _client(registry)
    registry.register("odd", {"schemaType": "AVRO"})
    registry.register("torn", {"schema": "{}", "references": [{"name": "a", "subject": "gone", "version": 1}]})
    with pytest.raises(RegistryUnreachableError, match="without a schema"):
        client.schema(1)
    with pytest.raises(RegistryUnreachableError, match="gone"):
        client.schema(2)
    registry.stop()
    with pytest.raises(RegistryUnreachableError, match="refused"):
        client.schema(1)


def test_schemas_that_refer_to_each_other_end(registry):
    """A circle is nothing that a registry accepts, and nothing that may hang."""
    registry.register("a", {"schema": json.dumps("int"), "references": [{"name": "b", "subject": "b", "version": 1}]})
    registry.register("b", {"schema": json.dumps("long"), "references": [{"name": "a", "subject": "a", "version": 1}]})
    assert {name for name, _ in _client(registry).schema(1).references} == {"a", "b"}
