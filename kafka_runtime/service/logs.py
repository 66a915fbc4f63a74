"""Logs: one JSON object per line on stderr; console lines on a terminal."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sys
import threading
import time
import traceback
from typing import Any, TextIO

import orjson
import structlog
from aiokafka.errors import KafkaError

from kafka_runtime.service.printable import clean, clean_json
from kafka_runtime.service.settings import LogSettings

# Lines of one kind, by a library and by this code: enough to see what happens, and a bound during a long failure.
LINES_PER_PERIOD = 3
OWN_LINES_PER_PERIOD = 200
REPEAT_PERIOD_S = 10.0
# Each of these lines is about a different request: none repeats another.
UNBOUNDED = "http_request"
MAX_KINDS = 1000

_Callsite = structlog.processors.CallsiteParameter
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# A command writes no log: its warnings go to stderr, and its output stays what it prints.
structlog.configure(
    wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
)


class _KnownNoise(logging.Filter):
    """Drops lines of libraries that are normal here and would only alarm a reader.

    NotEnoughReplicas: brokers from 4.0 on verify a transaction at its first produce, and return this meanwhile.
    A Kafka error that was never retrieved: aiokafka's producer keeps a future per transaction, and fails it when the
    producer is fenced. The caller of the write has received the error by then.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "asyncio" and record.exc_info and isinstance(record.exc_info[1], KafkaError):
            return False
        return not (record.name.startswith("aiokafka") and "NotEnoughReplicas" in record.getMessage())


class _Repeated(logging.Filter):
    """Passes a limited number of lines of each kind per period.

    While a broker is unreachable, aiokafka writes hundreds a second. When descriptors run out, asyncio writes
    thousands.
    """

    def __init__(self) -> None:
        super().__init__()
        self._periods: dict[tuple[str, str], list[float]] = {}  # kind → start of its period (monotonic s), lines in it
        self._lock = threading.Lock()  # a filter is called outside the handler's lock

    def filter(self, record: logging.LogRecord) -> bool:
        event: Any = record.msg
        own = isinstance(event, dict)  # an event of structlog's
        kind = str(event.get("event")) if own else str(event).partition("\n")[0]
        if kind == UNBOUNDED:
            return True
        limit = OWN_LINES_PER_PERIOD if own else LINES_PER_PERIOD
        now = time.monotonic()
        with self._lock:
            if len(self._periods) > MAX_KINDS:
                self._periods.clear()
            period = self._periods.setdefault((record.name, kind), [now, 0])
            left_out = 0
            if now - period[0] >= REPEAT_PERIOD_S:
                left_out = max(0, int(period[1]) - limit)
                period[:] = [now, 0]
            period[1] += 1
            if left_out and own:
                record.msg = {**event, "left_out": left_out}
            elif left_out:
                record.msg = f"{record.getMessage()} ({left_out} lines like it were left out)"
                record.args = None
            return period[1] <= limit


def configure(settings: LogSettings, service: str) -> None:
    """Route our own and every library's log lines to stderr in one format."""
    json_lines = settings.log_format == "json" or (settings.log_format is None and not sys.stderr.isatty())

    def name_service(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        if "func_name" in event:
            event["function"] = event.pop("func_name")
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.CallsiteParameterAdder({_Callsite.FUNC_NAME, _Callsite.MODULE}),
        name_service,
    ]
    renderers: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if json_lines:
        renderers.append(_with_message)
        renderers.append(structlog.processors.format_exc_info)
        renderers.append(structlog.processors.JSONRenderer(_json))
    else:
        renderers.append(_printable)
        colours = sys.stderr.isatty()
        # structlog's default for exceptions prints local variables: settings with secrets, customers
        renderers.append(structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_plain_exception))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.log_level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_KnownNoise())
    handler.addFilter(_Repeated())
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=renderers))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.captureWarnings(True)
    root.setLevel(_LEVELS[settings.log_level])
    # a line per heartbeat duplicates the metrics, and requests have separate lines
    for quiet in ("uvicorn.access", "httpx"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(max(logging.WARNING, _LEVELS[settings.log_level]))


def _with_message(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Repeat the event as `message`, the name that other tools look for."""
    event.setdefault("message", event.get("event"))
    return event


def _json(line: Any, **_: Any) -> str:
    try:
        return clean_json(orjson.dumps(line, default=str).decode())
    except TypeError:
        # half a surrogate pair, an integer beyond 64 bits, a key that is no string: slower, and never rejected
        return json.dumps(line, default=str)


def _printable(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Make the event of a console line one that a terminal shows and does not obey."""
    return {clean(name): value if name == "exc_info" else _shown(value) for name, value in event.items()}


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else clean(value)


def _plain_exception(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Write a traceback, each line indented: none looks like a line of the log."""
    text = "".join(traceback.format_exception(*exc_info))
    stream.write("".join(f"\n  {clean(line)}" for line in text.splitlines()))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger for one module: `log.info("partition_assigned", topic=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class CustomerHash:
    """Hashes customer ids for log lines, with a key, so that a line alone identifies no customer."""

    def __init__(self, settings: LogSettings) -> None:
        given = settings.log_hash_key
        # an empty key would be none: a list of customers could be hashed and compared
        self._key = (given.get_secret_value().encode()[:64] if given is not None else b"") or secrets.token_bytes(32)

    def __call__(self, customer_id: str) -> str:
        """Return 16 hexadecimal digits."""
        return hashlib.blake2b(customer_id.encode(), key=self._key, digest_size=8).hexdigest()
