"""What three topics hold → the rows on which two models are compared, and the command's verdict and exit code."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import numpy as np
import pytest

from driftline.commands.model import compare as command
from driftline.errors import CommandError
from driftline.model_life.challenger_comparison import decide, models, task_on
from driftline.paired_predictions import OTHER_TASK, Coverage, Paired
from schemas.bundle.manifest import Business, ClassBusiness, ValueBusiness
from schemas.headers import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC
from schemas.label import Label
from schemas.prediction import ModelRef, PredictionEncoder, encoder_of
from schemas.task import Binary, Multiclass, Regression
from schemas.timestamps import render

DAY_MS = 86_400_000
MINUTE_MS = 60_000
START_MS = 1_795_327_200_000  # 2026-11-22T06:00:00Z
CHAMPION, CHALLENGER = ("churn", "1.0.0"), ("churn-next", "2.0.0")
BUSINESS = Business(currency="EUR", true_positive=100.0, false_positive=-10.0)


def _record(customer, offset, probability, model=CHAMPION, partition=0, at_ms=START_MS, topic="customer-events"):
    """Value and headers of a prediction."""
    encoder = PredictionEncoder(ModelRef(*model), 0.5)
    (value,) = encoder.encode(
        [f"{topic}-{partition}-{offset}"], [f"e{offset}"], [customer], [render(at_ms)], render(at_ms + 5), [probability]
    )
    numbers = {SOURCE_PARTITION: partition, SOURCE_OFFSET: offset}
    return value, [(SOURCE_TOPIC, topic.encode()), *((name, b"%d" % n) for name, n in numbers.items())]


def _paired():
    return Paired("customer-events", START_MS + 200 * DAY_MS, 0)


def _label(customer, label, day, prediction=None):
    return Label(customer, label, render(START_MS + round(day * DAY_MS)), prediction).encode()


def test_both_models_rows_are_those_of_one_source_position():
    """With the champion's label, also where the shadow alone would have joined another; the rest is left out."""
    found = _paired()
    found.label(_label("ann", True, 1.0))
    found.label(_label("bob", False, 2.0))
    found.label(b"no label")
    found.label(_label("dan", False, 91.0))  # the time has come for all of these
    for customer, offset, p in (("ann", 0, 0.6), ("ann", 1, 0.7), ("bob", 2, 0.8), ("cyd", 3, 0.9)):
        found.prediction(*_record(customer, offset, p, at_ms=START_MS + offset))
    # the shadow of ann's second event was dropped: her label belongs to that one, so she has no pair
    for customer, offset, p in (("ann", 0, 0.1), ("bob", 2, 0.2), ("cyd", 3, 0.3)):
        found.shadow(*_record(customer, offset, p, CHALLENGER, at_ms=START_MS + offset))
    found.prediction(*_record("ann", 9, 0.5, topic="elsewhere"))
    found.prediction(b"{}", [])
    one, other = found.of_both(CHAMPION, CHALLENGER, 90 * DAY_MS)
    assert (one.rows.probability.tolist(), other.rows.probability.tolist()) == ([0.8], [0.2])
    assert (one.rows.outcome.tolist(), one.rows.predicted.tolist(), other.rows.predicted.tolist()) == (
        [False],
        [True],
        [False],
    )
    assert one.time_ms.tolist() == [START_MS + 2]
    assert found.coverage(CHAMPION, CHALLENGER) == Coverage(champion=4, both=3)
    assert found.left_out == {"label not_json": 1, "predictions: not a prediction of this stream": 2}


CHARGES, TIERS = Regression(), Multiclass(("bronze", "gold", "silver"))


def _other(task, customer, offset, score, model=CHAMPION, at_ms=None):
    """Value and headers of a prediction of another task."""
    (raw,) = encoder_of(ModelRef(*model), task).encode(
        [f"customer-events-0-{offset}"],
        [f"e{offset}"],
        [customer],
        [render(START_MS + offset if at_ms is None else at_ms)],
        render(START_MS),
        [score],
    )
    return raw, _record(customer, offset, 0.5)[1]


