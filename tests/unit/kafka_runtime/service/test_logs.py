"""Logs: one JSON object a line, the contract's fields, nothing secret in them."""

import io
import json
import logging
import sys
import warnings
from datetime import datetime

import pytest
import structlog
from aiokafka.errors import ProducerFenced
from pydantic import SecretStr

from kafka_runtime.service import logs
from kafka_runtime.service.settings import KafkaSettings, LogSettings


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def configured(monkeypatch):
    """Configure logging onto a stream of the test's own; everything is as before afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config())
    levels = {name: logging.getLogger(name).level for name in ("uvicorn.access", "aiokafka")}

    def configure(stream=None, **settings):
        stream = stream or io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(LogSettings(**settings), "scorer")
        return stream

    yield configure
    logging.captureWarnings(False)
    root.handlers[:], level, config = before
    root.setLevel(level)
    structlog.configure(**config)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)


def _lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_contracts_fields(configured):
    """Time in UTC, level, event, logger, function, service, and what the event is about."""
    stream = configured()
    logs.get("scorer.telemetry").info("partition_assigned", topic="customer-events", partition=3, offset=1042)
    (line,) = _lines(stream)
    at = line.pop("timestamp")
    assert at.endswith("Z")
    assert datetime.fromisoformat(at).utcoffset().total_seconds() == 0
    assert line == {
        "level": "info",
        "event": "partition_assigned",
        "message": "partition_assigned",
        "logger": "scorer.telemetry",
        "module": "test_logs",
        "function": "test_a_line_is_one_json_object_with_the_contracts_fields",
        "service": "scorer",
        "topic": "customer-events",
        "partition": 3,
        "offset": 1042,
    }


def test_libraries_write_the_same_lines(configured):
    """Through Python's logging, with arguments and exceptions."""
    stream = configured()
    try:
        int("no\nroute")
    except ValueError:
        logging.getLogger("kafka.conn").exception("lost %s:%d", "broker", 9092)
    (line,) = _lines(stream)
    assert (line["event"], line["level"], line["logger"], line["service"]) == (
        "lost broker:9092",
        "error",
        "kafka.conn",
        "scorer",
    )
    assert line["function"] == "test_libraries_write_the_same_lines"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: invalid literal for int() with base 10: 'no\\nroute'")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset().total_seconds() == 0


def test_an_exception_of_ours_is_a_field(configured):
    """The whole traceback in one line of the log."""
    stream = configured()
    error = ValueError("first\nsecond")
    logs.get("x").error("service_failed", exc_info=error)
    (line,) = _lines(stream)
    assert line["exception"] == "ValueError: first\nsecond"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("line\nbreak\r\u2028\x00\x1b[31m", "line\nbreak\r\u2028\x00\x1b[31m"),
        (b"\xff", "b'\\xff'"),
        (2**70, 2**70),
        ("\ud800", "\ud800"),
        (float("nan"), None),
        ({1: {"a": None}}, {"1": {"a": None}}),
        (SecretStr("tiger"), "**********"),
        (("a", 1), ["a", 1]),
    ],
)
def test_whatever_is_logged_is_one_line(configured, value, shown):
    """Line breaks, bytes, integers beyond 64 bits, half a surrogate pair, keys that are numbers."""
    stream = configured()
    logs.get("x").info("event", value=value)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.isascii() or "\u2028" in text
    assert json.loads(text)["value"] == shown


def test_secrets_are_masked_in_a_line(configured):
    """Even where code logs the settings as they are."""
    stream = configured()
    settings = KafkaSettings(kafka_sasl_password="tiger-9f2c", kafka_ssl_key_password="tiger-1111")  # noqa: S106
    logs.get("x").info("started", settings=settings, password=settings.kafka_sasl_password)
    logging.getLogger("y").info("settings: %s", settings)
    text = stream.getvalue()
    assert len(_lines(stream)) == 2
    assert "tiger" not in text
    assert "localhost:9092" in text


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_holds_for_us_and_for_libraries(configured, level, seen):
    """LOG_LEVEL is one for all."""
    stream = configured(log_level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logs.get("ours"), name)(name)
        getattr(logging.getLogger("theirs"), name)(name)
    assert [(line["logger"], line["event"]) for line in _lines(stream)] == [
        (logger, name) for name in seen for logger in ("ours", "theirs")
    ]


def test_lines_that_are_normal_here_are_dropped(configured):
    """The Kafka library's retry while a broker verifies a transaction; ours about the same error is not."""
    stream = configured()
    logging.getLogger("aiokafka.producer.sender").warning("retrying. Error: %s", "NotEnoughReplicasError")
    logging.getLogger("aiokafka.consumer").warning("something else")
    logging.getLogger("aiokafka.consumer").info("heartbeat")
    logging.getLogger("uvicorn.access").info("GET /metrics")
    logs.get("streaming").warning("producer_rebuilt", exception="NotEnoughReplicasError()")
    assert [line["event"] for line in _lines(stream)] == ["something else", "producer_rebuilt"]


def test_warnings_of_python_are_lines_too(configured):
    """A library's deprecation must not break the one-object-a-line."""
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nway", UserWarning, stacklevel=1)
    (line,) = _lines(stream)
    assert line["level"] == "warning"
    assert "old\nway" in line["event"]


def test_a_terminal_gets_lines_for_people_unless_json_is_asked_for(configured):
    """LOG_FORMAT wins; without it, the stream decides."""
    stream = configured(_Terminal())
    logs.get("x").info("hello", topic="t")
    assert not stream.getvalue().startswith("{")
    assert "hello" in stream.getvalue()
    stream = configured(_Terminal(), log_format="json")
    logs.get("y").info("hello")
    assert _lines(stream)[0]["event"] == "hello"
    stream = configured(log_format="console")
    logs.get("z").info("hello")
    assert not stream.getvalue().startswith("{")


