"""The verifier: was every input record answered exactly once? It shares no code with the services.

Three moments are taken in this order: the outputs' last stable offsets, the group's committed offsets, and the outputs'
ends. Records visible before the first must lie below the second (otherwise a transaction was torn). Every input record
below the second must be answered before the third (otherwise it was lost).
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

from driftline.verifier_events import EventTable, Registry

# Longer than transaction.max.timeout of the producers (15 s) and the coordinator's next check (10 s): an open
# transaction that is still there then has no owner.
HANGING_AFTER_S = 40.0
# An upstream that writes in transactions may have one open at any moment. One that lasts holds back what is behind it.
BLOCKED_AFTER_S = 10.0
CALL_TIMEOUT_S = 30.0
EXAMPLES = 5
_UNREADABLE = (CorruptRecordException, UnsupportedCodecError, RecordTooLargeError)


@dataclass
class Findings:
    """Counts of records. inputs = predicted + dead_lettered + ignored, distinct; every one of `faults` must be 0.

    ignored: records that are no events, by the bundle's `[event.only]` and `tombstones`; 0 without a bundle.
    pending: input records that the group has not reached; they are not among `inputs`.
    blocked: input records from the first one of an open transaction on, which no reader of committed records can see.
    """

    inputs: int = 0
    predicted: int = 0
    dead_lettered: int = 0
    ignored: int = 0
    pending: int = 0
    blocked: int = 0
    blocked_from: dict[str, int] = field(default_factory=dict)
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
        """Return whether there is no difference of any kind."""
        return not any(self.faults.values())

    @property
    def answer(self) -> str:
        """Return `no` on any difference, else `not_yet` if input records are blocked or all wait, else `yes`."""
        waiting = self.blocked or (self.pending and not self.inputs)
        return "no" if not self.ok else "not_yet" if waiting else "yes"

    def fault(self, kind: str, count: int, example: str) -> None:
        """Add `count` faults of one kind."""
        if count:
            self.faults[kind] += count
            if len(self.examples) < EXAMPLES:
                self.examples.append(f"{kind}: {example}")

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as JSON types."""
        return asdict(self) | {"ok": self.ok, "answer": self.answer}


@dataclass(frozen=True)
class Question:
    """What to verify. `connection`: keyword arguments of aiokafka's clients. registry: of the events' schemas."""

    connection: Mapping[str, Any]
    topic: str
    group: str
    predictions: str
    dead_letters: str
    at_least_once: bool = False
    model: Path | None = None
    registry: Registry | None = None


@dataclass(frozen=True)
class _Inputs:
    """Offsets below the committed one, per partition; rows, if scores are to be recomputed; what cannot be read.

    ignored: offsets of records that are no events, which are not asked.
    """

    asked: dict[int, NDArray[np.int64]]
    ignored: dict[int, set[int]]
    values: dict[tuple[int, int], tuple[bytes | None, Sequence[tuple[str, bytes]]]]
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
    try:
        for client in (reader, dirty, admin):
            await asyncio.wait_for(client.start(), CALL_TIMEOUT_S)
        inputs = await _partitions(admin, question.topic)
        outputs = {name: await _partitions(admin, name) for name in (question.predictions, question.dead_letters)}
        flat = [tp for tps in outputs.values() for tp in tps]
        for client in (reader, dirty):
            client.assign(inputs + flat)  # an unassigned partition's offsets cannot be requested
        stable = await _bounded(reader.end_offsets(flat))
        committed = {
            tp: entry.offset
            for tp, entry in (await _bounded(admin.list_consumer_group_offsets(question.group))).items()
            if tp.topic == question.topic and entry.offset >= 0
        }
        ends = await _wait_stable(reader, dirty, flat, findings)
        await _count_blocked(reader, dirty, inputs, findings, progress)
        read = await _read_inputs(reader, inputs, committed, question, findings, progress)
        await _read_answers(reader, outputs, stable, ends, committed, read, question, findings, progress)
    finally:
        for client in (reader, dirty):
            # aiokafka cancels the caller that stops a consumer while a failed fetch waits for a retry
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
    """Return the outputs' ends once a read_committed reader can reach them; a partition that stays shut is hanging."""
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
    starts: Mapping[TopicPartition, int] | None = None,
) -> set[tuple[int, int]]:
    """Visit every record below `until`, in offset order; return (partition, offset) of unreadable ones.

    starts: where each partition begins; without it, the first record that the log holds.
    """
    firsts = await _bounded(reader.beginning_offsets(list(until))) if starts is None else starts
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
                raise TimeoutError(f"{tp.topic}-{tp.partition}: no record arrived for {CALL_TIMEOUT_S:.0f} s")
        reader.pause(tp)
    return unreadable


