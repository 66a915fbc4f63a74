"""The shapes that settings may have: each type checks a value when it is read, and its error names the form."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from kafka_runtime.model_registry import RegistryError, address

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# Longer than anything that a setting means, and short enough for every timer of Python and every field of Kafka.
LONGEST = timedelta(days=3650)
_DURATION = re.compile(r"([1-9][0-9]*)(ms|s|m|h|d)")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def duration(text: object) -> object:
    """Return `"15m"` as a timedelta; raise ValueError, which names the form, for any other text.

    >>> duration("15m")
    datetime.timedelta(seconds=900)
    """
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("expected a duration like 250ms, 30s, 15m, 1h or 7d")
    try:
        return timedelta(milliseconds=int(match[1]) * UNITS_MS[match[2]])
    except (OverflowError, ValueError):  # ValueError: more digits than Python reads
        raise ValueError("expected a shorter duration") from None


def written_duration(length: timedelta) -> str:
    """Return a duration as settings write it, in the largest unit that divides it.

    >>> written_duration(timedelta(hours=36))
    '36h'
    """
    ms = round(length / timedelta(milliseconds=1))
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if ms % UNITS_MS[unit] == 0)
    return f"{ms // UNITS_MS[unit]}{unit}"


def _at_most_ten_years(length: timedelta) -> timedelta:
    if length > LONGEST:
        raise ValueError(f"expected at most {written_duration(LONGEST)}")
    return length


def at_least(shortest: timedelta) -> AfterValidator:
    """Return a check that refuses a shorter duration."""

    def check(length: timedelta) -> timedelta:
        if length < shortest:
            raise ValueError(f"expected at least {written_duration(shortest)}")
        return length

    return AfterValidator(check)


def at_most(longest: timedelta) -> AfterValidator:
    """Return a check that refuses a longer duration."""

    def check(length: timedelta) -> timedelta:
        if length > longest:
            raise ValueError(f"expected at most {written_duration(longest)}")
        return length

    return AfterValidator(check)


def _text(text: str) -> str:
    if not text or text != text.strip() or _NOT_TEXT.search(text):
        raise ValueError("expected text without control characters and without spaces around it")
    return text


def host(text: str) -> str:
    """Return `text` if it is an IP address or a host name, else raise ValueError.

    >>> host("kafka-1.example.org")
    'kafka-1.example.org'
    """
    try:
        ip_address(text)
    except ValueError:
        # digits and dots alone are a mistyped address, not a name
        if _HOST.fullmatch(text) is None or not text.strip("0123456789."):
            raise ValueError(f"expected a host name or an IP address, got {text!r}") from None
    return text


def bootstrap_servers(text: str) -> str:
    """Return `text` if it is a list of brokers as our Kafka client reads it; ValueError names the first wrong entry."""
    for entry in (part.strip() for part in text.split(",")):
        _broker(entry)
    return text


def _broker(entry: str) -> None:
    expected = f"expected HOST:PORT, or several with commas between them, got {entry!r}"
    if entry.startswith("["):
        name, bracket, rest = entry[1:].partition("]")
        port = rest.removeprefix(":") if rest.startswith(":") else rest and "none"
        if not bracket or ":" not in name:
            raise ValueError(expected)
    elif entry.count(":") > 1 and not entry.rpartition(":")[0].startswith("["):
        name, port = entry, ""  # an IPv6 address; its port would need brackets
    else:
        name, colon, port = entry.partition(":")
        if colon and not port:
            raise ValueError(expected)
    try:
        host(name)
    except ValueError:
        raise ValueError(expected) from None
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise ValueError(f"expected a port from 1 to 65535 in {entry!r}")


def file_problem(path: Path) -> str | None:
    """Return why a path is not that of a file; None if it is. Never a content that was given instead: it may be a key.

    >>> file_problem(Path("-----BEGIN PRIVATE KEY-----")), file_problem(Path("none.pem"))
    ('expected the path of a file, got the content of one', 'no such file: none.pem')
    """
    if str(path).lstrip().startswith("-----BEGIN") or "\n" in str(path):
        return "expected the path of a file, got the content of one"
    try:
        return None if path.is_file() else f"no such file: {path}"
    except OSError as error:  # a name that is too long, a folder that may not be read
        return f"no such file: {error.strerror}"


def _existing_file(path: Path) -> Path:
    if (problem := file_problem(path)) is not None:
        raise ValueError(problem)
    return path


def _bundle(text: object) -> object:
    if not isinstance(text, str):
        return text
    _text(text)
    try:
        address(Path(text))
    except RegistryError as error:
        raise ValueError(str(error)) from None
    return text


def _link(text: str) -> str:
    _text(text)
    if any(character.isspace() or character in '<>"#' for character in text):
        raise ValueError("expected an address or a path without spaces, quotes or #")
    parts = urlsplit(text)
    if (parts.scheme or "//" in text) and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError("expected an address that begins with http:// or https://, or a path")
    return text


def _http_address(text: str) -> str:
    if "://" not in _link(text):
        raise ValueError("expected an address that begins with http:// or https://")
    return text


def sasl_extensions(text: str) -> str:
    """Return `text` if it is a list of SASL extensions, `NAME=VALUE,…`; ValueError names the first wrong one.

    Names are letters alone, and "auth" is the protocol's own (RFC 7628, KIP-342).
    """
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        if not (name.isascii() and name.isalpha()) or name == "auth" or not value.isascii() or not value.isprintable():
            raise ValueError(f"expected NAME=VALUE, or several with commas between them, got {entry!r}")
    return text


Duration = Annotated[timedelta, BeforeValidator(duration), AfterValidator(_at_most_ten_years)]
Text = Annotated[str, AfterValidator(_text)]
Host = Annotated[str, AfterValidator(host)]
Port = Annotated[int, Field(ge=1, le=65_535)]
BootstrapServers = Annotated[str, AfterValidator(bootstrap_servers)]
Group = Annotated[str, Field(max_length=200), AfterValidator(_text)]
ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
# A bundle's directory, or an address in a model registry. Whether it can be loaded is seen when it is loaded.
BundlePlace = Annotated[Path, BeforeValidator(_bundle)]
Link = Annotated[str, AfterValidator(_link)]
HttpAddress = Annotated[str, AfterValidator(_http_address)]
SaslExtensions = Annotated[str, AfterValidator(sasl_extensions)]
