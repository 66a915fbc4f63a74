"""Both stages without a broker: records in, records out, restarts anywhere, and always the same windows and alerts."""

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace
from support.two_stages import (
    DATA,
    LENGTHS,
    PANES,
    SOURCES,
    START_MS,
    STEP_S,
    Log,
    Scorer,
    Worker,
    alerts_of,
    evaluated_again,
    measurements_of,
)
from support.two_stages import play as play_story

from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.counts.windows import Side, WindowsState
from drift_worker.counts.wire_format import Checkpoint, Hour, Merged, Packed, Progress, decode, encode
from drift_worker.reference import load
from driftline.policy_backtest import Change, Replay
from driftline.replay.event_source import open_source
from driftline.training.spec import read_spec
from driftline.training.train import train_bundle
from schemas.alert import decode_alert, fingerprint
from schemas.measurement import decode_measurement
from schemas.timestamps import parse, render

STORY_S = 50
CLOSED_BY_EVENTS = "2026-11-22T06:00:48.000Z"


def play(story, bundle, **options):
    """The story, with higher scores while features drift."""
    return play_story(story, bundle, raised=("06:00:14", "06:00:26"), **options)


def _nothing_dies(_step, _worker):
    return ()


def _deaths(seed, share):
    """Evaluation dies after this share of the steps of the story."""
    draw = random.Random(seed)
    return lambda step, _worker: ("evaluating",) if step < STORY_S / STEP_S and draw.random() < share else ()


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


@pytest.fixture(scope="module")
def uninterrupted(story, telco_bundle):
    """Run the story once from beginning to end."""
    return play(story, telco_bundle)


@pytest.fixture(scope="module")
def disorderly_uninterrupted(disorderly, telco_bundle):
    """The same of the disorderly one."""
    return play(disorderly, telco_bundle)


def test_every_window_is_measured_once_and_holds_every_valid_event(uninterrupted, story):
    """Both lengths from the first event to the idle end, without a gap; the events add up."""
    log, _ = uninterrupted
    found = measurements_of(log)
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
    alerts = alerts_of(log)
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
    log, _ = play([[], *story[4:6]], telco_bundle, end_idle_s=45.0)
    alerts = [(a.labels["alertname"], a.status, a.starts_at) for a in alerts_of(log)]
    assert alerts == [("NoData", "firing", "2026-11-22T06:00:20.000Z")]


@pytest.mark.parametrize(("hours", "said"), [(23, True), (25, False)])
def test_a_backlog_of_more_than_a_day_is_measured_and_raises_nothing(uninterrupted, story, telco_bundle, hours, said):
    """A replay of yesterday: the same windows and numbers, nothing late; alerts only for what ended within a day."""
    log, worker = play(story, telco_bundle, ahead_ms=hours * 3_600_000)
    assert [(m.window, m.sample, m.level) for m in measurements_of(log)] == [
        (m.window, m.sample, m.level) for m in measurements_of(uninterrupted[0])
    ]
    assert bool(alerts_of(log)) == said
    assert worker.metrics.late._value.get() == 0
    late = worker.evaluating.shown["found_late"]
    assert (late is None) == said


def test_drift_in_a_backlog_is_counted_by_episode(uninterrupted, story, telco_bundle):
    """Nothing is announced, and nothing is silent: as many episodes as a stream of today would have opened."""
    log, worker = play(story, telco_bundle, ahead_ms=25 * 3_600_000, kill=lambda step: ("evaluating",) * (step == 50))
    assert alerts_of(log) == []
    opened = Counter(a.labels["alertname"] for a in alerts_of(uninterrupted[0]) if a.sequence == 1)
    late = worker.evaluating.shown["found_late"]
    assert late["episodes"] == dict(opened)
    assert late["from"] == min(m.window.start for m in measurements_of(log))
    assert late["to"] >= CLOSED_BY_EVENTS
    found = {name: worker.metrics.found_late.labels(name)._value.get() for name in opened}
    assert found == dict(opened)
    assert late["look"] == "driftline backtest --backlog"
    worker.start_evaluating()
    assert worker.evaluating.found_late == late, "a restart has it before the next window"


