"""Both stages without a broker: records in, records out, restarts anywhere, and always the same windows and alerts."""

import asyncio
import random
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from drift_worker.counting import CountingWork
from drift_worker.decide import Confirm, Policy
from drift_worker.deltas import decode
from drift_worker.evaluating import EvaluatingWork
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import load
from drift_worker.report import Report
from drift_worker.windows import Side
from driftline.backtest import Change, Replay
from driftline.replay import open_source
from schemas.alert import decode_alert
from schemas.headers import Stamp
from schemas.measurement import decode_measurement
from schemas.prediction import ModelRef, PredictionEncoder
from schemas.rfc3339 import parse, render
from schemas.verdict import Rules
from training.spec import read_spec
from training.train import train_bundle

START_MS = 1_795_327_200_000
DATA = Path("training/data/telco_churn.csv")
LENGTHS = {"4s": 4000, "10s": 10_000}  # neither is a multiple of the other: units of 2 s
POLICY = Policy(LENGTHS, {"4s": Confirm(2, 3), "10s": Confirm(2, 3)})
SOURCES = [TopicPartition(topic, p) for topic in ("events", "predictions") for p in (0, 1)]
PANES = TopicPartition("panes", 0)
STEP_S = 0.5
STORY_S = 50
CLOSED_BY_EVENTS = "2026-11-22T06:00:48.000Z"


def _record(source, offset, key, value, headers, wall_ms):
    return ConsumerRecord(
        source.topic, source.partition, offset, wall_ms, 0, key, value, None, 0, len(value or b""), tuple(headers)
    )


@dataclass
class _Log:
    """Topics as lists, and per group what is committed: (offset, metadata)."""

    records: dict = field(default_factory=dict)
    offsets: dict = field(default_factory=dict)

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


class _Worker:
    """One drift worker on a `_Log`, with a clock that the test moves."""

    def __init__(self, log, bundle, ahead_ms=0):
        self.log = log
        self.ahead_ms = ahead_ms  # how far the wall clock is ahead of the events
        self.at_s = 0.0
        self.loaded = load(bundle, None)
        self.metrics = DriftMetrics(CollectorRegistry(), ["events", "predictions"])
        self.report = Report(self.metrics)
        self.positions = {}

    @property
    def wall_ms(self):
        return START_MS + self.ahead_ms + int(self.at_s * 1000)

    def start_counting(self):
        async def two(_topic):
            return 2

        self.counting = CountingWork(
            self.loaded,
            self.report,
            events_topic="events",
            panes_topic="panes",
            rules=Rules(),
            pane_ms=1000,
            idle_timeout_s=5.0,
            partitions_of=two,
            now_ms=lambda: self.wall_ms,
            monotonic=lambda: self.at_s,
        )
        for source in SOURCES:
            self._open(self.counting, source)

    def start_evaluating(self):
        async def read_back(topic, since_ms):
            return [r for r in self.log.records.get(TopicPartition(topic, 0), []) if r.timestamp >= since_ms]

        self.evaluating = EvaluatingWork(
            self.loaded,
            POLICY,
            self.report,
            topics={Side.FEATURES: "events", Side.SCORE: "predictions"},
            measurements_topic="measurements",
            alerts_topic="alerts",
            lateness_ms=1000,
            straggler_s=60.0,
            min_events=200,
            runbook_url="docs/runbook.md",
            read_back=read_back,
            now_ms=lambda: self.wall_ms,
            monotonic=lambda: self.at_s,
        )
        self._open(self.evaluating, PANES)

    def _open(self, work, source):
        position, metadata = self.log.offsets.get(source, (0, ""))
        self.positions[source] = position
        asyncio.run(work.opened(source, position, metadata))

    def step(self, *, commits=True, at_most=10_000):
        """Both stages read what there is, `at_most` records at a time."""
        for work, source in [*((self.counting, s) for s in SOURCES), (self.evaluating, PANES)]:
            while True:
                position = self.positions[source]
                records = self.log.records.get(source, [])
                new = records[position : position + at_most]
                self.positions[source] += len(new)
                at_end = self.positions[source] == len(records)
                result = work.process(source, new, at_end=at_end)
                if result is not None and commits:
                    self.log.commit(source, result, self.positions[source], self.wall_ms)
                    work.committed(source, result, new)
                if at_end:
                    break


