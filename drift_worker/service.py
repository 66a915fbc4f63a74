"""The drift worker as a process: read from top to bottom, its life."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from drift_worker.counting import LONGEST_WAIT_S, READ_RECORDS, CountingWork
from drift_worker.decide import Policy
from drift_worker.deltas import Progress, decode
from drift_worker.evaluating import EvaluatingWork
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.report import Report, StageTelemetry
from drift_worker.settings import DriftSettings
from drift_worker.windows import Side
from pages.drift import drift_page
from schemas.verdict import Rules
from streaming import partitions
from streaming.consumer import GroupMember
from streaming.http import HttpThread, application
from streaming.reading import reader, unfinished
from streaming.records import ConsumerRecord, TopicPartition

# Deltas of 20 features and 4 partitions: a poll holds a few seconds of a stream, or of its backlog.
MAX_DELTAS = 2000
COMMIT_INTERVAL_S = 0.01
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
        self._loaded = load(settings.reference_path, settings.model_public_key)
        self._registry = CollectorRegistry()
        self._metrics = DriftMetrics(
            self._registry,
            [settings.topic_events, settings.topic_predictions],
            internal=[settings.topic_panes, settings.topic_measurements],
            windows=list(settings.lengths),
        )
        self._report = Report(self._metrics)
        self._report.reference_loaded(self._loaded)
        self._counting = self._counting_work()
        self._evaluating = self._evaluating_work()
        tick_s = min(_seconds(settings.drift_pane), LONGEST_WAIT_S) / 2
        telemetry = [StageTelemetry(self._metrics, stage) for stage in ("counting", "evaluating")]
        self._lags = [t.lags for t in telemetry]
        self._counter = GroupMember(
            settings,
            [settings.topic_events, settings.topic_predictions],
            partitions.Policy(
                group=settings.drift_group,
                max_records=READ_RECORDS,
                commit_interval_s=COMMIT_INTERVAL_S,
                first_start=settings.drift_first_start,
                offset_lost=settings.drift_offset_lost,
                tick_s=tick_s,
                unfinished=self._uncounted,
            ),
            self._counting,
            telemetry[0],
        )
        self._evaluator = GroupMember(
            settings,
            [settings.topic_panes],
            partitions.Policy(
                group=f"{settings.drift_group}-evaluator",
                max_records=MAX_DELTAS,
                commit_interval_s=COMMIT_INTERVAL_S,
                offset_lost="earliest",
                tick_s=tick_s,
                unfinished=self._undecided,
            ),
            self._evaluating,
            telemetry[1],
        )
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

        return await unfinished(self._settings, [TopicPartition(self._settings.topic_panes, 0)], ours)

    async def _undecided(self, source: TopicPartition, position: int) -> list[TopicPartition]:  # noqa: ARG002
        """Where decisions stand in a transaction that nobody will end; only the evaluator writes there."""
        s = self._settings
        outputs = [TopicPartition(topic, 0) for topic in (s.topic_measurements, s.topic_alerts)]
        return await unfinished(s, outputs, lambda _record: True)

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
        finally:
            http.stop()

    # -- what it says of itself -----------------------------------------------------------------------------------

    def _application(self) -> FastAPI:
        app = application(
            "Driftline drift worker",
            self._version,
            self._registry,
            live=lambda: [*self._counter.live(), *self._evaluator.live()],
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

        return app

    def _not_ready(self) -> list[str]:
        return list(dict.fromkeys([*self._counter.not_ready(), *self._evaluator.not_ready()]))

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
                for member in (self._counter, self._evaluator)
                for p in member.partitions
            ],
            "lag_records": sum(sum(lags.values()) for lags in self._lags),
            "last_progress": datetime.fromtimestamp(progress, UTC).isoformat() if progress is not None else None,
        }


def _seconds(duration: Any) -> float:
    seconds: float = duration.total_seconds()
    return seconds


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
