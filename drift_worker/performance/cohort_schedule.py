"""When cohorts are evaluated, and when their records are handed over. The transitions are data; tests walk every cell.

Two machines, because a reader that lost its connection begins again while a transaction is still under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """What the evaluator of cohorts is doing."""

    REPLAYING = "replaying"  # it reads the label state from the beginning to where it ended then
    IDLE = "idle"  # no cohort is due
    WAITING_FOR_INPUTS = "waiting_for_inputs"  # cohorts are due; stage 1 has yet to read what was on its inputs then
    READING_UP = "reading_up"  # stage 1 has read it; what it wrote until then is read
    READY = "ready"  # the due cohorts are complete, and are evaluated next


class Event(StrEnum):
    """What changes the phase."""

    RESTARTED = "restarted"  # the label state is read again from the beginning
    READ_TO_END = "read_to_end"  # the label state is read to the end that was noted
    COHORTS_DUE = "cohorts_due"  # there are cohorts all of whose predictions are older than the horizon
    INPUTS_READ = "inputs_read"  # stage 1 has committed the ends of its inputs that were noted
    EVALUATED = "evaluated"  # final cohorts in READY, provisional ones in IDLE and WAITING_FOR_INPUTS


_P, _E = Phase, Event
#: (phase, event) → the next phase. A pair that is absent cannot happen.
PHASES: Mapping[tuple[Phase, Event], Phase] = {
    (_P.REPLAYING, _E.RESTARTED): _P.REPLAYING,
    (_P.REPLAYING, _E.READ_TO_END): _P.IDLE,
    (_P.IDLE, _E.RESTARTED): _P.REPLAYING,
    (_P.IDLE, _E.COHORTS_DUE): _P.WAITING_FOR_INPUTS,
    (_P.IDLE, _E.EVALUATED): _P.IDLE,
    (_P.WAITING_FOR_INPUTS, _E.RESTARTED): _P.REPLAYING,
    (_P.WAITING_FOR_INPUTS, _E.INPUTS_READ): _P.READING_UP,
    (_P.WAITING_FOR_INPUTS, _E.EVALUATED): _P.WAITING_FOR_INPUTS,
    (_P.READING_UP, _E.RESTARTED): _P.REPLAYING,
    (_P.READING_UP, _E.READ_TO_END): _P.READY,
    (_P.READY, _E.RESTARTED): _P.REPLAYING,
    (_P.READY, _E.EVALUATED): _P.IDLE,
}
#: Phases in which the label state is read to a noted end, without any evaluation.
READING = frozenset({Phase.REPLAYING, Phase.READING_UP})


class HandOver(StrEnum):
    """Where the records of the last evaluation are."""

    EMPTY = "empty"  # there are none
    WAITING = "waiting"  # the evaluator's next transaction takes them
    IN_TRANSACTION = "in_transaction"  # they are taken and not committed yet


class Step(StrEnum):
    """What moves the records on."""

    OFFERED = "offered"
    TAKEN = "taken"
    COMMITTED = "committed"


#: (state, step) → the next state. A pair that is absent cannot happen.
HAND_OVERS: Mapping[tuple[HandOver, Step], HandOver] = {
    (HandOver.EMPTY, Step.OFFERED): HandOver.WAITING,
    (HandOver.WAITING, Step.TAKEN): HandOver.IN_TRANSACTION,
    (HandOver.IN_TRANSACTION, Step.COMMITTED): HandOver.EMPTY,
}
