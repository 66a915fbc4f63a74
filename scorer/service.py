"""The scorer as a process: read from top to bottom, its life."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from schemas.bundle import MANIFEST, BundleError, copy_bundle
from scorer.earlier import EarlierAnswers
from scorer.http import add_predict
from scorer.metrics import ScorerMetrics
from scorer.model import Model, load
from scorer.pipeline import Answer, Pipeline
from scorer.predict import Predictor
from scorer.reload import Reloader, needs_other_producers, unfit_challenger
from scorer.report import ChallengerReport, Report
from scorer.settings import ScorerSettings
from scorer.shadow import Shadow
from scorer.split import Split
from streaming import logs, registry, topics
from streaming.api_docs import serve_docs
from streaming.clients import MAX_BATCH_BYTES
from streaming.consumer import GroupMember, NotReady
from streaming.http import HttpThread, application
from streaming.records import ConsumerRecord, TopicPartition
from streaming.settings import SettingsError
from streaming.transactions import Result
from streaming.work import Policy, Stop

log = logs.get(__name__)

LIMIT_WINDOW = 10_000
LIMIT_FROM = 1000
# Before the first event, a challenger that answers customers of its own is waited for, but not for ever.
CHALLENGER_WAIT_S = 10.0


class RefusedShare:
    """The share of refused records among the last 10,000 answered ones, and those of the batches in hand."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._batches: deque[tuple[int, int]] = deque()
        self._answered = self._refused = 0
        self._in_hand: dict[TopicPartition, tuple[int, int]] = {}
        self._lock = threading.Lock()  # asked by the batch thread, told by the loop

    def would_cross(self, answered: int, refused: int) -> bool:
        """True if the share with this batch exceeds the limit; below 1,000 records there is no share yet."""
        with self._lock:
            answered += self._answered + sum(batch[0] for batch in self._in_hand.values())
            refused += self._refused + sum(batch[1] for batch in self._in_hand.values())
            for gone in self._batches:
                if answered - gone[0] < LIMIT_WINDOW:
                    break
                answered -= gone[0]
                refused -= gone[1]
            return answered >= LIMIT_FROM and refused / answered > self._limit

    def hold(self, source: TopicPartition, answered: int, refused: int) -> None:
        """A batch is about to be written: other partitions' batches must not fill the same room meanwhile."""
        with self._lock:
            self._in_hand[source] = (answered, refused)

    def drop(self, source: TopicPartition) -> None:
        """The batch in hand, if there is one, was not written."""
        with self._lock:
            self._in_hand.pop(source, None)

    def add(self, answered: int, refused: int, source: TopicPartition | None = None) -> None:
        """A batch was committed, the one in hand for `source`; the oldest beyond the window are forgotten."""
        with self._lock:
            if source is not None:
                self._in_hand.pop(source, None)
            self._batches.append((answered, refused))
            self._answered += answered
            self._refused += refused
            while self._answered - self._batches[0][0] >= LIMIT_WINDOW:
                gone = self._batches.popleft()
                self._answered -= gone[0]
                self._refused -= gone[1]


