"""The broker is frozen, unreachable or silent: outcomes are unknown, and a person wants to stop us (rows 8 and 23)."""

from __future__ import annotations

import time

import pytest
from support.network import Network
from support.oracle import assert_exactly_once
from support.proxy import Api, Proxy, Side
from support.stage import Stage
from support.waiting import wait_until

SMALL = {"SCORER_MAX_BATCH_RECORDS": "100"}
DRAIN_S = 5.0
# What a busy machine may take to end a process whose time is up. Without the deadline it took 25 s in all.
GRACE_S = 15.0


@pytest.mark.timeout(900)
@pytest.mark.row(8)
def test_a_frozen_broker_leaves_no_transaction_torn(network: Network, far: Stage, long: bool) -> None:
    """Row 8: SIGSTOP while a commit is under way, longer than a transaction may take; then all go on by themselves.

    The requests lie in the frozen broker's sockets, and it takes them up when it wakes.
    """
    frozen_s = 45.0 if long else 5.0
    environment = SMALL if long else {**SMALL, "KAFKA_TRANSACTION_TIMEOUT": "2s"}
    proxy = network.proxies[0]
    with (
        far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, **environment) as first,
        far.scorer(**environment) as second,
    ):
        for scorer in (first, second):
            wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")
        ending = proxy.catch(Api.END_TXN, skip=2)
        sent = far.send_customers(3000)
        ending.wait()
        network.broker.suspend()
        try:
            ending.release()
            time.sleep(frozen_s)
            assert first.get("/livez").status_code == 200
        finally:
            network.broker.resume()
        far.reader.wait_for(3000)
        assert first.stop() == 0
        assert second.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


FAULTS = {"refuses": Proxy.cut, "is silent": lambda proxy: proxy.silence(*Side)}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.row(23)
def test_sigterm_while_the_broker_is_away(network: Network, far: Stage, fault: str) -> None:
    """Row 23: with an open batch whose outcome is unknown, the scorer ends within its grace period."""
    proxy = network.proxies[0]
    environment = {**SMALL, "SCORER_DRAIN_TIMEOUT": f"{DRAIN_S:.0f}s"}
    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address, **environment) as scorer:
        ending = proxy.catch(Api.END_TXN, skip=6)
        sent = far.send_customers(2000)
        ending.wait()
        FAULTS[fault](proxy)
        if fault == "refuses":
            wait_until(lambda: "broker_unreachable" in (scorer.reasons() or []), "it knows")
        started = time.monotonic()
        assert scorer.stop() in {0, 1}
        assert time.monotonic() - started < DRAIN_S + GRACE_S
    proxy.heal()
    with far.scorer(**SMALL) as scorer:
        far.reader.wait_for(2000)
        assert scorer.stop() == 0
    assert_exactly_once(sent, far.reader.answers)


@pytest.mark.row(23)
def test_sigterm_before_there_is_a_broker(network: Network, far: Stage) -> None:
    """Row 23: a scorer that has never reached its broker is alive, reports why it is not ready, and ends at once."""
    proxy = network.proxies[0]
    proxy.cut()
    with far.scorer(KAFKA_BOOTSTRAP_SERVERS=proxy.address) as scorer:
        wait_until(lambda: "broker_unreachable" in (scorer.reasons() or []), "it knows")
        assert scorer.get("/livez").status_code == 200
        assert scorer.stop() == 0
