"""The alerts topic → an Alertmanager, without end. No answer of the receiver stops it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from contextlib import aclosing

import httpx
import orjson

from driftline import terminal
from driftline.alertmanager.outbox import Outbox, Posting, fault
from driftline.settings import CommandSettings
from kafka_runtime.kafka_types import ConsumerRecord
from kafka_runtime.topic_reader import Reader, reader
from schemas.alert import Alert, decode_alert

PATH = "/api/v2/alerts"
# An Alertmanager answers in milliseconds; after this time the request has failed.
TIMEOUT_S = 10.0
FIRST_PAUSE_S = 1.0
# Alerts that were resolved while no forwarder ran are posted if they are recent; an Alertmanager ends older ones by
# itself.
NEWS_MS = 3_600_000
MAX_REASON_BYTES = 300


def pause_s(failures: int, every_s: float) -> float:
    """Return the wait after this number of failures in a row: 1, 2, 4, … seconds, at most the time between posts."""
    return min(every_s, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20)) if failures else every_s


class Poster:
    """Posts an outbox at once when it has changed, else every `every_s` seconds, sooner after a failure."""

    def __init__(
        self,
        outbox: Outbox,
        client: httpx.AsyncClient,
        url: httpx.URL,
        every_s: float,
        *,
        generator_url: str | None = None,
        say: Callable[[str], None] = terminal.note,
    ) -> None:
        """Start. `url`: of the Alertmanager, without the API's path."""
        self._outbox = outbox
        self._client = client
        self._url = url.copy_with(raw_path=(url.path.rstrip("/") + PATH).encode())
        self._every_s = every_s
        self._generator_url = generator_url
        self._say = say
        self._changed = asyncio.Event()
        self._trouble: str | None = None

    def changed(self) -> None:
        """Note that the outbox has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Post without end; the first time when something has changed."""
        failures, news = 0, True
        await self._changed.wait()
        while True:
            news = self._changed.is_set() or (news and failures > 0)
            self._changed.clear()
            postings = self._outbox.due()
            trouble = await self._post(postings) if postings else None
            failures = 0 if trouble is None else failures + 1
            self._report(postings, trouble, news=news)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s(failures, self._every_s)):
                    await self._changed.wait()

    async def _post(self, postings: list[Posting]) -> str | None:
        """Post the alerts; return why the receiver did not take them, None if it did."""
        body = orjson.dumps([posting.as_json(self._generator_url) for posting in postings])
        try:
            # a limit on the whole exchange, not on each read: a receiver could send single bytes without end
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._client.stream(
                    "POST", self._url, content=body, headers={"content-type": "application/json"}
                ) as response,
            ):
                if not response.is_success:
                    return f"answered {response.status_code} {await _reason(response)}".rstrip()
        except TimeoutError:
            return f"no answer within {TIMEOUT_S:.0f} s"
        except (httpx.HTTPError, OSError) as error:
            return f"{type(error).__name__} {error}".rstrip()
        self._outbox.told(postings)
        return None

    def _report(self, postings: list[Posting], trouble: str | None, *, news: bool) -> None:
        """Report what changed, and each failure once."""
        if trouble is not None:
            if trouble != self._trouble:
                self._say(f"{_shown(self._url)}: {trouble}; trying again")
        elif self._trouble is not None:
            self._say(f"{_shown(self._url)}: takes alerts again")
        if news and trouble is None and postings:
            ended = sum(posting.ends_at is not None for posting in postings)
            self._say(f"posted {len(postings) - ended} firing, {ended} resolved")
        self._trouble = trouble


async def forward(settings: CommandSettings, url: httpx.URL, every_s: float, generator_url: str | None) -> None:
    """Forward until SIGTERM or SIGINT. Raises KafkaError, TimeoutError or OSError if the topic cannot be read."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def finish(number: int) -> None:
        loop.remove_signal_handler(number)  # a second signal ends the process at once
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, finish, number)
    running = asyncio.ensure_future(_run(settings, url, every_s, generator_url))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not running.done():
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return
    await running


async def _run(settings: CommandSettings, url: httpx.URL, every_s: float, generator_url: str | None) -> None:
    outbox = Outbox()
    async with (
        reader(settings, blocked=terminal.note_blocked) as reading,
        httpx.AsyncClient(timeout=TIMEOUT_S) as client,
    ):
        poster = Poster(outbox, client, url, every_s, generator_url=generator_url)
        where = f"{settings.topic_alerts} at {settings.kafka_bootstrap_servers}"
        terminal.note(f"forwarding {where} to {_shown(url)}{PATH} every {every_s:g} s, until Ctrl-C")
        await asyncio.gather(_follow(reading, settings.topic_alerts, outbox, poster), poster.run())


async def _follow(reading: Reader, topic: str, outbox: Outbox, poster: Poster) -> None:
    """Fill the outbox: first the present state, then every message as it arrives."""
    ends = await reading.ends(topic)
    # Not one by one: a long resolved alert would fire once more.
    past: dict[str, tuple[Alert, int]] | None = {}
    async with aclosing(reading.follow(topic, from_start=True)) as records:
        async for record in records:
            if record is None:
                if past is not None and await reading.reached(ends):
                    _begin(past, outbox)
                    past = None
                    poster.changed()
                continue
            mark, alert = _read(record)
            if past is not None:
                past.pop(mark, None)
                if alert is not None:
                    past[mark] = (alert, record.timestamp)
            elif alert is None:
                outbox.forget(mark)
            else:
                outbox.take(alert)
                poster.changed()


def _begin(past: dict[str, tuple[Alert, int]], outbox: Outbox) -> None:
    now_ms = time.time_ns() // 1_000_000
    for alert, written_ms in past.values():
        if alert.status == "firing" or now_ms - written_ms <= NEWS_MS:
            outbox.take(alert)


def _read(record: ConsumerRecord) -> tuple[str, Alert | None]:
    """Return (fingerprint, alert); no alert if the key was deleted.

    A record that is no alert is reported and has no fingerprint.
    """
    if record.value is None:
        return (record.key or b"").decode(errors="replace"), None
    try:
        alert = decode_alert(record.value)
        problem = fault(alert)
    except ValueError as error:
        problem = str(error)
    else:
        if problem is None:
            return alert.fingerprint, alert
    terminal.note(f"offset {record.offset}: not forwarded: {problem}")
    return "", None


async def _reason(response: httpx.Response) -> str:
    """Return the beginning of the answer's text."""
    async for chunk in response.aiter_raw():
        return " ".join(chunk[:MAX_REASON_BYTES].decode(errors="replace").split())
    return ""


def _shown(url: httpx.URL) -> str:
    """Return the address without its password."""
    return str(url.copy_with(username=None, password=None))
