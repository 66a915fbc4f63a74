"""The network between a scorer and its broker fails in every way a proxy can make it fail (rows 8, 9, 10)."""

from __future__ import annotations

import time

import pytest
from support.network import Network
from support.oracle import Sent, assert_exactly_once
from support.proxy import Api, Proxy, Side
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

SMALL = {"SCORER_MAX_BATCH_RECORDS": "100"}
# A process that waits for a broker retries a few times a second; a busy loop takes a core and logs hundreds of lines.
MAX_CPU_SHARE = 0.5
MAX_LINES_PER_S = 25.0


def of(stage: Stage, partition: int) -> bytes:
    """The transactional id of an input partition, as in a request."""
    return f"{stage.names.group}.{stage.names.events}.{partition}".encode()


class Calm:
    """Watches that a scorer neither spins nor floods its log while it can do nothing."""

    def __init__(self, scorer: Service) -> None:
        self._scorer = scorer
        self._start = time.monotonic(), scorer.cpu_s(), len(scorer.log_lines())

    def check(self, what: str) -> None:
        started, cpu_s, lines = self._start
        seconds = time.monotonic() - started
        share = (self._scorer.cpu_s() - cpu_s) / seconds
        rate = (len(self._scorer.log_lines()) - lines) / seconds
        assert share < MAX_CPU_SHARE, f"{what}: {share:.0%} of a core while it could do nothing"
        assert rate < MAX_LINES_PER_S, f"{what}: {rate:.0f} log lines a second"


@pytest.mark.timeout(900)
@pytest.mark.row(9)
def test_a_scorer_behind_a_failing_network(network: Network, far: Stage, long: bool) -> None:
    """Row 9: cut, silent one way, slow, reset in mid-answer: no restart is needed, nothing is lost, doubled or busy."""
    proxy = network.proxies[0]
    faults = {
        "cut": proxy.cut,
        "answers do not arrive": lambda: proxy.silence(Side.ANSWER),
        "a round trip takes 1 s": lambda: proxy.slow(0.5),
    }
    if long:
        faults["requests do not arrive"] = lambda: proxy.silence(Side.REQUEST)
        faults["a round trip takes 2 s"] = lambda: proxy.slow(1.0)
    sent = Sent()
    environment = {**SMALL, "KAFKA_SESSION_TIMEOUT": "4s"}
    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, **environment) as scorer, far.scorer(**environment) as other:
        for what, fail in faults.items():
            both_own_two(scorer, other, what)
            far.send_from(far.source(seed=len(sent.records)), 200, sent)
            fail()
            calm = Calm(scorer)
            # most of the others are answered by now: these meet the fault, and there is something to wait for
            far.send_from(far.source(seed=len(sent.records)), 200, sent)
            # the other one takes over; or, if the network is only slow, both go on
            far.reader.wait_for(len(sent.records))
            time.sleep(20.0 if long else 0.0)
            calm.check(what)
            proxy.heal()
        reset_in_mid_answer(proxy, far, sent, (scorer, other))
        far.reader.wait_for(len(sent.records))
        assert scorer.stop() == 0
        assert other.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


def both_own_two(scorer: Service, other: Service, what: str) -> None:
    """Each has half of the work, so that the one behind the proxy has something to do."""
    for each in (scorer, other):
        wait_until(lambda s=each: s.reasons() == [] and s.assigned() == 2, f"{what}: two partitions each")


def reset_in_mid_answer(proxy: Proxy, far: Stage, sent: Sent, scorers: tuple[Service, Service]) -> None:
    """One connection after the other is reset when seven bytes of an answer have arrived."""
    for api in (Api.FETCH, Api.PRODUCE, Api.ADD_OFFSETS_TO_TXN, Api.TXN_OFFSET_COMMIT, Api.END_TXN, Api.HEARTBEAT):
        both_own_two(*scorers, f"before the reset of {api.name}")
        caught = proxy.catch(api, Side.ANSWER)
        far.send_from(far.source(seed=len(sent.records)), 200, sent)
        caught.wait().reset(deliver=7)


