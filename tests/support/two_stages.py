"""Both stages of the drift worker without a broker: topics as lists, and a clock that the test moves."""

import asyncio
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry

from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.counts.windows import Side
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.stages.count_events import EventCounter
from drift_worker.stages.evaluate_windows import WindowEvaluator
from drift_worker.telemetry import DriftTelemetry
from schemas.alert import decode_alert
from schemas.event import EventDecoder
from schemas.headers import Stamp
from schemas.measurement import decode_measurement
from schemas.prediction import ModelRef, PredictionEncoder
from schemas.validation import Rules
from scorer import model

START_MS = 1_795_327_200_000
DATA = Path("examples/telco_churn.csv")
LENGTHS = {"4s": 4000, "10s": 10_000}  # neither is a multiple of the other: units of 2 s
POLICY = Policy(LENGTHS, {"4s": Confirm(2, 3), "10s": Confirm(2, 3)})
SOURCES = [TopicPartition(topic, p) for topic in ("events", "predictions") for p in (0, 1)]
PANES = TopicPartition("panes", 0)
STEP_S = 0.5


@cache
def _served(bundle: Path) -> model.Model:
    """The model in its direct form: proving that form costs more than most tests score."""
    return model.load(bundle, None)


def _record(source, offset, key, value, headers, wall_ms):
    return ConsumerRecord(
        source.topic, source.partition, offset, wall_ms, 0, key, value, None, 0, len(value or b""), tuple(headers)
    )


@dataclass
class Log:
    """Topics as lists, and per group what is committed: (offset, metadata)."""

    records: dict = field(default_factory=dict)
    offsets: dict = field(default_factory=dict)
    moments_s: list = field(default_factory=list)  # when the stages read

    def write(self, source, key, value, headers=(), wall_ms=0):
        records = self.records.setdefault(source, [])
        records.append(_record(source, len(records), key, value, headers, wall_ms))

    def commit(self, source, result, position, wall_ms):
        for topic, outputs in result.outputs.items():
            for key, value, headers in outputs:
                self.write(TopicPartition(topic, 0), key, value, headers, wall_ms)
        self.offsets[source] = (position if result.offset is None else result.offset, result.metadata)

    def values(self, topic):
        return [record.value for record in self.records.get(TopicPartition(topic, 0), [])]


class Worker:
    """One drift worker on a `Log`, with a clock that the test moves."""

    policy = POLICY
    min_events = 200

    def __init__(self, log, bundle, ahead_ms=0):
        self.log = log
        self.ahead_ms = ahead_ms  # how far the wall clock is ahead of the events
        self.at_s = 0.0
        self.bundle = bundle
        self.loaded = load(bundle, None)
        self.metrics = DriftMetrics(CollectorRegistry(), ["events", "predictions"])
        self.report = DriftTelemetry(self.metrics)
        self.positions = {}
        self.blocked = {}  # source → offset of an open transaction: nothing from there on is visible

    @property
    def wall_ms(self):
        return START_MS + self.ahead_ms + int(self.at_s * 1000)

    def start_counting(self):
        async def two(_topic):
            return 2

        self.counting = EventCounter(
            self.loaded,
            self.report,
            events_topic="events",
            panes_topic="panes",
            rules=Rules(),
            pane_ms=1000,
            span_ms=max(self.policy.lengths.values()) + 1000,
            idle_timeout_s=5.0,
            partitions_of=two,
            now_ms=lambda: self.wall_ms,
            monotonic=lambda: self.at_s,
        )
        for source in SOURCES:
            self._open(self.counting, source)

    def start_evaluating(self):
        async def read_back(topic, since_ms):
            for record in list(self.log.records.get(TopicPartition(topic, 0), [])):
                if record.timestamp >= since_ms:
                    yield record

        self.evaluating = WindowEvaluator(
            self.loaded,
            self.policy,
            self.report,
            topics={Side.FEATURES: "events", Side.SCORE: "predictions"},
            measurements_topic="measurements",
            alerts_topic="alerts",
            lateness_ms=1000,
            straggler_s=60.0,
            min_events=self.min_events,
            runbook_url="docs/runbook.md",
            read_back=read_back,
            partitions_of=lambda _topic: 2,
            max_future_skew_ms=300_000,
            now_ms=lambda: self.wall_ms,
            monotonic=lambda: self.at_s,
        )
        self._open(self.evaluating, PANES)

    def _open(self, work, source):
        position, metadata = self.log.offsets.get(source, (0, ""))
        self.positions[source] = position
        asyncio.run(work.on_assigned(source, position, metadata))

    def step(self, *, commits=True, at_most=10_000):
        """Both stages read what there is, `at_most` records at a time."""
        self.log.moments_s.append(self.at_s)
        for source in SOURCES:
            self._read(self.counting, source, commits, at_most)
        self.evaluate(commits=commits, at_most=at_most)

    def evaluate(self, *, commits=True, at_most=10_000):
        """Stage 2 reads what there is."""
        self._read(self.evaluating, PANES, commits, at_most)

    def _read(self, work, source, commits, at_most):
        while True:
            position = self.positions[source]
            records = self.log.records.get(source, [])
            visible = min(len(records), self.blocked.get(source, len(records)))
            new = records[position : min(visible, position + at_most)]
            self.positions[source] += len(new)
            read_all = self.positions[source] == visible
            at_end = read_all and visible == len(records)
            result = work.process(source, new, at_end=at_end)
            if result is not None and commits:
                self.log.commit(source, result, self.positions[source], self.wall_ms)
                work.on_committed(source, result, new)
            if read_all and not (result is not None and result.more):
                break


