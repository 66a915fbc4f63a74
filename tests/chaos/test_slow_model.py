"""A model that takes longer for a batch than the group waits for a member (row 18)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import bundles
from support.events import GOOD
from support.oracle import Sent, assert_exactly_once, committed, members, send
from support.slow_model import SlowClassifier
from support.stage import Stage
from support.waiting import wait_until

from driftline.local_kafka.broker import LocalBroker

SECONDS_PER_RECORD = 0.08
# Were it not for these two, a member that has not polled for 5 minutes would be left out.
IMPATIENT = {"kafka_runtime.clients.MAX_POLL_INTERVAL_MS": 3000, "kafka_runtime.prefetch.ROOM_S": 0.5}


@pytest.fixture
def slow(broker: LocalBroker, topic_prefix: str, tmp_path: Path) -> Stage:
    """A stage whose model needs 80 ms for every record."""
    bundle = tmp_path / "slow"
    bundles.write(bundle, SlowClassifier(SECONDS_PER_RECORD))
    stage = Stage(broker, topic_prefix, bundle, tmp_path)
    yield stage
    stage.reader.close()


@pytest.mark.row(18)
def test_a_model_slower_than_the_groups_patience(slow: Stage) -> None:
    """No member is removed from the group, batches become small, the lag stays correct, and SIGTERM drains.

    The first batch, of 50 records, takes 4 s, one of 200 would take 16 s, and four partitions wait for the same model.
    """
    events = [json.dumps({**GOOD, "event_id": f"e{i}"}).encode() for i in range(2000)]
    sent = send(slow.bootstrap, slow.names.events, [(b"k", event, [], i % 4) for i, event in enumerate(events)])
    support = str(Path(__file__).parents[1])
    packages = os.pathsep.join([support, *filter(None, [os.environ.get("PYTHONPATH")])])
    with slow.scorer(
        IMPATIENT,
        SCORER_MAX_BATCH_RECORDS="200",
        KAFKA_SESSION_TIMEOUT="3s",
        KAFKA_TRANSACTION_TIMEOUT="5s",
        PYTHONPATH=packages,
    ) as scorer:

        def lag_is_true() -> bool:
            lag = scorer.metric("driftline_scorer_lag_records")
            return lag >= 2000 - sum(committed(slow.bootstrap, slow.names.group, slow.names.events).values())

        def all_have_answered() -> bool:
            assert lag_is_true()
            assert scorer.reasons() == []
            return len(slow.reader.answers) >= 200

        wait_until(lambda: scorer.reasons() == [], "ready")
        wait_until(lag_is_true, "every partition has said its lag, and what is in hand counts")
        wait_until(all_have_answered, "four first batches")
        wait_until(lambda: scorer.metric("driftline_scorer_lag_records") <= 1800, "the lag becomes less")
        assert scorer.metric("driftline_scorer_rebalances_total") == 1
        assert members(slow.bootstrap, slow.names.group) == 1, "it has left its group"
        assert scorer.stop() == 0, "not drained within SCORER_DRAIN_TIMEOUT, 20 s"
        assert not [line for line in scorer.log_lines() if "batch_abandoned" in line]
    offsets = committed(slow.bootstrap, slow.names.group, slow.names.events)
    answered = {source: record for source, record in sent.records.items() if source[1] < offsets[source[0]]}
    slow.reader.wait_for(len(answered))
    assert_exactly_once(Sent(answered), slow.reader.answers)
    assert len(answered) < 2000
