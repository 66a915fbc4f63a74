"""A model that takes longer for a batch than the group waits for a member (row 18)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import bundles
import pytest
from events import GOOD
from oracle import Sent, assert_exactly_once, committed, send
from slow_model import SlowClassifier
from stage import Stage
from waiting import wait_until

from driftline.broker import LocalBroker

SECONDS_PER_RECORD = 0.04
# Were it not for these two, a member that has not polled for 5 minutes would be left out.
IMPATIENT = {"streaming.clients.MAX_POLL_INTERVAL_MS": 2500, "streaming.inbox.ROOM_S": 0.5}


@pytest.fixture
def slow(broker: LocalBroker, topic_prefix: str, tmp_path: Path) -> Stage:
    """A stage whose model needs 40 ms for every record."""
    bundle = tmp_path / "slow"
    bundles.write(bundle, SlowClassifier(SECONDS_PER_RECORD))
    stage = Stage(broker, topic_prefix, bundle, tmp_path)
    yield stage
    stage.reader.close()


def test_a_model_slower_than_the_groups_patience(slow: Stage) -> None:
    """Nobody is thrown out of the group, batches become small, the lag is true all the time, and SIGTERM drains.

    200 records of a batch take 8 s here, and four partitions wait for the same model.
    """
    events = [json.dumps({**GOOD, "event_id": f"e{i}"}).encode() for i in range(2000)]
    sent = send(slow.bootstrap, slow.names.events, [(b"k", event, [], i % 4) for i, event in enumerate(events)])
    support = str(Path(__file__).parents[1] / "support")
    with slow.scorer(
        IMPATIENT,
        SCORER_MAX_BATCH_RECORDS="200",
        KAFKA_SESSION_TIMEOUT="1500ms",
        KAFKA_TRANSACTION_TIMEOUT="5s",
        PYTHONPATH=support,
    ) as scorer:
        wait_until(lambda: scorer.reasons() == [], "ready")
        wait_until(lambda: scorer.metric("driftline_scorer_lag_records") == 2000, "lag; what is in hand counts", 3.0)
        started = time.monotonic()
        while time.monotonic() < started + 10.0:
            lag = scorer.metric("driftline_scorer_lag_records")
            unanswered = 2000 - sum(committed(slow.bootstrap, slow.names.group, slow.names.events).values())
            assert lag >= unanswered
            assert scorer.reasons() == []
            time.sleep(0.5)
        slow.reader.wait_for(200, 1.0)
        assert scorer.metric("driftline_scorer_rebalances_total") == 1
        started = time.monotonic()
        assert scorer.stop() == 0
        assert time.monotonic() - started < 10.0
    offsets = committed(slow.bootstrap, slow.names.group, slow.names.events)
    answered = {source: record for source, record in sent.records.items() if source[1] < offsets[source[0]]}
    slow.reader.wait_for(len(answered))
    assert_exactly_once(Sent(answered), slow.reader.answers)
    assert len(answered) < 2000
