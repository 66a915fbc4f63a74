"""The plan of a demonstration, and its progress."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from schemas.alert import Alert

FEATURE = "monthly_charges"


@dataclass(frozen=True)
class Plan:
    """The times of the plan: seconds since the first event."""

    rate: float
    drift_from_s: float
    drift_until_s: float
    bad_share: Fraction = Fraction(1, 200)

    @property
    def drift(self) -> str:
        """Return the drift in the form that `driftline produce --drift` takes."""
        return f"{FEATURE}:shift=+25@{self.drift_from_s:g}s..{self.drift_until_s:g}s"


@dataclass(frozen=True)
class Announced:
    """One alert, and when it arrived (seconds since the first event)."""

    at_s: float
    alert: Alert

    def concerns(self, feature: str) -> bool:
        """Return whether it is about this feature, alone or in a group."""
        members = [member["feature"] for member in self.alert.members()]
        return feature in {self.alert.labels.get("feature"), *members}


@dataclass
class Progress:
    """The values that the view shows."""

    plan: Plan
    started: float = 0.0
    produced: int = 0
    scorer: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    alerts: list[Announced] = field(default_factory=list)
    phase: str = ""

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the first event."""
        return time.monotonic() - self.started if self.started else 0.0