@pytest.mark.row(10)
def test_the_answer_to_the_end_of_a_transaction_is_lost(network: Network, far: Stage) -> None:
    """Row 10: committed or not? The scorer finds out by itself, and goes on with the next batch.

    aiokafka repeats a request whose connection is reset; here the repetition is lost, too.
    """
    proxy = network.proxies[0]
    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, KAFKA_TRANSACTION_TIMEOUT="2s", **SMALL) as scorer:
        caught = proxy.catch(Api.END_TXN, Side.ANSWER, skip=2, where=lambda request: of(far, 1) in request)
        sent = far.send_customers(2000)
        caught.wait()
        again = proxy.catch(Api.END_TXN, where=lambda request: of(far, 1) in request)
        anew = proxy.catch(Api.INIT_PRODUCER_ID, where=lambda request: of(far, 1) in request)
        caught.reset()
        again.wait()
        anew.wait()
        again.reset()
        anew.release()
        far.reader.wait_for(2000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


@pytest.mark.row(10)
def test_the_answer_to_the_end_of_a_transaction_comes_late(network: Network, far: Stage) -> None:
    """Row 10: the scorer has given the transaction up and begun others when it hears that it was committed.

    Meanwhile the partition's prefetcher was full for so long that its reader paused: it must read on afterwards.
    """
    proxy = network.proxies[0]
    with far.scorer(
        {"kafka_runtime.prefetch.ROOM_S": 0.3},
        KAFKA_BOOTSTRAP_SERVERS=proxy.address,
        KAFKA_TRANSACTION_TIMEOUT="2s",
        **SMALL,
    ) as scorer:
        caught = proxy.catch(Api.END_TXN, Side.ANSWER, skip=2, where=lambda request: of(far, 1) in request)
        sent = far.send_customers(2000)
        caught.wait()
        anew = proxy.catch(Api.INIT_PRODUCER_ID, where=lambda request: of(far, 1) in request)
        anew.wait()
        assert scorer.metric("driftline_scorer_producer_rebuilds_total", cause="rebuild") >= 1
        later = proxy.catch(Api.END_TXN, where=lambda request: of(far, 1) in request)
        anew.release()
        later.wait()
        caught.release()
        later.release()
        far.reader.wait_for(2000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


@pytest.mark.row(10)
def test_the_end_of_a_transaction_that_arrives_late_ends_no_later_one(network: Network, far: Stage) -> None:
    """Row 10: a request that the network kept for seconds must not commit the records of the batch after it.

    If it did, that batch would be visible without its offset, and answered again after the kill.
    """
    proxy = network.proxies[0]
    sent = far.send_customers(2000)
    late = proxy.catch(Api.END_TXN, skip=1, where=lambda request: of(far, 1) in request)
    with far.scorer(
        {"kafka_runtime.clients.REQUEST_TIMEOUT_MS": 1500},
        KAFKA_BOOTSTRAP_SERVERS=proxy.address,
        KAFKA_TRANSACTION_TIMEOUT="3s",
        **SMALL,
    ) as scorer:
        late.wait()
        later = proxy.catch(Api.ADD_OFFSETS_TO_TXN, where=lambda request: of(far, 1) in request)
        written = proxy.catch(Api.PRODUCE, Side.ANSWER, where=lambda request: of(far, 1) in request)
        for caught in (later, written):
            caught.wait()
        arrived = proxy.catch(Api.END_TXN, Side.ANSWER, where=lambda request: of(far, 1) in request)
        late.release()
        arrived.wait()
        scorer.kill()
        for caught in (later, written):
            caught.reset()
    with far.scorer(**SMALL) as scorer:
        far.reader.wait_for(2000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, far.reader.answers)