async def _count_blocked(
    reader: AIOKafkaConsumer,
    dirty: AIOKafkaConsumer,
    inputs: list[TopicPartition],
    findings: Findings,
    progress: Callable[[str, int], None],
) -> None:
    """Count the input records that an open transaction holds back, its own included."""
    ends: dict[TopicPartition, int] = await _bounded(dirty.end_offsets(inputs))
    deadline = time.monotonic() + BLOCKED_AFTER_S
    while True:
        stable = await _bounded(reader.end_offsets(inputs))
        shut = {tp: stable[tp] for tp in inputs if stable[tp] < ends[tp]}
        if not shut or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    findings.blocked_from = {f"{tp.topic}-{tp.partition}": offset for tp, offset in shut.items()}

    def visit(_record: ConsumerRecord) -> None:
        findings.blocked += 1

    until = {tp: ends[tp] for tp in shut}
    unreadable = await _scan(dirty, until, visit, functools.partial(progress, "open transactions"), shut)
    findings.blocked += len(unreadable)


async def _read_inputs(
    reader: AIOKafkaConsumer,
    inputs: list[TopicPartition],
    committed: Mapping[TopicPartition, int],
    question: Question,
    findings: Findings,
    progress: Callable[[str, int], None],
) -> _Inputs:
    offsets: dict[int, list[int]] = {tp.partition: [] for tp in inputs}
    ignored: dict[int, set[int]] = {tp.partition: set() for tp in inputs}
    values: dict[tuple[int, int], tuple[bytes | None, Sequence[tuple[str, bytes]]]] = {}
    table = None if question.model is None else EventTable(_manifest(question.model), question.registry)
    ends = await _bounded(reader.end_offsets(inputs))

    def visit(record: ConsumerRecord) -> None:
        if record.offset >= committed.get(TopicPartition(record.topic, record.partition), 0):
            findings.pending += 1
            return
        if table is not None and table.ignores and table.is_ignored(record.key, record.value, record.headers):
            ignored[record.partition].add(record.offset)
            return
        offsets[record.partition].append(record.offset)
        if table is not None:
            values[record.partition, record.offset] = (record.value, record.headers)

    unreadable = await _scan(reader, ends, visit, functools.partial(progress, question.topic))
    asked = {partition: np.array(sorted(found), dtype=np.int64) for partition, found in offsets.items()}
    findings.inputs = sum(map(len, asked.values())) + sum(map(len, ignored.values()))
    below = {(p, offset) for p, offset in unreadable if offset < committed.get(TopicPartition(question.topic, p), 0)}
    return _Inputs(asked, ignored, values, below)


