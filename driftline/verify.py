"""The verifier: was every input record answered exactly once? Shares no code with the services it judges.

Three moments are taken in this order: the outputs' last stable offsets, the group's committed offsets, and the outputs'
ends. What is visible before the first must lie below the second (else a transaction was torn); every input record below
the second must be answered before the third (else it was lost).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)
from numpy.typing import NDArray

# Longer than transaction.max.timeout of our producers (15 s) and the coordinator's next look (10 s): an open
# transaction that is still there then is nobody's.
HANGING_AFTER_S = 40.0
CALL_TIMEOUT_S = 30.0
EXAMPLES = 5
_UNREADABLE = (CorruptRecordException, UnsupportedCodecError, RecordTooLargeError)


@dataclass
class Findings:
    """Counts of records. `answered` = predicted + dead_lettered (distinct inputs); everything in `faults` must be 0."""

    inputs: int = 0
    predicted: int = 0
    dead_lettered: int = 0
    pending: int = 0
    later: int = 0
    duplicates: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("lost", "duplicated", "predicted_and_dead_lettered", "extra", "torn", "out_of_order", "unmarked",
             "hanging_transactions", "unreadable", "wrong_scores"), 0
        )
    )  # fmt: skip
    examples: list[str] = field(default_factory=list)
    scores_checked: int = 0

    @property
    def ok(self) -> bool:
        """No difference of any kind."""
        return not any(self.faults.values())

    def fault(self, kind: str, count: int, example: str) -> None:
        """Add `count` faults of one kind."""
        if count:
            self.faults[kind] += count
            if len(self.examples) < EXAMPLES:
                self.examples.append(f"{kind}: {example}")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"ok": self.ok}


@dataclass(frozen=True)
class Question:
    """What to verify. `connection`: keyword arguments of aiokafka's clients."""

    connection: Mapping[str, Any]
    topic: str
    group: str
    predictions: str
    dead_letters: str
    at_least_once: bool = False
    model: Path | None = None


@dataclass(frozen=True)
class _Inputs:
    """Offsets below the committed one, per partition; values, if scores are to be recomputed; what cannot be read."""

    asked: dict[int, NDArray[np.int64]]
    values: dict[tuple[int, int], bytes | None]
    unreadable: set[tuple[int, int]]


async def verify(question: Question, progress: Callable[[str, int], None] = lambda _what, _count: None) -> Findings:
    """Read input and outputs to the end and compare. Raises KafkaError or TimeoutError if they cannot be read."""
    findings = Findings()
    reader = AIOKafkaConsumer(
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 << 20,
        **question.connection,
    )
    dirty = AIOKafkaConsumer(group_id=None, isolation_level="read_uncommitted", **question.connection)
    admin = AIOKafkaAdminClient(**question.connection)
    for client in (reader, dirty, admin):
        await asyncio.wait_for(client.start(), CALL_TIMEOUT_S)
    try:
        inputs = await _partitions(admin, question.topic)
        outputs = {name: await _partitions(admin, name) for name in (question.predictions, question.dead_letters)}
        flat = [tp for tps in outputs.values() for tp in tps]
        for client in (reader, dirty):
            client.assign(inputs + flat)  # an unassigned partition's offsets cannot be asked for
        stable = await _bounded(reader.end_offsets(flat))
        committed = {
            tp: entry.offset
            for tp, entry in (await _bounded(admin.list_consumer_group_offsets(question.group))).items()
            if tp.topic == question.topic and entry.offset >= 0
        }
        ends = await _wait_stable(reader, dirty, flat, findings)
        read = await _read_inputs(reader, inputs, committed, question, findings, progress)
        await _read_answers(reader, outputs, stable, ends, committed, read, question, findings, progress)
    finally:
        for client in (reader, dirty):
            # aiokafka cancels whoever stops a consumer while a failed fetch waits to be tried again
            with contextlib.suppress(asyncio.CancelledError):
                await client.stop()
        await admin.close()
    return findings


async def _bounded(call: Any) -> Any:
    return await asyncio.wait_for(call, CALL_TIMEOUT_S)


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> list[TopicPartition]:
    (description,) = await _bounded(admin.describe_topics([topic]))
    if description["error_code"] == TopicAuthorizationFailedError.errno:
        raise TopicAuthorizationFailedError(topic)
    numbers = sorted(partition["partition"] for partition in description["partitions"])
    if not numbers:
        raise LookupError(f"topic {topic} does not exist")
    return [TopicPartition(topic, number) for number in numbers]


async def _wait_stable(
    reader: AIOKafkaConsumer, dirty: AIOKafkaConsumer, outputs: list[TopicPartition], findings: Findings
) -> dict[TopicPartition, int]:
    """The outputs' ends now, once a read_committed reader can reach them; a partition that stays shut is hanging."""
    ends: dict[TopicPartition, int] = await _bounded(dirty.end_offsets(outputs))
    deadline = time.monotonic() + HANGING_AFTER_S
    while True:
        stable = await _bounded(reader.end_offsets(outputs))
        shut = [tp for tp in outputs if stable[tp] < ends[tp]]
        if not shut:
            return ends
        if time.monotonic() > deadline:
            for tp in shut:
                findings.fault("hanging_transactions", 1, f"{tp.topic}-{tp.partition} from offset {stable[tp]}")
            return {tp: min(ends[tp], stable[tp]) for tp in outputs}
        await asyncio.sleep(0.2)


