"""Answers in a transaction that no process will end: found at the start, aborted, answered again."""

from __future__ import annotations

from confluent_kafka import Producer
from support.oracle import assert_exactly_once
from support.stage import Stage
from support.waiting import wait_until


def test_answers_in_a_transaction_without_an_end_are_aborted_and_those_of_others_are_not(stage: Stage) -> None:
    """Partition 1 holds an open answer of the scorer's group, partition 2 one of another group: one abort."""
    names = stage.names
    stranger = Producer({"bootstrap.servers": stage.bootstrap, "transactional.id": f"{names.prefix}-stranger"})
    stranger.init_transactions(30)
    stranger.begin_transaction()
    for partition, group in ((1, names.group), (2, "another-group")):
        source = {"topic": names.events, "partition": str(partition), "offset": "0"}
        headers = [(f"driftline-source-{name}", text.encode()) for name, text in source.items()]
        headers.append(("driftline-group", group.encode()))
        stranger.produce(names.predictions, b"left open", partition=partition, headers=headers)
    assert stranger.flush(30) == 0
    with stage.scorer() as scorer:
        wait_until(lambda: scorer.reasons() == [] and scorer.assigned() == 4, "it owns its partitions")
        assert scorer.metric("driftline_scorer_transactions_total", outcome="aborted") == 1
        assert scorer.metric("driftline_scorer_torn_records_total") == 1
        stranger.abort_transaction(30)
        sent = stage.send_customers(400)
        stage.reader.wait_for(400)
        assert scorer.stop() == 0
        assert sum("torn_transaction_aborted" in line for line in scorer.log_lines()) == 1
    assert_exactly_once(sent, stage.reader.answers)