class ScoringWork:
    """What a scorer does with the records of a partition (streaming.work.Work)."""

    def __init__(self, settings: ScorerSettings, model: Model, report: Report) -> None:
        self._settings = settings
        self._report = report
        self.shadow: Shadow | None = None
        if settings.scorer_challenger is not None and not settings.split_percent:
            self.shadow = Shadow(lambda: self.model, report)
        self._share = RefusedShare(settings.scorer_dead_letter_limit)
        self._topics_checked = False
        self._serving = threading.Lock()  # champion and challenger are reloaded in a thread each
        self.challenger: Model | None = None  # that answers customers of its own, in a split
        self.serve(model)

    @property
    def model(self) -> Model:
        """What the next batch is answered with."""
        return self._pipeline.model

    def serve(self, model: Model) -> None:
        """Answer with this model from the next batch on: a batch holds on to the pipeline that it began with."""
        with self._serving:
            self.predictor = Predictor(model, self._settings.rules)
            challenger = self.challenger
            if challenger is not None and unfit_challenger(model.manifest, challenger.manifest) is not None:
                self.challenger = None
                self._report.challenger(None)
            self._answer_with(model)

    def challenge(self, challenger: Model) -> None:
        """Let this model answer its customers from the next batch on; BundleError if it does not fit the champion."""
        with self._serving:
            # asked again under the lock: the champion may have changed since the caller asked
            if (why := unfit_challenger(self.model.manifest, challenger.manifest)) is not None:
                raise BundleError(f"{MANIFEST}: {why}")
            self.challenger = challenger
            self._answer_with(self.model)

    def _answer_with(self, model: Model) -> None:
        s, split = self._settings, None
        if self.challenger is not None:
            split = Split(self.challenger, s.split_percent, s.rules)
        self._pipeline = Pipeline(model, s.rules, s.scorer_group, s.scorer_max_dead_letter_bytes, split)

    async def opened(self, source: TopicPartition, position: int, metadata: str) -> int | None:  # noqa: ARG002
        """A scorer keeps no state: the committed offset is all there is. SettingsError if it could not write."""
        if not self._topics_checked:
            self._topics_checked = True
            await self._check_topics()
        return None

    async def _check_topics(self) -> None:
        """A topic that takes less than a batch may have would refuse it again and again; better to say so at once."""
        names = (self._settings.topic_predictions, self._settings.topic_dead_letters)
        try:
            found = await topics.describe(self._settings, names)
        except topics.TopicsError as error:
            log.warning("topics_not_checked", exception=str(error))
            return
        for name, topic in found.items():
            limit = topic.config.get("max.message.bytes")
            if limit is not None and int(limit) < MAX_BATCH_BYTES:
                raise SettingsError(f"{name}: max.message.bytes is {limit}, and {MAX_BATCH_BYTES} are needed")

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result | None:  # noqa: ARG002
        """Answer every record; Stop if too many of them would be refused."""
        if not records:
            return None
        answer = self._pipeline.answer(records, source.topic, source.partition, _now_ms, time.perf_counter)
        self._share.drop(source)
        if self._share.would_cross(len(records), len(answer.dead_letters)):
            raise Stop(NotReady.DEAD_LETTER_LIMIT)
        self._share.hold(source, len(records), len(answer.dead_letters))
        outputs = {
            self._settings.topic_predictions: answer.predictions,
            self._settings.topic_dead_letters: answer.dead_letters,
        }
        return Result(outputs, context=answer)

    def committed(self, source: TopicPartition, result: Result, records: Sequence[ConsumerRecord]) -> None:
        """The batch is answered: now it counts."""
        answer = result.context
        assert isinstance(answer, Answer), "process put it there"  # noqa: S101
        self._share.add(len(records), len(answer.dead_letters), source)
        self._report.answered(records, answer)
        if self._settings.split_percent:
            self._report.split(answer)
        if self.shadow is not None and answer.predictions:
            self.shadow.offer([records[i] for i in answer.accepted.tolist()])

    def closed(self, source: TopicPartition) -> None:
        """What was in hand is somebody else's to answer."""
        self._share.drop(source)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Scorer:
    """One process of the scorer service."""

    def __init__(self, settings: ScorerSettings, version: str) -> None:
        """Load the model; BundleError if it must not be served."""
        self._settings = settings
        self._version = version
        self._started = time.time()
        directory, refresh = registry.local(settings.scorer_model, copy_bundle)
        model = load(directory, settings.model_public_key)
        self._registry = CollectorRegistry()
        self._metrics = ScorerMetrics(self._registry)
        self._report = Report(self._metrics)
        self._report.model_loaded(model, first=True)
        work = self._work = ScoringWork(settings, model, self._report)
        self._reloader = Reloader(
            directory,
            settings.model_public_key,
            settings.scorer_model_poll.total_seconds(),
            lambda: self._work.model,
            self._serve,
            lambda new: needs_other_producers(self._work.model.manifest, new),
            self._report,
            refresh,
        )
        self._challenger_reloader: Reloader | None = None
        if settings.scorer_challenger is not None and settings.split_percent:
            self._challenger_reloader = Reloader(
                settings.scorer_challenger,
                settings.model_public_key,
                settings.scorer_model_poll.total_seconds(),
                lambda: self._work.challenger,
                self._work.challenge,
                lambda new: unfit_challenger(self._work.model.manifest, new),
                ChallengerReport(self._report),
            )
        earlier = EarlierAnswers(settings)
        policy = Policy(
            group=settings.scorer_group,
            max_records=settings.scorer_max_batch_records,
            commit_interval_s=settings.scorer_commit_interval.total_seconds(),
            delivery=settings.scorer_delivery,
            first_start=settings.scorer_first_start,
            offset_lost=settings.scorer_offset_lost,
            answered_before=earlier.any,
            unfinished=earlier.unfinished if settings.scorer_delivery == "exactly_once" else None,
        )
        self._member = GroupMember(settings, [settings.topic_events], policy, work, self._report)
        self._metrics.loop_lag.set_function(lambda: self._member.loop_lag_s)
        self._metrics.in_flight.set_function(lambda: self._member.in_flight)

    async def run(self, drain: asyncio.Event) -> None:
        """Serve until `drain` is set, then finish the open batches and close."""
        app = application(
            "Driftline scorer",
            self._version,
            self._registry,
            live=self._member.live,
            not_ready=self._member.not_ready,
            standby=self._member.standby,
            health=self.health,
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
            http.stop()

    def _serve(self, model: Model) -> None:
        """Another champion; a challenger that did not fit the one before may fit this one."""
        self._work.serve(model)
        if self._challenger_reloader is not None:
            self._challenger_reloader.retry()

    def _challenger(self) -> dict[str, Any] | None:
        if self._work.shadow is not None:
            return self._work.shadow.state()
        if self._challenger_reloader is None:
            return None
        model = self._work.challenger
        return {
            "mode": self._settings.scorer_challenger_mode,
            "model": None
            if model is None
            else {
                "name": model.manifest.name,
                "version": model.manifest.version,
                "sha256": model.sha256,
                "form": model.form,
            },
            **self._challenger_reloader.state(),
        }

    def health(self) -> dict[str, Any]:
        """What a person wants to know about this process."""
        model = self._work.model
        manifest = model.manifest
        usage = resource.getrusage(resource.RUSAGE_SELF)
        progress = self._report.progressed_at
        return {
            "service": "scorer",
            "version": self._version,
            "model": {
                "name": manifest.name,
                "version": manifest.version,
                "created_at": manifest.created_at.isoformat(),
                "sha256": model.sha256,
                "form": model.form,
                "why_not_direct": model.why_not_direct or None,
                "signed": model.signed,
            },
            "reload": self._reloader.state(),
            "challenger": self._challenger(),
            "delivery": self._settings.scorer_delivery,
            "uptime_s": round(time.time() - self._started, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "max_memory_bytes": usage.ru_maxrss * 1024,
            "tasks": self._member.tasks,
            "ready": not self._member.not_ready(),
            "reasons": self._member.not_ready(),
            "partitions": [
                {"topic": p.topic, "partition": p.partition, "state": p.state, "detail": p.detail}
                for p in self._member.partitions
            ],
            "lag_records": sum(self._report.lags.values()),
            "last_progress": datetime.fromtimestamp(progress, UTC).isoformat() if progress is not None else None,
        }
