"""Settings: environment variables only, read once, frozen, every problem in one message."""

from __future__ import annotations

import difflib
import importlib.util
import re
import ssl
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, TypeAdapter, ValidationError, model_validator

from kafka_runtime.service.setting_types import (
    BootstrapServers,
    Duration,
    ExistingFile,
    HttpAddress,
    SaslExtensions,
    Text,
    at_least,
    at_most,
    file_problem,
    written_duration,
)

OAUTHBEARER = "OAUTHBEARER"
# Amazon's name for it: on the wire OAUTHBEARER, with a signed request as the token.
AWS_MSK_IAM = "AWS_MSK_IAM"
TOKEN_MECHANISMS = (OAUTHBEARER, AWS_MSK_IAM)
PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# A secret is a password or a key; a file that holds more is not one.
MAX_SECRET_BYTES = 65_536
_SURROGATE = re.compile("[\ud800-\udfff]")
OTLP_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
TRACE_SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
_RATIO = re.compile(r"0(\.[0-9]*)?|\.[0-9]+|1(\.0*)?")
_HTTP_ADDRESS: TypeAdapter[str] = TypeAdapter(HttpAddress)


class SettingsError(Exception):
    """All problems of the environment, one per line."""


class Settings(BaseModel):
    """Base of all settings: the field `kafka_bootstrap_servers` is the variable `KAFKA_BOOTSTRAP_SERVERS`.

    A field of type SecretStr may also be given as `NAME_FILE`, the path of a file that holds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    #: The files that secrets were read from, by field.
    _files: dict[str, Path] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, environment: Mapping[str, str], known: Collection[str]) -> Self:
        """Return the settings in `environment`; raise SettingsError with every problem found.

        `known` are the names of all public settings of all processes. A variable with the prefix of one of them (up to
        the first underscore) is a misspelt name, unless it is known or Kubernetes injects it.
        """
        problems = unknown_variables(environment, known)
        values: dict[str, Any] = {}
        paths: dict[str, Path] = {}
        for field, info in cls.model_fields.items():
            name = field.upper()
            if name in environment:
                values[field] = environment[name]
            if not _is_secret(info.annotation) or f"{name}_FILE" not in environment:
                continue
            if name in environment:
                problems.append(f"{name}: set {name} or {name}_FILE, not both")
                continue
            paths[field] = Path(environment[f"{name}_FILE"])
            try:
                values[field] = read_secret(paths[field])
            except OSError as error:
                # a value that is no whole path may be the secret itself
                shown = f": {paths[field]}" if paths[field].is_absolute() else "; expected the whole path of a file"
                problems.append(f"{name}_FILE: {error.strerror}{shown}")
            except ValueError as error:
                problems.append(f"{name}_FILE: {error}")
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += _lines(error, besides=problems)
            # what is wrong by itself is set aside, so that one message also has what does not fit together
            named = _named(problems)
            try:
                cls.model_validate({field: value for field, value in values.items() if field.upper() not in named})
            except ValidationError as again:
                problems += _lines(again, besides=problems)
        if problems:
            raise SettingsError("\n".join(problems))
        settings._files.update(paths)  # noqa: SLF001 - of this class
        return settings

    def secret(self, field: str) -> str | None:
        """Return a secret as it is now: its file is read again. Raise OSError or ValueError if that fails."""
        if field in self._files:
            return read_secret(self._files[field])
        value: SecretStr | None = getattr(self, field)
        return value.get_secret_value() if value is not None else None

    def problems(self) -> list[str]:
        """Return what does not fit together, as `NAME: why`. A subclass adds its own to those of `super()`."""
        secrets = {name: getattr(self, name) for name in type(self).model_fields}
        return [
            f"{name.upper()}: expected text in UTF-8"
            for name, value in secrets.items()
            if isinstance(value, SecretStr) and _SURROGATE.search(value.get_secret_value())
        ]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := self.problems():
            raise ValueError("\n".join(problems))
        return self

    def public(self) -> dict[str, Any]:
        """Return variable name → value, with secrets masked and durations in their written form."""
        return {field.upper(): _shown(getattr(self, field)) for field in type(self).model_fields}


def _lines(error: ValidationError, besides: Collection[str]) -> list[str]:
    """Return `NAME: why` per problem of a variable that is not in `besides`; a problem of several names them itself."""
    lines: list[str] = []
    for problem in error.errors():
        text = problem["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in problem["loc"]).upper()
        lines += [f"{name}: {text}"] if name else text.splitlines()
    return [line for line in lines if not _named([line]) & _named(besides)]


def _named(problems: Collection[str]) -> set[str]:
    return {line.partition(":")[0].removesuffix("_FILE") for line in problems}


def read_secret(path: Path) -> str:
    """Return the secret in a file, without the line ends after it; raise OSError or ValueError."""
    with path.open("rb") as file:
        raw = file.read(MAX_SECRET_BYTES + 1)
    if len(raw) > MAX_SECRET_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_SECRET_BYTES} bytes")
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8") from None


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _installed(module: str) -> bool:
    """Return whether a module can be imported; its packages are."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, timedelta):
        return written_duration(value)
    return value