@pytest.mark.parametrize("order", ["shuffled", "newest first", "by customer"])
def test_a_dump_in_any_order_opens_no_more_windows_than_the_longest_holds(story, telco_bundle, order):
    """2,000 events over a month: those older than the longest window behind the newest are late, in no window."""
    draw = random.Random(5)
    events = [(p, key, msgspec.json.decode(v)) for batch in story for p, key, v in batch if v != b"{"][:2000]
    times = sorted(draw.randrange(30 * 86_400_000) for _ in events)
    order_of = {"shuffled": lambda _: draw.random(), "newest first": lambda i: -i, "by customer": lambda i: (i % 50, i)}
    log = Log()
    worker = Worker(log, telco_bundle)
    worker.start_counting()
    worker.start_evaluating()
    for number, i in enumerate(sorted(range(len(events)), key=order_of[order])):
        partition, key, event = events[i]
        event["event_time"] = render(START_MS - 30 * 86_400_000 + times[i])
        log.write(TopicPartition("events", partition), key, msgspec.json.encode(event))
        if number % 500 == 499:
            worker.at_s += 6.0
            worker.step(at_most=500)
    worker.at_s += 6.0
    worker.step()
    found = [m for m in measurements_of(log) if m.window.length == "10s"]
    late = worker.metrics.late._value.get()
    assert worker.metrics.counted.labels("events")._value.get() == 2000
    open_events = sum(w.events for w in worker.evaluating._windows._open[Side.FEATURES, "10s"].windows.values())
    assert late + sum(m.sample.events for m in found) + open_events == 2000
    assert late > 1500
    assert max(len(open_.windows) for open_ in worker.evaluating._windows._open.values()) <= 5


def test_windows_of_a_long_backlog_are_written_in_bounded_transactions(story, telco_bundle):
    """Fifty ends in one, and the rest follows without another record."""
    log = Log()
    worker = Worker(log, telco_bundle)
    worker.start_counting()
    worker.start_evaluating()
    for batch in story:
        for partition, key, value in batch:
            event = {} if value == b"{" else msgspec.json.decode(value)
            if event:
                event["event_time"] = render(START_MS + 20 * (parse(event["event_time"]) - START_MS) - 3_600_000)
                log.write(TopicPartition("events", partition), key, msgspec.json.encode(event))
    sizes = []
    commit = log.commit

    def counting(source, result, position, wall_ms):
        if source == PANES:
            ends = {decode_measurement(v).window.end for _, v, _ in result.outputs["measurements"] if v[:1] == b"{"}
            sizes.append(len(ends))
        commit(source, result, position, wall_ms)

    log.commit = counting
    for _ in range(4):  # no predictions: windows wait for the straggler's time
        worker.step()
        worker.at_s += 70.0
    assert len(sizes) > 2
    assert max(sizes) <= 50
    assert sum(sizes) > 100