async def _scan(
    reader: AIOKafkaConsumer,
    until: Mapping[TopicPartition, int],
    visit: Callable[[ConsumerRecord], None],
    progress: Callable[[int], None],
) -> set[tuple[int, int]]:
    """Visit every committed record below `until`, in offset order; (partition, offset) of what cannot be read."""
    firsts = await _bounded(reader.beginning_offsets(list(until)))
    for tp in reader.assignment():
        reader.pause(tp)
    unreadable = set()
    count = 0
    for tp, end in until.items():
        reader.seek(tp, firsts[tp])
        reader.resume(tp)
        one_by_one = False
        quiet_since = time.monotonic()
        while (position := await _bounded(reader.position(tp))) < end:
            try:
                got = await reader.getmany(tp, timeout_ms=500, max_records=1 if one_by_one else 5000)
            except Exception as error:
                if isinstance(error, KafkaError) and not isinstance(error, _UNREADABLE):
                    raise
                if one_by_one:
                    unreadable.add((tp.partition, position))
                    position += 1
                one_by_one = True
                reader.seek(tp, position)
                continue
            records = [record for record in got.get(tp, []) if record.offset < end]
            for record in records:
                visit(record)
            count += len(records)
            progress(count)
            if records or await _bounded(reader.position(tp)) > position:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > CALL_TIMEOUT_S:
                raise TimeoutError(f"{tp.topic}-{tp.partition}: nothing came for {CALL_TIMEOUT_S:.0f} s")
        reader.pause(tp)
    return unreadable


async def _read_inputs(
    reader: AIOKafkaConsumer,
    inputs: list[TopicPartition],
    committed: Mapping[TopicPartition, int],
    question: Question,
    findings: Findings,
    progress: Callable[[str, int], None],
) -> _Inputs:
    offsets: dict[int, list[int]] = {tp.partition: [] for tp in inputs}
    values: dict[tuple[int, int], bytes | None] = {}
    ends = await _bounded(reader.end_offsets(inputs))

    def visit(record: ConsumerRecord) -> None:
        if record.offset >= committed.get(TopicPartition(record.topic, record.partition), 0):
            findings.pending += 1
            return
        offsets[record.partition].append(record.offset)
        if question.model is not None:
            values[record.partition, record.offset] = record.value

    unreadable = await _scan(reader, ends, visit, functools.partial(progress, question.topic))
    asked = {partition: np.array(sorted(found), dtype=np.int64) for partition, found in offsets.items()}
    findings.inputs = sum(len(found) for found in asked.values())
    below = {(p, offset) for p, offset in unreadable if offset < committed.get(TopicPartition(question.topic, p), 0)}
    return _Inputs(asked, values, below)


class _Ledger:
    """What the answers on one output topic say."""

    def __init__(
        self,
        topic: str,
        question: Question,
        stable: Mapping[TopicPartition, int],
        committed: Mapping[TopicPartition, int],
        partitions: Sequence[int],
        findings: Findings,
    ) -> None:
        self.answered: dict[int, list[int]] = {partition: [] for partition in partitions}
        self.skipped: dict[int, set[int]] = {partition: set() for partition in partitions}
        self.scores: dict[tuple[int, int], dict[str, Any]] = {}
        self._topic, self._question, self._findings = topic, question, findings
        self._stable, self._committed = stable, committed
        self._last: dict[tuple[int, int], int] = {}

    def visit(self, record: ConsumerRecord) -> None:
        where = f"{self._topic}-{record.partition} offset {record.offset}"
        headers = dict(record.headers)
        try:
            source = headers["driftline-source-topic"].decode()
            partition = int(headers["driftline-source-partition"])
            offset = int(headers["driftline-source-offset"])
            group = headers["driftline-group"].decode()
        except (KeyError, ValueError):
            self._findings.fault("unmarked", 1, where)
            return
        if (source, group) != (self._question.topic, self._question.group) or partition not in self.answered:
            return
        if offset >= self._committed.get(TopicPartition(source, partition), 0):
            if record.offset < self._stable[TopicPartition(self._topic, record.partition)]:
                self._findings.fault("torn", 1, f"{where} answers offset {offset}, which is not committed")
            else:
                self._findings.later += 1
            return
        if offset < self._last.get((record.partition, partition), -1) and not self._question.at_least_once:
            self._findings.fault("out_of_order", 1, where)
        self._last[record.partition, partition] = offset
        self.answered[partition].append(offset)
        if self._topic == self._question.dead_letters:
            reason = headers.get("driftline-reason", b"?").decode()
            self._findings.reasons[reason] = self._findings.reasons.get(reason, 0) + 1
            if reason == "skipped":
                self.skipped[partition].add(offset)
        elif self._question.model is not None:
            self.scores[partition, offset] = json.loads(record.value)