_KUBERNETES = re.compile(
    r".*(_SERVICE_HOST|_SERVICE_PORT|_SERVICE_PORT_.*|_PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)


def unknown_variables(environment: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return one problem per variable that looks like a setting and is none, with the nearest valid name."""
    prefixes = {name.split("_", 1)[0] + "_" for name in known} - {
        "KAFKA_",
        "LOG_",
        "MODEL_",
        "OTEL_",
        "RUNBOOK_",
        "SCHEMA_",
    }
    problems = []
    for name, value in sorted(environment.items()):
        # none of these prefixes has a secret, and so none a NAME_FILE
        if not name.startswith(tuple(prefixes)) or name in known:
            continue
        if _KUBERNETES.fullmatch(name) or (
            name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
        ):
            continue
        near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
        problems.append(f"{name}: no such setting; the nearest is {near[0]}")
    return problems


class KafkaSettings(Settings):
    """How to reach Kafka."""

    kafka_bootstrap_servers: BootstrapServers = "localhost:9092"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: Text | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_ssl_key_password: SecretStr | None = None
    kafka_oauth_token_url: HttpAddress | None = None
    kafka_oauth_client_id: Text | None = None
    kafka_oauth_client_secret: SecretStr | None = None
    kafka_oauth_scope: Text | None = None
    kafka_oauth_audience: Text | None = None
    kafka_oauth_cafile: Path | None = None
    kafka_oauth_extensions: SaslExtensions | None = None
    kafka_oauth_token_file: ExistingFile | None = None
    # 6 s: after a SIGKILL the partitions are taken over after 5 s; 10 s would make it 9. A broker allows no more than
    # its group.max.session.timeout.ms, 30 minutes, and below a second no heartbeat comes in time.
    kafka_session_timeout: Annotated[Duration, at_least(timedelta(seconds=1)), at_most(timedelta(minutes=30))] = (
        timedelta(seconds=6)
    )
    # also the time for which read_committed readers stall after a crash without a successor; a broker allows no more
    # than its transaction.max.timeout.ms, 15 minutes
    kafka_transaction_timeout: Annotated[Duration, at_least(timedelta(seconds=1)), at_most(timedelta(minutes=15))] = (
        timedelta(seconds=15)
    )

    def problems(self) -> list[str]:
        """Add that SASL needs its settings, and that files must be there and hold what they should."""
        problems = super().problems()
        mechanism = self.kafka_sasl_mechanism
        if mechanism == "GSSAPI":
            problems.append("KAFKA_SASL_MECHANISM: GSSAPI is not supported yet")
        elif mechanism not in {None, *PASSWORD_MECHANISMS, *TOKEN_MECHANISMS}:
            problems.append(
                f"KAFKA_SASL_MECHANISM: expected {', '.join((*PASSWORD_MECHANISMS, OAUTHBEARER))} or {AWS_MSK_IAM}"
            )
        if self.kafka_security_protocol.startswith("SASL"):
            problems += self._sasl_problems()
        return problems + self._file_problems()

    def _sasl_problems(self) -> list[str]:
        if self.kafka_sasl_mechanism == AWS_MSK_IAM:
            return []
        if self.kafka_sasl_mechanism == OAUTHBEARER:
            return self._oauth_problems()
        problems = self._missing("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
        if self.kafka_sasl_password is not None and not self.kafka_sasl_password.get_secret_value():
            problems.append("KAFKA_SASL_PASSWORD: expected a password, got no characters")
        return problems

    def _oauth_problems(self) -> list[str]:
        if self.kafka_oauth_token_file is not None:
            if self.kafka_oauth_token_url is not None:
                return ["KAFKA_OAUTH_TOKEN_FILE: set it or KAFKA_OAUTH_TOKEN_URL, not both"]
            return []
        if self.kafka_oauth_token_url is None:
            return ["KAFKA_OAUTH_TOKEN_URL: it or KAFKA_OAUTH_TOKEN_FILE is needed for OAUTHBEARER"]
        return self._missing("kafka_oauth_client_id", "kafka_oauth_client_secret")

    def _missing(self, *names: str) -> list[str]:
        what = self.kafka_sasl_mechanism if self.kafka_sasl_mechanism == OAUTHBEARER else self.kafka_security_protocol
        return [f"{name.upper()}: needed for {what}" for name in names if getattr(self, name) is None]

    def _file_problems(self) -> list[str]:
        names = ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile", "kafka_oauth_cafile")
        paths: dict[str, Path] = {name: path for name in names if (path := getattr(self, name)) is not None}
        problems = [f"{name.upper()}: {why}" for name, path in paths.items() if (why := file_problem(path)) is not None]
        if self.kafka_ssl_keyfile is not None and self.kafka_ssl_certfile is None:
            problems.append("KAFKA_SSL_CERTFILE: needed for KAFKA_SSL_KEYFILE")
        if problems:
            return problems
        # loaded as a client will: else the first connection would end the process with a traceback
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for name in ("kafka_ssl_cafile", "kafka_oauth_cafile"):
            try:
                if name in paths:
                    context.load_verify_locations(paths[name])
            except OSError as error:
                problems.append(f"{name.upper()}: no certificates in PEM format: {paths[name]}: {error}")
        try:
            if self.kafka_ssl_certfile is not None:
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile, self.key_password())
        except OSError as error:
            together = "with KAFKA_SSL_KEYFILE and KAFKA_SSL_KEY_PASSWORD"
            problems.append(f"KAFKA_SSL_CERTFILE: cannot be loaded {together}: {error}")
        return problems

    def key_password(self) -> str:
        """Return the private key's password; empty for none, because OpenSSL would prompt for None at the terminal."""
        return self.kafka_ssl_key_password.get_secret_value() if self.kafka_ssl_key_password is not None else ""


class EventSettings(Settings):
    """What makes an event valid: the same for both services and every command (schemas.validation.Rules.of)."""

    # the prediction repeats the event's key, and must fit into one batch of the producer (1,000,000)
    scorer_max_event_bytes: Annotated[int, Field(ge=1024, le=900_000)] = 65_536
    scorer_unknown_fields: Literal["ignore", "reject"] = "ignore"
    scorer_max_future_skew: Duration = timedelta(minutes=5)


class RegistrySettings(Settings):
    """How to reach the schema registry, for a spec whose events have a registry's format."""

    schema_registry_url: HttpAddress | None = None
    schema_registry_username: Text | None = None
    schema_registry_password: SecretStr | None = None
    schema_registry_token: SecretStr | None = None
    schema_registry_cafile: Path | None = None

    def problems(self) -> list[str]:
        """Add that there is one login, and that the certificates can be read."""
        problems = super().problems()
        if self.schema_registry_token is not None and self.schema_registry_username is not None:
            problems.append("SCHEMA_REGISTRY_TOKEN: set it or SCHEMA_REGISTRY_USERNAME, not both")
        path = self.schema_registry_cafile
        if path is not None and (why := file_problem(path)) is not None:
            problems.append(f"SCHEMA_REGISTRY_CAFILE: {why}")
        elif path is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except OSError as error:
                problems.append(f"SCHEMA_REGISTRY_CAFILE: no certificates in PEM format: {path}: {error}")
        return problems


class LogSettings(Settings):
    """How to log."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] | None = None
    log_hash_key: SecretStr | None = None


class TraceSettings(Settings):
    """Where traces go: OpenTelemetry's own variables, of which the SDK reads the rest itself.

    They are checked only where traces are on: a platform may set them for other programs.
    """

    otel_traces_exporter: Literal["none", "otlp"] = "none"
    otel_exporter_otlp_endpoint: str | None = None
    otel_exporter_otlp_traces_endpoint: str | None = None
    otel_exporter_otlp_protocol: str | None = None
    otel_traces_sampler: str | None = None
    otel_traces_sampler_arg: str | None = None
    otel_service_name: str | None = None

    def problems(self) -> list[str]:
        """Add what the SDK would replace by a default of its own, and that it is not installed."""
        problems = super().problems()
        if self.otel_traces_exporter == "none":
            return problems
        if not _installed(OTLP_EXPORTER):
            problems.append("OTEL_TRACES_EXPORTER: otlp needs the extra otel: pip install 'driftline[otel]'")
        for field in ("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint"):
            try:
                if (address := getattr(self, field)) is not None:
                    _HTTP_ADDRESS.validate_python(address)
            except ValidationError as error:
                problems.append(f"{field.upper()}: {error.errors()[0]['msg'].removeprefix('Value error, ')}")
        if self.otel_exporter_otlp_protocol not in {None, "http/protobuf"}:
            problems.append("OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf")
        if self.otel_traces_sampler not in {None, *TRACE_SAMPLERS}:
            problems.append(f"OTEL_TRACES_SAMPLER: expected {', '.join(TRACE_SAMPLERS[:-1])} or {TRACE_SAMPLERS[-1]}")
        if self.otel_traces_sampler_arg is not None and not _RATIO.fullmatch(self.otel_traces_sampler_arg):
            problems.append("OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1")
        return problems


class ServiceSettings(KafkaSettings, EventSettings, RegistrySettings, LogSettings):
    """The settings that both services read."""

    scorer_drain_timeout: Duration = timedelta(seconds=20)