def test_predictions_of_another_task_are_left_out_by_name():
    """They have no probability that could be compared."""
    found = _paired()
    found.prediction(*_other(CHARGES, "ann", 0, 64.5))
    assert found.left_out == {f"predictions: {OTHER_TASK}": 1}
    assert models(found, None, None) is None


@pytest.mark.parametrize(
    ("task", "outcomes", "scores"),
    [
        (CHARGES, (10.5, 0.0, 7.0), (12.0, 3.0)),
        (TIERS, ("gold", "platinum", "bronze"), ([0.2, 0.7, 0.1], [0.8, 0.1, 0.1])),
    ],
)
def test_numbers_and_classes_are_joined_as_labels_are(task, outcomes, scores):
    """Each prediction has its customer's outcome, also one that is 0 or a class of no model; labels need the task.

    A class's code is its place in the model's classes, by which a table of money is read; others follow.
    """
    classes = getattr(task, "classes", ())
    found = Paired("customer-events", START_MS + 200 * DAY_MS, 0, task=task.name, classes=classes)
    for customer, outcome in zip(("ann", "bob", "dan"), outcomes, strict=True):
        label = {"customer_id": customer, "label": outcome, "label_time": render(START_MS + DAY_MS)}
        found.label(json.dumps(label).encode())
    late = {"customer_id": "late", "label": outcomes[0], "label_time": render(START_MS + 91 * DAY_MS)}
    found.label(json.dumps(late).encode())
    found.label(_label("eve", True, 1.0))
    for offset, (customer, score) in enumerate(zip(("ann", "bob"), scores, strict=True)):
        found.prediction(*_other(task, customer, offset, score))
        found.shadow(*_other(task, customer, offset, scores[0], CHALLENGER))
    found.prediction(*_record("ann", 9, 0.5))
    assert found.left_out == {"label envelope": 1, f"predictions: {OTHER_TASK}": 1}
    when = START_MS + DAY_MS
    assert found.outcomes(90 * DAY_MS) == {(0, 0): (outcomes[0], when), (0, 1): (outcomes[1], when)}
    one, other = (side.rows for side in found.of_both(CHAMPION, CHALLENGER, 90 * DAY_MS))
    if task is CHARGES:
        assert (one.outcome.tolist(), one.value.tolist()) == ([10.5, 0.0], [12.0, 3.0])
        assert other.value.tolist() == [12.0, 12.0]
    else:
        assert (one.outcome.tolist(), one.predicted.tolist()) == ([1, 3], [1, 0])
        assert (other.outcome.tolist(), other.predicted.tolist()) == ([1, 3], [1, 1])


def test_coverage_begins_with_the_challenger():
    """What was answered before it came is not missing; partitions begin one by one."""
    found = _paired()
    for partition in (0, 1, 2):
        for offset in range(10):
            found.prediction(*_record("ann", offset, 0.5, partition=partition))
    for partition, first in ((0, 4), (1, 7)):
        for offset in (first, 9, 9):
            found.shadow(*_record("ann", offset, 0.5, CHALLENGER, partition=partition))
    assert found.coverage(CHAMPION, CHALLENGER) == Coverage(champion=6 + 3, both=4)


def test_an_outcome_that_came_early_does_not_count_before_its_time():
    """Ann left after a day; until the horizon is over for her, those who are still there have no label at all."""
    for day, rows in ((89.0, 0), (90.0, 1)):
        found = _paired()
        found.label(_label("ann", True, 1.0))
        found.label(_label("dan", False, day))
        found.prediction(*_record("ann", 0, 0.6))
        found.shadow(*_record("ann", 0, 0.4, CHALLENGER))
        for one in found.of_both(CHAMPION, CHALLENGER, 90 * DAY_MS):
            assert len(one.time_ms) == rows