class _Ledger:
    """The answers in one output topic."""

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
        self.unread: dict[int, set[int]] = {partition: set() for partition in partitions}
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
            if reason in {"too_large", "not_json"}:
                self.unread[partition].add(offset)
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
    """Read both output topics and compare them with the question."""
    ledgers = {}
    for topic, partitions in outputs.items():
        ledger = _Ledger(topic, question, stable, committed, list(read.asked), findings)
        await _scan(reader, {tp: ends[tp] for tp in partitions}, ledger.visit, functools.partial(progress, topic))
        ledgers[topic] = ledger
    predicted, dead = ledgers[question.predictions], ledgers[question.dead_letters]
    for partition, offsets in read.asked.items():
        # what was rejected before it was read could not be seen to be no event
        ignored = read.ignored[partition] - dead.unread[partition]
        findings.ignored += len(ignored)
        more = np.array(sorted(read.ignored[partition] - ignored), dtype=np.int64)
        offsets = np.union1d(offsets, more)  # noqa: PLW2901
        answers = (predicted.answered[partition], dead.answered[partition])
        _compare(partition, offsets, answers, dead.skipped[partition], question, findings)
    lost = sorted((p, offset) for p, offset in read.unreadable if offset not in dead.skipped[p])
    findings.fault("unreadable", len(lost), f"(partition, offset) {lost[:EXAMPLES]}")
    if question.model is not None:
        _recompute(question.model, read.values, predicted.scores, findings, question.registry)


def _compare(
    partition: int,
    asked: NDArray[np.int64],
    answers: tuple[list[int], list[int]],
    skipped: set[int],
    question: Question,
    f: Findings,
) -> None:
    """Compare one input partition: every offset answered once, by one of the two topics, and no other answer."""

    def example(offsets: NDArray[np.int64]) -> str:
        return f"{question.topic}-{partition} offsets {offsets[:EXAMPLES].tolist()}"

    first = int(asked[0]) if len(asked) else 0
    unique: list[NDArray[np.int64]] = []
    for name, offsets in zip((question.predictions, question.dead_letters), answers, strict=True):
        # answers to records that retention has deleted from the input cannot be checked any more
        kept = np.array([offset for offset in offsets if offset >= first or not len(asked)], dtype=np.int64)
        distinct, counts = np.unique(kept, return_counts=True)
        again = int((counts - 1).sum())
        f.duplicates += again
        if not question.at_least_once:
            f.fault("duplicated", again, f"{name}: {example(distinct[counts > 1])}")
        unique.append(distinct)
    answered = np.union1d(unique[0], unique[1])
    both, lost = np.intersect1d(unique[0], unique[1]), np.setdiff1d(asked, answered)
    # an operator skips any kind of offset: markers, aborted records, unreadable ones
    extra = np.setdiff1d(np.setdiff1d(answered, asked), np.array(sorted(skipped), dtype=np.int64))
    f.predicted += len(unique[0])
    f.dead_lettered += len(unique[1])
    f.fault("predicted_and_dead_lettered", len(both), example(both))
    f.fault("lost", len(lost), example(lost))
    f.fault("extra", len(extra), example(extra))


