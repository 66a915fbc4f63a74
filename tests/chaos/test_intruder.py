"""Another program starts producers with a scorer's transactional id (row 4)."""

from __future__ import annotations

import json
import time

import pytest
from confluent_kafka import Producer
from support import history
from support.oracle import WAIT_S, assert_exactly_once
from support.stage import Stage
from support.waiting import wait_until

BACK_OFF_S = 2.0  # a partition that was fenced waits at least so long


def somebody(stage: Stage, identity: str) -> Producer:
    """A foreign producer that has just taken the scorer's id."""
    options = {"bootstrap.servers": stage.bootstrap, "transactional.id": identity, "transaction.timeout.ms": 60_000}
    intruder = Producer({**options, "log_level": 0})
    intruder.init_transactions(WAIT_S)
    history.mark("somebody has our id")
    return intruder


@pytest.mark.row(4)
def test_somebody_else_uses_our_transactional_id(stage: Stage, long: bool) -> None:
    """The error names the id; the partition backs off and comes back each time, the others go on, nothing is doubled.

    The intruder leaves a transaction open in our output each time: what it wrote must not be seen, and must not stay.
    """
    times = 12 if long else 1
    identity = f"{stage.names.group}.{stage.names.events}.2"
    environment = {"SCORER_MAX_BATCH_RECORDS": "100"}
    with stage.scorer(**environment) as first, stage.scorer(**environment) as second:
        scorers = (first, second)
        for scorer in scorers:
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")

        def fenced() -> float:
            return sum(s.metric("driftline_scorer_producer_rebuilds_total", cause="fenced") for s in scorers)

        source, sent = stage.source(), stage.send_customers(400)
        stage.reader.wait_for(400)
        (owner,) = [scorer for scorer in scorers if 2 in scorer.partitions()]
        for attempt in range(1, times + 1):
            intruder = somebody(stage, identity)
            intruder.begin_transaction()
            intruder.produce(stage.names.predictions, b"not ours", partition=2)
            intruder.flush(WAIT_S)
            stage.send_from(source, 400, sent)
            # ours takes its id back, and with it ends what the intruder has begun
            stage.reader.wait_for(len(sent.records))
            assert fenced() >= attempt
        # a persistent intruder: the scorer must not take the id back as often
        before, began = fenced(), time.monotonic()
        while time.monotonic() < began + (30.0 if long else 5.0):
            somebody(stage, identity)
            stage.send_from(source, 20, sent)
        assert fenced() - before <= (time.monotonic() - began) / BACK_OFF_S + 2
        stage.reader.wait_for(len(sent.records))
        # the other one has work meanwhile, and is not informed
        assert fenced() == owner.metric("driftline_scorer_producer_rebuilds_total", cause="fenced")
        assert [scorer.stop() for scorer in scorers] == [0, 0]
    lines = [json.loads(line) for line in owner.log_lines() if '"producer_rebuilt"' in line]
    told = [line for line in lines if line["cause"] == "fenced"]
    assert len(told) >= times
    assert {(line["level"], line.get("transactional_id"), line["partition"]) for line in told} == {
        ("error", identity, 2)
    }
    assert_exactly_once(sent, stage.reader.answers)
