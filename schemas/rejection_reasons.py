"""Why a record is rejected: what its dead letter, the metric and `POST /predict` report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_DETAIL_BYTES = 512
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class Reason(StrEnum):
    """Why a record was not predicted: the header's value, the metric's label and the runbook's heading."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_DECODABLE = "not_decodable"
    SCHEMA_INCOMPATIBLE = "schema_incompatible"
    ENVELOPE = "envelope"
    EVENT_TIME_IN_FUTURE = "event_time_in_future"
    MISSING_FEATURE = "missing_feature"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    NOT_FINITE = "not_finite"
    UNKNOWN_FIELD = "unknown_field"
    MODEL_ERROR = "model_error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one record is rejected: the reason, and one ASCII line of at most 512 bytes that a person can act on.

    `path` is the place in the event, outermost name first, for errors that are addressed to a program.
    """

    reason: Reason
    detail: str
    path: tuple[str, ...] = ()


class RejectedError(Exception):
    """Carry a rejection out of a check. `detail` is made one ASCII line here, and cut."""

    def __init__(self, reason: Reason, detail: str, path: Sequence[str] = ()) -> None:
        super().__init__(reason)
        clean = detail.encode("ascii", "backslashreplace").decode()
        self.rejection = Rejection(reason, _CONTROL.sub(" ", clean)[:MAX_DETAIL_BYTES], tuple(path))
