"""The process of the scorer, in the order of its life."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from kafka_runtime import fetched, model_registry
from kafka_runtime.group_member import GroupMember
from kafka_runtime.native.records import reader_for
from kafka_runtime.partition_telemetry import OffsetComparisons
from kafka_runtime.processor import Policy
from kafka_runtime.schema_registry.cache import schemas_for
from kafka_runtime.service.http import HttpThread, application, serve_docs
from schemas.bundle.files import copy_bundle
from scorer.endpoints import Health
from scorer.http import add_predict
from scorer.metrics import ScorerMetrics
from scorer.model import Model, load
from scorer.previous_outputs import EarlierAnswers
from scorer.processor import ScoringProcessor
from scorer.reload import Reloader, needs_other_producers, unfit_challenger
from scorer.settings import ScorerSettings
from scorer.telemetry import ChallengerTelemetry, ScorerTelemetry

if TYPE_CHECKING:
    from scorer.tracing import BatchTraces

# Before the first event, a challenger with customers in a split is waited for, up to this limit.
CHALLENGER_WAIT_S = 10.0


def _traces(settings: ScorerSettings) -> BatchTraces | None:
    """Return what makes the spans of batches; None if traces are off, and then OpenTelemetry is not even imported."""
    if settings.otel_traces_exporter == "none":
        return None
    from kafka_runtime.service import tracing  # noqa: PLC0415 - the extra otel
    from scorer.tracing import BatchTraces  # noqa: PLC0415 - the extra otel

    provider = tracing.exporting(settings, "driftline-scorer")
    return BatchTraces(provider, settings.scorer_group, settings.topic_predictions, settings.topic_dead_letters)


class Scorer:
    """One process of the scorer service."""

    def __init__(self, settings: ScorerSettings, version: str) -> None:
        """Load the model; BundleError if it must not be served."""
        self._settings = settings
        self._version = version
        started = time.time()
        directory, refresh = model_registry.local(settings.scorer_model, copy_bundle)
        model = load(directory, settings.model_public_key)
        self._registry = CollectorRegistry()
        self._metrics = ScorerMetrics(self._registry)
        self._traces = _traces(settings)
        self._report = ScorerTelemetry(self._metrics, self._traces)
        self._report.model_loaded(model, first=True)
        earlier = EarlierAnswers(settings)
        exactly_once = settings.scorer_delivery == "exactly_once"
        schemas = schemas_for(model.manifest.event.format, settings)
        moves = OffsetComparisons(earlier.compare, self._metrics.offset_moved) if exactly_once else None
        work = self._work = ScoringProcessor(settings, model, self._report, moves, schemas)
        self._reloader = Reloader(
            directory=directory,
            public_key=settings.model_public_key,
            poll_s=settings.scorer_model_poll.total_seconds(),
            served=lambda: work.model,
            serve=self._serve,
            unfit=lambda new: needs_other_producers(work.model.manifest, new),
            report=self._report,
            refresh=refresh,
        )
        self._challenger_reloader: Reloader | None = None
        if settings.scorer_challenger is not None and settings.split_percent:
            self._challenger_reloader = Reloader(
                directory=settings.scorer_challenger,
                public_key=settings.model_public_key,
                poll_s=settings.scorer_model_poll.total_seconds(),
                served=lambda: work.challenger,
                serve=work.challenge,
                unfit=lambda new: unfit_challenger(work.model.manifest, new),
                report=ChallengerTelemetry(self._report),
            )
        policy = Policy(
            group=settings.scorer_group,
            max_records=settings.scorer_max_batch_records,
            commit_interval_s=settings.scorer_commit_interval.total_seconds(),
            delivery=settings.scorer_delivery,
            first_start=settings.scorer_first_start,
            offset_lost=settings.scorer_offset_lost,
            answered_before=earlier.any,
            unfinished=earlier.unfinished if exactly_once else None,
            prepare=None if schemas is None else work.prepare,
        )
        records = reader_for(settings.scorer_lane)
        if records.library is not None:
            fetched.install([settings.topic_events], records.library)
        self._member = GroupMember(settings, [settings.topic_events], policy, work, self._report)
        self.health = Health(
            settings=settings,
            version=version,
            started=started,
            work=work,
            member=self._member,
            report=self._report,
            reloader=self._reloader,
            challenger_reloader=self._challenger_reloader,
            parts=self.parts,
            records=records,
        )
        self._metrics.loop_lag.set_function(lambda: self._member.loop_lag_s)
        self._metrics.in_flight.set_function(lambda: self._member.in_flight)
        self._metrics.parts.source = self.parts

    async def run(self, drain: asyncio.Event) -> None:
        """Serve until `drain` is set, then finish the open batches and close."""
        app = application(
            "Driftline scorer",
            self._version,
            self._registry,
            live=self._member.live,
            not_ready=self._member.not_ready,
            standby=self._member.standby,
            refusal=lambda: self._member.refusal,
            health=self.health,
            exemplars=self._traces is not None,
        )
        add_predict(app, lambda: self._work.predictor)
        serve_docs(app)
        http = HttpThread(app, self._settings.scorer_http_host, self._settings.scorer_http_port)
        http.start()
        self._reloader.start()
        shadow, challenger = self._work.shadow, self._challenger_reloader
        if shadow is not None:
            shadow.start()
        if challenger is not None:
            await asyncio.to_thread(challenger.start, CHALLENGER_WAIT_S)
        try:
            await self._member.run(drain)
        finally:
            if shadow is not None:
                await shadow.stop()
            if challenger is not None:
                challenger.stop()
            self._reloader.stop()
            if self._traces is not None:
                self._traces.close()
            http.stop()

    def _serve(self, model: Model) -> None:
        """Serve another champion. A challenger that did not fit the one before may fit this one."""
        self._work.serve(model)
        if self._challenger_reloader is not None:
            self._challenger_reloader.retry()

    def parts(self) -> dict[str, str | None]:
        """Return every part of this process with the reason why it does not work, None while it does."""
        found = {"scoring": ", ".join(self._member.not_ready()) or None, "reload": self._reloader.failure}
        if self._work.shadow is not None:
            found["challenger"] = self._work.shadow.down
        elif self._challenger_reloader is not None:
            reason = (
                None if self._work.challenger is not None else self._challenger_reloader.state()["reason"] or "loading"
            )
            found["challenger"] = self._challenger_reloader.failure or reason
        return found