def _manifest(model: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def _differing(
    manifest: Mapping[str, Any], estimator: Any, frame: Any, predictions: Sequence[Mapping[str, Any]]
) -> NDArray[np.int64]:
    """Return which predictions differ: a probability by 1e-9, a value by 1e-9 of its size or of the usual one."""
    if manifest.get("task") == "multiclass":
        return _other_classes(manifest, estimator.predict_proba(frame), predictions)
    if manifest.get("task") == "regression":
        expected = np.asarray(getattr(estimator, manifest.get("method", "predict"))(frame), dtype=np.float64)
        expected = expected.reshape(len(frame))
        got = np.array([one.get("value", np.nan) for one in predictions], dtype=np.float64)
        sizes = np.abs(expected)
        within = 1e-9 * np.maximum(sizes, float(np.median(sizes)) or 1.0)
        return np.flatnonzero(
            ~(np.abs(expected - got) <= within) | ~_around(manifest.get("residuals"), predictions, got)
        )
    positive = estimator.classes_.tolist().index(manifest["positive_class"])
    expected = estimator.predict_proba(frame)[:, positive]
    got = np.array([one.get("probability", np.nan) for one in predictions], dtype=np.float64)
    return np.flatnonzero(~(np.abs(expected - got) <= 1e-9))


def _other_classes(
    manifest: Mapping[str, Any], expected: NDArray[np.float64], predictions: Sequence[Mapping[str, Any]]
) -> NDArray[np.int64]:
    """Return which predictions have another label or another probability, or lack one of the likeliest ten."""
    classes: list[str] = manifest["classes"]
    wrong = []
    for at, (one, row) in enumerate(zip(predictions, expected.tolist(), strict=True)):
        by_class = dict(zip(classes, row, strict=True))
        shown: Mapping[str, float] = one.get("probabilities", {})
        label, best = one.get("label"), max(row)
        same = len(shown) == min(10, len(classes)) and all(
            abs(by_class.get(name, np.nan) - p) <= 1e-9 for name, p in shown.items()
        )
        likeliest = sorted(row)[-min(10, len(classes))]
        same = same and all(by_class[name] >= likeliest - 1e-9 for name in shown)
        if not (same and best - by_class.get(str(label), -1.0) <= 1e-9 and shown.get(str(label)) == one["probability"]):
            wrong.append(at)
    return np.array(wrong, dtype=np.int64)


def _around(
    residuals: Mapping[str, float] | None, predictions: Sequence[Mapping[str, Any]], value: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which predictions have the interval of the manifest around their value, or rightly none."""
    if residuals is None:
        return np.array(["interval" not in one for one in predictions], dtype=np.bool_)
    good = [
        (found := one.get("interval")) is not None
        and found == {"low": v + residuals["low"], "high": v + residuals["high"], "level": residuals["level"]}
        for one, v in zip(predictions, value.tolist(), strict=True)
    ]
    return np.array(good, dtype=np.bool_)


def _as_fitted(manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a DataFrame of the events, with the manifest's `dtype` of each feature, or what its `input` states."""
    import pandas as pd

    form = manifest.get("input") or {}
    features = manifest["features"]
    if form.get("kind") == "array" and all(feature["kind"] != "categorical" for feature in features):
        missing = float("nan")
        return np.array([[missing if (v := row[f["name"]]) is None else float(v) for f in features] for row in rows])
    columns: dict[str, Any] = {}
    for feature in features:
        column = [row[feature["name"]] for row in rows]
        if feature["kind"] == "numeric" or (feature.get("dtype") == "bool" and feature.get("nullable")):
            columns[feature["name"]] = pd.Series(column, dtype="float64")
        elif feature.get("dtype") == "bool":
            columns[feature["name"]] = pd.Series(column, dtype="bool")
        elif feature.get("dtype") == "category":
            known = feature["categories"]
            columns[feature["name"]] = pd.Categorical([v if v in known else None for v in column], categories=known)
        else:
            objects = pd.Series(column, dtype=object)
            columns[feature["name"]] = objects.where(objects.notna(), np.nan).astype(object)
    frame = pd.DataFrame(columns)
    if form.get("kind") == "array":
        return frame.to_numpy(dtype=object)
    if form.get("columns"):
        frame.columns = form["columns"]
    return frame


def _recompute(
    model: Path,
    values: Mapping[tuple[int, int], tuple[bytes | None, Sequence[tuple[str, bytes]]]],
    scores: Mapping[tuple[int, int], Mapping[str, Any]],
    findings: Findings,
    registry: Registry | None,
) -> None:
    """Score every predicted event again with the bundle's estimator on what it was fitted on, and compare to 1e-9."""
    import joblib

    manifest = _manifest(model)
    estimator = joblib.load(io.BytesIO((model / "model.joblib").read_bytes()))
    model_ref = {"name": manifest["name"], "version": manifest["version"]}
    keys = [key for key, score in scores.items() if score["model"] == model_ref]
    table = EventTable(manifest, registry)
    rows = [table.row(*values[key]) for key in keys]
    if not rows:
        return
    wrong = _differing(manifest, estimator, _as_fitted(manifest, rows), [scores[key] for key in keys])
    findings.scores_checked = len(keys)
    examples: Sequence[Any] = [keys[i] for i in wrong[:EXAMPLES]]
    findings.fault("wrong_scores", len(wrong), f"(partition, offset) {examples}")
