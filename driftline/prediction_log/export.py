"""The prediction log as a file that can be continued: chunks of the topic → rows → a sink → a checkpoint.

A checkpoint is written after its rows are on the disk, and holds their size. Rows that an interrupted run wrote beyond
it are cut off when the next run begins. So no record is lost or doubled, wherever the run was killed.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import orjson

from driftline.prediction_log.columns import Row, row_of
from kafka_runtime.kafka_types import ConsumerRecord, TopicPartition
from kafka_runtime.topic_reader import Reader
from schemas.headers import (
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TIMESTAMP,
    SOURCE_TOPIC,
    whole,
)
from schemas.prediction import AnyPrediction, decode_any
from schemas.task import Outcome, TaskName
from schemas.timestamps import render

# Records read, joined and written at a time: 3 MB of events, and as much again while they are encoded.
CHUNK = 5000
# Source partition and offset → the known outcome, and since when it is known.
Outcomes = Mapping[tuple[int, int], tuple[Outcome, int]]


class OtherTaskError(ValueError):
    """A prediction of a model with another task than the exported ones."""

    def __init__(self, prediction: AnyPrediction, task: TaskName) -> None:
        model = prediction.model
        super().__init__(f"task of {model.name} {model.version} is {prediction.task}, and of the ones before {task}")


class Checkpoint(msgspec.Struct):
    """The progress of an export. next: by partition. size: of the sink by then; records: number of rows.

    task: of the models; absent while there are no rows, and of binary ones.
    """

    question: dict[str, Any]
    next: dict[int, int] = {}
    size: int = 0
    records: int = 0
    task: TaskName | msgspec.UnsetType = msgspec.UNSET

    def save(self, path: Path) -> None:
        """Replace the file at once."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @property
    def exported(self) -> TaskName | None:
        """Return the task of the exported predictions; None while there are none."""
        if self.task is not msgspec.UNSET:
            return self.task
        return "binary" if self.records else None


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a file, None without a file; ValueError if the file is no checkpoint."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: not the state of an export: {error}") from None


class Sink(Protocol):
    """A destination of rows. Only committed rows count."""

    def begin(self, size: int) -> None:
        """Cut off everything beyond `size`, and continue after it; OSError if there is less."""

    def add(self, rows: Sequence[Row]) -> None:
        """Take in more rows."""

    @property
    def full(self) -> bool:
        """Return whether it is time to commit."""

    def commit(self) -> int:
        """Write everything to the disk; return the size."""