@pytest.fixture(scope="module")
def story(telco_bundle):
    """What customers send in 50 s: half-second batches, drift between 14 and 26 s, some poison, some disorder."""
    source = open_source(
        DATA, telco_bundle, run="test", drifts=["monthly_charges:shift=+25@14s..26s", "contract:unseen=0.3@16s..26s"]
    )
    draw = random.Random(3)
    batches = []
    for step in range(int(STORY_S / STEP_S)):
        elapsed = step * STEP_S
        batch = []
        for key, value in source.take(60, elapsed, START_MS + int(elapsed * 1000) - draw.randrange(800)):
            poisoned = value if draw.random() > 0.01 else b"{"
            batch.append((draw.randrange(2), key, poisoned))
        batches.append(batch)
    return batches


@pytest.fixture(scope="module")
def disorderly(story):
    """The same by 300 customers who come again and again, and every tenth batch is five seconds old: late for 4 s."""
    draw = random.Random(4)
    batches = []
    for step, batch in enumerate(story):
        changed = []
        for partition, key, value in batch:
            if value != b"{":
                event = msgspec.json.decode(value)
                event["customer_id"] = f"c{draw.randrange(300)}"
                if step % 10 == 9 and step > 20:
                    event["event_time"] = render(parse(event["event_time"]) - 5000)
                value = msgspec.json.encode(event)  # noqa: PLW2901 - the same event, changed
            changed.append((partition, key, value))
        batches.append(changed)
    return batches


def _play(story, bundle, *, kill=lambda _step: (), scorer_off=range(0), end_idle_s=9.0, ahead_ms=0):
    """The log after the whole story. `kill` names what dies before a step: counting, evaluating, or a commit."""
    log = _Log()
    worker = _Worker(log, bundle, ahead_ms)
    worker.start_counting()
    worker.start_evaluating()
    encoder = PredictionEncoder(ModelRef(worker.loaded.manifest.name, worker.loaded.manifest.version), 0.5)
    answered = {0: 0, 1: 0}
    steps = len(story) + int(end_idle_s / STEP_S)
    for step in range(steps):
        worker.at_s = step * STEP_S
        for partition, key, value in story[step] if step < len(story) else ():
            log.write(TopicPartition("events", partition), key, value, wall_ms=worker.wall_ms)
        if step not in scorer_off:
            for partition in (0, 1):
                _predict(log, worker, encoder, partition, answered)
        victims = kill(step) if step < len(story) else ()
        worker.step(commits="commit" not in victims)
        if "counting" in victims or "commit" in victims:
            worker.start_counting()
        if "evaluating" in victims or "commit" in victims:
            worker.start_evaluating()
    return log, worker


def _predict(log, worker, encoder, partition, answered):
    """What a scorer would write for the new events of a partition: scores of the reference, higher during the drift."""
    source = TopicPartition("events", partition)
    stamp = Stamp("events", partition, "1.0.0", "scorer")
    for record in log.records.get(source, [])[answered[partition] :]:
        if record.value != b"{":
            event = msgspec.json.decode(record.value)
            scores = worker.loaded.reference.score
            p = float(scores[zlib.crc32(event["event_id"].encode()) % len(scores)])
            if "06:00:14" <= event["event_time"][11:19] < "06:00:26":
                p = min(1.0, p + 0.2)
            (value,) = encoder.encode(
                ["id"], [event["event_id"]], [event["customer_id"]], [event["event_time"]], "now", [p]
            )
            log.write(
                TopicPartition("predictions", partition), record.key, value, stamp.headers(record), worker.wall_ms
            )
    answered[partition] = len(log.records.get(source, []))


def _measurements(log):
    return [decode_measurement(v) for v in log.values("measurements") if v[:1] == b"{"]


def _alerts(log):
    return [decode_alert(v) for v in log.values("alerts")]


@pytest.fixture(scope="module")
def uninterrupted(story, telco_bundle):
    """The story told once from beginning to end."""
    return _play(story, telco_bundle)