# By task: the outcome of a number 0 to 9, and what a model predicts that is right or wrong about it. A wrong number is
# wrong by 10, a right one by 4.
TOLD = {
    "binary": lambda number: number < 4,
    "multiclass": lambda number: TIERS.classes[number % 3],
    "regression": lambda number: 50.0 + number,
}
SCORED = {
    "binary": lambda number, right: 0.9 if right == (number < 4) else 0.1,
    "multiclass": lambda number, right: [0.8 if c == (number + (not right)) % 3 else 0.1 for c in range(3)],
    "regression": lambda number, right: 54.0 + number if right else 40.0 + number,
}
TASK = {"binary": Binary(1), "multiclass": TIERS, "regression": CHARGES}


def _stream(customers, settled, advantage, split=False, task="binary"):
    """`customers` with an event a minute and a label a day later; for the first `settled` the horizon has passed."""
    rng = np.random.default_rng(7)
    truth = rng.integers(10, size=customers).tolist()
    right = {CHAMPION: rng.random(customers) < 0.7, CHALLENGER: rng.random(customers) < 0.7 + advantage}
    classes = TIERS.classes if task == "multiclass" else ()
    found = Paired("customer-events", START_MS + 200 * DAY_MS, 0, task=task, classes=classes)
    days = [1 + i * MINUTE_MS / DAY_MS for i in range(customers)]
    known = [(f"c{i}", TOLD[task](truth[i]), day) for i, day in enumerate(days)]
    for customer, outcome, day in [*known, ("nobody", known[0][1], 90 + (settled - 1) * MINUTE_MS / DAY_MS)]:
        label = {"customer_id": customer, "label": outcome, "label_time": render(START_MS + round(day * DAY_MS))}
        found.label(json.dumps(label).encode())
    for i in range(customers):
        at_ms = START_MS + i * MINUTE_MS
        scored = {model: SCORED[task](truth[i], right[model][i]) for model in right}
        own = CHALLENGER if split and i % 4 == 0 else CHAMPION
        found.prediction(*_other(TASK[task], f"c{i}", i, scored[own], own, at_ms=at_ms))
        if not split:
            found.shadow(*_other(TASK[task], f"c{i}", i, scored[CHALLENGER], CHALLENGER, at_ms=at_ms))
    return found


WORTH = {
    "binary": BUSINESS,
    "multiclass": ClassBusiness(matrix={name: {name: 1.0} for name in TIERS.classes}),
    "regression": ValueBusiness(over=-1.0, under=-1.0),
}


def _decide(found, needed, mode="shadow", metric="accuracy", margin=0.0, business=...):
    worth = WORTH[found.task] if business is ... else business
    return decide(found, CHAMPION, CHALLENGER, mode, metric, 90 * DAY_MS, needed, worth, margin=margin, confidence=0.95)


def test_before_n_customers_there_is_no_verdict_and_afterwards_always_the_same():
    """However much better it looks; more labels change nothing."""
    early = _decide(_stream(1500, 799, 0.2), 800)
    assert (early.customers, early.comparison, early.value) == (799, None, None)
    assert command._exit_code(early) == 3
    at_n, later = (_decide(_stream(1500, settled, 0.2), 800) for settled in (800, 1500))
    assert command._exit_code(at_n) == 0
    assert at_n.comparison == later.comparison
    assert (at_n.comparison.customers, at_n.value.advantage > 0) == (800, True)
    assert (later.customers, later.until_ms) == (1500, at_n.until_ms)


@pytest.mark.parametrize("mode", ["shadow", "split"])
def test_exit_codes_are_better_not_better_and_not_enough(mode):
    """A margin is part of the question; an equal challenger is not better; in a split the smaller side counts."""
    split = mode == "split"
    better = _stream(4000, 4000, 0.15, split)
    assert command._exit_code(_decide(better, 900, mode)) == 0
    assert command._exit_code(_decide(better, 900, mode, margin=0.3)) == 1
    assert command._exit_code(_decide(_stream(4000, 4000, 0.0, split), 900, mode)) == 1
    assert command._exit_code(_decide(better, 1001 if split else 4001, mode)) == 3
    assert _decide(better, 900, mode).comparison.customers == (3597 if split else 900)
    assert command._exit_code(None) == 3


