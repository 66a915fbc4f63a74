"""`driftline demo-life`: a model on real customers while the world changes, and the response.

Days pass in seconds. Everything else is as in production: every step is a command or a service that any user can start.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import httpx
import msgspec
import numpy as np

from driftline import terminal
from driftline.demo.chart import Day, Moment, Range, as_svg
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
from driftline.demo.upstream import DAY_MS, Upstream
from driftline.demo.view import View
from driftline.errors import CommandError
from driftline.replay.event_source import open_source
from schemas.alert import Alert
from schemas.performance import Band, Metric, Performance

HORIZON_DAYS = 2
# Days of event time: windows and cohorts of a day, final two days later.
PROFILE = {
    "DRIFT_PANE": "1h",
    "DRIFT_WINDOWS": "24h",
    "DRIFT_ALLOWED_LATENESS": "1h",
    # Upstream may have to wait for a busy machine, so no partition counts as idle and no event as late.
    "DRIFT_IDLE_TIMEOUT": "10m",
    "DRIFT_STRAGGLER": "10m",
    "DRIFT_LABEL_HORIZON": f"{HORIZON_DAYS}d",
    "SCORER_MODEL_POLL": "1s",
}
QUIET_DAYS = 5
LEARNED_DAYS = 2.2  # of labelled events for the next model
RECOVERED_DAYS = 2
MOST_DAYS = 60  # the first one is far enough in the past that no event is ever in the future
EVENTS_PER_DAY = 900
COMPARE_CUSTOMERS = 1000
MODEL, TARGET, POSITIVE = "churn-telco", "churn", "Yes"
TRAINED_SHARE = 0.5
POLL_S = 0.5
MOST_BEHIND = EVENTS_PER_DAY // 2  # records that a service has not read yet; days wait until they are fewer
MOST_DAYS_A_COMMAND = 3.0  # days that pass while a command of the story runs
MOST_WAITING_S = 600.0


@dataclass
class Life:
    """The events of the story so far. cohorts: the final ones by day and version."""

    upstream: Upstream
    cohorts: dict[tuple[str, str], Performance] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    def day_of(self, cohort: Performance) -> int:
        """Return which day of the demo it is, from 0."""
        start = datetime.fromisoformat(cohort.cohort.start)
        return round((start.timestamp() * 1000 - self.upstream.first_ms) / DAY_MS)

    def accuracy(self, days: range, version: str | None = None) -> list[float]:
        """Return the measured accuracy of the final cohorts of these days that have one, of one version or of all."""
        found = [
            cohort.metrics["accuracy"].value
            for cohort in self.cohorts.values()
            if self.day_of(cohort) in days and version in {None, cohort.model_version} and "accuracy" in cohort.metrics
        ]
        return [value for value in found if value is not None]

    def recovered(self, version: str, since: float) -> bool:
        """Return whether enough whole days of the version are final, and nearer to the quiet days than to the others.

        since: the day of its promotion. The day itself is of two models.
        """
        quiet = self.accuracy(range(QUIET_DAYS))
        fallen = self.accuracy(range(QUIET_DAYS, math.floor(since)))
        now = self.accuracy(range(math.floor(since) + 1, MOST_DAYS), version)
        if not quiet or not fallen or len(now) < RECOVERED_DAYS:
            return False
        return fmean(now) > (fmean(quiet) + fmean(fallen)) / 2

    def firing(self, name: str) -> bool:
        """Return whether the alert's last message is firing."""
        messages = [alert.status for alert in self.alerts if alert.labels.get("alertname") == name]
        return messages[-1:] == ["firing"]