def test_every_window_is_measured_once_and_holds_every_valid_event(uninterrupted, story):
    """Both lengths from the first event to the idle end, without a gap; the events add up."""
    log, _ = uninterrupted
    found = _measurements(log)
    valid = sum(value != b"{" for batch in story for _, _, value in batch)
    for length, ms in LENGTHS.items():
        ours = [m for m in found if m.window.length == length]
        starts = [m.window.start for m in ours]
        assert len(starts) == len(set(starts))
        assert len(starts) >= STORY_S * 1000 // ms
        assert [m.window.end for m in ours][:-1] == starts[1:]
        assert sum(m.sample.events for m in ours) == valid
        assert sum(m.score.events for m in ours if m.score) == valid
        assert sum(m.sample.late for m in ours) == 0
        assert all(m.complete for m in ours)


def test_read_is_counted_and_refused_and_future(uninterrupted, story):
    """The identity of the counters, per topic."""
    _, worker = uninterrupted
    poison = sum(value == b"{" for batch in story for _, _, value in batch)
    for topic, refused in (("events", poison), ("predictions", 0)):
        read, counted = (f.labels(topic)._value.get() for f in (worker.metrics.read, worker.metrics.counted))
        assert read == counted + refused
    assert worker.metrics.refused.labels("not_json")._value.get() == poison


def test_the_drift_is_announced_and_resolved(uninterrupted):
    """One group for both features (or one after the other), the unseen category, the score; all end; nothing before."""
    log, _ = uninterrupted
    alerts = _alerts(log)
    names = {a.labels["alertname"] for a in alerts}
    assert {"FeatureDrift", "UnseenCategories", "PredictionDrift"} <= names
    assert min(a.starts_at for a in alerts) > "2026-11-22T06:00:14"
    last = {a.fingerprint: a.status for a in alerts if a.labels["alertname"] != "NoData"}
    assert set(last.values()) == {"resolved"}
    for mark in last:
        sequence = [a.sequence for a in alerts if a.fingerprint == mark]
        assert sequence == list(range(1, len(sequence) + 1))
        assert len(sequence) <= 3


def test_silence_is_no_data_and_a_window_that_began_before_us_is_not(story, telco_bundle):
    """A few events at the end of the first long window, then none: only what follows lacks data, after two windows."""
    log, _ = _play([[], *story[4:6]], telco_bundle, end_idle_s=45.0)
    alerts = [(a.labels["alertname"], a.status, a.starts_at) for a in _alerts(log)]
    assert alerts == [("NoData", "firing", "2026-11-22T06:00:20.000Z")]


@pytest.mark.parametrize(("hours", "said"), [(23, True), (25, False)])
def test_a_backlog_of_more_than_a_day_is_measured_and_raises_nothing(uninterrupted, story, telco_bundle, hours, said):
    """A replay of yesterday: the same windows and numbers, nothing late; alerts only for what ended within a day."""
    log, worker = _play(story, telco_bundle, ahead_ms=hours * 3_600_000)
    assert [(m.window, m.sample, m.level) for m in _measurements(log)] == [
        (m.window, m.sample, m.level) for m in _measurements(uninterrupted[0])
    ]
    assert bool(_alerts(log)) == said
    assert worker.metrics.late._value.get() == 0


@pytest.mark.parametrize("seed", range(3))
def test_an_evaluator_that_is_killed_anywhere_says_the_same(uninterrupted, story, telco_bundle, seed):
    """Killed at random steps: every measurement and every alert is equal, byte for byte."""
    draw = random.Random(seed)
    log, _ = _play(story, telco_bundle, kill=lambda _step: ("evaluating",) if draw.random() < 0.15 else ())
    assert [m.encode() for m in _measurements(log)] == [m.encode() for m in _measurements(uninterrupted[0])]
    assert log.values("alerts") == uninterrupted[0].values("alerts")


def test_a_new_evaluator_exports_the_states_before_its_first_window(story, telco_bundle):
    """In the middle of the drift: a restart that said nothing for a window would resolve alerts, and page once more."""
    _, worker = _play(story[:44], telco_bundle, end_idle_s=0.0)

    def states():
        (family,) = worker.metrics.state.collect()
        return {(s.labels["alertname"], s.labels["feature"]): s.value for s in family.samples}

    before = states()
    assert set(before.values()) >= {0.0, 3.0}
    worker.evaluating.closed(PANES)
    assert states() == {}
    worker.start_evaluating()
    assert states() == before


