"""What is too much: the limits, the windows that confirm, and what counts as over again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from schemas.alert import AlertName
from schemas.measurement import TRAINING, WEEK

# Differences of a rate from the reference's. The second ones are ours: where most of a feature's use is in danger.
MISSING_WARNING, MISSING_CRITICAL = 0.05, 0.20
UNSEEN_WARNING, UNSEEN_CRITICAL = 0.01, 0.10
# The statistics whose limits are not those of the effect: shares of a number's values, (warning, critical).
OWN_LIMITS: Mapping[str, tuple[float, float]] = {"out_of_range_ratio": (0.01, 0.10), "spike_ratio": (0.03, 0.20)}
# How much a relation must move, by its kind, (warning, critical): a correlation, an association, or how the score
# follows the features; of a segment in standard deviations of the reference.
RELATION_LIMITS: Mapping[str, tuple[float, float]] = {
    "correlation": (0.2, 0.4),
    "association": (0.2, 0.4),
    "score": (0.2, 0.4),
    "segment": (0.5, 1.0),
}
# Of the budget of false alerts, where relations are measured: they are few alerts with many tests.
RELATION_SHARE = 0.2
# An effect is over when it is below this share of its warning limit, so that it does not flicker around it.
CLEAN_SHARE = 0.8
# Above this p-value a window is no evidence of a difference, however large the effect of a few events looks.
NO_EVIDENCE_LOG10_P = math.log10(0.2)
# The textbook's own numbers.
CLASSIC_ACT, CLASSIC_WATCH, CLASSIC_LOG10_P = 0.2, 0.1, math.log10(0.05)
# Findings that a season may explain. All others compare with the reference under any baseline.
SEASONAL = frozenset({AlertName.FEATURE_DRIFT, AlertName.PREDICTION_DRIFT, AlertName.CLASSIC})
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Confirm:
    """An alert needs k of n windows of a length."""

    #: Windows that must exceed.
    k: int
    #: The last windows that are looked at.
    n: int


@dataclass(frozen=True, slots=True)
class Policy:
    """What is too much."""

    #: The windows, shortest first: label → milliseconds.
    lengths: Mapping[str, int]
    #: By label.
    confirm: Mapping[str, Confirm]
    #: Our rule, or the textbook's.
    kind: Literal["calibrated", "classic"] = "calibrated"
    #: False alerts per 30 days.
    budget: float = 1.0
    #: From which effect on a finding is a warning.
    effect_warning: float = 0.1
    #: From which effect on a finding is critical.
    effect_critical: float = 0.2
    #: A feature's own (warning, critical), where the bundle has them.
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    #: What distributions in windows under a day are compared with.
    baseline: Literal["training", "week"] = TRAINING

    def against(self, length: str) -> str:
        """Return what a distribution in a window of this length must have been compared with to count."""
        return WEEK if self.baseline == WEEK and self.lengths[length] < _DAY_MS else TRAINING

    def learns(self, length: str) -> bool:
        """Return whether windows of this length are compared with the calm past of their stream as well.

        Windows of a day and more never are: they are compared with the reference alone, so that no movement becomes
        usual by being slow. Without such a length among the windows no other one is.
        """
        return self.lengths[length] < _DAY_MS <= max(self.lengths.values())

    def limits_of(self, feature: str | None) -> tuple[float, float]:
        """Return (warning, critical) of the effect of a feature, or of the score."""
        return self.limits.get(feature or "", (self.effect_warning, self.effect_critical))

    @property
    def longest(self) -> str:
        """Return the label of the longest window."""
        return list(self.lengths)[-1]

    def stated(self) -> dict[str, Any]:
        """Return the policy as a measurement holds it, JSON."""
        stated: dict[str, Any] = msgspec.to_builtins(self)
        return stated

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Policy:
        """Return the policy that a measurement holds; ValueError if it is none."""
        try:
            return msgspec.convert(stated, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"policy: {error}") from None