class JsonLines:
    """One file, one JSON object a line; its size is in bytes."""

    full = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, size: int) -> None:
        """Open the file, `size` bytes of it."""
        there = self._path.stat().st_size if self._path.exists() else 0
        if there < size:
            raise OSError(
                f"{there} bytes, and {size} are exported by its state: remove the state beside it to start again"
            )
        self._file = self._path.open("ab")
        self._file.truncate(size)
        self._file.seek(size)

    def add(self, rows: Sequence[Row]) -> None:
        """Write a line for each row."""
        self._file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)

    def commit(self) -> int:
        """Return the file's size once it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


class Export:
    """One run. Counts its work in `done`."""

    def __init__(
        self,
        predictions: Reader,
        inputs: Reader | None,
        inputs_topic: str,
        outcomes: Outcomes | None,
        checkpoint: Checkpoint,
        state: Path,
        sink: Sink,
        name: str | None,
        task: TaskName,
    ) -> None:
        """Start without reading.

        inputs: a reader of the events, if they are exported, too. inputs_topic: the only topic that it reads,
        independent of a prediction's headers. name: of the only exported model; None: all. task: of all of them.
        """
        self._predictions = predictions
        self._inputs = inputs
        self._inputs_topic = inputs_topic
        self._outcomes = outcomes
        self._checkpoint = checkpoint
        self._state = state
        self._sink = sink
        self._name = name
        self._task = task
        self._input_ends: dict[TopicPartition, int] = {}
        self.done: Counter[str] = Counter()

    async def run(self, topic: str, since_ms: int, progress: Callable[[int, int], None]) -> None:
        """Export everything up to the topic's present end.

        progress: called with the number of finished offsets and the total. OtherTaskError at the first prediction of
        another task; the file has everything before its chunk.
        """
        point = self._checkpoint
        self._sink.begin(point.size)
        ends = await self._predictions.ends(topic)
        starts = await starts_of(self._predictions, ends, point, since_ms)
        # `since_ms` decides once, also for partitions without rows to export yet
        point.next = {tp.partition: start for tp, start in starts.items()}
        total = sum(max(0, end - starts[tp]) for tp, end in ends.items())
        passed = 0
        for tp, end in ends.items():
            at = starts[tp]
            async for records in self._chunks(tp, at, end):
                rows = await self._rows(records)
                self._sink.add(rows)
                point.records += len(rows)
                if rows and self._task != "binary":
                    point.task = self._task
                self.done["records"] += len(rows)
                point.next[tp.partition] = records[-1].offset + 1
                if self._sink.full:
                    self._save()
                passed += records[-1].offset + 1 - at
                at = records[-1].offset + 1
                progress(passed, total)
        self._save()

    def _save(self) -> None:
        self._checkpoint.size = self._sink.commit()
        self._checkpoint.save(self._state)

    async def _chunks(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[list[ConsumerRecord]]:
        while start < end and (records := await self._predictions.between(tp, start, end, CHUNK)):
            yield records
            start = records[-1].offset + 1

    async def _rows(self, records: Sequence[ConsumerRecord]) -> list[Row]:
        rows, sources = [], []
        for record in records:
            headers = dict(record.headers)
            source = _source(headers)
            try:
                prediction = decode_any(record.value or b"")
            except ValueError:
                prediction = None
            if prediction is not None and prediction.task != self._task:
                if self._name in {None, prediction.model.name}:
                    raise OtherTaskError(prediction, self._task)
                continue
            if prediction is None or source is None:
                self.done["not_a_prediction"] += 1
                continue
            if self._name is not None and prediction.model.name != self._name:
                continue
            rows.append(row_of(prediction, source, whole(headers.get(SOURCE_TIMESTAMP, b""))))
            sources.append(source)
        if self._inputs is not None:
            await self._add_inputs(rows, sources)
        if self._outcomes is not None:
            for row, (_, partition, offset) in zip(rows, sources, strict=True):
                outcome, known_ms = self._outcomes.get((partition, offset), (None, None))
                row["outcome"], row["label_time"] = outcome, None if known_ms is None else render(known_ms)
                self.done["labelled"] += outcome is not None
        return rows

    async def _input_end(self, tp: TopicPartition) -> int:
        assert self._inputs is not None, "the caller has looked"  # noqa: S101
        if tp not in self._input_ends:
            self._input_ends |= await self._inputs.ends(tp.topic)
        return self._input_ends.get(tp, 0)

    async def _add_inputs(self, rows: Sequence[Row], sources: Sequence[tuple[str, int, int]]) -> None:
        """Add the events that the rows answer, read from their positions. A missing one is null, and counted."""
        assert self._inputs is not None, "the caller has looked"  # noqa: S101
        wanted: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        for topic, partition, offset in sources:
            if topic == self._inputs_topic:
                wanted[TopicPartition(topic, partition)].add(offset)
        found: dict[tuple[str, int, int], Any] = {}
        for tp, offsets in wanted.items():
            # in a recreated topic, a position may lie beyond the end
            at, end = min(offsets), min(max(offsets) + 1, await self._input_end(tp))
            while at < end and (records := await self._inputs.between(tp, at, end, CHUNK)):
                for record in records:
                    if record.offset in offsets and is_json(record.value):
                        found[tp.topic, tp.partition, record.offset] = _one_line(record.value)
                at = records[-1].offset + 1
        for row, source in zip(rows, sources, strict=True):
            row["input"] = found.get(source)
            self.done["inputs_gone"] += source not in found


async def starts_of(
    reader: Reader, ends: dict[TopicPartition, int], point: Checkpoint, since_ms: int
) -> dict[TopicPartition, int]:
    """Return the first offset to export by partition. since_ms: counts only where the checkpoint has no progress."""
    starts = await reader.starts(ends, 0 if point.next else since_ms)
    return {tp: max(start, point.next.get(tp.partition, 0)) for tp, start in starts.items()}


async def task_of(reader: Reader, topic: str, point: Checkpoint, since_ms: int, name: str | None) -> TaskName:
    """Return the task of the exported predictions, or of the first one to export; without any binary.

    name: of the only exported model; None: any.
    """
    if (known := point.exported) is not None:
        return known
    ends = await reader.ends(topic)
    for tp, start in (await starts_of(reader, ends, point, since_ms)).items():
        while start < ends[tp] and (records := await reader.between(tp, start, ends[tp], CHUNK)):
            for record in records:
                try:
                    one = decode_any(record.value or b"")
                except ValueError:
                    continue
                if name in {None, one.model.name}:
                    return one.task
            start = records[-1].offset + 1  # noqa: PLW2901 - goes on behind what was read
    return "binary"


def is_json(event: bytes | None) -> bool:
    """Return whether a forged prediction's source can be written as part of a row: an event that was scored can."""
    try:
        orjson.loads(event or b"")
    except ValueError:
        return False
    return True


def _one_line(event: bytes | None) -> orjson.Fragment | None:
    """Return the event's text on one line.

    A line break in JSON is between two tokens, where a space has the same meaning.
    """
    return None if event is None else orjson.Fragment(event.replace(b"\n", b" ").replace(b"\r", b" "))


def _source(headers: Mapping[str, bytes]) -> tuple[str, int, int] | None:
    topic = headers.get(SOURCE_TOPIC)
    partition, offset = whole(headers.get(SOURCE_PARTITION)), whole(headers.get(SOURCE_OFFSET))
    if not topic or partition is None or offset is None:
        return None
    return topic.decode("utf-8", "replace"), partition, offset
