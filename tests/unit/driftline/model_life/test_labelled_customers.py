"""Customers with their label: out of a file, out of events and labels; and what is held out of them."""

import csv
import json

import numpy as np
import pytest
from support import bundles
from support.events import FEATURES, GOOD, GOOD_FEATURES, NOW_MS, record
from typer.testing import CliRunner

from driftline.cli import app
from driftline.errors import CommandError
from driftline.model_life.labelled_customers import EventJoin, held_out, read_labelled
from driftline.training.dataset import DatasetError
from schemas.bundle.inputs import EventMapping
from schemas.task import Multiclass, Regression
from schemas.validation import Rules

DAY_MS = 86_400_000
NAMES = [feature.name for feature in FEATURES]


def _file(path, outcomes, ids=None):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*GOOD_FEATURES, "who", "left"])
        writer.writeheader()
        for i, outcome in enumerate(outcomes):
            who = ids[i] if ids else f"c{i}"
            writer.writerow({**GOOD_FEATURES, "tenure": i % 120, "who": who, "left": outcome})
    return path


def _event(customer, offset, **features):
    value = {**GOOD, "customer_id": customer, "event_id": f"e{offset}", "features": {**GOOD_FEATURES, **features}}
    return record(json.dumps(value).encode(), key=customer.encode(), offset=offset)


def _label(customer, label, time="2026-12-01T00:00:00Z", **more):
    return json.dumps({"customer_id": customer, "label": label, "label_time": time, **more}).encode()


def test_a_files_rows_stay_in_their_order_with_their_label(tmp_path):
    """A customer's rows have one code; without an id column each row is a customer."""
    path = _file(tmp_path / "c.csv", ["Yes", "No", "Yes"], ids=["ann", "bob", "ann"])
    rows = read_labelled(path, NAMES, "left", "Yes", "who")

    assert rows.positive.tolist() == [True, False, True]
    assert rows.customers == ("ann", "bob", "ann")
    assert rows.codes[0] == rows.codes[2] != rows.codes[1]
    assert rows.columns(FEATURES).numeric[:, 0].tolist() == [0, 1, 2]
    assert read_labelled(path, NAMES, "left", "Yes", None).customers == ("1", "2", "3")
    with pytest.raises(DatasetError, match="no column nobody"):
        read_labelled(path, NAMES, "nobody", "Yes", None)


def test_events_are_joined_with_the_labels_that_came_later():
    """Of two events a label is about the later one, unless it names the other; who has no label is left out."""
    found = EventJoin(FEATURES, EventMapping(), Rules())
    for value in (
        _label("ann", True),
        _label("bob", False, prediction_id="customer-events-3-2"),
        b"{",
        _label("x", True),
    ):
        found.label(value, NOW_MS + 30 * DAY_MS)
    records = [_event("ann", 0, tenure=1), _event("ann", 1, tenure=2), _event("bob", 2, tenure=3), _event("bob", 3)]
    records += [_event("cyd", 4), record(b"{", offset=5), _event("bob", 6, contract="Ten years")]
    found.events(records[:3], NOW_MS)
    found.events(records[3:], NOW_MS)

    rows = found.joined(90 * DAY_MS, NOW_MS + 91 * DAY_MS)

    assert sorted(zip(rows.customers, rows.positive.tolist(), strict=True)) == [("ann", True), ("bob", False)]
    assert sorted(rows.columns(FEATURES).numeric[:, 0].tolist()) == [2, 3]
    assert rows.left_out == {
        "event not_json": 1,
        "event without a label": 4,
        "label not_json": 1,
        "label of no event": 1,
    }


def test_a_batch_without_a_valid_event_is_counted_and_nothing_else():
    """The last records of a topic may all be refused."""
    found = EventJoin(FEATURES, EventMapping(), Rules())
    found.events([record(b"{", offset=0)], NOW_MS)
    assert found.newest_ms == 0
    assert found.joined(90 * DAY_MS, NOW_MS).left_out == {"event not_json": 1}


def test_no_label_by_the_horizon_is_a_negative_one_if_the_spec_says_so():
    """Only once the horizon has passed."""
    found = EventJoin(FEATURES, EventMapping(), Rules(), absent_negative=True)
    found.label(_label("ann", True), NOW_MS + 30 * DAY_MS)
    found.events([_event("ann", 0), _event("bob", 1)], NOW_MS)

    early = found.joined(90 * DAY_MS, NOW_MS + 89 * DAY_MS)
    assert (early.customers, early.left_out["event younger than the label horizon"]) == ((), 2)
    late = found.joined(90 * DAY_MS, NOW_MS + 91 * DAY_MS)
    assert sorted(zip(late.customers, late.positive.tolist(), strict=True)) == [("ann", True), ("bob", False)]


