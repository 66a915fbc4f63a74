"""`driftline demo-life`: what becomes of a model on real customers when the world changes, and what is done about it.

Days pass in seconds; all else is as in production: every step is a command or a service that anybody can start.
"""

from __future__ import annotations

import asyncio
import csv
import json
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
from typing import Annotated, Any

import httpx
import numpy as np
import typer

from driftline.demo_stage import (
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
from driftline.demo_view import View
from driftline.errors import CommandError
from driftline.life_picture import Day, Moment, Range, as_svg
from driftline.life_upstream import DAY_MS, Upstream
from driftline.replay import open_source

HORIZON_DAYS = 2
# Days of event time: windows and cohorts of a day, final two days later.
PROFILE = {
    "DRIFT_PANE": "1h",
    "DRIFT_WINDOWS": "24h",
    "DRIFT_ALLOWED_LATENESS": "1h",
    "DRIFT_IDLE_TIMEOUT": "10s",
    "DRIFT_STRAGGLER": "10s",
    "DRIFT_LABEL_HORIZON": f"{HORIZON_DAYS}d",
    "SCORER_MODEL_POLL": "1s",
}
QUIET_DAYS = 5
LEARNED_DAYS = 2.2  # of labelled events that the next model learns from
RECOVERED_DAYS = 2
MOST_DAYS = 60  # the first one lies so far back that no event is ever in the future
EVENTS_PER_DAY = 900
COMPARE_CUSTOMERS = 1000
MODEL, TARGET, POSITIVE = "churn-telco", "churn", "Yes"
TRAINED_SHARE = 0.5
POLL_S = 0.5


@dataclass
class Life:
    """What has happened so far. cohorts: the final ones by day and version, as /performance tells them."""

    upstream: Upstream
    cohorts: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    def day_of(self, cohort: Mapping[str, Any]) -> int:
        """Which day of the demo, from 0."""
        start = datetime.fromisoformat(cohort["cohort"]["start"])
        return round((start.timestamp() * 1000 - self.upstream.first_ms) / DAY_MS)

    def final_days(self, version: str) -> int:
        """How many cohorts of a model's version are final."""
        return sum(answered == version for _, answered in self.cohorts)

    def firing(self, name: str) -> bool:
        """Whether the alert's last message says that it fires."""
        told = [alert for alert in self.alerts if alert["labels"]["alertname"] == name]
        return bool(told) and told[-1]["status"] == "firing"


def command(
    day: Annotated[float, typer.Option(min=1.0, max=60.0, help="Seconds that a day takes.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the prediction log.")] = Path(
        "artifacts/demo-life"
    ),
) -> None:
    """Drift that hurts, seen from the scores and then measured; an alert; a better model, compared and promoted.

    Starts everything it needs and removes it again, but for what is written to --out. Exit 0 only if performance fell
    and recovered, and every number of the summary is found again in the topics by scikit-learn.

    Example: `driftline demo-life --day 8`
    """
    view = View(live=False, unit="d")
    try:
        asyncio.run(_run(view, day, out))
    except KeyboardInterrupt:
        raise CommandError("stopped; everything it started is gone", 130) from None


async def _run(view: View, day_s: float, out: Path) -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    view.say(
        f"A day takes {day_s:g} seconds; windows and cohorts are days. Half the customers train, half come as events."
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
    """Half of the customers into known.csv, to train on; the others into stream.csv, and what becomes of them."""
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
    """The story, while upstream sends, and cohorts and alerts are told as they come; raises what any of them met."""
    beside = (life.upstream.run(), story.follow_alerts(life), story.follow_cohorts(life, client))
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

    # -- what goes on all the time ------------------------------------------------------------------------------------

    async def follow_alerts(self, life: Life) -> None:
        """Tell every alert when it comes."""
        async for alert in alerts(settings_of(self._environment)):
            life.alerts.append(alert)
            title = f"{alert['labels']['alertname']} {alert['labels']['severity']}"
            self._view.alert(life.upstream.days, alert["status"], title, alert["annotations"]["summary"])

    async def follow_cohorts(self, life: Life, client: httpx.AsyncClient) -> None:
        """Tell every cohort when it becomes final, and keep the services from dying unseen."""
        while True:
            self._services.check()
            try:
                told = (await client.get(f"{self._services.urls['drift_worker']}/performance")).json()
            except httpx.TransportError:
                told = {"cohorts": []}  # it is being restarted
            for cohort in reversed(told["cohorts"]):
                key = (cohort["cohort"]["day"], cohort["model_version"])
                if cohort["status"] == "final" and key not in life.cohorts:
                    life.cohorts[key] = cohort
                    self._view.moment(life.upstream.days, _line(life.day_of(cohort), cohort))
            await asyncio.sleep(POLL_S)

    # -- the acts -----------------------------------------------------------------------------------------------------

    async def train(self) -> None:
        """Act 1: a model, fitted on customers of the past, tracked, and the registry's champion."""
        data = self._folder / "known.csv"
        arguments = ("--spec", SPEC, "--data", data, "--out", self._model, "--track", self._store, "--json")
        trained = json.loads((await self._driftline("train", *arguments))[1])
        auc = trained["metrics"]["roc_auc"]
        self._view.step(
            f"trained {trained['name']} {trained['version']}: ROC AUC {auc:.3f}; tracked in MLflow, champion"
        )

    async def serve(self, client: httpx.AsyncClient) -> None:
        """Both services."""
        for name in PORTS:
            self._services.start(name, self._environment)
        for name in PORTS:
            await self._services.wait_ready(client, name)

    async def tell(self, life: Life) -> None:
        """Acts 2 to 6."""
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
        await self._until(life, MOST_DAYS, lambda: life.final_days(version) >= RECOVERED_DAYS)
        self._moment(life, "recovered")

    async def _retrain(self, life: Life, since: str) -> str:
        """Act 4: the policy asks for a new model; the candidate scores in the champion's shadow."""
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
        """Act 5: one look, at a number of customers that was set before."""
        arguments = ("--since", since, "--metric", "accuracy", "--horizon", PROFILE["DRIFT_LABEL_HORIZON"],
                     "--min-customers", COMPARE_CUSTOMERS, "--model", self._model, "--json")  # fmt: skip
        while (answer := await self._driftline("compare", *arguments, other=3))[0]:
            await self._until(life, life.upstream.days + 0.5)
        told = json.loads(answer[1])["comparison"]
        champion, challenger = (f"{told[side]:.3f}" for side in ("champion", "challenger"))
        self._moment(life, f"compared on {told['customers']:,} customers: {champion} → {challenger}")

    async def _promote(self, life: Life, since: str) -> None:
        """Act 6: the alias moves, and the scorer follows it."""
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
        """Until that day has come, or something else before it; CommandError if it does not."""
        while not (done() if done is not None else life.upstream.days >= day):
            if life.upstream.days >= MOST_DAYS:
                raise CommandError(f"nothing more happened within {MOST_DAYS} days", 1)
            await asyncio.sleep(POLL_S)

    def _moment(self, life: Life, text: str) -> None:
        life.moments.append(Moment(life.upstream.days, text))
        self._view.moment(life.upstream.days, text)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def account(self, life: Life, out: Path) -> None:
        """The picture, and every final cohort once more out of the topics, with scikit-learn."""
        log = _emptied(out) / "predictions.jsonl"
        await self._driftline("export", "--out", log, "--with-labels", "--horizon", PROFILE["DRIFT_LABEL_HORIZON"])
        self._proof(life, log, out / "life.svg")

    def _proof(self, life: Life, log: Path, picture: Path) -> None:
        from driftline.life_check import recomputed

        cohorts = list(life.cohorts.values())
        worst = recomputed(log, cohorts)
        days = [_day(life.day_of(cohort), cohort) for cohort in cohorts]
        picture.write_text(as_svg("A model's life", sorted(days, key=lambda d: d.day), life.moments), encoding="utf-8")
        self._view.step(f"{len(cohorts)} final cohorts; scikit-learn on {log} differs by at most {worst:.1e}")
        self._view.step(f"the picture: {picture}")
        if worst > 1e-12:
            raise CommandError("the summary's numbers are not those of the topics", 1)

    async def _driftline(self, *arguments: object, other: int = 0) -> tuple[int, str]:
        """A command as anybody would run it: exit code and output. CommandError for a code that is not 0 or `other`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "driftline", *map(str, arguments),
            env={**os.environ, **self._environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, error = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
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


def _line(day: int, cohort: Mapping[str, Any]) -> str:
    measured, promised = cohort["metrics"]["accuracy"], (cohort["estimated"] or {}).get("accuracy")
    text = f"day {day + 1:2}, {cohort['model_version']}: accuracy {measured['value']:.3f}"
    text += f" ({measured['low']:.3f} to {measured['high']:.3f})"
    if promised is not None:
        text += f", from the scores {promised['value']:.3f} ({promised['low']:.3f} to {promised['high']:.3f})"
    if (worth := cohort["business"]) is not None:
        text += f", worth {worth['total']['value']:,.0f} {worth['currency']}"
    return text


def _day(day: int, cohort: Mapping[str, Any]) -> Day:
    measured, promised = cohort["metrics"]["accuracy"], (cohort["estimated"] or {}).get("accuracy")
    band = None if promised is None else Range(promised["value"], promised["low"], promised["high"])
    return Day(day, cohort["model_version"], Range(measured["value"], measured["low"], measured["high"]), band)
