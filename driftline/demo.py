"""`driftline demo`: the whole pipeline on this machine, on real customers, with drift that is found and announced.

Broker, scorer and drift worker are real processes; only the drift worker's windows are seconds long instead of hours.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import typer

from driftline.demo_stage import (
    DATA,
    PORTS,
    SPEC,
    Services,
    environment_of,
    make_topics,
    services_in,
    settings_of,
    start_broker,
)
from driftline.demo_view import View
from driftline.errors import CommandError
from driftline.replay import EventSource

FEATURE = "monthly_charges"
DRAIN_TIMEOUT_S = 30.0
RESOLVE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Plan:
    """What happens when: seconds since the first event."""

    rate: float
    drift_from_s: float
    drift_until_s: float
    bad_share: Fraction = Fraction(1, 200)

    @property
    def drift(self) -> str:
        """As `driftline produce --drift` takes it."""
        return f"{FEATURE}:shift=+25@{self.drift_from_s:g}s..{self.drift_until_s:g}s"


# A demo profile: the same worker, with windows of seconds so that an audience need not wait for an hour to pass.
DRIFT_PROFILE = {
    "DRIFT_PANE": "1s",
    "DRIFT_WINDOWS": "5s,15s",
    "DRIFT_ALLOWED_LATENESS": "1s",
    "DRIFT_IDLE_TIMEOUT": "3s",
    "DRIFT_STRAGGLER": "5s",
    "DRIFT_MIN_EVENTS": "500",
}


@dataclass
class Alert:
    """One record of the alerts topic, and when it arrived (seconds since the first event)."""

    at_s: float
    record: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`firing` or `resolved`."""
        return str(self.record["status"])

    @property
    def title(self) -> str:
        """Name, feature and severity."""
        labels = self.record["labels"]
        return " ".join(str(labels[name]) for name in ("alertname", "feature", "severity") if name in labels)

    def concerns(self, feature: str) -> bool:
        """About this feature, alone or in a group."""
        if self.record["labels"].get("feature") == feature:
            return True
        return feature in orjson.dumps(self.record.get("evidence")).decode()


