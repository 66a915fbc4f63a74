"""A regression and a model of several classes under the faults of a process: delivery does not depend on the task."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from support.brokers import Broker
from support.oracle import assert_exactly_once
from support.stage import Stage
from support.telco_tasks import write_task

EVENTS = 20_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("task", ["regression", "multiclass"])
@pytest.mark.row(3)
def test_a_zombie_and_a_killed_scorer_lose_and_double_nothing(
    broker: Broker, topic_prefix: str, tmp_path: Path, task: str
) -> None:
    """SIGSTOP inside a transaction, a successor that is killed, SIGCONT, a third: every score is the model's."""
    bundle = write_task(task, tmp_path / "model")
    stage = Stage(broker, topic_prefix, bundle, tmp_path)
    try:
        sent = stage.send_customers(EVENTS, bad=Fraction(1, 50))
        with stage.scorer(SCORER_MAX_BATCH_RECORDS="50") as zombie:
            stage.freeze_inside_a_transaction(zombie)
            with stage.scorer(SCORER_MAX_BATCH_RECORDS="200") as successor:
                stage.reader.wait_for(len(stage.reader.answers) + 600)
                successor.kill()
            zombie.resume()
            with stage.scorer() as third:
                stage.reader.wait_for(EVENTS)
                assert third.stop() == 0
            assert zombie.stop() == 0
        assert_exactly_once(sent, stage.reader.answers)
        verified = stage.driftline("verify", "--model", str(bundle), "--json")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        found = json.loads(verified.stdout)
        letters = sum(answer.reason is not None for answer in stage.reader.answers)
        assert (found["answer"], found["faults"]["wrong_scores"]) == ("yes", 0)
        assert found["scores_checked"] == EVENTS - letters > 0.9 * EVENTS
    finally:
        stage.reader.close()