async def run(view: View, day_s: float, out: Path) -> None:
    """Run the demonstration, a day in `day_s` seconds; CommandError if the model does not recover."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    view.say(
        f"A day takes {day_s:g} seconds, on a busy machine more; windows and cohorts are days. "
        "Half the customers train, half come as events."
    )
    with ExitStack() as things:
        folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="driftline-life-")))
        truths = _split(folder)
        bootstrap, prefix = start_broker(things, view)
        environment = environment_of(bootstrap, prefix, f"mlflow:models:/{MODEL}@champion", PROFILE)
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        environment["SCORER_CHALLENGER"] = str(folder / "candidate")  # when there is one
        await make_topics(settings_of(environment), view)
        story = Story(view, folder, environment, things.enter_context(services_in(folder, view)))
        await story.train()
        source = open_source(
            folder / "stream.csv",
            folder / "model",
            run="life",
            drifts=[f"tenure:scale={1 / 12:.6f}@{QUIET_DAYS}d"],
        )
        midnight_ms = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS
        first_ms = midnight_ms - MOST_DAYS * DAY_MS
        life = Life(Upstream(source, truths, settings_of(environment), first_ms, day_s, EVENTS_PER_DAY))
        async with httpx.AsyncClient(timeout=5.0) as client:
            await story.serve(client)
            await _live(life, story, client)
        await story.account(life, out)


def _split(folder: Path) -> list[bool]:
    """Split the customers: half into known.csv, for training; the others into stream.csv, with their outcomes."""
    with DATA.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    order = np.random.default_rng(11).permutation(len(rows)).tolist()
    known = round(TRAINED_SHARE * len(rows))
    for name, chosen in (("known.csv", order[:known]), ("stream.csv", order[known:])):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *(rows[i] for i in chosen)])
    target = header.index(TARGET)
    return [rows[i][target] == POSITIVE for i in order[known:]]


async def _live(life: Life, story: Story, client: httpx.AsyncClient) -> None:
    """Run the story while upstream sends; print cohorts and alerts as they arrive; raise the error of any of them."""
    beside = (life.upstream.run(), story.follow_alerts(life), story.follow_services(life, client))
    tasks = [asyncio.ensure_future(one) for one in (story.tell(life), *beside)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Story:
    """The acts, in order."""

    def __init__(self, view: View, folder: Path, environment: Mapping[str, str], services: Services) -> None:
        self._view = view
        self._folder = folder
        self._environment = environment
        self._services = services
        self._model = folder / "model"
        self._candidate = folder / "candidate"
        self._champion = environment["SCORER_MODEL"]
        self._store = environment["MLFLOW_TRACKING_URI"]
        self._upstream: Upstream | None = None

    # -- what goes on all the time ------------------------------------------------------------------------------------

    async def follow_alerts(self, life: Life) -> None:
        """Print every alert when it arrives."""
        async for alert in alerts(settings_of(self._environment)):
            life.alerts.append(alert)
            self._view.alert(life.upstream.days, alert)

    async def follow_services(self, life: Life, client: httpx.AsyncClient) -> None:
        """Show every cohort when it becomes final, and let days wait while a service is behind; raise if one ended."""
        kept_up = time.monotonic()
        while True:
            self._services.check()
            life.upstream.waiting = not await self._keeps_up(client)
            now = time.monotonic()
            kept_up = kept_up if life.upstream.waiting else now
            if now > kept_up + MOST_WAITING_S:
                raise CommandError(f"the services did not keep up for {MOST_WAITING_S:.0f} s", 1)
            for cohort in await self._cohorts(client):
                key = (cohort.cohort.day, cohort.model_version)
                if cohort.status == "final" and key not in life.cohorts:
                    life.cohorts[key] = cohort
                    self._view.moment(life.upstream.days, _line(life.day_of(cohort), cohort))
            await asyncio.sleep(POLL_S)

    async def _keeps_up(self, client: httpx.AsyncClient) -> bool:
        """Return whether both services answer and have few records to read."""
        try:
            answers = [await client.get(f"{url}/health") for url in self._services.urls.values()]
        except httpx.TransportError:
            return False
        return all(answer.is_success and answer.json()["lag_records"] <= MOST_BEHIND for answer in answers)

    async def _cohorts(self, client: httpx.AsyncClient) -> list[Performance]:
        """Return the cohorts of the drift worker, oldest first; none while it restarts."""
        try:
            answer = await client.get(f"{self._services.urls['drift_worker']}/performance")
        except httpx.TransportError:
            return []
        cohorts = answer.json()["cohorts"] if answer.is_success else []
        return msgspec.convert(list(reversed(cohorts)), list[Performance])

    # -- the acts -----------------------------------------------------------------------------------------------------

    async def train(self) -> None:
        """Run act 1: a model, fitted on customers of the past, tracked, and the registry's champion."""
        data = self._folder / "known.csv"
        arguments = ("--spec", SPEC, "--data", data, "--out", self._model, "--track", self._store, "--json")
        trained = json.loads((await self._driftline("train", *arguments))[1])
        auc = terminal.number(trained["metrics"].get("roc_auc"))
        self._view.step(f"trained {trained['name']} {trained['version']}: ROC AUC {auc}; tracked in MLflow, champion")

    async def serve(self, client: httpx.AsyncClient) -> None:
        """Start both services."""
        for name in PORTS:
            self._services.start(name, self._environment)
        for name in PORTS:
            await self._services.wait_ready(client, name)

    async def tell(self, life: Life) -> None:
        """Run acts 2 to 6."""
        self._upstream = life.upstream
        self._view.say("day      what happens (accuracy of a final cohort: measured, and from the scores alone)")
        await self._until(life, QUIET_DAYS)
        changed_at = _now()
        self._moment(life, "upstream sends tenure in years")
        await self._until(life, MOST_DAYS, lambda: life.firing("PerformanceDrop"))
        self._moment(life, "PerformanceDrop fires")
        await self._until(life, QUIET_DAYS + LEARNED_DAYS + HORIZON_DAYS)
        version = await self._retrain(life, changed_at)
        shadow_at = _now()
        await self._compare(life, shadow_at)
        await self._promote(life, shadow_at)
        promoted = life.upstream.days
        await self._until(life, MOST_DAYS, lambda: life.recovered(version, promoted))
        self._moment(life, "recovered")

    async def _retrain(self, life: Life, since: str) -> str:
        """Run act 4: the policy requires a new model; the candidate scores in the champion's shadow."""
        _, said = await self._driftline(
            "retrain", "--spec", SPEC, "--model", self._champion, "--reason", "auto", "--from-topics", "--since", since,
            "--out", self._candidate, "--track", self._store, "--json",
        )  # fmt: skip
        found = json.loads(said)
        if found["candidate"] is None:
            raise CommandError(f"driftline retrain made no candidate: {said}", 1)
        version, rows = str(found["candidate"]["version"]), found["candidate"]["rows"]["training"]
        self._view.say(f"         policy: {found['trigger']} → {found['action']} ({'; '.join(found['because'])})")
        self._moment(life, f"retrained on {rows:,} labelled events: {version} in shadow")
        return version

    async def _compare(self, life: Life, since: str) -> None:
        """Run act 5: one comparison, at a number of customers that was set before."""
        arguments = ("--since", since, "--metric", "accuracy", "--horizon", PROFILE["DRIFT_LABEL_HORIZON"],
                     "--min-customers", COMPARE_CUSTOMERS, "--model", self._model, "--json")  # fmt: skip
        while (answer := await self._driftline("compare", *arguments, other=3))[0]:
            await self._until(life, life.upstream.days + 0.5)
        told = json.loads(answer[1])["comparison"]
        champion, challenger = (terminal.number(told[side]) for side in ("champion", "challenger"))
        self._moment(life, f"compared on {told['customers']:,} customers: {champion} → {challenger}")

    async def _promote(self, life: Life, since: str) -> None:
        """Run act 6: the alias moves, and the scorer follows it."""
        _, said = await self._driftline(
            "promote", "--candidate", f"mlflow:models:/{MODEL}@challenger", "--to", self._champion, "--from-topics",
            "--since", since, "--json",
        )  # fmt: skip
        served = json.loads(said)["served"]
        self._moment(life, f"promoted: {served['name']} {served['version']}")
        # the drift worker compares with the reference of the bundle that it was started with
        await asyncio.to_thread(self._services.stop, "drift_worker")
        self._services.start("drift_worker", self._environment)

    async def _until(self, life: Life, day: float, done: Callable[[], bool] | None = None) -> None:
        """Wait until that day has come, or another condition holds before it; CommandError if neither does."""
        while not (done() if done is not None else life.upstream.days >= day):
            if life.upstream.days >= MOST_DAYS:
                raise CommandError(f"no further progress within {MOST_DAYS} days", 1)
            await asyncio.sleep(POLL_S)

    def _moment(self, life: Life, text: str) -> None:
        life.moments.append(Moment(life.upstream.days, text))
        self._view.moment(life.upstream.days, text)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def account(self, life: Life, out: Path) -> None:
        """Write the picture, and recompute every final cohort from the topic with scikit-learn."""
        log = _emptied(out) / "predictions.jsonl"
        await self._driftline("export", "--out", log, "--with-labels", "--horizon", PROFILE["DRIFT_LABEL_HORIZON"])
        self._proof(life, log, out / "life.svg")

    def _proof(self, life: Life, log: Path, picture: Path) -> None:
        from driftline.demo.recompute import recomputed

        cohorts = list(life.cohorts.values())
        worst = recomputed(log, cohorts)
        days = [_day(life.day_of(cohort), cohort) for cohort in cohorts]
        picture.write_text(as_svg("A model's life", sorted(days, key=lambda d: d.day), life.moments), encoding="utf-8")
        self._view.step(f"{len(cohorts)} final cohorts; scikit-learn on {log} differs by at most {worst:.1e}")
        self._view.step(f"the picture: {picture}")
        if worst > 1e-12:
            raise CommandError("the summary's numbers are not those of the topics", 1)

    async def _driftline(self, *arguments: object, other: int = 0) -> tuple[int, str]:
        """Run a command and return its exit code and output; CommandError for a code that is neither 0 nor `other`."""
        if self._upstream is not None:
            self._upstream.most = self._upstream.days + MOST_DAYS_A_COMMAND
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "driftline", *map(str, arguments),
            env={**os.environ, **self._environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, error = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if self._upstream is not None:
            self._upstream.most = math.inf
        if process.returncode not in {0, other}:
            raise CommandError(f"driftline {arguments[0]}: {(error or said).decode().strip()}", 1)
        return process.returncode or 0, said.decode()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _emptied(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for old in ("predictions.jsonl", "predictions.jsonl.state.json", "life.svg"):
        (out / old).unlink(missing_ok=True)
    return out


def _line(day: int, cohort: Performance) -> str:
    """Return a final cohort as one line; an unknown value is a dash."""
    measured, promised = cohort.metrics.get("accuracy"), cohort.estimated.get("accuracy")
    text = f"day {day + 1:2}, {cohort.model_version}: accuracy {_ranged(measured)}"
    if measured is not None and measured.value is None:
        text += f" ({(measured.reason or 'not known').replace('_', ' ')})"
    if promised is not None:
        text += f", from the scores {_ranged(promised)}"
    if cohort.business is not None:
        worth = terminal.number(cohort.business.total.value, ",.0f")
        text += f", worth {worth} {cohort.business.currency}"
    return text


def _ranged(found: Metric | Band | None) -> str:
    if found is None or found.value is None:
        return terminal.UNKNOWN
    if found.low is None or found.high is None:
        return terminal.number(found.value)
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _day(day: int, cohort: Performance) -> Day:
    measured, promised = cohort.metrics.get("accuracy"), cohort.estimated.get("accuracy")
    shown = None
    if measured is not None and measured.value is not None:
        shown = Range(measured.value, measured.low, measured.high)
    band = None if promised is None else Range(promised.value, promised.low, promised.high)
    return Day(day, cohort.model_version, shown, band)
