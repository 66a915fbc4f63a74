"""Requests to a schema registry: `GET /schemas/ids/{id}` and `GET /subjects/{subject}/versions/{version}`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kafka_runtime.service.settings import RegistrySettings

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 4.0
MOST_BYTES = 4 << 20
# More schemas than refer to each other anywhere; a circle would have no end.
MOST_REFERENCES = 200
MOST_WORDS = 200
# Confluent's codes for a subject, a version and a schema that do not exist. Any other 404 is of a wrong address.
_NOT_THERE = frozenset({40401, 40402, 40403})


class RegistryUnreachableError(Exception):
    """The registry gave no answer, or none that can be used. The text is one line for a person."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema of the registry. kind: `AVRO`, `PROTOBUF` or `JSON`.

    references: name → text of each schema that it refers to, those first that the others need.
    """

    kind: str
    text: str
    references: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a subject."""

    schema_id: int
    version: int
    schema: RegisteredSchema


def connection(settings: RegistrySettings) -> dict[str, Any]:
    """Return how to connect, as arguments of httpx's clients; RegistryUnreachableError for files that are not there."""
    try:
        password, token = settings.secret("schema_registry_password"), settings.secret("schema_registry_token")
        context = ssl.create_default_context(cafile=settings.schema_registry_cafile)
    except (OSError, ValueError) as error:
        raise RegistryUnreachableError(str(error)) from None
    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    login = (settings.schema_registry_username, password or "") if settings.schema_registry_username else None
    return {"headers": headers, "auth": login, "verify": context, "timeout": TIMEOUT_S}


class RegistryClient:
    """Asks one registry. Each call is answered or raises RegistryUnreachableError; nothing is retried here."""

    def __init__(self, settings: RegistrySettings) -> None:
        if settings.schema_registry_url is None:
            raise ValueError("SCHEMA_REGISTRY_URL: not set")
        self._settings = settings
        self._url = settings.schema_registry_url.rstrip("/")

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema of an id, None if the registry has none of it."""
        with self._client() as client:
            found = self._get(client, f"/schemas/ids/{schema_id}")
            return None if found is None else self._schema(client, found)

    def latest(self, subject: str) -> Version | None:
        """Return the newest version of a subject, None if there is none."""
        with self._client() as client:
            path = f"/subjects/{quote(subject, safe='')}/versions/latest"
            found = self._get(client, path)
            if found is None:
                return None
            try:
                number, version = int(found["id"]), int(found["version"])
            except (KeyError, TypeError, ValueError):
                raise RegistryUnreachableError(f"{self._url}{path} answered without id and version") from None
            return Version(number, version, self._schema(client, found))

    def _client(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 - takes 0.2 s, which only a registry should cost

        return httpx.Client(**connection(self._settings))

    def _get(self, client: httpx.Client, path: str) -> dict[str, Any] | None:
        import httpx  # noqa: PLC0415 - as above

        where = f"{self._url}{path}"
        try:
            answer = client.get(where)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryUnreachableError(f"{where}: {str(error) or type(error).__name__}") from None
        if len(answer.content) > MOST_BYTES:
            raise RegistryUnreachableError(f"{where} answered with more than {MOST_BYTES:,} bytes")
        try:
            found = answer.json()
        except ValueError:
            found = None
        if answer.status_code == 404 and isinstance(found, dict) and found.get("error_code") in _NOT_THERE:
            return None
        if answer.status_code != 200 or not isinstance(found, dict):
            words = " ".join(answer.text.split())[:MOST_WORDS] or "nothing"
            raise RegistryUnreachableError(f"{where} answered {answer.status_code}: {words}")
        return found

    def _schema(self, client: httpx.Client, found: dict[str, Any]) -> RegisteredSchema:
        """Return the schema in an answer, with all that it refers to."""
        references: dict[str, str] = {}
        self._collect(client, found, references)
        return RegisteredSchema(self._kind(found), self._text(found), tuple(references.items()))

    def _collect(self, client: httpx.Client, found: dict[str, Any], references: dict[str, str]) -> None:
        for one in found.get("references") or ():
            try:
                name, path = one["name"], f"/subjects/{quote(one['subject'], safe='')}/versions/{int(one['version'])}"
            except (KeyError, TypeError, ValueError):
                raise RegistryUnreachableError(f"{self._url}: a reference without name, subject and version") from None
            if name in references:
                continue
            if len(references) >= MOST_REFERENCES:
                raise RegistryUnreachableError(f"{self._url}: more than {MOST_REFERENCES} references")
            inner = self._get(client, path)
            if inner is None:
                raise RegistryUnreachableError(f"{self._url}{path}: not there, and a schema refers to it")
            references[name] = ""  # so that a circle ends
            self._collect(client, inner, references)
            del references[name]
            references[name] = self._text(inner)

    def _text(self, found: dict[str, Any]) -> str:
        text = found.get("schema")
        if not isinstance(text, str):
            raise RegistryUnreachableError(f"{self._url} answered without a schema")
        return text

    @staticmethod
    def _kind(found: dict[str, Any]) -> str:
        return str(found.get("schemaType") or "AVRO")
