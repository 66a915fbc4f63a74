"""The facts of each task: a prediction becomes a record and a row, and no task takes another's."""

import numpy as np
import pytest

from drift_worker.performance.label_records import decode
from drift_worker.performance.task_facts import facts_of
from schemas.prediction import ModelRef, decoder_of, encoder_of
from schemas.task import Binary, Interval, Multiclass, Regression

TASKS = {
    "binary": (Binary(True), 0.75),
    "multiclass": (Multiclass(("a", "b", "c")), [0.5, 0.25, 0.25]),
    "regression": (Regression("predict", Interval(-1.0, 2.0, 0.9)), -0.5),
}


def _prediction(name):
    task, score = TASKS[name]
    (raw,) = encoder_of(ModelRef("m", "1.0.0"), task).encode(["p"], ["e"], ["ann"], ["t"], "t", [score])
    return decoder_of(task)(raw)


@pytest.mark.parametrize("name", TASKS)
def test_a_prediction_is_a_row_of_its_own_task_alone(name):
    """The members by which labels are joined come first, in every task."""
    task, score = TASKS[name]
    facts = facts_of(task)
    _, (key, value) = facts.record(_prediction(name), 1234)
    fact = decode(key, value)
    row = np.array([facts.made(fact, 7)], dtype=facts.prediction)[0]
    assert facts.prediction.names[:3] == facts.label.names[:3] == ("customer", "prediction", "time_ms")
    assert (int(row["time_ms"]), int(row["version"])) == (1234, 7)
    kept = row["probabilities"].tolist() if name == "multiclass" else float(row[3])
    assert kept == score
    for other in TASKS.keys() - {name}:
        theirs = facts_of(TASKS[other][0])
        assert theirs.record(_prediction(name), 1234) is None
        assert theirs.made(fact, 7) is None


@pytest.mark.parametrize(
    ("name", "own", "foreign"),
    [("binary", (True, False), 1.0), ("regression", (0.25, -4.0), True), ("multiclass", ("a", "new"), 1.0)],
)
def test_an_outcome_is_of_one_task(name, own, foreign):
    """It comes back as it was, and two of them have different bits."""
    facts = facts_of(TASKS[name][0])
    rows = np.array([(1, 2, 3, facts.said(outcome)) for outcome in own], dtype=facts.label)
    assert tuple(facts.outcome(said) for said in rows["label"].tolist()) == own
    assert len(set(facts.bits(rows).tolist())) == 2
    assert facts.said(foreign) is None