@pytest.mark.parametrize("mode", ["shadow", "split"])
@pytest.mark.parametrize(
    ("task", "metric", "also"), [("regression", "mae", "rmse"), ("multiclass", "accuracy", "f1_macro")]
)
def test_numbers_and_classes_are_decided_by_the_same_rule(mode, task, metric, also):
    """Exit codes and margin; the other metric is shown and does not decide; before n customers there is no verdict."""
    split = mode == "split"
    better = _stream(2000, 2000, 0.2, split, task)
    found = _decide(better, 450, mode, metric)
    assert command._exit_code(found) == 0
    assert (found.comparison.metric, [one.metric for one in found.also]) == (metric, [also])
    assert found.also[0].better
    # the worth of a right class is 1, of a unit of error -1
    sign = 1.0 if task == "multiclass" else -1.0
    worth, c = found.value, found.comparison
    assert (worth.metric, worth.champion) == ("business_value", pytest.approx(sign * c.champion))
    assert worth.challenger == pytest.approx(sign * c.challenger)
    bare = _decide(better, 450, mode, metric, business=None)
    assert (bare.value, bare.comparison) == (None, c)
    assert found.comparison.advantage == pytest.approx({"accuracy": 0.2, "mae": 1.2 / 5.8}[metric], abs=0.07)
    assert command._exit_code(_decide(better, 450, mode, metric, margin=0.4)) == 1
    assert command._exit_code(_decide(_stream(2000, 2000, 0.0, split, task), 450, mode, metric)) == 1
    assert command._exit_code(_decide(better, 501 if split else 2001, mode, metric)) == 3
    said = command._as_dict(found, 450, better, {})
    assert (said["verdict"], said["also"][0]["metric"]) == ("better", also)
    assert "also" not in command._as_dict(_decide(_stream(900, 900, 0.2), 800), 800, better, {})


class _Topics:
    """Partitions of `predictions`, as a Reader reads them."""

    def __init__(self, *partitions):
        self.records = [[SimpleNamespace(value=value) for value in values] for values in partitions]

    async def partitions(self, _topic):
        return range(len(self.records))

    async def tail(self, partition, _offsets):
        return self.records[partition]

    async def scan(self, _topic, _since_ms):
        for records in self.records:
            for record in records:
                yield record


def test_the_task_is_that_of_the_champion():
    """Of the model that answered last, unless it is named; labels can only be read with it."""
    older, newer = (_other(task, "ann", 0, score)[0] for task, score in ((TIERS, [0.2, 0.7, 0.1]), (CHARGES, 1.0)))
    older = older.replace(render(START_MS).encode(), render(START_MS - 1).encode())
    churn = _record("ann", 0, 0.5, ("old", "1.0.0"), at_ms=START_MS - 9)[0]
    topics = _Topics([b"nothing", older], [churn, newer], [])
    asked = lambda reading, champion: asyncio.run(task_on(reading, "predictions", 0, champion))  # noqa: E731
    assert asked(topics, None) == "regression"
    assert asked(_Topics([newer], [older]), None) == "regression"
    assert asked(topics, CHAMPION) == "multiclass"
    assert asked(topics, ("old", "1.0.0")) == "binary"
    assert asked(topics, ("new", "1.0.0")) == "binary"
    assert asked(_Topics([], [b"nothing"]), None) == "binary"


def test_who_is_compared_with_whom():
    """The last of each topic; two that answer and no shadow must be named; an unseen challenger is none yet."""
    assert models(_stream(5, 0, 0.0), None, None) == (CHAMPION, CHALLENGER, "shadow")
    split = _stream(5, 0, 0.0, split=True)
    assert models(split, None, CHALLENGER) == (CHAMPION, CHALLENGER, "split")
    with pytest.raises(CommandError, match="name the --challenger"):
        models(split, None, None)
    assert models(split, None, ("other", "1.0.0")) is None
    assert models(_paired(), None, None) is None
