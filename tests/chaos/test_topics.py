"""The input topic is deleted and made again under the same name (row 20)."""

from __future__ import annotations

import time

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from support import history
from support.oracle import WAIT_S, Sent, assert_exactly_once, send
from support.stage import Stage
from support.waiting import wait_until


def made_again(stage: Stage) -> None:
    """Deleted, and made again as it was."""
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    topic = stage.names.events
    admin.delete_topics([topic])[topic].result(WAIT_S)
    history.mark("the topic is deleted")

    def created() -> bool:
        try:
            admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(WAIT_S)
        except Exception as error:  # noqa: BLE001 - it may be there for a moment yet
            assert "already exists" in str(error)  # noqa: PT017
            return False
        return True

    wait_until(created, "the topic is made again")
    history.mark("the topic is made again")


def per_partition(stage: Stage, count: int, seed: int, sent: Sent) -> None:
    """Send this number of events into each of the four."""
    source = stage.source(seed=seed)
    records = [
        (*record, [], i % 4) for i, record in enumerate(source.take(4 * count, 0.0, time.time_ns() // 1_000_000))
    ]
    send(stage.bootstrap, stage.names.events, records, sent)


@pytest.mark.row(20)
@pytest.mark.parametrize(
    "frozen", [pytest.param(False, id="running", marks=pytest.mark.long_only), pytest.param(True, id="frozen")]
)
def test_a_topic_that_is_made_again_is_never_taken_for_the_old_one(stage: Stage, frozen: bool) -> None:
    """`offset_lost` until a person decides, also if the new topic is longer than the old one was: none is left out."""
    old, new = Sent(), Sent()
    with stage.scorer() as first, stage.scorer() as second:
        scorers = (first, second)
        for scorer in scorers:
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")
        per_partition(stage, 50, 0, old)
        stage.reader.wait_for(200)
        if frozen:
            for scorer in scorers:
                scorer.suspend()
        made_again(stage)
        per_partition(stage, 80, 1, new)
        if frozen:
            for scorer in scorers:
                scorer.resume()

        def stopped() -> bool:
            # each looks again every 5 s, and is for a moment at it
            states = [state for scorer in scorers for state, _ in scorer.partitions().values()]
            return states == ["offset_lost"] * 4 and any("offset_lost" in (s.reasons() or []) for s in scorers)

        wait_until(stopped, "all four wait for a person")
        assert len(stage.reader.answers) == 200
        assert [scorer.stop() for scorer in scorers] == [0, 0]
    with stage.scorer(SCORER_OFFSET_LOST="earliest") as scorer:
        stage.reader.wait_for(520)
        assert scorer.stop() == 0
    assert_exactly_once(old, stage.reader.answers[:200])
    assert_exactly_once(new, stage.reader.answers[200:])
