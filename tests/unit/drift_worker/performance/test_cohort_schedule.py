"""When cohorts are evaluated: every cell of the two tables, and the course of a day."""

import itertools

import pytest

from drift_worker.performance.cohort_schedule import HAND_OVERS, PHASES, READING, Event, HandOver, Phase, Step


def _after(*events, phase=Phase.REPLAYING):
    for event in events:
        phase = PHASES[phase, event]
    return phase


def test_a_due_cohort_is_evaluated_after_its_inputs_and_what_they_became_are_read():
    """A partition that is behind would otherwise be missing from the cohort for ever."""
    day = (Event.READ_TO_END, Event.COHORTS_DUE, Event.INPUTS_READ, Event.READ_TO_END)
    assert _after(*day) is Phase.READY
    assert _after(*day, Event.EVALUATED) is Phase.IDLE
    # there is no other way to it
    before = {after: {phase for phase, event in PHASES if PHASES[phase, event] is after} for after in Phase}
    assert before[Phase.READY] == {Phase.READING_UP}
    assert before[Phase.READING_UP] == {Phase.WAITING_FOR_INPUTS}


def test_provisional_cohorts_are_shown_while_inputs_are_behind():
    """The evaluation neither ends the wait nor makes the due cohorts final."""
    assert _after(Event.EVALUATED, phase=Phase.WAITING_FOR_INPUTS) is Phase.WAITING_FOR_INPUTS
    assert _after(Event.EVALUATED, phase=Phase.IDLE) is Phase.IDLE


@pytest.mark.parametrize("phase", Phase)
def test_a_lost_connection_begins_again(phase):
    """Facts that are known change nothing, and due cohorts are found again."""
    assert PHASES[phase, Event.RESTARTED] is Phase.REPLAYING


@pytest.mark.parametrize("phase", sorted(READING))
def test_nothing_is_evaluated_while_the_label_state_is_read(phase):
    """Half of the facts are another cohort."""
    assert {event for event in Event if (phase, event) in PHASES} == {Event.RESTARTED, Event.READ_TO_END}


def test_every_phase_is_reached_and_left():
    """No phase is a trap, and none is dead."""
    reached, todo = set(), {Phase.REPLAYING}
    while todo:
        reached |= todo
        todo = {PHASES[cell] for cell in itertools.product(reached, Event) if cell in PHASES} - reached
    assert reached == set(Phase)
    for phase in Phase:
        assert {PHASES[phase, event] for event in Event if (phase, event) in PHASES} - {phase}


def test_records_are_offered_taken_and_committed_in_this_order_only():
    """Records that are taken cannot be replaced before the transaction ends, and none is written twice."""
    cycle = {HandOver.EMPTY: Step.OFFERED, HandOver.WAITING: Step.TAKEN, HandOver.IN_TRANSACTION: Step.COMMITTED}
    assert {cell for cell in itertools.product(HandOver, Step) if cell in HAND_OVERS} == set(cycle.items())
    state = HandOver.EMPTY
    for _ in range(3):
        state = HAND_OVERS[state, cycle[state]]
    assert state is HandOver.EMPTY
