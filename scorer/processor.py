"""Records of a partition → predictions and dead letters to commit: what the scorer does with each batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from kafka_runtime import topics
from kafka_runtime.clients import MAX_BATCH_BYTES
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.partition_telemetry import OffsetComparisons
from kafka_runtime.processor import Blocked, PausePartition
from kafka_runtime.readiness import NotReady
from kafka_runtime.schema_registry.cache import SchemaCache
from kafka_runtime.service import logs
from kafka_runtime.service.settings import SettingsError
from kafka_runtime.sinks import Result
from schemas.bundle.manifest import MANIFEST, BundleError
from schemas.formats.registered import schema_ids
from scorer.challenger.shadow import Shadow
from scorer.challenger.split import Split
from scorer.dead_letter_limit import RejectedShare
from scorer.model import Model
from scorer.native.lane import Lane, lane_for
from scorer.pipeline import Answer, Pipeline
from scorer.predict import Predictor
from scorer.reload import unfit_challenger
from scorer.settings import ScorerSettings
from scorer.telemetry import ScorerTelemetry

log = logs.get(__name__)


class ScoringProcessor:
    """Score the records of partitions (kafka_runtime.processor.PartitionProcessor)."""

    def __init__(
        self,
        settings: ScorerSettings,
        model: Model,
        report: ScorerTelemetry,
        moves: OffsetComparisons | None = None,
        schemas: SchemaCache | None = None,
    ) -> None:
        """Take `moves`, which compares a partition's committed offset when it is opened; None: it is not compared.

        schemas: of the registry, where the events have a registry's format.
        """
        self._settings = settings
        self._moves = moves
        self._schemas = schemas
        self._report = report
        self.shadow: Shadow | None = None
        if settings.scorer_challenger is not None and not settings.split_percent:
            self.shadow = Shadow(lambda: self.model, report)
        self._share = RejectedShare(settings.scorer_dead_letter_limit)
        self._topics_checked = False
        self._serving = threading.Lock()  # champion and challenger are each reloaded in a thread
        self.challenger: Model | None = None  # the challenger with customers in a split
        self.serve(model)

    @property
    def model(self) -> Model:
        """Return the model of the next batch."""
        return self._pipeline.model

    def serve(self, model: Model) -> None:
        """Use this model from the next batch on: a batch keeps the pipeline that it began with."""
        with self._serving:
            self.predictor = Predictor(model, self._settings.rules)
            challenger = self.challenger
            if challenger is not None and unfit_challenger(model.manifest, challenger.manifest) is not None:
                self.challenger = None
                self._report.challenger(None)
            self._answer_with(model)

    def challenge(self, challenger: Model) -> None:
        """Use this challenger for its customers from the next batch on; raise BundleError if it does not fit."""
        with self._serving:
            # again under the lock: the champion may have changed since
            if (why := unfit_challenger(self.model.manifest, challenger.manifest)) is not None:
                raise BundleError(f"{MANIFEST}: {why}")
            self.challenger = challenger
            self._answer_with(self.model)

    def _answer_with(self, model: Model) -> None:
        s, split = self._settings, None
        if self.challenger is not None:
            split = Split(self.challenger, s.split_percent, s.rules, self._schemas)
        prevented = "a challenger has customers of its own" if split is not None else None
        if self._report.traces is not None:
            prevented = "traces are on"  # they change headers after the encoding
        lane = lane_for(s.scorer_lane, model, s.scorer_group, s.rules, prevented=prevented)
        self._pipeline = Pipeline(
            model,
            s.rules,
            s.scorer_group,
            s.scorer_max_dead_letter_bytes,
            split,
            schemas=self._schemas,
            lane=lane.predictions,
            decoder=lane.events,
        )
        self.lane: Lane = lane

    async def prepare(self, source: TopicPartition, records: Sequence[ConsumerRecord]) -> Blocked | None:  # noqa: ARG002
        """Fetch the schemas of these records."""
        return None if self._schemas is None else await self._schemas.ready(records, schema_ids)

    async def on_assigned(self, source: TopicPartition, position: int, metadata: str) -> int | None:  # noqa: ARG002
        """Check the output topics once: a scorer has no state to restore. Raise SettingsError if it could not write."""
        if not self._topics_checked:
            self._topics_checked = True
            await self._check_topics()
        if self._moves is not None:
            self._moves.start(source, position)
        return None

    async def _check_topics(self) -> None:
        """Raise SettingsError if an output topic takes less than a batch may have, and would reject it every time."""
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

    def process(
        self,
        source: TopicPartition,
        records: Sequence[ConsumerRecord],
        *,
        at_end: bool,  # noqa: ARG002
    ) -> Result[Answer] | None:
        """Score every record; raise PausePartition if too many of them would be rejected."""
        if not records:
            return None
        started_ns, pipeline = time.time_ns(), self._pipeline
        answer = pipeline.answer(records, source.topic, source.partition, _now_ms, time.perf_counter)
        self._share.drop(source)
        if self._share.would_cross(len(records), len(answer.dead_letters)):
            raise PausePartition(NotReady.DEAD_LETTER_LIMIT)
        self._share.hold(source, len(records), len(answer.dead_letters))
        if self._report.traces is not None:
            self._report.traces.begin(source, started_ns, records, answer, pipeline.model.manifest.version)
        outputs = {
            self._settings.topic_predictions: answer.predictions,
            self._settings.topic_dead_letters: answer.dead_letters,
        }
        return Result(outputs, answer)

    def on_committed(self, source: TopicPartition, result: Result[Answer], records: Sequence[ConsumerRecord]) -> None:
        """Count a committed batch, and offer it to the shadow."""
        answer = result.context
        self._share.add(len(records), len(answer.dead_letters), source)
        self._report.answered(records, answer)
        if self._settings.split_percent:
            self._report.split(answer)
        if self.shadow is not None and answer.predictions:
            self.shadow.offer([records[i] for i in answer.accepted.tolist()])

    def on_revoked(self, source: TopicPartition) -> None:
        """Forget the open batch of a partition that was revoked."""
        self._share.drop(source)
        if self._moves is not None:
            self._moves.cancel(source)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