async def _read_answers(
    reader: AIOKafkaConsumer,
    outputs: Mapping[str, list[TopicPartition]],
    stable: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    committed: Mapping[TopicPartition, int],
    read: _Inputs,
    question: Question,
    findings: Findings,
    progress: Callable[[str, int], None],
) -> None:
    """Read both output topics and compare them with what was asked."""
    ledgers = {}
    for topic, partitions in outputs.items():
        ledger = _Ledger(topic, question, stable, committed, list(read.asked), findings)
        await _scan(reader, {tp: ends[tp] for tp in partitions}, ledger.visit, functools.partial(progress, topic))
        ledgers[topic] = ledger
    predicted, dead = ledgers[question.predictions], ledgers[question.dead_letters]
    for partition, offsets in read.asked.items():
        answers = (predicted.answered[partition], dead.answered[partition])
        _compare(partition, offsets, answers, dead.skipped[partition], question, findings)
    lost = sorted((p, offset) for p, offset in read.unreadable if offset not in dead.skipped[p])
    findings.fault("unreadable", len(lost), f"(partition, offset) {lost[:EXAMPLES]}")
    if question.model is not None:
        _recompute(question.model, read.values, predicted.scores, findings)


def _compare(
    partition: int,
    asked: NDArray[np.int64],
    answers: tuple[list[int], list[int]],
    skipped: set[int],
    question: Question,
    f: Findings,
) -> None:
    """One input partition: every offset answered once, by one of the two topics, and nothing else answered."""

    def example(offsets: NDArray[np.int64]) -> str:
        return f"{question.topic}-{partition} offsets {offsets[:EXAMPLES].tolist()}"

    first = int(asked[0]) if len(asked) else 0
    unique: list[NDArray[np.int64]] = []
    for name, offsets in zip((question.predictions, question.dead_letters), answers, strict=True):
        # answers to what retention has deleted from the input cannot be judged any more
        kept = np.array([offset for offset in offsets if offset >= first or not len(asked)], dtype=np.int64)
        distinct, counts = np.unique(kept, return_counts=True)
        again = int((counts - 1).sum())
        f.duplicates += again
        if not question.at_least_once:
            f.fault("duplicated", again, f"{name}: {example(distinct[counts > 1])}")
        unique.append(distinct)
    answered = np.union1d(unique[0], unique[1])
    both, lost = np.intersect1d(unique[0], unique[1]), np.setdiff1d(asked, answered)
    # an operator skips offsets, whatever stands there: markers, aborted records, what cannot be read
    extra = np.setdiff1d(np.setdiff1d(answered, asked), np.array(sorted(skipped), dtype=np.int64))
    f.predicted += len(unique[0])
    f.dead_lettered += len(unique[1])
    f.fault("predicted_and_dead_lettered", len(both), example(both))
    f.fault("lost", len(lost), example(lost))
    f.fault("extra", len(extra), example(extra))


def _recompute(
    model: Path,
    values: Mapping[tuple[int, int], bytes | None],
    scores: Mapping[tuple[int, int], Mapping[str, Any]],
    findings: Findings,
) -> None:
    """Score every predicted event again with the bundle's estimator on a plain DataFrame, and compare to 1e-9."""
    import joblib
    import pandas as pd

    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    estimator = joblib.load(io.BytesIO((model / "model.joblib").read_bytes()))
    positive = estimator.classes_.tolist().index(manifest["positive_class"])
    mapping = manifest.get("event", {})
    path = [part for part in mapping.get("features", "features").split(".") if part]
    model_ref = {"name": manifest["name"], "version": manifest["version"]}
    keys = [key for key, score in scores.items() if score["model"] == model_ref]
    rows = []
    for key in keys:
        event = json.loads(values[key] or b"{}")
        for part in path:
            event = event[part]
        rows.append(event)
    if not rows:
        return
    columns: dict[str, Any] = {}
    for feature in manifest["features"]:
        column = [row.get(feature.get("from") or feature["name"]) for row in rows]
        if feature["kind"] == "numeric":
            columns[feature["name"]] = pd.Series(column, dtype="float64")
        else:
            objects = pd.Series(column, dtype=object)
            columns[feature["name"]] = objects.where(objects.notna(), np.nan).astype(object)
    expected = estimator.predict_proba(pd.DataFrame(columns))[:, positive]
    got = np.array([scores[key]["probability"] for key in keys])
    wrong = np.flatnonzero(~(np.abs(expected - got) <= 1e-9))
    findings.scores_checked = len(keys)
    examples: Sequence[Any] = [keys[i] for i in wrong[:EXAMPLES]]
    findings.fault("wrong_scores", len(wrong), f"(partition, offset) {examples}")