HOSTILE = "a\x1b[2J\x9b31m[/x]\u202e\r\n2026-11-30T00:00:00Z [error    ] forged"


@pytest.mark.parametrize("form", ["json", "console"])
def test_text_of_strangers_moves_no_cursor_and_forges_no_line(configured, form):
    """In an event, a name, a value, a library's message and an exception; line by line, everything is printable."""
    stream = configured(log_format=form)
    logs.get("x").info("event", topic=HOSTILE, **{HOSTILE: [HOSTILE]})
    logs.get("x").info(HOSTILE)
    logging.getLogger("aiokafka").error("no topic %s", HOSTILE)
    logging.getLogger("aiokafka").error("lost", exc_info=ValueError(HOSTILE))
    lines = stream.getvalue().splitlines()
    assert all(line.isprintable() for line in lines), lines
    assert [line for line in lines if line.startswith(("2026-11-30T00:00:00Z", "level"))] == []
    assert sum(line.startswith(("{", "20")) for line in lines) == 4
    assert "[/x]" in lines[0]


def test_an_exception_on_a_terminal_shows_no_local_variables(configured):
    """These hold settings with secrets, and customers."""
    stream = configured(_Terminal())
    secret = "tiger-9f2c".upper()
    try:
        int("none" if secret else secret)
    except ValueError as error:
        logs.get("x").error("task_failed", exc_info=error)
    assert "ValueError: invalid literal" in stream.getvalue()
    assert "TIGER" not in stream.getvalue()


def test_context_is_on_every_line_of_its_block(configured):
    """A value that is bound once, as a request's id, need not be passed again."""
    stream = configured()
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logs.get("x").info("first")
    logs.get("x").info("second")
    assert [line.get("request_id") for line in _lines(stream)] == ["r1", None]


# --- customers ------------------------------------------------------------------------------------------------------


def test_a_customers_hash_is_keyed():
    """The same key gives the same 16 digits; another key, or none given, others."""
    a = logs.CustomerHash(LogSettings(log_hash_key="k1"))
    again = logs.CustomerHash(LogSettings(log_hash_key="k1"))
    other = logs.CustomerHash(LogSettings(log_hash_key="k2"))
    assert a("7590-VHVEG") == again("7590-VHVEG") == "fc9bbaf0867a3bcd"
    assert other("7590-VHVEG") != a("7590-VHVEG")
    assert a("7590-VHVEH") != a("7590-VHVEG")


@pytest.mark.parametrize("settings", [{}, {"log_hash_key": ""}])
def test_without_a_key_every_process_has_its_own(settings):
    """An empty key counts as none: the hash of a known customer must not be known to everybody."""
    assert logs.CustomerHash(LogSettings(**settings))("c") != logs.CustomerHash(LogSettings(**settings))("c")


def test_a_key_of_any_length_is_taken():
    """Longer ones than the hash can use are cut."""
    assert len(logs.CustomerHash(LogSettings(log_hash_key="é" * 500))("c")) == 16


def test_a_library_that_repeats_itself_is_bounded_and_says_how_much_was_left_out(configured, monkeypatch):
    """Three lines of a kind per period; then one that counts. Of ours, 200."""
    stream = configured(log_format="json")
    library, ours = logging.getLogger("aiokafka.client"), logs.get("kafka_runtime.test")
    for _ in range(100):
        library.error("no connection to %s", "broker")
        ours.warning("ours")
    library.error("something else")
    monkeypatch.setattr(logs, "REPEAT_PERIOD_S", 0.0)
    library.error("no connection to %s", "broker")
    events = [line["event"] for line in _lines(stream)]
    assert events.count("ours") == 100
    assert events.count("no connection to broker") == 3
    assert events[-2:] == ["something else", "no connection to broker (97 lines like it were left out)"]


@pytest.mark.parametrize("name", ["asyncio", "uvicorn.error", "some.library"])
def test_every_library_is_bounded(configured, name):
    """One kind is one first line: what follows may name another socket each time."""
    stream = configured(log_format="json")
    for number in range(100):
        logging.getLogger(name).error(f"socket.accept() out of system resource\nsocket: <{number}>")  # noqa: G004
    assert len(_lines(stream)) == 3


def test_our_own_lines_are_bounded_but_every_request_has_one(configured, monkeypatch):
    """200 of an event per period; the next line of it has how many were left out."""
    stream = configured(log_format="json")
    for _ in range(1000):
        logs.get("x").warning("partition_state", partition=1)
        logs.get("x").info("http_request")
    monkeypatch.setattr(logs, "REPEAT_PERIOD_S", 0.0)
    logs.get("x").warning("partition_state", partition=1)
    lines = _lines(stream)
    assert sum(line["event"] == "http_request" for line in lines) == 1000
    ours = [line for line in lines if line["event"] == "partition_state"]
    assert len(ours) == 201
    assert ours[-1]["left_out"] == 800


def test_the_future_that_a_fenced_producer_keeps_to_itself_alarms_nobody(configured):
    """Any other exception that was not retrieved is a line."""
    stream = configured(log_format="json")
    for error in (ProducerFenced(), RuntimeError("ours")):
        logging.getLogger("asyncio").error("Future exception was never retrieved", exc_info=error)
    assert ["ours" in line["exception"] for line in _lines(stream)] == [True]