FORGED = {
    "watermark in 6429": {"watermark_ms": 140_709_000_000_000, "event_ms": 140_709_000_000_000},
    "watermark a day ahead": {"watermark_ms": START_MS + 86_400_000, "event_ms": START_MS + 86_400_000},
    "10,000 partitions": {"partitions": 10_000},
    "partition 9999": {"partition": 9999},
    "10^14 refused": {"refused": {"not_json": 10**14}},
    "more refused than read": {"refused": {"not_json": 99}},
    "more future than read": {"future": 99},
    "records backwards": {"first": 100, "next": 1},
    "accepted beyond next": {"accepted_next": 1 << 47},
    "10^14 late": {"late": 10**14},
    "another topic": {"topic": "elsewhere"},
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_progress_record_is_counted_and_changes_nothing(uninterrupted, telco_bundle, forged):
    """Every number as stage 1 cannot have written it: windows and alerts are what they are without it."""
    true = Progress(1, "events", 0, 0, 10, 10, 10, {}, 0, START_MS, START_MS, False, 2, 10, {})
    raw = msgspec.to_builtins(replace(true, **FORGED[forged]))

    class Infected(Log):
        def write(self, source, key, value, headers=(), wall_ms=0):
            super().write(source, key, value, headers, wall_ms)
            if source == PANES and len(self.records[PANES]) == 200:
                super().write(source, None, msgspec.msgpack.encode(raw))

    log, worker = evaluated_again(uninterrupted[0], telco_bundle, _nothing_dies, log=Infected())
    assert worker.metrics.unreadable.labels("panes")._value.get() == 1
    assert [m.encode() for m in measurements_of(log)] == [m.encode() for m in measurements_of(uninterrupted[0])]
    assert log.values("alerts") == uninterrupted[0].values("alerts")


def _forged_counts(worker):
    identity = worker.loaded.identity
    merged = Merged(1, identity.reference, identity.key_id, START_MS, 0, Packed(b"\x00" * 4, 0, b"\x01"))
    now = Checkpoint(1, identity.reference, 0, b"", b"")
    true = worker.evaluating._checkpoint()
    moved = msgspec.msgpack.decode(true.windows, type=WindowsState)
    moved.closed["features"]["4s"] += 1500
    return {
        "a window off the grid": replace(true, windows=msgspec.msgpack.encode(moved)),
        "torn counts": replace(merged, packed=Packed(b"\x00", 9, b"")),
        "a count of 2^62": replace(merged, packed=Packed(b"\x00" * 4, 3, (1 << 62).to_bytes(8, "little"))),
        "a unit of the future": replace(merged, start_ms=START_MS + 86_400_000),
        "a series that is not there": replace(merged, series=99),
        "a checkpoint without windows": now,
        "a checkpoint without decisions": replace(now, windows=worker.evaluating._windows.state()),
    }


@pytest.mark.parametrize(
    "forged",
    [
        "torn counts",
        "a count of 2^62",
        "a unit of the future",
        "a series that is not there",
        "a checkpoint without windows",
        "a checkpoint without decisions",
        "a window off the grid",
    ],
)
def test_a_forged_record_of_counts_does_not_keep_the_evaluator_from_starting(uninterrupted, telco_bundle, forged):
    """It is counted, the checkpoint before it is used, and every window is what it is without the record."""
    log = Log()

    def forge(step, worker):
        if step == 41:
            record = _forged_counts(worker)[forged]
            log.write(
                TopicPartition("measurements", 0), b"churn-telco/4s/counts", encode(record), wall_ms=worker.wall_ms
            )
            worker.start_evaluating()
            assert worker.metrics.unreadable.labels("measurements")._value.get() == 1
        return ()

    evaluated_again(uninterrupted[0], telco_bundle, forge, log=log)
    found = [m.encode() for m in measurements_of(log)]
    assert found == [m.encode() for m in measurements_of(uninterrupted[0])]
    assert len(found) > 10  # far beyond the restart


def _memory(**changes):
    """What a checkpoint holds of decisions, as a stranger would write it."""
    episode = {
        "alertname": "FeatureDrift",
        "feature": "tenure",
        "severity": "warning",
        "starts_ms": START_MS,
        "sequence": 1,
        "members": [],
        "active": [],
        "evidence": {},
    }
    mark = fingerprint({"alertname": "FeatureDrift", "model": "churn-telco", "feature": "tenure"})
    tracker = {"state": "firing", "grade": 1, "since_ms": START_MS, "recent": {"4s": [0, 1]}}
    decisions = {
        "trackers": {"FeatureDrift/tenure": {**tracker, **changes.get("tracker", {})}},
        "episodes": {changes.get("mark", mark): {**episode, **changes.get("episode", {})}},
        "broken": {"tenure": changes.get("broken", [START_MS - 1000, START_MS])},
    }
    late = {"windows": 3, "opened": {"NoData": 1}, "from_ms": START_MS - 2000, "to_ms": START_MS, "decisions": {}}
    sketches = {"4s": [[], changes.get("events", 240)]}
    return {"decisions": decisions, "sketches": sketches, "passed_over": {**late, **changes.get("late", {})}}


@pytest.mark.parametrize(
    ("changes", "true"),
    [
        ({}, True),
        ({"late": {"from_ms": -2_208_988_800_000}, "tracker": {"since_ms": -2_208_988_800_000}}, True),  # 1900
        ({"late": {"windows": (1 << 64) - 1}}, False),
        ({"late": {"opened": {"NoData": (1 << 64) - 1}}}, False),
        ({"late": {"opened": {"Nothing": 1}}}, False),
        ({"late": {"from_ms": (1 << 63)}}, False),
        ({"late": {"from_ms": -(1 << 63)}}, False),
        ({"late": {"to_ms": START_MS + 86_400_000}}, False),
        ({"late": {"to_ms": START_MS - 3000}}, False),
        ({"tracker": {"since_ms": START_MS + 86_400_000}}, False),
        ({"tracker": {"ended_ms": START_MS + 86_400_000}}, False),  # it would mute the subject until then
        ({"tracker": {"recent": {"4s": [9, 9]}}}, False),
        ({"tracker": {"counted": (1 << 64) - 1}}, False),
        ({"tracker": {"unproven": -1}}, False),
        ({"tracker": {"standing": {"windows": {"4s": -(1 << 62)}}}}, False),
        ({"tracker": {"grade": 7}}, False),
        ({"episode": {"sequence": (1 << 64) - 1}}, False),
        ({"episode": {"starts_ms": 1 << 62}}, False),
        ({"episode": {"active": ["tenure"]}}, False),
        ({"mark": "0123456789abcdef"}, False),
        ({"broken": [0, 1 << 62]}, False),
        ({"events": 0}, False),
        ({"events": (1 << 64) - 1}, False),
    ],
)
def test_decisions_that_no_evaluator_can_have_made_are_an_error(telco_bundle, changes, true):
    """Every number as the writer would write it, times before 1970 included; a forged one would end each start."""
    worker = Worker(Log(), telco_bundle)
    worker.start_evaluating()
    raw = msgspec.msgpack.encode(_memory(**changes))
    if true:
        assert worker.evaluating._decode_decisions(raw).passed_over.windows == 3
        return
    with pytest.raises(ValueError, match=r"."):
        worker.evaluating._decode_decisions(raw)


def test_a_checkpoint_beyond_the_log_does_not_hold_evaluation_up(story, telco_bundle):
    """The topic was made again, or the checkpoint is forged: at the end of the log, evaluation goes on from there."""
    log = Log()
    worker = Worker(log, telco_bundle)
    worker.start_evaluating()
    state, identity = worker.evaluating._windows.state(), worker.loaded.identity
    forged = Checkpoint(1, identity.reference, 1 << 40, state, worker.evaluating._checkpoint().decisions)
    log.write(TopicPartition("measurements", 0), b"churn-telco/4s/counts", encode(forged))
    worker.start_counting()
    worker.start_evaluating()
    for step, batch in enumerate(story[:40]):
        worker.at_s = step * STEP_S
        for partition, key, value in batch:
            log.write(TopicPartition("events", partition), key, value)
        worker.step()
    assert len(measurements_of(log)) > 3
    assert log.offsets[PANES][0] <= len(log.records[PANES])


def test_a_topic_that_grows_is_looked_up_again(story, telco_bundle):
    """Counts of a partition that the evaluator does not know yet are not lost."""
    partitions = {"events": 1, "predictions": 2}
    log = Log()
    worker = Worker(log, telco_bundle)
    worker.start_counting()
    worker.start_evaluating()
    worker.evaluating._partitions_of = lambda topic: partitions[topic]
    for step, batch in enumerate(story[:40]):
        worker.at_s = step * STEP_S
        partitions["events"] = 1 if step < 1 else 2
        for partition, key, value in batch:
            log.write(TopicPartition("events", partition if step else 0), key, value)
        worker.step()
    assert worker.metrics.unreadable.labels("panes")._value.get() <= 1  # of the partition before it was there
    assert measurements_of(log)


def test_an_evaluator_that_is_killed_anywhere_says_the_same(uninterrupted, telco_bundle, long):
    """Killed at random steps: every measurement and every alert is equal, byte for byte."""
    for seed in range(10 if long else 1):
        log, _ = evaluated_again(uninterrupted[0], telco_bundle, _deaths(seed, 0.15))
        assert [m.encode() for m in measurements_of(log)] == [m.encode() for m in measurements_of(uninterrupted[0])]
        assert log.values("alerts") == uninterrupted[0].values("alerts")


def test_a_new_evaluator_exports_the_states_before_its_first_window(story, telco_bundle):
    """In the middle of the drift: a restart with a silent window would resolve alerts, and page once more."""
    _, worker = play(story[:44], telco_bundle, end_idle_s=0.0)

    def states():
        (family,) = worker.metrics.state.collect()
        return {(s.labels["alertname"], s.labels["feature"]): s.value for s in family.samples}

    before = states()
    assert set(before.values()) >= {0.0, 3.0}
    worker.evaluating.on_revoked(PANES)
    assert states() == {}
    worker.start_evaluating()
    assert states() == before


def test_a_new_evaluator_shows_what_was_before_it(story, telco_bundle):
    """In the middle of the drift: the earlier windows and the open episodes; a standby shows nothing."""
    _, worker = play(story[:44], telco_bundle, end_idle_s=0.0)
    before = worker.evaluating.story
    shown = {(t.alertname, t.feature, t.starts_ms) for t in before.told if t.open}
    assert shown
    assert len(before.past) >= 6
    worker.evaluating.on_revoked(PANES)
    assert worker.evaluating.story.past == ()
    worker.start_evaluating()
    after = worker.evaluating.story
    assert {(t.alertname, t.feature, t.starts_ms) for t in after.told if t.open} == shown
    assert {t.summary for t in after.told} == {"open since before this process began to evaluate"}
    assert after.past == before.past[-len(after.past) :]
    assert {length: m.encode() for length, m in after.newest.items()} == {
        length: m.encode() for length, m in before.newest.items()
    }


def test_late_events_and_returning_customers_survive_the_evaluators_death(disorderly_uninterrupted, telco_bundle, long):
    """Late for one length and in time for the other, windows that share customers: still equal, byte for byte."""
    whole, worker = disorderly_uninterrupted
    assert worker.metrics.late._value.get() > 100
    late = {
        length: sum(m.sample.late for m in measurements_of(whole) if m.window.length == length) for length in LENGTHS
    }
    assert late["4s"] > late["10s"]
    for seed in range(10 if long else 1):
        log, _ = evaluated_again(whole, telco_bundle, _deaths(seed, 0.2))
        assert [m.encode() for m in measurements_of(log)] == [m.encode() for m in measurements_of(whole)]
        assert log.values("alerts") == whole.values("alerts")


SPANS = Policy(
    {"1s": 1000, "10s": 10_000, "24h": 86_400_000},
    {"1s": Confirm(2, 3), "10s": Confirm(2, 3), "24h": Confirm(1, 1)},
)


@pytest.mark.parametrize(("min_events", "reaches"), [(200, "a calm past"), (450, "late events")])
def test_spans_of_windows_survive_the_evaluators_death(
    disorderly_uninterrupted, telco_bundle, long, min_events, reaches
):
    """Windows with too few events; short spans have a calm past, long ones what came late: equal, byte for byte."""
    counted, _ = disorderly_uninterrupted
    whole, _ = evaluated_again(counted, telco_bundle, _nothing_dies, policy=SPANS, min_events=min_events)
    found = [m for m in measurements_of(whole) if m.window.length == "1s"]
    spans = [m for m in found if m.span is not None]
    assert len(spans) > 40
    assert all(m.span.events >= m.sample.events and m.span.windows >= 2 for m in spans)
    assert all(m.features["tenure"].events == m.span.events for m in spans)
    assert all(m.span is None for m in measurements_of(whole) if m.window.length != "1s")
    told = [a for a in alerts_of(whole) if a.evidence["span"] is not None]
    assert "judged from" in told[0].annotations["description"]
    assert told[0].evidence["span"]["windows"] >= 2
    in_time = sum(
        one.sample.events for m in spans for one in found if m.span.start <= one.window.start <= m.window.start
    )
    late = sum(m.span.events for m in spans) - in_time
    assert (late > 0) == (reaches == "late events")
    assert any(one.past for m in spans for one in m.features.values()) == (reaches == "a calm past")
    for seed in range(10 if long else 1):
        log, _ = evaluated_again(counted, telco_bundle, _deaths(seed, 0.2), policy=SPANS, min_events=min_events)
        assert [m.encode() for m in measurements_of(log)] == [m.encode() for m in measurements_of(whole)]
        assert log.values("alerts") == whole.values("alerts")
    assert _decided_again(whole) == whole.values("alerts"), "a backtest needs no counts"


def _without(feature, folder):
    """A bundle of the same customers without one feature: another reference."""
    text = Path("examples/telco.toml").read_text()
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
        log = Log()
        worker = Worker(log, telco_bundle)
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
    (alert,) = alerts_of(log)
    assert (alert.labels["alertname"], alert.labels["severity"]) == ("ReferenceMismatch", "warning")
    worker.loaded = load(_without("tenure", tmp_path), None)
    worker.start_counting()
    worker.start_evaluating()
    worker.step()
    _, ended = alerts_of(log)
    assert (ended.fingerprint, ended.status, ended.sequence) == (alert.fingerprint, "resolved", 2)
    assert ended.annotations["reason"] == "reference_changed"


def test_a_backlog_shows_that_the_reference_fits(story, telco_bundle):
    """The windows before the drift are older than a day: they raise nothing, but what moves after them has moved."""
    log = Log()
    worker = Worker(log, telco_bundle, ahead_ms=30 * 3_600_000)
    worker.start_counting()
    worker.start_evaluating()
    for step, batch in enumerate(story[:54]):
        worker.at_s = step * STEP_S
        if step == 38:
            worker.ahead_ms = 0
        for partition, key, value in batch:
            log.write(TopicPartition("events", partition), key, value, wall_ms=worker.wall_ms)
        worker.step()
    assert "FeatureDrift" in {a.labels["alertname"] for a in alerts_of(log)}
    assert "ReferenceMismatch" not in {a.labels["alertname"] for a in alerts_of(log)}


def test_a_new_model_without_the_feature_retires_its_alert(story, telco_bundle, tmp_path):
    """In the middle of the drift another bundle is used: its windows are marked as cut, none comes twice."""
    _without("monthly_charges", tmp_path)
    log = Log()
    worker = Worker(log, telco_bundle)
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
    retired = [a for a in alerts_of(log) if a.annotations.get("reason") == "retired"]
    assert [(a.status, a.labels["feature"]) for a in retired] == [("resolved", "monthly_charges")]
    found = measurements_of(log)
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
    for measurement in measurements_of(log):
        replay.take(measurement)
    return [alert.encode() for alert in replay.alerts]


WEEK_S, HOUR_S = 604_800, 3600
WEEKLY = {"30m": 1_800_000, "1h": 3_600_000, "24h": 86_400_000}
CONFIRM = {"30m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)}


WEEKS = Policy(WEEKLY, CONFIRM, baseline="week")


@pytest.fixture(scope="module")
def weeks(telco_bundle):
    """The same four hours of four weeks, and half an hour of silence; charges rise in two hours of the third week."""
    began = 2 * WEEK_S + 2 * HOUR_S
    drift = f"monthly_charges:shift=+30@{began}s..{began + 2 * HOUR_S}s"
    source = open_source(DATA, telco_bundle, run="test", drifts=[drift])
    log = Log()
    worker = Worker(log, telco_bundle)
    worker.policy = WEEKS
    worker.start_counting()
    worker.start_evaluating()
    scorer = Scorer(log, worker)
    for step in range(4 * 27):
        week, at = divmod(step, 27)
        worker.at_s = week * WEEK_S + at * 600
        for partition in (0, 1) if at < 24 else ():
            for key, value in source.take(60, worker.at_s, worker.wall_ms):
                log.write(TopicPartition("events", partition), key, value, wall_ms=worker.wall_ms)
        scorer.answer()
        worker.step()
    return log, worker


def _with_events(log):
    return [m for m in measurements_of(log) if m.sample.events]


def _hours(log):
    found = [decode(v) for v in log.values("measurements") if v[:1] != b"{"]
    return [hour for hour in found if isinstance(hour, Hour)]


def test_past_weeks_are_compared_with_and_an_hour_of_drift_is_no_past(weeks):
    """The first week has none, and only windows under a day use it; a move is announced, and left out later."""
    log, worker = weeks
    found = _with_events(log)
    against = {}
    for m in found:
        week = (parse(m.window.start) - START_MS) // (WEEK_S * 1000)
        against.setdefault((m.window.length, week), []).append(m.features["monthly_charges"].against)
    assert {m.features["tenure"].against for m in found if m.window.length == "24h"} == {"training"}
    assert against["1h", 0] == ["training"] * 4
    assert against["1h", 1] == ["training", "week", "week", "week"], "the first hour began before anybody counted"
    assert [set(against["30m", week]) for week in (2, 3)] == [{"week"}] * 2
    assert all(m.score.against == m.features["tenure"].against for m in found)
    drifts = [a for a in alerts_of(log) if a.labels["alertname"] != "NoData"]
    assert {(a.labels["alertname"], a.labels.get("feature")) for a in drifts} == {
        ("FeatureDrift", "monthly_charges"),
        ("PredictionDrift", None),  # the model reads it
    }
    assert drifts[0].starts_at == render(START_MS + (2 * WEEK_S + 2 * HOUR_S + 1800) * 1000)
    assert drifts[-1].status == "resolved"
    charges = [feature.name for feature in worker.loaded.manifest.features].index("monthly_charges")
    kept = {(hour.series, hour.start_ms) for hour in _hours(log)}
    third = START_MS + (2 * WEEK_S + 2 * HOUR_S) * 1000
    assert (charges, third) not in kept
    assert (charges, third - HOUR_S * 1000) in kept
    assert (0, third) in kept


def test_an_evaluator_that_looks_at_past_weeks_and_is_killed_anywhere_says_the_same(weeks, telco_bundle, long):
    """Between two steps, or within one before its commit: measurements, alerts and hours are equal, to the byte.

    But for windows without events: of a run of them only the last is measured, which depends on when one looks.
    """
    draw = random.Random(0)

    def kill(step, _worker):
        how = draw.choice((("death",), ("commit",))) if draw.random() < 0.3 else ()
        # what is looked at a week later is too old to be announced
        return ("death",) if how and step % 27 == 26 else how

    for _ in range(10 if long else 1):
        log, _ = evaluated_again(weeks[0], telco_bundle, kill, policy=WEEKS)
        assert [m.encode() for m in _with_events(log)] == [m.encode() for m in _with_events(weeks[0])]
        assert log.values("alerts") == weeks[0].values("alerts")
        assert _hours(log) == _hours(weeks[0])


def test_what_was_compared_with_past_weeks_is_decided_again_alike(weeks):
    """A backtest needs no hours: the measurements hold what they were compared with."""
    assert _decided_again(weeks[0]) == weeks[0].values("alerts")


def test_decided_again_under_the_same_policy_it_is_announced_again(
    uninterrupted, story, disorderly_uninterrupted, telco_bundle
):
    """Byte for byte: a story in order, one without scores for a while, late and returning customers, and restarts."""
    logs = [
        uninterrupted[0],
        play(story, telco_bundle, scorer_off=range(20, 80))[0],
        evaluated_again(disorderly_uninterrupted[0], telco_bundle, _deaths(5, 0.2))[0],
        play([[], *story[4:6]], telco_bundle, end_idle_s=45.0)[0],
    ]
    for log in logs:
        assert log.values("alerts")
        assert _decided_again(log) == log.values("alerts")


def test_a_backlog_is_decided_again_only_if_that_is_asked(uninterrupted, story, telco_bundle):
    """Windows that were too old to be announced stay silent, or give the alerts of their day."""
    log, _ = play(story, telco_bundle, ahead_ms=25 * 3_600_000)
    assert log.values("alerts") == []
    assert _decided_again(log) == []
    assert _decided_again(log, backlog=True) == uninterrupted[0].values("alerts")


def test_decided_again_under_other_policies(uninterrupted):
    """Limits that nothing reaches leave values out of range; the textbook's rule does not see the unseen category."""
    log, _ = uninterrupted
    high = [decode_alert(v) for v in _decided_again(log, Change(effect_warning=9.0, effect_critical=9.5))]
    drifts = [a for a in high if a.labels["alertname"] in {"FeatureDrift", "PredictionDrift"}]
    # values out of range have a limit of their own, which no setting moves
    assert drifts
    assert all(
        "outside the reference's range (limit 1%)" in a.annotations["summary"] for a in drifts if a.ends_at is None
    )
    classic = [decode_alert(v) for v in _decided_again(log, Change(kind="classic"))]
    assert [(a.status, a.labels["alertname"], a.labels.get("feature")) for a in classic] == [
        ("firing", "DriftPolicyClassic", "monthly_charges"),
        ("firing", "DriftPolicyClassic", None),
        ("resolved", "DriftPolicyClassic", "monthly_charges"),
        ("resolved", "DriftPolicyClassic", None),
    ]


def test_both_stages_killed_before_their_commit_count_the_same(uninterrupted, story, telco_bundle, long):
    """A step whose commits are all lost, again and again: counts and numbers are equal, only batches may differ."""
    draw = random.Random(0)

    def numbers(log):
        return {
            (m.window.length, m.window.start): replace(m, offsets={}, sample=replace(m.sample, refused=0), episodes={})
            for m in measurements_of(log)
            if m.window.end <= CLOSED_BY_EVENTS  # silence counts from the restart, so the idle end comes later
        }

    def said(log):
        return [
            (a.fingerprint, a.status, a.starts_at, a.ends_at) for a in alerts_of(log) if a.starts_at < CLOSED_BY_EVENTS
        ]

    for _ in range(10 if long else 1):
        log, _ = play(story, telco_bundle, kill=lambda _step: ("commit",) if draw.random() < 0.15 else ())
        assert numbers(log) == numbers(uninterrupted[0])
        windows = [(m.window.length, m.window.start) for m in measurements_of(log)]
        assert len(windows) == len(set(windows))
        assert said(log) == said(uninterrupted[0])


def test_a_scorer_that_is_away_makes_nothing_late(story, telco_bundle):
    """Away from second 10 to 40: scores come in measurements of their own or with their window; none is late."""
    log, worker = play(story, telco_bundle, scorer_off=range(20, 80))
    valid = sum(value != b"{" for batch in story for _, _, value in batch)
    for length in LENGTHS:
        ours = [m for m in measurements_of(log) if m.window.length == length]
        assert sum(m.score.events for m in ours if m.score) == valid
        assert sum(m.sample.events for m in ours if m.features) == valid
    assert worker.metrics.late._value.get() == 0


def test_garbage_on_the_panes_topic_is_passed_over(story, telco_bundle):
    """Nulls, other people's bytes, a layout from the future: counted, and the windows are what they were."""
    log = Log()
    worker = Worker(log, telco_bundle)
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
    assert measurements_of(log)


def test_poison_predictions_are_counted_by_reason(telco_bundle):
    """Not JSON, another model, a probability of 7, a null, a time that is none: no exception, no count."""
    log = Log()
    worker = Worker(log, telco_bundle)
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
    _log, worker = play(story[:20], telco_bundle, end_idle_s=12.0)
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
