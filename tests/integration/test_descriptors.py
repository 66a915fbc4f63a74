"""File descriptors: the limit is raised as far as it may be; where it is too low for good, readiness names it."""

from __future__ import annotations

import resource

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from support.oracle import Reader, assert_exactly_once
from support.preloaded import OWN_INTERPRETER
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

PARTITIONS = 40
SOFT = 64  # 40 partitions need more


def _grow(stage: Stage) -> None:
    """Give the input and output topics 40 partitions."""
    names = (stage.names.events, stage.names.predictions, stage.names.dead_letters)
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    for done in admin.create_partitions([NewPartitions(name, PARTITIONS) for name in names]).values():
        done.result(30)


def _limit(scorer: Service, soft: int, hard: int) -> None:
    """Set the limits of open files before the process has read them: its imports take longer."""
    resource.prlimit(scorer.process.pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.row(30)
def test_a_low_soft_limit_is_raised(stage: Stage) -> None:
    """40 partitions with 64 descriptors run, because the hard limit allows more."""
    _grow(stage)
    with stage.scorer(**OWN_INTERPRETER) as scorer:
        _limit(scorer, SOFT, 4096)
        scorer.wait_ready()
        wait_until(lambda: scorer.assigned() == PARTITIONS, "it has every partition")
        wait_until(lambda: scorer.reasons() == [], "every partition runs")
        reader = Reader(stage.bootstrap, stage.names, PARTITIONS)
        sent = stage.send_customers(200)
        reader.wait_for(len(sent.records))
        assert scorer.stop() == 0
        reader.close()
    assert_exactly_once(sent, reader.answers)


@pytest.mark.row(30)
def test_a_low_hard_limit_is_named_and_what_has_started_is_served(stage: Stage) -> None:
    """Not ready, because of too many open files; HTTP answers, the log stays small, and it drains."""
    _grow(stage)
    with stage.scorer(**OWN_INTERPRETER) as scorer:
        _limit(scorer, SOFT, SOFT)
        wait_until(lambda: "too_many_open_files" in (scorer.reasons() or []), "readiness names it", timeout_s=120)
        states = [state for state, _ in scorer.partitions().values()]
        wait_until(
            lambda: "running" in [state for state, _ in scorer.partitions().values()], "some partitions are served"
        )
        assert len(states) == PARTITIONS
        details = {detail for state, detail in scorer.partitions().values() if state == "backing_off"}
        assert any("too many open files" in detail for detail in details), details
        assert len(scorer.log_lines()) < 1000
        assert scorer.stop() == 0
