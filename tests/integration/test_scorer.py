"""The scorer as a process on a real Kafka, counted by an independent read_committed reader."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from fractions import Fraction

import joblib
import numpy as np
import pandas as pd
import pytest
from support.oracle import assert_exactly_once, committed, send
from support.stage import Stage


def test_every_customer_is_predicted_once_with_the_estimators_own_probability(stage: Stage) -> None:
    """7,043 real customers: one prediction each, equal to predict_proba on the plain DataFrame, key and ids kept."""
    sent = stage.send_customers(7043)
    with stage.scorer() as scorer:
        scorer.wait_ready()
        stage.reader.wait_for(7043)
        assert scorer.metric("driftline_scorer_consumed_records_total") == 7043
        assert scorer.metric("driftline_scorer_records_total", outcome="predicted") == 7043
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
    estimator = joblib.load(stage.bundle / "model.joblib")
    manifest = json.loads((stage.bundle / "manifest.json").read_text())
    events, predictions = [], []
    for answer in stage.reader.answers:
        key, value, _ = sent.records[answer.source]
        event, prediction = json.loads(value), json.loads(answer.value)
        assert answer.partition == answer.source[0]
        assert answer.key == key == event["customer_id"].encode()
        assert prediction["event_id"] == event["event_id"]
        assert prediction["event_time"] == event["event_time"]
        assert prediction["prediction_id"] == f"{stage.names.events}-{answer.source[0]}-{answer.source[1]}"
        assert prediction["label"] == (prediction["probability"] >= 0.5)
        events.append(event["features"])
        predictions.append(prediction["probability"])
    frame = pd.DataFrame(events)[[f["name"] for f in manifest["features"]]]
    for feature in manifest["features"]:
        kind = "float64" if feature["kind"] == "numeric" else object
        frame[feature["name"]] = frame[feature["name"]].astype(kind)
    expected = estimator.predict_proba(frame)[:, 1]
    # the batches differ in size, and so the order of summation: equal up to the last bits
    assert np.max(np.abs(expected - np.array(predictions))) <= 1e-12


@pytest.mark.row(11)
def test_poison_costs_its_neighbours_nothing_and_keeps_its_bytes(stage: Stage) -> None:
    """Each kind of bad record becomes one dead letter with its reason, its bytes and its headers; others are scored."""
    good = stage.source().take(200, 0.0, time.time_ns() // 1_000_000)
    event = json.loads(good[0][1])

    def with_features(**changes: object) -> bytes:
        return json.dumps({**event, "features": {**event["features"], **changes}}).encode()

    poison = [
        ("empty", b""),
        ("empty", None),
        ("too_large", b"x" * 70_000),
        ("not_json", b'{"event_id": "a", '),
        ("not_json", b"\xef\xbb\xbf{}"),
        ("not_json", b"\x00\x00\x00\x00\x01binary"),
        ("not_json", json.dumps({**event, "x": float("nan")}).encode()),
        ("not_json", json.dumps({**event, "event_id": "\ud800"}).encode()),
        ("not_json", b"[" * 3000),
        ("envelope", b"[]"),
        ("envelope", json.dumps({**event, "event_time": "yesterday"}).encode()),
        ("envelope", json.dumps({**event, "schema_version": 2}).encode()),
        ("envelope", json.dumps({**event, "customer_id": ""}).encode()),
        ("event_time_in_future", json.dumps({**event, "event_time": "2999-01-01T00:00:00Z"}).encode()),
        ("missing_feature", with_features(tenure=None)),
        ("wrong_type", with_features(tenure="12")),
        ("wrong_type", with_features(tenure=True)),
        ("out_of_range", with_features(tenure=-1)),
        ("out_of_range", with_features(tenure=2**53)),
        ("not_finite", with_features(tenure=1).replace(b'"tenure": 1', b'"tenure": 1e400')),
    ]
    records = []
    for i, (key, value) in enumerate(good):
        records.append((key, value))
        if i < len(poison):
            headers = [("trace", b"\xff\x00"), ("driftline-source-offset", b"7"), ("trace", b"2")]
            records.append((None if i % 2 else b"key", poison[i][1], headers))
    sent = send(stage.bootstrap, stage.names.events, records)
    with stage.scorer() as scorer:
        stage.reader.wait_for(len(records))
        assert scorer.metric("driftline_scorer_spoofed_headers_total") == len(poison)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)
    letters = [a for a in stage.reader.answers if a.topic == stage.names.dead_letters]
    assert len(stage.reader.answers) - len(letters) == 200
    assert Counter(a.reason for a in letters) == Counter(reason for reason, _ in poison)
    for letter in letters:
        key, value, headers = sent.records[letter.source]
        assert (letter.key, letter.value) == (key, value or (None if value is None else b""))
        assert letter.headers[:2] == [("trace", b"\xff\x00"), ("trace", b"2")]
        assert all(not content.startswith(b"{") for name, content in letter.headers if name == "driftline-detail")


@pytest.mark.row(1)
def test_sigkill_inside_a_transaction_loses_and_doubles_nothing(stage: Stage) -> None:
    """A scorer is killed while its records are written and not committed; they never become visible twice."""
    sent = stage.send_customers(12_000, bad=Fraction(1, 100))
    with stage.scorer(SCORER_MAX_BATCH_RECORDS="100") as scorer:
        stage.freeze_inside_a_transaction(scorer)
        scorer.kill()
    with stage.scorer() as scorer:
        stage.reader.wait_for(len(sent.records))
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(3)
def test_a_frozen_scorer_that_wakes_up_inside_its_transaction_is_fenced(stage: Stage) -> None:
    """SIGSTOP past the session time-out, a successor takes over, SIGCONT: the zombie commits nothing and rejoins."""
    sent = stage.send_customers(12_000)
    with stage.scorer(SCORER_MAX_BATCH_RECORDS="100") as zombie:
        stage.freeze_inside_a_transaction(zombie)
        with stage.scorer(SCORER_MAX_BATCH_RECORDS="100") as successor:
            successor.wait_ready()
            stage.reader.wait_for(len(sent.records))
            before = committed(stage.bootstrap, stage.names.group, stage.names.events)
            zombie.resume()
            more = stage.send_customers(2000, seed=7)
            stage.reader.wait_for(len(sent.records) + 2000)
            zombie.wait_ready()
            after = committed(stage.bootstrap, stage.names.group, stage.names.events)
            assert all(after[p] >= offset for p, offset in before.items()), "a committed offset went back"
            assert successor.stop() == 0
        assert zombie.stop() == 0
    sent.records.update(more.records)
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(3)
def test_a_scorer_frozen_between_transactions_answers_nothing_twice(stage: Stage) -> None:
    """The design that fails here is one producer per process: the waking process commits its old batch as new."""
    sent = stage.send_customers(10_000)
    with stage.scorer(SCORER_MAX_BATCH_RECORDS="50") as zombie:
        stage.reader.wait_for(500)
        zombie.suspend()
        with stage.scorer() as successor:
            successor.wait_ready()
            stage.reader.wait_for(len(sent.records))
            zombie.resume()
            zombie.wait_ready()
            assert successor.stop() == 0
        assert zombie.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(23)
def test_sigterm_finishes_the_batch_in_hand_and_leaves_the_rest(stage: Stage) -> None:
    """Under backlog, SIGTERM: exit 0, and so within the deadline; a second scorer goes on where the first ended."""
    sent = stage.send_customers(12_000)
    # at 30 ms a transaction, four partitions need 6 s and more for the backlog: it does not end before the signal
    with stage.scorer(SCORER_MAX_BATCH_RECORDS="15") as scorer:
        stage.reader.wait_for(600)
        assert scorer.stop() == 0
        assert not [line for line in scorer.log_lines() if "batch_abandoned" in line]
    assert len(stage.reader.answers) < 12_000
    with stage.scorer() as scorer:
        stage.reader.wait_for(12_000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


@pytest.mark.row(23)
def test_a_second_signal_ends_the_process_at_once(stage: Stage) -> None:
    """SIGTERM, then SIGINT before it has drained: 128 + the second signal's number."""
    stage.send_customers(2000)
    with stage.scorer() as scorer:
        scorer.wait_ready()
        scorer.suspend()  # both signals are then pending before it runs again
        scorer.process.send_signal(signal.SIGTERM)
        scorer.process.send_signal(signal.SIGINT)
        scorer.resume()
        assert scorer.process.wait(60) in {130, 143}
