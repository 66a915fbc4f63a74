"""Scorers that die at the worst moment of a batch: the proxy stops the very request, then SIGKILL (rows 1 and 2)."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import pytest
from support.network import Network
from support.oracle import assert_exactly_once, committed
from support.proxy import Api, Side
from support.stage import Stage
from support.waiting import wait_until

SESSION_S = 3.0
IMPATIENT = {"KAFKA_SESSION_TIMEOUT": f"{SESSION_S:.0f}s", "SCORER_MAX_BATCH_RECORDS": "50"}
# Only the successor's fence ends the killed one's transaction: the broker itself would take five minutes.
PATIENT = {**IMPATIENT, "KAFKA_TRANSACTION_TIMEOUT": "300s"}
# How long after a kill it may take. Where other test runs share the cores, a new interpreter alone needs six of them to
# import scikit-learn, so only the long form counts them.
SOON_S = SESSION_S + 5.0

# The request or answer at which it dies, and how many of the kind pass before. The second batch is hit, because the
# first transaction of a partition commits the start position without records. Writes are known by their records, for
# the broker may ask for the first one twice while it verifies the transaction.
POINTS = {
    "before send": (Api.PRODUCE, Side.REQUEST, 0),
    "between send and offsets": (Api.ADD_OFFSETS_TO_TXN, Side.REQUEST, 2),
    "between offsets and end": (Api.END_TXN, Side.REQUEST, 2),
    "after end was sent": (Api.END_TXN, Side.ANSWER, 2),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.row(1)
def test_a_scorer_killed_at_a_point_of_its_transaction(network: Network, far: Stage, point: str, long: bool) -> None:
    """Row 1: nothing lost or doubled, and its partition goes on within the session time-out + 5 s of the restart.

    The short form, beside other tests, counts from the moment when the new process answers.
    """
    proxy = network.proxies[0]
    sent = far.send_customers(2000)
    partition = 2
    transactional_id = f"{far.names.group}.{far.names.events}.{partition}".encode()
    second_batch = f'"{far.names.events}-{partition}-50"'.encode() if point == "before send" else b""
    caught = proxy.catch(*POINTS[point], where=lambda request: transactional_id in request and second_batch in request)

    def answered() -> set[int]:
        return {answer.source[1] for answer in far.reader.answers if answer.source[0] == partition}

    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, **PATIENT) as scorer:
        caught.wait()
        ended = 100 if point == "after end was sent" else 50
        wait_until(lambda: len(answered()) >= ended, "the batches before this point are visible")
        scorer.kill()
        caught.reset()
    assert len(answered()) == ended
    with far.scorer(**PATIENT) as scorer:
        if not long:
            wait_until(lambda: scorer.reasons() is not None, "the new process answers")
        wait_until(lambda: len(answered()) > ended, f"partition {partition} goes on", SOON_S)
        far.reader.wait_for(2000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


@pytest.mark.row(1)
def test_an_end_that_arrives_while_the_successor_is_fenced_in_is_not_answered_again(
    network: Network, far: Stage
) -> None:
    """Row 1: the network kept the EndTxn of the killed one. The offset is read after the fence, and so after that end.

    Read before it, the offset would be the old one, and what the late request commits would be answered twice.
    """
    proxy, other = network.proxies
    sent = far.send_customers(2000)
    transactional_id = f"{far.names.group}.{far.names.events}.2".encode()
    late = proxy.catch(Api.END_TXN, skip=2, where=lambda request: transactional_id in request)
    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, **PATIENT) as scorer:
        late.wait()
        scorer.kill()
    fence = other.catch(Api.INIT_PRODUCER_ID, where=lambda request: transactional_id in request)
    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=other.address, **PATIENT) as scorer:
        fence.wait()
        ended = proxy.catch(Api.END_TXN, Side.ANSWER, where=lambda request: transactional_id in request)
        late.release()
        ended.wait().release()
        fence.release()
        far.reader.wait_for(2000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


@pytest.mark.row(2)
def test_the_survivor_takes_over_from_one_killed_in_its_transaction(network: Network, far: Stage) -> None:
    """Row 2: everything is answered within the group's time-out + 5 s, although a transaction was left open."""
    proxy = network.proxies[0]
    with (
        far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, **PATIENT) as victim,
        far.scorer(**PATIENT) as survivor,
    ):
        for scorer in (victim, survivor):
            wait_until(lambda s=scorer: s.assigned() == 2, "two partitions for each of two")
        caught = proxy.catch(Api.END_TXN, skip=2)
        sent = far.send_customers(2000)
        caught.wait()
        victim.kill()
        caught.reset()
        far.reader.wait_for(2000, SOON_S)
        assert survivor.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


def test_at_least_once_a_killed_scorer_repeats_and_loses_nothing(network: Network, far: Stage) -> None:
    """Killed between its records and its offsets: what comes twice has the same prediction_id and the same content."""
    proxy = network.proxies[0]
    sent = far.send_customers(2000, bad=Fraction(1, 20))
    caught = proxy.catch(Api.OFFSET_COMMIT, skip=5)  # four partitions commit where they start
    environment = {**IMPATIENT, "SCORER_DELIVERY": "at_least_once"}
    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, **environment) as scorer:
        caught.wait()
        scorer.kill()
        caught.reset()
    with far.scorer(**environment) as scorer:
        ends = {p: max(offset for q, offset in sent.records if q == p) + 1 for p in range(4)}
        wait_until(lambda: committed(far.bootstrap, far.names.group, far.names.events) == ends, "all is committed")
        assert scorer.stop() == 0
    wait_until(lambda: {a.source for a in far.reader.answers} == set(sent.records), "every record is answered")
    seen = Counter(answer.source for answer in far.reader.answers)
    assert max(seen.values()) == 2, "the scorer was killed before it committed: something must have come twice"
    predictions: dict[str, dict] = {}
    for answer in far.reader.answers:
        if answer.topic == far.names.predictions:
            prediction = json.loads(answer.value)
            del prediction["scored_at"]
            identity = f"{far.names.events}-{answer.source[0]}-{answer.source[1]}"
            assert prediction["prediction_id"] == identity
            assert predictions.setdefault(identity, prediction) == prediction
