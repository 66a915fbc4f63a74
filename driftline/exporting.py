"""The prediction log as a file that can be gone on with: chunks of the topic → rows → a sink → a checkpoint.

A checkpoint is written after what it stands for is on the disk, and says how much that is; what an interrupted run has
written beyond it is cut off when the next one begins. So no record is lost or doubled, wherever the run was killed.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import orjson

from schemas.headers import (
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TIMESTAMP,
    SOURCE_TOPIC,
)
from schemas.prediction import Prediction, decode_prediction
from schemas.rfc3339 import render
from streaming.reading import Reader
from streaming.records import ConsumerRecord, TopicPartition

# Records read, joined and written at a time: 3 MB of events, and as much again while they are encoded.
CHUNK = 5000
Row = dict[str, Any]
# Of every row, in this order; `input`, and `outcome` and `label_time`, follow where they are asked for.
COLUMNS = (
    *("prediction_id", "event_id", "customer_id", "event_time", "scored_at", "probability", "label", "threshold"),
    *("model_name", "model_version", "source_topic", "source_partition", "source_offset", "source_timestamp_ms"),
)
# Source partition and offset → what is known of the outcome, and since when.
Outcomes = Mapping[tuple[int, int], tuple[bool, int]]


class Checkpoint(msgspec.Struct):
    """How far an export has come. next: by partition. size: what the sink has by then; records: how many rows."""

    question: dict[str, Any]
    next: dict[int, int] = {}
    size: int = 0
    records: int = 0

    def save(self, path: Path) -> None:
        """Replace the file at once."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint in a file, None if there is none; ValueError if it is none of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: not the state of an export: {error}") from None


class Sink(Protocol):
    """Where rows go. What is not committed is nothing."""

    def begin(self, size: int) -> None:
        """Cut off whatever there is beyond `size`, and go on after it; OSError if there is less."""

    def add(self, rows: Sequence[Row]) -> None:
        """More rows."""

    @property
    def full(self) -> bool:
        """Whether it is time to commit."""

    def commit(self) -> int:
        """Bring everything to the disk; the size."""


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
                f"{there} bytes, and {size} are said to be exported: remove the state beside it to begin anew"
            )
        self._file = self._path.open("ab")
        self._file.truncate(size)
        self._file.seek(size)

    def add(self, rows: Sequence[Row]) -> None:
        """A line for each."""
        self._file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)

    def commit(self) -> int:
        """The file's size once it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


class Export:
    """One run. Counts what it did in `done`."""

    def __init__(
        self,
        predictions: Reader,
        inputs: Reader | None,
        outcomes: Outcomes | None,
        checkpoint: Checkpoint,
        state: Path,
        sink: Sink,
        name: str | None,
    ) -> None:
        """inputs: a reader of its own for the events, if they are wanted. name: of the only model that is wanted."""
        self._predictions = predictions
        self._inputs = inputs
        self._outcomes = outcomes
        self._checkpoint = checkpoint
        self._state = state
        self._sink = sink
        self._name = name
        self._input_ends: dict[TopicPartition, int] = {}
        self.done: Counter[str] = Counter()

    async def run(self, topic: str, since_ms: int, progress: Callable[[int, int], None]) -> None:
        """Everything up to the topic's present end. `progress` is told how many offsets are done, and of how many."""
        point = self._checkpoint
        self._sink.begin(point.size)
        ends = await self._predictions.ends(topic)
        starts = await self._predictions.starts(ends, 0 if point.next else since_ms)
        starts = {tp: max(start, point.next.get(tp.partition, 0)) for tp, start in starts.items()}
        # `since_ms` decides once, for partitions as well that have nothing to export yet
        point.next = {tp.partition: start for tp, start in starts.items()}
        total = sum(max(0, end - starts[tp]) for tp, end in ends.items())
        passed = 0
        for tp, end in ends.items():
            at = starts[tp]
            async for records in self._chunks(tp, at, end):
                rows = await self._rows(records)
                self._sink.add(rows)
                point.records += len(rows)
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
                prediction = decode_prediction(record.value or b"")
            except ValueError:
                prediction = None
            if prediction is None or source is None:
                self.done["not_a_prediction"] += 1
                continue
            if self._name is not None and prediction.model.name != self._name:
                continue
            rows.append(_row(prediction, source, headers.get(SOURCE_TIMESTAMP, b"")))
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
        """The events that the rows answer, read from where they stood. One that is gone is null, and counted."""
        assert self._inputs is not None, "the caller has looked"  # noqa: S101
        wanted: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        for topic, partition, offset in sources:
            wanted[TopicPartition(topic, partition)].add(offset)
        found: dict[tuple[str, int, int], Any] = {}
        for tp, offsets in wanted.items():
            # of a topic that was made anew, a position may lie beyond the end
            at, end = min(offsets), min(max(offsets) + 1, await self._input_end(tp))
            while at < end and (records := await self._inputs.between(tp, at, end, CHUNK)):
                for record in records:
                    if record.offset in offsets:
                        found[tp.topic, tp.partition, record.offset] = _one_line(record.value)
                at = records[-1].offset + 1
        for row, source in zip(rows, sources, strict=True):
            row["input"] = found.get(source)
            self.done["inputs_gone"] += source not in found


def _one_line(event: bytes | None) -> orjson.Fragment | None:
    """The event's own text. A line break within JSON stands between two parts of it, where a space says the same."""
    return None if event is None else orjson.Fragment(event.replace(b"\n", b" ").replace(b"\r", b" "))


def _source(headers: Mapping[str, bytes]) -> tuple[str, int, int] | None:
    topic, partition, offset = (headers.get(name, b"") for name in (SOURCE_TOPIC, SOURCE_PARTITION, SOURCE_OFFSET))
    if not topic or not partition.isdigit() or not offset.isdigit():
        return None
    return topic.decode("utf-8", "replace"), int(partition), int(offset)


def _row(p: Prediction, source: tuple[str, int, int], timestamp: bytes) -> Row:
    values = (
        *(p.prediction_id, p.event_id, p.customer_id, p.event_time, p.scored_at, p.probability, p.label, p.threshold),
        *(p.model.name, p.model.version, *source, int(timestamp) if timestamp.isdigit() else None),
    )
    return dict(zip(COLUMNS, values, strict=True))
