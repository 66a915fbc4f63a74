"""How good the alerts are, on streams whose truth is known: false ones, missed ones, late ones, repeated ones.

Rows are those of docs/quality.md, each at a strength that fits into every run. `make quality` measures the same rows at
the strength of the bars and writes them down. The streams are drawn from fixed seeds: a row is reached always or never.
"""

from __future__ import annotations

import sys

import pytest
from quality import natural, rows, together
from quality.rows import Row

from schemas.task import TaskName


def holds(row: Row) -> None:
    """The row has reached its bar; what was measured is shown when it has not."""
    sys.stdout.write(f"{row}\n")
    assert row.reached, row


@pytest.mark.parametrize("n", [1000, 7000])
@pytest.mark.parametrize(("m", "length"), [(500, "15m"), (500, "24h"), (1500, "1h"), (10_000, "24h")])
def test_without_drift_nobody_is_called(n: int, m: int, length: str) -> None:
    """(a) 25 features, references shared by all their windows: not one episode."""
    holds(rows.without_drift(n, m, length, references=2, windows=20 if m == 10_000 else 40))


def test_the_budget_holds_before_the_gates_help() -> None:
    """(a) Evidence in two of three windows is rare enough by itself."""
    holds(rows.without_gates(references=3, windows=40))


def test_a_fifth_of_a_standard_deviation_is_evident() -> None:
    """(b) 0.2 sd at m = 1,000 and n = 5,000: in nine of ten windows the rule calls it significant."""
    holds(rows.evidence(5000, trials=80))


@pytest.mark.parametrize("name", together.MOVEMENTS)
def test_one_movement_is_one_alert(name: str) -> None:
    """(f) Two messages, though the day that holds the movement differs from the reference as well."""
    holds(rows.one_movement(name, trials=1))


@pytest.mark.parametrize("name", rows.KINDS)
def test_what_matters_is_said_within_three_windows(name: str) -> None:
    """(c) n = 7,000, m = 1,500: 95 of 100 drifts fire within three windows, at least as severe as they are."""
    holds(rows.found(name, trials=10))


def test_what_is_significant_and_harmless_is_no_alert() -> None:
    """(d) 0.15 sd in every feature at m = 150,000: hugely significant, below every limit."""
    holds(rows.harmless(references=1, windows=3))


@pytest.mark.parametrize(("customers", "times"), [(750, 2), (600, 5), (600, 20)])
def test_customers_who_repeat_themselves_call_nobody(customers: int, times: int) -> None:
    """(e) The same event 2, 5 or 20 times is one event: no episode."""
    holds(rows.identical_repeats(customers, times, references=1, windows=15))


def test_one_customer_with_a_fifth_of_the_events_calls_nobody() -> None:
    """(e) One customer's 300 equal events among 1,500 move every feature, and no alert fires."""
    holds(rows.loud_customer(references=3, windows=8))


def test_repeats_that_are_independent_cost_no_recall() -> None:
    """(e) 0.3 sd in 300 customers × 5 different events is found as in 1,500 customers, within 5 points."""
    holds(rows.independent_repeats(trials=10))


def test_an_episode_is_two_messages() -> None:
    """(f) 0.45 sd held for two days of quarter hours: firing and resolved, and at most one more."""
    holds(rows.messages(trials=1))


def test_on_call_hears_of_it_in_half_an_hour() -> None:
    """(g) 0.5 sd from any moment of a quarter hour on: half of the pages within 31 minutes, nine of ten within 36."""
    holds(rows.minutes_to_page(trials=20))


def test_a_critical_effect_is_said_after_one_window() -> None:
    """(g) One standard deviation needs no second window."""
    holds(rows.critical_at_once(trials=2))


def test_traps_are_named_and_raise_nothing() -> None:
    """(i) NaN, ±∞, another type, an outlier, all missing, a constant, a short window, everything twice."""
    holds(rows.traps())


@pytest.mark.parametrize("name", ["batches", "breathing", "offset"])
def test_a_stream_that_varies_calls_nobody_while_it_is_learnt(name: str) -> None:
    """(l) The first half day of streams whose neighbouring events are alike, or that are harmlessly off."""
    stream = natural.Days(name, 0)
    stream.run(natural.DAY // 2)
    assert stream.engine.pages == 0


@pytest.mark.parametrize("task", rows.PREDICTED)
def test_predictions_of_other_tasks_call_nobody_unless_they_move(task: TaskName) -> None:
    """(q) Half a day of batches, and of independent customers: silence. Then odds that move: one page, about them."""
    for name in ("batches", "steady"):
        stream = natural.Days(name, 0, task=task)
        stream.run(natural.DAY // 2)
        assert stream.about_the_prediction == 0
    stream.run(4, moved=0.8)
    assert stream.about_the_prediction == 1


def test_a_drift_in_batches_is_found() -> None:
    """(m) Half a standard deviation in another feature: found within four quarter hours, beside what varies."""
    stream = natural.Days("batches", 3)
    stream.run(24)
    found = stream.run(4, 0.5)
    assert found is not None
    assert {a.labels["feature"] for a in stream.engine.alerts} == {"age"}


@pytest.mark.parametrize("name", ["steady", "batches"])
def test_a_small_stream_is_watched_by_the_quarter_hour(name: str) -> None:
    """(r) 100 events a quarter hour: silence for half a day while they are learnt, then 0.5 sd within an hour or so."""
    stream = natural.Days(name, 1002, m=rows.SMALL)
    stream.run(natural.DAY // 2)
    assert stream.engine.pages == 0
    assert stream.run(5, 0.5) is not None
    alert = stream.engine.alerts[0]
    assert alert.labels["feature"] == "age"
    assert alert.evidence["span"]["windows"] == 4
    assert alert.evidence["sample"]["events"] == 400
    sent = len(stream.engine.alerts)
    stream.run(12)
    assert [a.status for a in stream.engine.alerts if a.labels["feature"] == "age"][-1] == "resolved"
    assert len(stream.engine.alerts) - sent <= 2


def test_a_day_of_batches_is_no_drift() -> None:
    """(r) 96 batches of one region move a day by a tenth: what quarter hours vary by is no evidence in a day."""
    stream = natural.Days("batches", 0, m=rows.SMALL)
    stream.run(natural.DAY)
    assert stream.engine.pages == 0


@pytest.mark.parametrize("name", rows.DAMAGE)
def test_damage_to_a_few_values_is_found(name: str) -> None:
    """(n) A unit error or a stuck sensor in a few per cent of the rows, which PSI and D do not see."""
    holds(rows.damaged(name, trials=3))


@pytest.mark.parametrize("name", together.DRIFTS)
def test_what_no_feature_alone_shows_is_found(name: str) -> None:
    """(o) A segment, a rotation, a wrong column, exchanged labels, shuffled scores: named within three windows."""
    holds(rows.found_together(name, trials=3))


def test_the_cause_of_a_movement_of_the_score_comes_first() -> None:
    """(p) Not its twin that the model never reads, although that moved as well."""
    holds(rows.cause(trials=15))


def test_relations_are_silent_where_only_a_marginal_moved() -> None:
    """(o) Nobody is called for a relation without drift, for a number that moves everywhere, or for another mix."""
    holds(rows.quiet_together(streams=2, windows=20))
