"""The drift worker as a process: read from top to bottom, its life."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from drift_worker.both_levels import BothLevels
from drift_worker.cohorts import Terms
from drift_worker.counting import LONGEST_WAIT_S, READ_RECORDS, CountingWork
from drift_worker.decide import Policy
from drift_worker.deltas import Progress, decode
from drift_worker.evaluating import EvaluatingWork
from drift_worker.facts import is_decision
from drift_worker.joining import JoiningWork
from drift_worker.metrics import DriftMetrics
from drift_worker.performing import RETRY_S, Names, Performing
from drift_worker.reference import load
from drift_worker.report import Report, StageTelemetry
from drift_worker.settings import DriftSettings
from drift_worker.windows import Side
from pages.drift import drift_page
from schemas.bundle import copy_bundle
from schemas.verdict import Rules
from streaming import registry, work
from streaming.consumer import GroupMember
from streaming.http import HttpThread, application
from streaming.reading import READ_ERRORS, reader, unfinished
from streaming.records import ConsumerRecord, TopicAuthorizationFailedError, TopicPartition

# Deltas of 20 features and 4 partitions: a poll holds a few seconds of a stream, or of its backlog.
MAX_DELTAS = 2000
COMMIT_INTERVAL_S = 0.01
# Facts are in no hurry: labels come days later, and fewer transactions leave more of the machine to the windows.
FACTS_INTERVAL_S = 1.0
# Half of it, one partition's part, must fill a batch of 500 records. With the scorer's 6 MiB a worker that had been
# behind for a moment stayed at 155 MB; with this at 131 MB, at the same CPU per record.
FETCH_BYTES = 1 << 20
# The page runs no script and loads nothing; a browser is told to insist on it.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "cache-control": "no-store",
}


class DriftWorker:
    """One process of the drift service: counts its share of the partitions, and evaluates or stands by."""

    def __init__(self, settings: DriftSettings, version: str) -> None:
        """Load the reference; BundleError if it must not be used."""
        self._settings = settings
        self._version = version
        self._started = time.time()
        directory, _ = registry.local(settings.reference_path, copy_bundle)
        self._loaded = load(directory, settings.model_public_key)
        self._registry = CollectorRegistry()
        self._metrics = DriftMetrics(
            self._registry,
            [settings.topic_events, settings.topic_predictions],
            internal=[settings.topic_panes, settings.topic_measurements, settings.topic_label_state],
            windows=list(settings.lengths),
        )
        self._report = Report(self._metrics)
        self._report.reference_loaded(self._loaded)
        self._counting = self._counting_work()
        self._evaluating = self._evaluating_work()
        self._levels = BothLevels(self._evaluating, self._performing)
        tick_s = min(_seconds(settings.drift_pane), LONGEST_WAIT_S) / 2
        telemetry = [
            StageTelemetry(self._metrics, "counting"),
            StageTelemetry(self._metrics, "evaluating"),
            StageTelemetry(self._metrics, "labels", not_of=settings.topic_predictions),
        ]
        self._lags = [t.lags for t in telemetry]
        self._counter = GroupMember(
            settings,
            [settings.topic_events, settings.topic_predictions],
            work.Policy(
                group=settings.drift_group,
                max_records=READ_RECORDS,
                commit_interval_s=COMMIT_INTERVAL_S,
                first_start=settings.drift_first_start,
                offset_lost=settings.drift_offset_lost,
                tick_s=tick_s,
                fetch_bytes=FETCH_BYTES,
                unfinished=self._uncounted,
            ),
            self._counting,
            telemetry[0],
        )
        self._evaluator = GroupMember(
            settings,
            [settings.topic_panes],
            work.Policy(
                group=f"{settings.drift_group}-evaluator",
                max_records=MAX_DELTAS,
                commit_interval_s=COMMIT_INTERVAL_S,
                offset_lost="earliest",
                tick_s=tick_s,
                fetch_bytes=FETCH_BYTES,
                unfinished=self._undecided,
            ),
            self._levels,
            telemetry[1],
        )
        self._joiner = GroupMember(
            settings,
            [settings.topic_predictions, settings.topic_labels],
            work.Policy(
                group=self._labels_group,
                max_records=READ_RECORDS,
                commit_interval_s=FACTS_INTERVAL_S,
                first_start="earliest",
                offset_lost="earliest",
                fetch_bytes=FETCH_BYTES,
            ),
            self._joining_work(),
            telemetry[2],
        )
        self._joins = False  # there are labels
        self._metrics.loop_lag.set_function(lambda: self._counter.loop_lag_s)

    def _counting_work(self) -> CountingWork:
        s = self._settings
        return CountingWork(
            self._loaded,
            self._report,
            events_topic=s.topic_events,
            panes_topic=s.topic_panes,
            rules=Rules(
                max_event_bytes=s.scorer_max_event_bytes,
                max_future_skew_ms=_ms(_seconds(s.scorer_max_future_skew)),
                reject_unknown_fields=s.scorer_unknown_fields == "reject",
            ),
            pane_ms=_ms(_seconds(s.drift_pane)),
            idle_timeout_s=_seconds(s.drift_idle_timeout),
            partitions_of=self._partitions_of,
        )

    def _evaluating_work(self) -> EvaluatingWork:
        s = self._settings
        policy = Policy(
            lengths=s.lengths,
            confirm=s.confirm,
            kind=s.drift_policy,
            budget=s.drift_false_pages_per_month,
            baseline=s.drift_baseline,
            effect_warning=s.drift_effect_warning,
            effect_critical=s.drift_effect_critical,
            limits={
                f.name: (f.effect_warning or s.drift_effect_warning, f.effect_critical or s.drift_effect_critical)
                for f in self._loaded.manifest.features
                if f.effect_warning is not None or f.effect_critical is not None
            },
        )
        return EvaluatingWork(
            self._loaded,
            policy,
            self._report,
            topics={Side.FEATURES: s.topic_events, Side.SCORE: s.topic_predictions},
            measurements_topic=s.topic_measurements,
            alerts_topic=s.topic_alerts,
            lateness_ms=_ms(_seconds(s.drift_allowed_lateness)),
            straggler_s=_seconds(s.drift_straggler),
            min_events=s.drift_min_events,
            runbook_url=s.runbook_url,
            read_back=self._read_back,
        )

    @property
    def _labels_group(self) -> str:
        return f"{self._settings.drift_group}-labels"

    def _joining_work(self) -> JoiningWork:
        s = self._settings
        return JoiningWork(
            self._loaded.manifest.name,
            self._report,
            labels_topic=s.topic_labels,
            state_topic=s.topic_label_state,
            max_future_skew_ms=_ms(_seconds(s.scorer_max_future_skew)),
            partitions_of=self._partitions_of,
        )

    def _performing(self) -> Performing:
        s = self._settings
        horizon_ms = _ms(_seconds(s.drift_label_horizon))
        return Performing(
            Terms(self._loaded.manifest, horizon_ms, stated(s.drift_label_horizon)),
            self._report,
            Names(
                predictions=s.topic_predictions,
                labels=s.topic_labels,
                state=s.topic_label_state,
                measurements=s.topic_measurements,
                alerts=s.topic_alerts,
                group=self._labels_group,
            ),
            min_customers=s.drift_min_events,
            runbook_url=s.runbook_url,
            reader=lambda: reader(s),
        )

    async def _partitions_of(self, topic: str) -> int:
        async with reader(self._settings) as reading:
            return len(await reading.partitions(topic))

    async def _uncounted(self, source: TopicPartition, position: int) -> list[TopicPartition]:
        """Where deltas of `source` from `position` on stand in a transaction that nobody will end."""

        def ours(record: ConsumerRecord) -> bool:
            try:
                delta = decode(record.value)
            except ValueError:  # the evaluator counts and reports what it cannot read
                return False
            return isinstance(delta, Progress) and delta.first >= position and (delta.topic, delta.partition) == source

        async with reader(self._settings) as reading:
            return await unfinished(self._settings, reading, [TopicPartition(self._settings.topic_panes, 0)], ours)

    async def _undecided(self, source: TopicPartition, position: int) -> list[TopicPartition]:  # noqa: ARG002
        """Where decisions stand in a transaction that nobody will end; only the evaluator writes there."""
        s = self._settings
        outputs = [TopicPartition(topic, 0) for topic in (s.topic_measurements, s.topic_alerts)]
        async with reader(s) as reading:
            torn = await unfinished(s, reading, outputs, lambda _record: True)
            try:
                joined = await reading.written(s.topic_label_state)
            except TopicAuthorizationFailedError as error:  # whoever joins no labels needs no access to it
                self._report.labels_unread(s.topic_label_state, error)
                return torn
            # facts are written there, too, and facts that are repeated are the same facts
            place = TopicPartition(s.topic_label_state, 0)
            return torn + (
                await unfinished(s, reading, [place], lambda record: is_decision(record.key)) if joined else []
            )

    async def _read_back(self, topic: str, since_ms: int) -> AsyncGenerator[ConsumerRecord]:
        async with reader(self._settings) as reading:
            async for record in reading.scan(topic, since_ms):
                yield record

    async def run(self, drain: asyncio.Event) -> None:
        """Serve until `drain` is set, then finish the open batches and close."""
        http = HttpThread(self._application(), self._settings.drift_http_host, self._settings.drift_http_port)
        http.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._counter.run(drain), name="counting")
                group.create_task(self._evaluator.run(drain), name="evaluating")
                group.create_task(self._join(drain), name="labels")
        finally:
            http.stop()

    async def _join(self, drain: asyncio.Event) -> None:
        """Join labels from the first one on: who has none pays for none of it."""
        waiting = asyncio.create_task(self._first_label())
        draining = asyncio.create_task(drain.wait())
        done, _ = await asyncio.wait((waiting, draining), return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, draining):
            task.cancel()
        if waiting in done:
            waiting.result()
        if not drain.is_set():
            self._joins = True
            await self._joiner.run(drain)
        await asyncio.gather(waiting, draining, return_exceptions=True)

    async def _first_label(self) -> None:
        """Return when the labels' topic has ever had a record."""
        while True:
            try:
                async with reader(self._settings) as reading:
                    await reading.wait_written(self._settings.topic_labels, RETRY_S)
                    return
            except READ_ERRORS as error:
                self._report.labels_unread(self._settings.topic_labels, error)
                await asyncio.sleep(RETRY_S)

    # -- what it says of itself -----------------------------------------------------------------------------------

    def _application(self) -> FastAPI:
        app = application(
            "Driftline drift worker",
            self._version,
            self._registry,
            live=lambda: [reason for member in self._members for reason in member.live()],
            not_ready=self._not_ready,
            standby=lambda: self._counter.standby() and self._evaluator.standby(),
            health=self.health,
        )

        @app.get("/drift", summary="Current state per feature")
        def drift() -> dict[str, Any]:
            return self.drift()

        @app.get("/drift.html", summary="The same for people, and what was before: one page", response_class=Response)
        def page() -> Response:
            return Response(self.page(), media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

        @app.get("/performance", summary="How good the model was, by cohort, newest first")
        def performance() -> dict[str, Any]:
            return self.performance()

        return app

    @property
    def _members(self) -> list[GroupMember]:
        """Those that work: nobody joins labels before there is one."""
        return [self._counter, self._evaluator, *([self._joiner] if self._joins else [])]

    def _not_ready(self) -> list[str]:
        return list(dict.fromkeys(reason for member in self._members for reason in member.not_ready()))

    def performance(self) -> dict[str, Any]:
        """The cohorts of the last horizon and before, as far as this process evaluates."""
        manifest, performing = self._loaded.manifest, self._levels.performing
        return {
            "model": {"name": manifest.name, "version": manifest.version},
            "horizon": stated(self._settings.drift_label_horizon),
            "evaluating": performing is not None and performing.running,
            "cohorts": [] if performing is None else performing.shown,
        }

    def drift(self) -> dict[str, Any]:
        """The last windows, the states, the open episodes, and names of unseen categories (shown here only)."""
        manifest = self._loaded.manifest
        return {
            "model": {"name": manifest.name, "version": manifest.version},
            "reference_sha256": self._loaded.identity.reference,
            "evaluating": bool(self._evaluator.partitions),
            **self._evaluating.shown,
            "unseen_categories": {name: dict(seen.most_common()) for name, seen in self._counting.unseen.items()},
        }

    def page(self) -> str:
        """`drift` as a page, with the last windows over time and the alerts."""
        manifest, evaluating = self._loaded.manifest, bool(self._evaluator.partitions)
        note = (
            None
            if evaluating
            else "This process does not evaluate: another one does, or will. Its page has the numbers."
        )
        return drift_page(
            self._evaluating.story,
            model=manifest.name,
            version=manifest.version,
            made_ms=_ms(time.time()),
            source="From the drift worker that evaluates." if evaluating else "From a drift worker.",
            note=note,
            unseen={name: dict(seen.most_common()) for name, seen in self._counting.unseen.items()},
        )

    def health(self) -> dict[str, Any]:
        """What a person wants to know about this process."""
        manifest = self._loaded.manifest
        usage = resource.getrusage(resource.RUSAGE_SELF)
        progress = self._report.progressed_at
        reasons = self._not_ready()
        return {
            "service": "drift-worker",
            "version": self._version,
            "model": {
                "name": manifest.name,
                "version": manifest.version,
                "created_at": manifest.created_at.isoformat(),
                "sha256": self._loaded.manifest_sha256,
                "signed": self._loaded.signed,
            },
            "reference": {"sha256": self._loaded.identity.reference, "rows": self._loaded.reference.rows},
            "evaluating": bool(self._evaluator.partitions),
            "uptime_s": round(time.time() - self._started, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "max_memory_bytes": usage.ru_maxrss * 1024,
            "ready": not reasons,
            "reasons": reasons,
            "partitions": [
                {"topic": p.topic, "partition": p.partition, "state": p.state, "detail": p.detail}
                for member in self._members
                for p in member.partitions
            ],
            "lag_records": sum(sum(lags.values()) for lags in self._lags),
            "last_progress": datetime.fromtimestamp(progress, UTC).isoformat() if progress is not None else None,
        }


def _seconds(duration: Any) -> float:
    seconds: float = duration.total_seconds()
    return seconds


def stated(duration: timedelta) -> str:
    """A duration as settings write it.

    >>> stated(timedelta(hours=36))
    '36h'
    """
    ms = _ms(_seconds(duration))
    unit, size = next(
        (u, n) for u, n in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)) if ms % n == 0
    )
    return f"{ms // size}{unit}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
