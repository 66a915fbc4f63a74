"""`driftline demo`: the whole pipeline on this machine, on real customers, with drift that is found and announced.

Broker, scorer and drift worker are real processes; only the drift worker's windows are seconds long instead of hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from driftline.demo.progress import FEATURE, Announced, Plan, Progress
from driftline.demo.stage import (
    DATA,
    PORTS,
    SPEC,
    Services,
    alerts,
    environment_of,
    make_topics,
    services_in,
    settings_of,
    start_broker,
)
from driftline.demo.view import View
from driftline.replay.event_source import EventSource

# Limits for a busy machine; an idle one needs one second, and ten.
DRAIN_TIMEOUT_S = 300.0
RESOLVE_TIMEOUT_S = 300.0


# A demo profile: the same worker, with windows of seconds instead of an hour.
DRIFT_PROFILE = {
    "DRIFT_PANE": "1s",
    "DRIFT_WINDOWS": "5s,15s",
    "DRIFT_ALLOWED_LATENESS": "1s",
    "DRIFT_IDLE_TIMEOUT": "15s",
    "DRIFT_STRAGGLER": "30s",
    "DRIFT_MIN_EVENTS": "500",
}


async def run(plan: Plan, view: View, *, keep: bool) -> int:
    """Run the demonstration and return its exit code; `keep`: leave everything running until Ctrl-C."""
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
    from driftline.replay.event_source import open_source
    from driftline.training.spec import read_spec
    from driftline.training.train import train_bundle

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
    """Collect metrics and alerts in `progress`, and show `progress` on the screen, until the block ends."""
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
    from driftline.demo.view import parse_metrics

    while True:
        for name in services.urls:
            try:
                text = (await client.get(f"{services.urls[name]}/metrics")).text
            except httpx.TransportError:
                continue  # the code that waits for a service finds that it ended
            setattr(progress, "scorer" if name == "scorer" else "drift", parse_metrics(text))
        await asyncio.sleep(0.5)


async def _follow_alerts(environment: Mapping[str, str], progress: Progress, view: View) -> None:
    async for alert in alerts(settings_of(environment)):
        announced = Announced(progress.elapsed_s, alert)
        progress.alerts.append(announced)
        view.alert(announced.at_s, alert)


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
    """Return whether the drift was announced and every opened episode is resolved."""
    last = {one.alert.fingerprint: one.alert.status for one in progress.alerts}
    return any(a.concerns(FEATURE) for a in progress.alerts) and all(s == "resolved" for s in last.values())


async def _sending(source: EventSource, environment: Mapping[str, str], progress: Progress) -> AsyncIterator[float]:
    """Send due events, and yield the seconds since the start, until the caller stops."""
    from kafka_runtime.producer import PlainProducer

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
    """Wait until every event has its answer, verify, and print the result."""
    from driftline.verifier import Question, verify
    from kafka_runtime import clients

    settings = settings_of(environment)
    progress.phase = "waiting until every event is answered"
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while time.monotonic() < deadline:
        services.check()
        with contextlib.suppress(httpx.TransportError):  # its answer is late where the machine is busy
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
    fired = next((a for a in progress.alerts if a.alert.status == "firing" and a.concerns(FEATURE)), None)
    resolved = next((a for a in progress.alerts if fired and a.alert.status == "resolved"
                     and a.alert.fingerprint == fired.alert.fingerprint), None)  # fmt: skip
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
    """Continue to send until Ctrl-C."""
    progress.phase = f"kept running: Kafka {bootstrap}, {', '.join(services.urls.values())}; Ctrl-C ends it"
    view.say(progress.phase)
    async for _ in _sending(source, environment, progress):
        services.check()