def test_the_most_recent_customers_are_held_out_with_all_their_rows():
    """A fifth of ten rows is two; ann, who came first and last, goes as a whole."""
    customers = ["ann", *"bcdefghi", "ann"]
    train, test = held_out(customers, 0.2)

    assert test.tolist() == [0, 9]
    assert train.tolist() == list(range(1, 9))


def test_two_sources_are_one_after_the_other(tmp_path):
    """The digest is of both; what was left out is added up."""
    old = read_labelled(_file(tmp_path / "a.csv", ["Yes", "No"]), NAMES, "left", "Yes", "who")
    new = read_labelled(_file(tmp_path / "b.csv", ["No", "Yes", "Yes"]), NAMES, "left", "Yes", "who")
    both = old.then(new)

    assert both.positive.tolist() == [True, False, False, True, True]
    assert both.columns(FEATURES).n == 5
    assert both.table.sha256 not in {old.table.sha256, new.table.sha256}
    table = both.with_labels("left", ("No", "Yes"), "who")
    assert table.column("left") == ["Yes", "No", "No", "Yes", "Yes"]
    assert table.column("who") == ["c0", "c1", "c0", "c1", "c2"]
    assert both.take(np.array([4, 0])).customers == ("c2", "c0")


def test_evaluate_prints_what_scikit_learn_would_say(tmp_path):
    """60 customers of the small bundle; the intervals come from drift_worker/performance/classification_metrics.py."""
    bundles.write(tmp_path / "model")
    path = _file(tmp_path / "c.csv", ["Yes" if i % 3 == 0 else "No" for i in range(60)])
    arguments = ["evaluate", "--model", str(tmp_path / "model"), "--data", str(path), "--target", "left", "--id", "who"]

    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    text = CliRunner().invoke(app, arguments).stdout

    assert found["data"]["rows"] == found["data"]["customers"] == 60
    assert found["data"]["positive"] == 20
    accuracy = found["metrics"]["accuracy"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert "expected" not in accuracy  # the small bundle has no calibration
    assert "churn-small 1.4.0 on 60 rows of 60 customers, 20 positive" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "either --data FILE or --from-topics"),
        (["--data", "x.csv", "--from-topics"], "either --data FILE or --from-topics"),
        (["--data", "x.csv"], "--target"),
        (["--from-topics", "--target", "left"], "columns of --data"),
        (["--data", "x.csv", "--target", "left", "--since", "1d"], "--since"),
        (["--data", "nowhere.csv", "--target", "left"], "nowhere.csv: No such file"),
    ],
)
def test_evaluate_says_in_one_line_what_is_wrong(tmp_path, arguments, says):
    """Exit code 2, before any request to Kafka."""
    bundles.write(tmp_path / "model")
    with pytest.raises(CommandError, match=says) as raised:
        app(["evaluate", "--model", str(tmp_path / "model"), *arguments], standalone_mode=False)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("task", "outcomes", "wrong"),
    [
        (Regression(), [12.5, 3, -7.25], True),
        (Multiclass(("gold", "silver", "tin")), ["gold", "new", "tin"], 1.5),
    ],
)
def test_outcomes_of_other_tasks_are_joined_by_the_same_rule(task, outcomes, wrong):
    """Numbers and classes; a label of another kind is left out."""
    found = EventJoin(FEATURES, EventMapping(), Rules(), task=task)
    names = ["ann", "bob", "cyd"]
    for name, outcome in zip(names, outcomes, strict=True):
        found.label(_label(name, outcome), NOW_MS + 30 * DAY_MS)
    found.label(_label("dan", wrong), NOW_MS + 30 * DAY_MS)
    found.events([_event(name, at) for at, name in enumerate([*names, "dan"])], NOW_MS)
    rows = found.joined(90 * DAY_MS, NOW_MS + 91 * DAY_MS)
    assert dict(zip(rows.customers, rows.outcome.tolist(), strict=True)) == dict(zip(names, outcomes, strict=True))
    assert rows.left_out["label envelope"] == 1
    nothing = EventJoin(FEATURES, EventMapping(), Rules(), task=task).joined(90 * DAY_MS, NOW_MS)
    assert nothing.rows == 0


def test_a_file_may_hold_numbers_or_classes(tmp_path):
    """By the task; the rows keep their order."""
    numbers = read_labelled(
        _file(tmp_path / "n.csv", ["1.5", "2", "-3"]), NAMES, "left", None, None, None, "regression"
    )
    assert numbers.outcome.tolist() == [1.5, 2.0, -3.0]
    classes = read_labelled(_file(tmp_path / "c.csv", ["a", "c", "b"]), NAMES, "left", None, "who", None, "multiclass")
    assert (classes.outcome.tolist(), classes.take(np.array([2, 0])).outcome.tolist()) == (["a", "c", "b"], ["b", "a"])
