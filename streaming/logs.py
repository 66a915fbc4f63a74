"""Logs: one JSON object a line on stderr; console lines where a person looks at a terminal."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sys
import time
from typing import Any

import orjson
import structlog
from aiokafka.errors import KafkaError

from streaming.settings import LogSettings

# Of one kind of a library's lines: enough to see what is going on, and a bound on the log while nothing helps.
LINES_PER_PERIOD = 3
REPEAT_PERIOD_S = 10.0
MAX_KINDS = 1000

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _KnownNoise(logging.Filter):
    """Drops lines of libraries that are normal here and would only alarm a reader.

    NotEnoughReplicas: brokers from 4.0 on verify a transaction on its first produce and answer so until that is done.
    A Kafka error that nobody retrieved: aiokafka's producer keeps a future per transaction to itself, and fails it when
    it is fenced; whoever wrote has been told by then.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "asyncio" and record.exc_info and isinstance(record.exc_info[1], KafkaError):
            return False
        return not (record.name.startswith("aiokafka") and "NotEnoughReplicas" in record.getMessage())


class _Repeated(logging.Filter):
    """Of aiokafka's lines, a few of each kind per period: while a broker is away it writes hundreds a second."""

    def __init__(self) -> None:
        super().__init__()
        self._periods: dict[tuple[str, str], list[float]] = {}  # kind → start of its period (monotonic s), lines in it

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        now = time.monotonic()
        if len(self._periods) > MAX_KINDS:
            self._periods.clear()
        period = self._periods.setdefault((record.name, str(record.msg)), [now, 0])
        if now - period[0] >= REPEAT_PERIOD_S:
            if period[1] > LINES_PER_PERIOD:
                record.msg = f"{record.getMessage()} ({period[1] - LINES_PER_PERIOD:.0f} lines like it were left out)"
                record.args = None
            period[:] = [now, 0]
        period[1] += 1
        return period[1] <= LINES_PER_PERIOD


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
        structlog.processors.CallsiteParameterAdder({structlog.processors.CallsiteParameter.FUNC_NAME}),
        name_service,
    ]
    renderers: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if json_lines:
        renderers.append(structlog.processors.format_exc_info)
        renderers.append(structlog.processors.JSONRenderer(_json))
    else:
        renderers.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
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
    # a line per request and per heartbeat says nothing that the metrics do not
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(max(logging.WARNING, _LEVELS[settings.log_level]))


def _json(line: Any, **_: Any) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:
        # half a surrogate pair, an integer beyond 64 bits, a key that is no string: slower, and never refused
        return json.dumps(line, default=str)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for one module: `log.info("partition_assigned", topic=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class CustomerHash:
    """Hashes customer ids for log lines, with a key of their own so that a line alone identifies nobody."""

    def __init__(self, settings: LogSettings) -> None:
        given = settings.log_hash_key
        # an empty key would be none: anybody could hash a list of customers and compare
        self._key = (given.get_secret_value().encode()[:64] if given is not None else b"") or secrets.token_bytes(32)

    def __call__(self, customer_id: str) -> str:
        """16 hexadecimal digits."""
        return hashlib.blake2b(customer_id.encode(), key=self._key, digest_size=8).hexdigest()