class Scorer:
    """Answers new events with the model's scores; 0.2 higher between the two times of day in `raised`."""

    def __init__(self, log, worker, raised=()):
        self.log, self.worker, self.raised = log, worker, raised
        manifest = worker.loaded.manifest
        self.encoder = PredictionEncoder(ModelRef(manifest.name, manifest.version), 0.5)
        self.answered = {0: 0, 1: 0}
        self.decoder = EventDecoder(manifest.features, manifest.event, Rules())
        self.model = _served(worker.bundle)

    def answer(self):
        for partition, answered in self.answered.items():
            records = self.log.records.get(TopicPartition("events", partition), [])
            new = [record for record in records[answered:] if _event(record.value) is not None]
            for record, p in zip(new, self._scores(new), strict=True):
                self._predict(partition, record, _event(record.value), p)
            self.answered[partition] = len(records)

    def _scores(self, records):
        if not records:
            return []
        decoded = self.decoder.decode(records, 1 << 47)
        scores = dict(zip(decoded.accepted.tolist(), self.model.score_each(decoded.columns)[0].tolist(), strict=True))
        return [scores[at] for at in range(len(records))]

    def _predict(self, partition, record, event, p):
        if self.raised and self.raised[0] <= event["event_time"][11:19] < self.raised[1]:
            p = min(1.0, p + 0.2)
        (value,) = self.encoder.encode(
            ["id"], [event["event_id"]], [event["customer_id"]], [event["event_time"]], "now", [p]
        )
        headers = Stamp("events", partition, "1.0.0", "scorer").headers(record)
        self.log.write(TopicPartition("predictions", partition), record.key, value, headers, self.worker.wall_ms)


def play(
    story,
    bundle,
    *,
    kill=lambda _step: (),
    scorer_off=range(0),
    raised=(),
    end_idle_s=9.0,
    ahead_ms=0,
    log=None,
    blocked=None,
):
    """Return the log after the whole story.

    `kill` names what dies before a step: counting, evaluating, or a commit. `blocked`: source → the steps with an open
    transaction in it; it began at the first of them.
    """
    log = Log() if log is None else log
    worker = Worker(log, bundle, ahead_ms)
    worker.start_counting()
    worker.start_evaluating()
    scorer = Scorer(log, worker, raised)
    steps = len(story) + int(end_idle_s / STEP_S)
    for step in range(steps):
        worker.at_s = step * STEP_S
        for source, during in (blocked or {}).items():
            if step == during.start:
                worker.blocked[source] = len(log.records.get(source, []))
            elif step == during.stop:
                del worker.blocked[source]
        for partition, key, value in story[step] if step < len(story) else ():
            log.write(TopicPartition("events", partition), key, value, wall_ms=worker.wall_ms)
        if step not in scorer_off:
            scorer.answer()
        victims = kill(step) if step < len(story) else ()
        worker.step(commits="commit" not in victims)
        if "counting" in victims or "commit" in victims:
            worker.start_counting()
        if "evaluating" in victims or "commit" in victims:
            worker.start_evaluating()
    return log, worker


def evaluated_again(counted, bundle, kill, *, log=None, policy=POLICY, min_events=Worker.min_events):
    """Return the log and the worker after stage 2 has read what stage 1 wrote into the log `counted`, at its moments.

    `kill(step, worker)` names what dies after a step, as in `play`: evaluating, or its commit. Stage 1 reads nothing of
    what stage 2 does, and counting again would be most of the work.
    """
    log = Log() if log is None else log
    worker = Worker(log, bundle)
    worker.policy, worker.min_events = policy, min_events
    worker.start_evaluating()
    progress = list(reversed(counted.records[PANES]))
    for step, worker.at_s in enumerate(counted.moments_s):
        while progress and progress[-1].timestamp <= worker.wall_ms:
            record = progress.pop()
            log.write(PANES, record.key, record.value, record.headers, record.timestamp)
        victims = kill(step, worker)
        worker.evaluate(commits="commit" not in victims)
        if victims:
            worker.start_evaluating()
    return log, worker


def _event(value):
    """None for poison."""
    try:
        event = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, RecursionError):
        return None
    return event if "features" in event else None


def measurements_of(log):
    """Return the measurements in the topic, without the counts."""
    return [decode_measurement(v) for v in log.values("measurements") if v[:1] == b"{"]


def alerts_of(log):
    """Return the announced alerts."""
    return [decode_alert(v) for v in log.values("alerts")]
