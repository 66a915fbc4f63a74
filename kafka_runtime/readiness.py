"""The reasons of `/readyz`, and the reason that the state of a partition gives."""

from __future__ import annotations

from enum import StrEnum

from kafka_runtime.processor import State


class NotReady(StrEnum):
    """Reasons for a 503 of `/readyz`: a closed set."""

    STARTING = "starting"
    NO_MODEL = "no_model"
    BROKER_UNREACHABLE = "broker_unreachable"
    NOT_IN_GROUP = "not_in_group"
    FENCING = "fencing"
    TOPIC_MISSING = "topic_missing"
    NOT_AUTHORISED = "not_authorised"
    DEAD_LETTER_LIMIT = "dead_letter_limit"
    TOO_MANY_OPEN_FILES = "too_many_open_files"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    INPUT_BLOCKED = "input_blocked"
    QUARANTINED = "quarantined"
    OFFSET_LOST = "offset_lost"
    OTHER_MODEL = "other_model"
    DRAINING = "draining"


# The states in which a partition is not served; every other state gives no reason.
REASON_OF_STATE = {
    State.FENCING: NotReady.FENCING,
    State.BACKING_OFF: NotReady.FENCING,
    State.NOT_AUTHORISED: NotReady.NOT_AUTHORISED,
    State.TOPIC_MISSING: NotReady.TOPIC_MISSING,
    State.OFFSET_LOST: NotReady.OFFSET_LOST,
    State.REGISTRY_UNREACHABLE: NotReady.REGISTRY_UNREACHABLE,
    State.INPUT_BLOCKED: NotReady.INPUT_BLOCKED,
    State.QUARANTINED: NotReady.QUARANTINED,
}
