"""Settings: environment variables only, read once, frozen, every problem in one message."""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([1-9][0-9]*)(ms|s|m|h|d)")


class SettingsError(Exception):
    """Everything that is wrong with the environment, one problem per line."""


def duration(text: object) -> object:
    """`"15m"` as a timedelta; anything else that is not one is an error that names the form.

    >>> duration("15m")
    datetime.timedelta(seconds=900)
    """
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("expected a duration like 250ms, 30s, 15m, 1h or 7d")
    try:
        return timedelta(milliseconds=int(match[1]) * _UNITS_MS[match[2]])
    except OverflowError:
        raise ValueError("expected a shorter duration") from None


Duration = Annotated[timedelta, BeforeValidator(duration)]


class Settings(BaseModel):
    """Base of all settings: the field `kafka_bootstrap_servers` is the variable `KAFKA_BOOTSTRAP_SERVERS`.

    A field of type SecretStr may also be given as `NAME_FILE`, the path of a file that holds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def read(cls, environment: Mapping[str, str], known: Collection[str]) -> Self:
        """The settings in `environment`; SettingsError with every problem found.

        `known` are the names of all public settings of all processes. A variable that shares a prefix (up to the first
        underscore) with them and is neither known nor one that Kubernetes injects is a problem: it is a misspelt one.
        """
        problems = unknown_variables(environment, known)
        values: dict[str, Any] = {}
        for field, info in cls.model_fields.items():
            name = field.upper()
            if name in environment:
                values[field] = environment[name]
            if not _is_secret(info.annotation) or f"{name}_FILE" not in environment:
                continue
            if name in environment:
                problems.append(f"{name}: set {name} or {name}_FILE, not both")
                continue
            try:
                values[field] = Path(environment[f"{name}_FILE"]).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{name}_FILE: {error}")
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += _lines(error, besides=problems)
            # what is wrong by itself is set aside, so that what does not fit together is said in the same message
            named = _named(problems)
            try:
                cls.model_validate({field: value for field, value in values.items() if field.upper() not in named})
            except ValidationError as again:
                problems += _lines(again, besides=problems)
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    def problems(self) -> list[str]:
        """What does not fit together, as `NAME: why`. A subclass adds its own to those of `super()`."""
        return []

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := self.problems():
            raise ValueError("\n".join(problems))
        return self

    def public(self) -> dict[str, Any]:
        """Variable name → value, with secrets masked and durations in their written form."""
        return {field.upper(): _shown(getattr(self, field)) for field in type(self).model_fields}


def _lines(error: ValidationError, besides: Collection[str]) -> list[str]:
    """`NAME: why` per problem of a variable that is not in `besides`; a problem of several names them itself."""
    lines: list[str] = []
    for problem in error.errors():
        text = problem["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in problem["loc"]).upper()
        lines += [f"{name}: {text}"] if name else text.splitlines()
    return [line for line in lines if not _named([line]) & _named(besides)]


def _named(problems: Collection[str]) -> set[str]:
    return {line.partition(":")[0].removesuffix("_FILE") for line in problems}


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, timedelta):
        ms = round(value / timedelta(milliseconds=1))
        unit = next(unit for unit in ("d", "h", "m", "s", "ms") if ms % _UNITS_MS[unit] == 0)
        return f"{ms // _UNITS_MS[unit]}{unit}"
    return value


_KUBERNETES = re.compile(
    r".*(_SERVICE_HOST|_SERVICE_PORT|_SERVICE_PORT_.*|_PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)


def unknown_variables(environment: Mapping[str, str], known: Collection[str]) -> list[str]:
    """One problem per variable that looks like a setting and is none, with the nearest valid name."""
    prefixes = {name.split("_", 1)[0] + "_" for name in known} - {"KAFKA_", "LOG_", "MODEL_", "RUNBOOK_"}
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

    kafka_bootstrap_servers: Annotated[str, Field(min_length=1)] = "localhost:9092"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_ssl_key_password: SecretStr | None = None
    # 6 s: after a SIGKILL the partitions are taken over after 5 s; 10 s would make it 9
    kafka_session_timeout: Duration = timedelta(seconds=6)
    # also how long read_committed readers stall behind a crash that nobody fences
    kafka_transaction_timeout: Duration = timedelta(seconds=15)

    def problems(self) -> list[str]:
        """With SASL, all three of its settings are needed; files must be there, and hold what they should."""
        problems = super().problems()
        mechanism = self.kafka_sasl_mechanism
        if mechanism in {"OAUTHBEARER", "GSSAPI"}:
            problems.append(f"KAFKA_SASL_MECHANISM: {mechanism} is not supported yet")
        elif mechanism not in {None, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
            problems.append("KAFKA_SASL_MECHANISM: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
        if self.kafka_security_protocol.startswith("SASL"):
            problems += [
                f"{name.upper()}: needed for {self.kafka_security_protocol}"
                for name in ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
                if getattr(self, name) is None
            ]
        return problems + self._file_problems()

    def _file_problems(self) -> list[str]:
        names = ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile")
        paths: dict[str, Path] = {name: path for name in names if (path := getattr(self, name)) is not None}
        problems = [f"{name.upper()}: no such file: {path}" for name, path in paths.items() if not path.is_file()]
        if self.kafka_ssl_keyfile is not None and self.kafka_ssl_certfile is None:
            problems.append("KAFKA_SSL_CERTFILE: needed for KAFKA_SSL_KEYFILE")
        if problems:
            return problems
        # loaded as a client will: else the first connection would end the process with a traceback
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.kafka_ssl_cafile is not None:
                context.load_verify_locations(self.kafka_ssl_cafile)
        except OSError as error:
            problems.append(f"KAFKA_SSL_CAFILE: no certificates in PEM format: {self.kafka_ssl_cafile}: {error}")
        try:
            if self.kafka_ssl_certfile is not None:
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile, self.key_password())
        except OSError as error:
            together = "with KAFKA_SSL_KEYFILE and KAFKA_SSL_KEY_PASSWORD"
            problems.append(f"KAFKA_SSL_CERTFILE: cannot be loaded {together}: {error}")
        return problems

    def key_password(self) -> str:
        """The private key's password; empty for none, because OpenSSL would ask for None at the terminal."""
        return self.kafka_ssl_key_password.get_secret_value() if self.kafka_ssl_key_password is not None else ""


class LogSettings(Settings):
    """How to log."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] | None = None
    log_hash_key: SecretStr | None = None
