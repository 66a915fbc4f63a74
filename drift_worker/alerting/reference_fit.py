"""Does the stream fit the reference at all? Drift is a change in time; a difference from the first window on is none.

Training has, for instance, one row per customer, while a stream is weighted by activity. Such a difference exists from
the beginning. It is no producer's fault, and only another reference ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec

from drift_worker.alerting.findings import Finding, Grade
from drift_worker.alerting.limits import Policy
from schemas.alert import AlertName
from schemas.measurement import WEEK

# Alerts that compare a distribution with the reference's. Missing values and unseen categories keep their separate
# alert names from the first window on: the name leads to the team in charge.
COMPARED = frozenset({AlertName.FEATURE_DRIFT, AlertName.PREDICTION_DRIFT})


class Fit(StrEnum):
    """What is known of one subject since the reference started."""

    UNKNOWN = "unknown"  # neither clean nor exceeding so far
    FITS = "fits"  # it was clean once, or stayed below its limit for N windows: what exceeds from here on has changed
    DIFFERS = "differs"  # it exceeded among the first N windows, and was never clean


class Seen(IntEnum):
    """What the windows that closed together show; the strongest sign against a mismatch counts."""

    NOTHING = 0
    EXCEEDED_EARLY = 1  # among the first N windows of a length
    EXCEEDED_LATE = 2  # after them
    CLEAN = 3


_F, _S = Fit, Seen
TRANSITIONS: Mapping[tuple[Fit, Seen], Fit] = {
    (_F.UNKNOWN, _S.NOTHING): _F.UNKNOWN,
    (_F.UNKNOWN, _S.EXCEEDED_EARLY): _F.DIFFERS,
    (_F.UNKNOWN, _S.EXCEEDED_LATE): _F.FITS,
    (_F.UNKNOWN, _S.CLEAN): _F.FITS,
    (_F.FITS, _S.NOTHING): _F.FITS,
    (_F.FITS, _S.EXCEEDED_EARLY): _F.FITS,
    (_F.FITS, _S.EXCEEDED_LATE): _F.FITS,
    (_F.FITS, _S.CLEAN): _F.FITS,
    (_F.DIFFERS, _S.NOTHING): _F.DIFFERS,
    (_F.DIFFERS, _S.EXCEEDED_EARLY): _F.DIFFERS,
    (_F.DIFFERS, _S.EXCEEDED_LATE): _F.DIFFERS,
    (_F.DIFFERS, _S.CLEAN): _F.FITS,
}


class Standing(msgspec.Struct):
    """How one subject fits the reference."""

    #: What is known so far.
    fit: Fit = Fit.UNKNOWN
    #: Windows with enough data per length, counted up to its N.
    windows: dict[str, Annotated[int, msgspec.Meta(ge=0)]] = msgspec.field(default_factory=dict)

    def note(self, policy: Policy, findings: Sequence[tuple[str, Finding]]) -> None:
        """Take in the findings, (length, finding), of the windows that end together."""
        seen = Seen.NOTHING
        for length, finding in findings:
            if not finding.sufficient:
                continue
            if policy.against(length) == WEEK:
                # it differs from past weeks, so it has changed; equality with them proves nothing about the reference
                seen = seen if finding.grade is Grade.NONE else max(seen, Seen.EXCEEDED_LATE)
                continue
            first, before = policy.confirm[length].n, self.windows.get(length, 0)
            self.windows[length] = min(first, before + 1)
            if finding.clean:
                seen = Seen.CLEAN
            elif finding.grade is not Grade.NONE:
                seen = max(seen, Seen.EXCEEDED_EARLY if before < first else Seen.EXCEEDED_LATE)
        self.fit = TRANSITIONS[self.fit, seen]