@dataclass
class Progress:
    """What the view shows."""

    plan: Plan
    started: float = 0.0
    produced: int = 0
    scorer: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    phase: str = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first event."""
        return time.monotonic() - self.started if self.started else 0.0


def command(
    rate: Annotated[float, typer.Option(min=150, max=20_000, help="Events per second.")] = 400.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards, until Ctrl-C.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of the live view, as without a terminal.")
    ] = False,
) -> None:
    """Score real customers through a real Kafka, inject drift, see the alert, and prove that nothing was lost.

    Starts everything it needs and removes it again. A broker named in KAFKA_BOOTSTRAP_SERVERS is used instead of a
    local one, with topics of the demo's own. Exit 0 only if every event is accounted for and the alert fired and
    resolved.

    Example: `driftline demo --rate 1000 --keep`
    """
    plan = Plan(rate, drift_from_s=30.0, drift_until_s=55.0)
    view = View(live=sys.stdout.isatty() and not plain)
    try:
        code = asyncio.run(_run(plan, view, keep=keep))
    except KeyboardInterrupt:
        raise CommandError("stopped; everything it started is gone", 130) from None
    raise typer.Exit(code)


async def _run(plan: Plan, view: View, *, keep: bool) -> int:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    view.say("A demo profile: windows of 5 and 15 seconds instead of 15 minutes to a day; all else as in production.")
    with ExitStack() as things:
        folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="driftline-demo-")))
        bootstrap, prefix = start_broker(things, view)
        environment = environment_of(bootstrap, prefix, str(folder / "model"), DRIFT_PROFILE)
        source = await _prepare(environment, folder, plan, view)
        services = things.enter_context(services_in(folder, view))
        progress = Progress(plan)
        async with AsyncExitStack() as watchers:
            client = await watchers.enter_async_context(httpx.AsyncClient(timeout=2.0))
            for name in PORTS:
                services.start(name, environment)
            for name in PORTS:
                await services.wait_ready(client, name)
            view.step("both services are ready")
            await watchers.enter_async_context(_watching(client, services, environment, progress, view))
            await _produce(source, environment, progress, services, view)
            ok = await _account(client, source, environment, folder, progress, services, view)
            if keep:
                await _keep(source, environment, progress, services, bootstrap, view)
    return 0 if ok else 1


async def _prepare(environment: Mapping[str, str], folder: Path, plan: Plan, view: View) -> EventSource:
    """Train, make the topics, and get the customers ready."""
    from driftline.replay import open_source
    from training.spec import read_spec
    from training.train import train_bundle

    started = time.monotonic()
    trained = await asyncio.to_thread(train_bundle, read_spec(SPEC), DATA, folder / "model", datetime.now(UTC))
    metrics = trained.manifest.metrics
    view.step(
        f"trained {trained.manifest.name} {trained.manifest.version} on {trained.manifest.training_data.rows:,} real "
        f"customers in {time.monotonic() - started:.1f} s: ROC AUC {metrics['roc_auc']:.3f} held out"
    )
    await make_topics(settings_of(environment), view)
    return open_source(DATA, folder / "model", run="demo", drifts=[plan.drift], bad=plan.bad_share)


@asynccontextmanager
async def _watching(
    client: httpx.AsyncClient, services: Services, environment: Mapping[str, str], progress: Progress, view: View
) -> AsyncIterator[None]:
    """Metrics and alerts into `progress`, and `progress` onto the screen, until the block ends."""
    tasks = [
        asyncio.create_task(_follow_metrics(client, services, progress)),
        asyncio.create_task(_follow_alerts(environment, progress, view)),
        asyncio.create_task(view.refresh(progress)),
    ]
    try:
        with view:
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow_metrics(client: httpx.AsyncClient, services: Services, progress: Progress) -> None:
    from driftline.demo_view import parse_metrics

    while True:
        for name in services.urls:
            try:
                text = (await client.get(f"{services.urls[name]}/metrics")).text
            except httpx.TransportError:
                continue  # a service that is gone is found by whoever waits for it
            setattr(progress, "scorer" if name == "scorer" else "drift", parse_metrics(text))
        await asyncio.sleep(0.5)


async def _follow_alerts(environment: Mapping[str, str], progress: Progress, view: View) -> None:
    from streaming import clients
    from streaming.records import TopicPartition

    settings = settings_of(environment)
    reader = clients.reader(settings)
    await reader.start()
    try:
        source = TopicPartition(settings.topic_alerts, 0)
        reader.assign([source])
        await reader.seek_to_end(source)
        while True:
            for record in (await reader.getmany(source, timeout_ms=500)).get(source, []):
                if record.value is not None:
                    alert = Alert(progress.elapsed_s, orjson.loads(record.value))
                    progress.alerts.append(alert)
                    view.alert(alert.at_s, alert.status, alert.title, alert.record["annotations"]["summary"])
    finally:
        await reader.stop()


async def _produce(
    source: EventSource, environment: Mapping[str, str], progress: Progress, services: Services, view: View
) -> None:
    """Send events at the plan's rate until the drift's alert has fired and resolved, or its time is up."""
    plan = progress.plan
    progress.started = time.monotonic()
    marks = [
        (0.0, f"{plan.rate:g} events a second; one in {1 / plan.bad_share} is unusable on purpose"),
        (plan.drift_from_s, f"drift begins: {FEATURE} + 25 for every customer"),
        (plan.drift_until_s, "drift ends"),
    ]
    async for elapsed in _sending(source, environment, progress):
        services.check()
        while marks and elapsed >= marks[0][0]:
            progress.phase = marks.pop(0)[1]
            view.moment(elapsed, progress.phase)
        if elapsed > plan.drift_until_s and (_settled(progress) or elapsed > plan.drift_until_s + RESOLVE_TIMEOUT_S):
            return


def _settled(progress: Progress) -> bool:
    """The drift was announced, and every episode that was opened has been resolved."""
    last = {str(alert.record["fingerprint"]): alert.status for alert in progress.alerts}
    return any(a.concerns(FEATURE) for a in progress.alerts) and all(s == "resolved" for s in last.values())


async def _sending(source: EventSource, environment: Mapping[str, str], progress: Progress) -> AsyncIterator[float]:
    """Send what is due, and yield the seconds since the start, for as long as the caller wants."""
    from streaming.producing import PlainProducer

    settings = settings_of(environment)
    async with PlainProducer(settings) as producer:
        begun_at, before = time.monotonic(), source.made
        while True:
            due = int((time.monotonic() - begun_at) * progress.plan.rate) - (source.made - before)
            if due > 0:
                records = source.take(due, progress.elapsed_s, time.time_ns() // 1_000_000)
                await producer.send(settings.topic_events, [(key, value, []) for key, value in records])
                progress.produced = source.made
            yield progress.elapsed_s
            await asyncio.sleep(0.02)


async def _account(
    client: httpx.AsyncClient,
    source: EventSource,
    environment: Mapping[str, str],
    folder: Path,
    progress: Progress,
    services: Services,
    view: View,
) -> bool:
    """Wait until everything is answered, verify, and say how it went."""
    from driftline.verify import Question, verify
    from streaming import clients

    settings = settings_of(environment)
    progress.phase = "waiting until every event is answered"
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while time.monotonic() < deadline:
        services.check()
        health = (await client.get(f"{services.urls['scorer']}/health")).json()
        consumed = progress.scorer.get("driftline_scorer_consumed_records_total", {}).get((), 0.0)
        if consumed >= source.made and health["lag_records"] == 0:
            break
        await asyncio.sleep(0.2)
    progress.phase = "verifying: every event answered exactly once?"
    findings = await verify(
        Question(
            connection=clients.connection(settings),
            topic=settings.topic_events,
            group=environment["SCORER_GROUP"],
            predictions=settings.topic_predictions,
            dead_letters=settings.topic_dead_letters,
            model=folder / "model",
        )
    )
    expected = {str(reason): count for reason, count in source.refusals.items()}
    fired = next((a for a in progress.alerts if a.status == "firing" and a.concerns(FEATURE)), None)
    resolved = next((a for a in progress.alerts if fired and a.status == "resolved"
                     and a.record["fingerprint"] == fired.record["fingerprint"]), None)  # fmt: skip
    accounted = findings.ok and findings.inputs == source.made and findings.reasons == expected
    view.summary(progress, findings, expected, fired, resolved, services.urls, accounted=accounted)
    return accounted and fired is not None and resolved is not None


async def _keep(
    source: EventSource,
    environment: Mapping[str, str],
    progress: Progress,
    services: Services,
    bootstrap: str,
    view: View,
) -> None:
    """Go on sending until Ctrl-C."""
    progress.phase = f"kept running: Kafka {bootstrap}, {', '.join(services.urls.values())}; Ctrl-C ends it"
    view.say(progress.phase)
    async for _ in _sending(source, environment, progress):
        services.check()
