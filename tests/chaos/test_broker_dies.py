"""Brokers that die, are not there, or have no room on their disk (rows 6, 7 and 16)."""

from __future__ import annotations

import random
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from support import history
from support.brokers import Broker, Cluster
from support.network import Network
from support.oracle import WAIT_S, Names, Sent, assert_exactly_once
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

SMALL = {"SCORER_MAX_BATCH_RECORDS": "100"}
# Upstream goes on producing while a broker is away: only an idempotent producer does not double its events then.
STUBBORN = {"enable.idempotence": True, "linger.ms": 50}


def both_own_two(scorers: tuple[Service, Service]) -> None:
    """Each has half of the work."""
    for scorer in scorers:
        wait_until(lambda s=scorer: s.reasons() == [] and s.assigned() == 2, "two partitions each")


def never_restarted(scorers: tuple[Service, ...]) -> None:
    """The original processes survive, and end in order."""
    for scorer in scorers:
        assert scorer.process.poll() is None
        assert scorer.stop() == 0


@pytest.mark.row(6)
@pytest.mark.long_only
@pytest.mark.timeout(900)
def test_the_only_broker_is_killed_and_started_again(network: Network, far: Stage) -> None:
    """SIGKILL in the middle of a backlog: the scorers are alive and not ready, and go on by themselves."""
    with far.scorer(**SMALL) as first, far.scorer(**SMALL) as second:
        both_own_two((first, second))
        source, sent = far.source(), far.send_customers(6000)
        far.reader.wait_for(500)
        network.broker.kill()
        try:
            for scorer in (first, second):
                wait_until(lambda s=scorer: "broker_unreachable" in (s.reasons() or []), "it knows")
                assert scorer.get("/livez").status_code == 200
        finally:
            network.broker.start()
        far.send_from(source, 500, sent)
        far.reader.wait_for(6500)
        both_own_two((first, second))
        never_restarted((first, second))
    assert_exactly_once(sent, far.reader.answers)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three brokers for one test."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def replicated(cluster: Cluster, topic_prefix: str, telco_bundle: Path, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose topics have three replicas."""
    stage = Stage(cluster, topic_prefix, telco_bundle, tmp_path, replicas=3)
    yield stage
    stage.reader.close()


def under_replicated(admin: AdminClient, names: Names) -> int:
    """Partitions, the cluster's own included, that lack a replica."""
    topics = admin.list_topics(timeout=WAIT_S).topics.values()
    ours = [t for t in topics if t.topic.startswith((names.prefix, "__"))]
    return sum(len(p.isrs) < 3 for t in ours for p in t.partitions.values())


@pytest.mark.row(6)
@pytest.mark.long_only
@pytest.mark.timeout(900)
def test_each_of_three_brokers_is_killed(cluster: Cluster, replicated: Stage, seed: int) -> None:
    """One after the other, and so the leader of every partition, every coordinator and the controller among them.

    Events stream in all the time, also while the broker is down.
    """
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    sent, source, ended = Sent(), replicated.source(), threading.Event()
    upstream_failed: list[BaseException] = []

    def upstream() -> None:
        try:
            while not ended.is_set():
                replicated.send_from(source, 100, sent, **STUBBORN)
                ended.wait(0.3)
        except BaseException as error:  # noqa: BLE001 - raised by the test
            upstream_failed.append(error)

    sending = threading.Thread(target=upstream)
    with replicated.scorer(**SMALL) as first, replicated.scorer(**SMALL) as second:
        both_own_two((first, second))
        sending.start()
        try:
            replicated.reader.wait_for(500)
            for broker in random.Random(seed).sample(cluster.brokers, 3):
                wait_until(lambda: under_replicated(admin, replicated.names) == 0, "three replicas of everything", 300)
                before = len(replicated.reader.answers)
                broker.kill()
                replicated.reader.wait_for(before + 1000)  # with two brokers
                broker.start()
        finally:
            ended.set()
            sending.join()
        assert not upstream_failed, upstream_failed
        replicated.reader.wait_for(len(sent.records))
        both_own_two((first, second))
        never_restarted((first, second))
    assert_exactly_once(sent, replicated.reader.answers)


@pytest.mark.row(7)
@pytest.mark.long_only
@pytest.mark.timeout(900)
def test_a_broker_that_is_down_at_the_start_and_later(network: Network, far: Stage) -> None:
    """Alive and not ready until it comes; down for 70 s, one scorer is restarted meanwhile; then all catch up."""
    network.broker.stop()
    with far.scorer() as first, far.scorer() as second:
        for scorer in (first, second):
            wait_until(lambda s=scorer: "broker_unreachable" in (s.reasons() or []), "it knows")
            assert scorer.get("/livez").status_code == 200
        network.broker.start()
        both_own_two((first, second))
        sent = far.send_customers(1000)
        far.reader.wait_for(1000)

        network.broker.stop()
        down_until = time.monotonic() + 70.0
        for scorer in (first, second):
            wait_until(lambda s=scorer: "broker_unreachable" in (s.reasons() or []), "it knows")
        assert second.stop() in {0, 1}
        with far.scorer() as third:
            wait_until(lambda: "broker_unreachable" in (third.reasons() or []), "it knows")
            lines = len(first.log_lines())
            waited = max(1.0, down_until - time.monotonic())
            time.sleep(waited)
            assert [scorer.get("/livez").status_code for scorer in (first, third)] == [200, 200]
            assert (len(first.log_lines()) - lines) / waited < 25.0, "lines a second"
            network.broker.start()
            far.send_customers(1000, seed=1, into=sent)
            far.reader.wait_for(2000)
            both_own_two((first, third))
            never_restarted((first, third))
    assert_exactly_once(sent, far.reader.answers)


@pytest.fixture
def small_disk(topic_prefix: str, telco_bundle: Path, tmp_path: Path) -> Iterator[tuple[Broker, Stage]]:
    """A separate broker, whose files a test may keep from growing."""
    with Broker() as broker:
        stage = Stage(broker, topic_prefix, telco_bundle, tmp_path)
        yield broker, stage
        stage.reader.close()


@pytest.mark.row(16)
@pytest.mark.long_only
@pytest.mark.timeout(900)
def test_no_room_on_the_brokers_disk(small_disk: tuple[Broker, Stage]) -> None:
    """The broker cannot write and goes down; scorers retry, are not ready, and lose nothing once there is room again.

    A limit on the size of files replaces a full disk and needs no rights. Writes fail in the middle of a transaction.
    As without space, Kafka gives up its log folder and ends.
    """
    broker, stage = small_disk
    with stage.scorer(**SMALL) as first, stage.scorer(**SMALL) as second:
        both_own_two((first, second))
        sent = stage.send_customers(400)
        stage.reader.wait_for(400)
        for scorer in (first, second):
            scorer.suspend()
        stage.send_customers(4000, seed=1, into=sent)
        answers = broker.data_dir / "log" / f"{stage.names.predictions}-0" / "00000000000000000000.log"
        room = answers.stat().st_size + 100_000
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        history.mark("the disk is full")
        for scorer in (first, second):
            scorer.resume()
        assert broker.wait(WAIT_S) is not None, "Kafka ends when its only log folder fails"
        for scorer in (first, second):
            wait_until(lambda s=scorer: "broker_unreachable" in (s.reasons() or []), "it knows")
            assert scorer.get("/livez").status_code == 200
        assert len(stage.reader.answers) < 4400
        broker.kill()
        broker.start()
        stage.reader.wait_for(4400)
        both_own_two((first, second))
        never_restarted((first, second))
    assert_exactly_once(sent, stage.reader.answers)