def test_a_new_evaluator_shows_what_was_before_it(story, telco_bundle):
    """In the middle of the drift: the windows of before and the open episodes; who stands by shows nothing."""
    _, worker = _play(story[:44], telco_bundle, end_idle_s=0.0)
    before = worker.evaluating.story
    shown = {(t.alertname, t.feature, t.starts_ms) for t in before.told if t.open}
    assert shown
    assert len(before.past) >= 6
    worker.evaluating.closed(PANES)
    assert worker.evaluating.story.past == ()
    worker.start_evaluating()
    after = worker.evaluating.story
    assert {(t.alertname, t.feature, t.starts_ms) for t in after.told if t.open} == shown
    assert {t.summary for t in after.told} == {"open since before this process began to evaluate"}
    assert after.past == before.past[-len(after.past) :]
    assert {length: m.encode() for length, m in after.newest.items()} == {
        length: m.encode() for length, m in before.newest.items()
    }


@pytest.mark.parametrize("seed", range(3))
def test_late_events_and_returning_customers_survive_the_evaluators_death(disorderly, telco_bundle, seed):
    """Late for one length and in time for the other, windows that share customers: still equal, byte for byte."""
    draw = random.Random(seed)
    whole, worker = _play(disorderly, telco_bundle)
    log, _ = _play(disorderly, telco_bundle, kill=lambda _step: ("evaluating",) if draw.random() < 0.2 else ())
    assert worker.metrics.late._value.get() > 100
    late = {length: sum(m.sample.late for m in _measurements(whole) if m.window.length == length) for length in LENGTHS}
    assert late["4s"] > late["10s"]
    assert [m.encode() for m in _measurements(log)] == [m.encode() for m in _measurements(whole)]
    assert log.values("alerts") == whole.values("alerts")


def _without(feature, folder):
    """A bundle of the same customers without one feature: another reference."""
    text = Path("training/specs/telco.toml").read_text()
    head, _, rest = text.partition(f"[features.{feature}]")
    spec = folder / "spec.toml"
    spec.write_text(head + rest[rest.index("[features.") :])
    train_bundle(read_spec(spec), DATA, folder / "model", datetime(2026, 1, 2, tzinfo=UTC))
    return folder / "model"


def test_what_never_fitted_is_a_mismatch_until_the_reference_changes(telco_bundle, tmp_path):
    """Charges differ from the first second on. Killed and started in between, the same; a new reference ends it."""
    source = open_source(DATA, telco_bundle, run="test", drifts=["monthly_charges:shift=+25@0s..100s"])
    batches = [source.take(60, step * STEP_S, START_MS + int(step * STEP_S * 1000)) for step in range(60)]
    told = []
    for kills in ({}, {9, 10, 23, 24}):
        log = _Log()
        worker = _Worker(log, telco_bundle)
        worker.start_counting()
        worker.start_evaluating()
        for step, batch in enumerate(batches):
            worker.at_s = step * STEP_S
            for key, value in batch:
                log.write(TopicPartition("events", step % 2), key, value, wall_ms=worker.wall_ms)
            worker.step()
            if step in kills:
                worker.start_evaluating()
        told.append(log.values("alerts"))
    assert told[0] == told[1]
    (alert,) = _alerts(log)
    assert (alert.labels["alertname"], alert.labels["severity"]) == ("ReferenceMismatch", "warning")
    worker.loaded = load(_without("tenure", tmp_path), None)
    worker.start_counting()
    worker.start_evaluating()
    worker.step()
    _, ended = _alerts(log)
    assert (ended.fingerprint, ended.status, ended.sequence) == (alert.fingerprint, "resolved", 2)
    assert ended.annotations["reason"] == "reference_changed"


def test_a_backlog_shows_that_the_reference_fits(story, telco_bundle):
    """The windows before the drift are older than a day: they raise nothing, but what moves after them has moved."""
    log = _Log()
    worker = _Worker(log, telco_bundle, ahead_ms=30 * 3_600_000)
    worker.start_counting()
    worker.start_evaluating()
    for step, batch in enumerate(story[:54]):
        worker.at_s = step * STEP_S
        if step == 38:
            worker.ahead_ms = 0
        for partition, key, value in batch:
            log.write(TopicPartition("events", partition), key, value, wall_ms=worker.wall_ms)
        worker.step()
    assert "FeatureDrift" in {a.labels["alertname"] for a in _alerts(log)}
    assert "ReferenceMismatch" not in {a.labels["alertname"] for a in _alerts(log)}


