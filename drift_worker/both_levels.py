"""Stage 2 as one work: the windows of drift, and the cohorts of the business level in the same transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drift_worker.evaluating import EvaluatingWork
from drift_worker.performing import Performing, Step
from streaming.records import ConsumerRecord, TopicPartition
from streaming.transactions import Output, Result


@dataclass(frozen=True, slots=True)
class _Said:
    windows: Result | None
    cohorts: Step | None


class BothLevels:
    """Evaluates windows, and cohorts beside them, from the only partition of `drift-panes` (streaming.work.Work).

    A transaction that has only cohorts to tell commits the offset and metadata that the windows committed last.
    """

    def __init__(self, windows: EvaluatingWork, performing: Callable[[], Performing]) -> None:
        """`performing` makes one anew for every time that this process begins to evaluate."""
        self._windows = windows
        self._make = performing
        self.performing: Performing | None = None
        self._offset = 0
        self._metadata = ""

    async def opened(self, source: TopicPartition, position: int, metadata: str) -> int | None:
        """The predecessor is fenced: both levels read back what it committed."""
        self._stop()
        moved = await self._windows.opened(source, position, metadata)
        if source.partition == 0:
            self._offset, self._metadata = position, metadata
            self.performing = self._make()
            self.performing.start()
        return moved

    def closed(self, source: TopicPartition) -> None:
        """Another one evaluates now."""
        if source.partition == 0:
            self._stop()
        self._windows.closed(source)

    def _stop(self) -> None:
        if self.performing is not None:
            self.performing.stop()
            self.performing = None

    def process(self, source: TopicPartition, records: Sequence[ConsumerRecord], *, at_end: bool) -> Result | None:
        """What the windows have to say, and the cohorts that are ready."""
        windows = self._windows.process(source, records, at_end=at_end)
        performing = self.performing
        cohorts = performing.take() if performing is not None and source.partition == 0 else None
        if windows is None and cohorts is None:
            return None
        outputs: dict[str | TopicPartition, list[Output]] = {}
        for part in (windows, cohorts):
            for place, part_of in (part.outputs if part is not None else {}).items():
                outputs.setdefault(place, []).extend(part_of)
        if windows is not None and windows.offset is not None:
            self._offset, self._metadata = windows.offset, windows.metadata
        return Result(outputs, self._offset, self._metadata, _Said(windows, cohorts))

    def committed(self, source: TopicPartition, result: Result, records: Sequence[ConsumerRecord]) -> None:
        """It is said."""
        said = result.context
        assert isinstance(said, _Said), "process put it there"  # noqa: S101
        if said.windows is not None:
            self._windows.committed(source, said.windows, records)
        if said.cohorts is not None and self.performing is not None:
            self.performing.committed(said.cohorts)
