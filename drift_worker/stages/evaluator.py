"""Stage 2 as one: the windows of drift, and the cohorts of the business level in the same transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drift_worker.stages.evaluate_cohorts import CohortEvaluator, PendingOutput
from drift_worker.stages.evaluate_windows import WindowEvaluator
from drift_worker.telemetry import Evaluated
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.sinks import Output, Result


@dataclass(frozen=True, slots=True)
class _Parts:
    windows: Result[Evaluated] | None
    cohorts: PendingOutput | None


class Evaluator:
    """Evaluates windows and cohorts from `drift-panes` (kafka_runtime.processor.PartitionProcessor).

    A transaction that has only cohorts commits the offset and metadata that the windows committed last.
    """

    def __init__(self, windows: WindowEvaluator, make_cohorts: Callable[[], CohortEvaluator]) -> None:
        """Combine both levels. `make_cohorts` makes new cohorts each time that this process begins to evaluate."""
        self._windows = windows
        self._make_cohorts = make_cohorts
        #: While this process evaluates.
        self.cohorts: CohortEvaluator | None = None
        self._offset = 0
        self._metadata = ""

    async def on_assigned(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """Restore both levels from what the predecessor committed. It is fenced."""
        self._stop()
        moved = await self._windows.on_assigned(source, position, metadata)
        if source.partition == 0:
            self._offset, self._metadata = position, metadata
            self.cohorts = self._make_cohorts()
            self.cohorts.start()
        return moved

    def on_revoked(self, source: TopicPartition) -> None:
        """Stop both levels: another process evaluates now."""
        if source.partition == 0:
            self._stop()
        self._windows.on_revoked(source)

    def _stop(self) -> None:
        if self.cohorts is not None:
            self.cohorts.stop()
            self.cohorts = None

    def process(
        self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool
    ) -> Result[_Parts] | None:
        """Return the records of the windows and of the ready cohorts; None without any."""
        windows = self._windows.process(source, records, at_end=at_end)
        evaluator = self.cohorts
        cohorts = evaluator.take() if evaluator is not None and source.partition == 0 else None
        if windows is None and cohorts is None:
            return None
        outputs: dict[str | TopicPartition, list[Output]] = {}
        for part in (windows, cohorts):
            for place, part_of in (part.outputs if part is not None else {}).items():
                outputs.setdefault(place, []).extend(part_of)
        if windows is not None and windows.offset is not None:
            self._offset, self._metadata = windows.offset, windows.metadata
        return Result(
            outputs, _Parts(windows, cohorts), self._offset, self._metadata, more=windows is not None and windows.more
        )

    def on_committed(self, source: TopicPartition, result: Result[_Parts], records: Sequence[ConsumerRecord]) -> None:
        """Forward the commit to the levels whose records it holds."""
        parts = result.context
        if parts.windows is not None:
            self._windows.on_committed(source, parts.windows, records)
        if parts.cohorts is not None and self.cohorts is not None:
            self.cohorts.on_committed(parts.cohorts)