def test_a_new_model_without_the_feature_retires_its_alert(story, telco_bundle, tmp_path):
    """In the middle of the drift another bundle is used: its windows say that they were cut, none comes twice."""
    _without("monthly_charges", tmp_path)
    log = _Log()
    worker = _Worker(log, telco_bundle)
    worker.start_counting()
    worker.start_evaluating()
    for step, batch in enumerate(story):
        worker.at_s = step * STEP_S
        if step == 45:
            worker.loaded = load(tmp_path / "model", None)
            worker.start_counting()
            worker.start_evaluating()
            first = log.records[PANES][worker.positions[PANES] :][:3]
            assert worker.evaluating.process(PANES, first, at_end=False) is None, "not before all is read again"
            worker.positions[PANES] += len(first)
        for partition, key, value in batch:
            log.write(TopicPartition("events", partition), key, value, wall_ms=worker.wall_ms)
        worker.step(at_most=40)
    retired = [a for a in _alerts(log) if a.annotations.get("reason") == "retired"]
    assert [(a.status, a.labels["feature"]) for a in retired] == [("resolved", "monthly_charges")]
    found = _measurements(log)
    windows = [(m.window.length, m.window.start) for m in found]
    assert len(windows) == len(set(windows))
    cut = [m for m in found if m.reason == "reference_changed"]
    assert {m.window.length for m in cut} == set(LENGTHS)
    assert not any(m.complete for m in cut)
    assert len(cut) <= 4
    later = [m for m in found if m.window.end > "2026-11-22T06:00:34.500Z"]
    assert later
    assert all("monthly_charges" not in m.features and m.complete for m in later)
    assert _decided_again(log) == log.values("alerts")


def _decided_again(log, change=Change(), **options):  # noqa: B008 - it is frozen
    """What a backtest of the measurements would have written to the alerts topic."""
    replay = Replay(change, "docs/runbook.md", **options)
    for measurement in _measurements(log):
        replay.take(measurement)
    return [alert.encode() for alert in replay.alerts]


def test_decided_again_under_the_same_policy_it_is_announced_again(uninterrupted, story, disorderly, telco_bundle):
    """Byte for byte: a story in order, one without scores for a while, late and returning customers, and restarts."""
    draw = random.Random(5)
    logs = [
        uninterrupted[0],
        _play(story, telco_bundle, scorer_off=range(20, 80))[0],
        _play(disorderly, telco_bundle, kill=lambda _step: ("evaluating",) if draw.random() < 0.2 else ())[0],
        _play([[], *story[4:6]], telco_bundle, end_idle_s=45.0)[0],
    ]
    for log in logs:
        assert log.values("alerts")
        assert _decided_again(log) == log.values("alerts")


def test_a_backlog_is_decided_again_only_if_that_is_asked(uninterrupted, story, telco_bundle):
    """What was too old to be announced says nothing, or what it would have said on its day."""
    log, _ = _play(story, telco_bundle, ahead_ms=25 * 3_600_000)
    assert log.values("alerts") == []
    assert _decided_again(log) == []
    assert _decided_again(log, backlog=True) == uninterrupted[0].values("alerts")


def test_decided_again_under_other_policies(uninterrupted):
    """With limits that nothing reaches there is no drift; the textbook's rule does not see the unseen category."""
    log, _ = uninterrupted
    high = [decode_alert(v) for v in _decided_again(log, Change(effect_warning=9.0, effect_critical=9.5))]
    assert not {"FeatureDrift", "PredictionDrift"} & {a.labels["alertname"] for a in high}
    classic = [decode_alert(v) for v in _decided_again(log, Change(kind="classic"))]
    assert [(a.status, a.labels["alertname"], a.labels.get("feature")) for a in classic] == [
        ("firing", "DriftPolicyClassic", "monthly_charges"),
        ("firing", "DriftPolicyClassic", None),
        ("resolved", "DriftPolicyClassic", "monthly_charges"),
        ("resolved", "DriftPolicyClassic", None),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_both_stages_killed_before_their_commit_count_the_same(uninterrupted, story, telco_bundle, seed):
    """A step whose commits are all lost, again and again: counts and numbers are equal, only batches may differ."""
    draw = random.Random(seed)
    log, _ = _play(story, telco_bundle, kill=lambda _step: ("commit",) if draw.random() < 0.15 else ())

    def numbers(log):
        return {
            (m.window.length, m.window.start): replace(m, offsets={}, sample=replace(m.sample, refused=0), episodes={})
            for m in _measurements(log)
            if m.window.end <= CLOSED_BY_EVENTS  # silence counts from the restart, so the idle end comes later
        }

    def said(log):
        return [
            (a.fingerprint, a.status, a.starts_at, a.ends_at) for a in _alerts(log) if a.starts_at < CLOSED_BY_EVENTS
        ]

    assert numbers(log) == numbers(uninterrupted[0])
    windows = [(m.window.length, m.window.start) for m in _measurements(log)]
    assert len(windows) == len(set(windows))
    assert said(log) == said(uninterrupted[0])


def test_a_scorer_that_is_away_makes_nothing_late(story, telco_bundle):
    """Away from second 10 to 40: scores come in measurements of their own or with their window; none is late."""
    log, worker = _play(story, telco_bundle, scorer_off=range(20, 80))
    valid = sum(value != b"{" for batch in story for _, _, value in batch)
    for length in LENGTHS:
        ours = [m for m in _measurements(log) if m.window.length == length]
        assert sum(m.score.events for m in ours if m.score) == valid
        assert sum(m.sample.events for m in ours if m.features) == valid
    assert worker.metrics.late._value.get() == 0


def test_garbage_on_the_panes_topic_is_passed_over(story, telco_bundle):
    """Nulls, other people's bytes, a layout from the future: counted, and the windows are what they were."""
    log = _Log()
    worker = _Worker(log, telco_bundle)
    worker.start_counting()
    worker.start_evaluating()
    for value in (None, b"", b"hello", b"\x00" * 50, msgspec.msgpack.encode([2, 99]), msgspec.msgpack.encode({"a": 1})):
        log.write(PANES, None, value)
    for step, batch in enumerate(story[:30]):
        worker.at_s = step * STEP_S
        for partition, key, value in batch:
            log.write(TopicPartition("events", partition), key, value)
        worker.step()
    assert worker.metrics.unreadable.labels("panes")._value.get() == 6
    assert _measurements(log)


def test_poison_predictions_are_counted_by_reason(telco_bundle):
    """Not JSON, another model, a probability of 7, a null, a time that is none: no exception, no count."""
    log = _Log()
    worker = _Worker(log, telco_bundle)
    worker.start_counting()
    worker.start_evaluating()
    manifest = worker.loaded.manifest
    good = {
        "schema_version": 1,
        "prediction_id": "x",
        "event_id": "e",
        "customer_id": "c",
        "event_time": "2026-11-22T06:00:00Z",
        "scored_at": "2026-11-22T06:00:00.000Z",
        "probability": 0.5,
        "label": True,
        "threshold": 0.5,
        "model": {"name": manifest.name, "version": manifest.version},
    }
    for change in (
        {},
        {"probability": 7},
        {"model": {"name": "other", "version": "1.0.0"}},
        {"event_time": "yesterday"},
        {"event_time": "2027-11-22T06:00:00Z"},
        {"customer_id": ""},
    ):
        log.write(SOURCES[2], b"c", msgspec.json.encode({**good, **change}))
    for value in (None, b"", b"{", b"\xff\xfe", b"[" * 200_000):
        log.write(SOURCES[2], None, value, [("driftline-source-offset", b"x"), ("driftline-source-topic", None)])
    for worker.at_s in (0.5, 2.0):
        worker.step()
    refused = {r: worker.metrics.refused.labels(r)._value.get() for r in ("not_a_prediction", "other_model")}
    assert refused == {"not_a_prediction": 8, "other_model": 1}
    assert worker.metrics.counted.labels("predictions")._value.get() == 1
    assert worker.metrics.future.labels("predictions")._value.get() == 1


def test_what_silence_added_survives_a_restart(story, telco_bundle):
    """Windows may have been closed because of it: the next owner must not fall back behind it."""
    _log, worker = _play(story[:20], telco_bundle, end_idle_s=12.0)
    before = worker.evaluating._windows.watermarks()
    assert min(before.values()) > START_MS + 17_000
    worker.start_counting()
    progress = []
    worker.at_s += 3.0
    for source in SOURCES:
        result = worker.counting.process(source, [], at_end=True)
        progress.append(decode(result.outputs["panes"][-1][1]))
    assert {(p.topic, p.partition): p.watermark_ms for p in progress} == before
    assert all(p.event_ms < p.watermark_ms for p in progress)
