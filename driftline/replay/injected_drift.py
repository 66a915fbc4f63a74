"""Injected drift: the meaning of `--drift`, and its effect on one value of one event.

    FEATURE:KIND=VALUE[@FROM[..TO]]        FROM and TO: time since the start, 30s, 2m, 1500ms; without them: always

    monthly_charges:shift=+25@30s..90s            add to a number
    tenure:scale=0.5@30s                          multiply a number
    contract:swap=Month-to-month>Two year:0.5     turn this share of one category (or true, false) into another
    total_charges:missing=0.2@10s                 leave out this share of a nullable feature
    payment_method:unseen=0.1@10s                 give this share a category that training never saw

Numbers stay within the feature's min and max, whole numbers stay whole, missing values stay missing.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.bundle.inputs import Feature
from schemas.features import Value
from schemas.validation import NUMERIC_LIMIT

DriftKind = Literal["shift", "scale", "swap", "missing", "unseen"]

UNSEEN_CATEGORY = "not seen before"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOMENTS = re.compile(r"@(\d+)(ms|s|m|h|d)(?:\.\.(\d+)(ms|s|m|h|d))?$")
_KINDS: dict[str, tuple[str, ...]] = {
    "shift": ("numeric",),
    "scale": ("numeric",),
    "swap": ("categorical", "boolean"),
    "missing": ("numeric", "categorical", "boolean"),
    "unseen": ("categorical",),
}


class DriftSpecError(Exception):
    """A `--drift` that cannot be parsed or does not fit the features. The text is one line."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One injected change. amount: shift's or scale's number; share: 0 to 1; seconds since the start, [start, end)."""

    feature: Feature
    kind: DriftKind
    amount: float = 0.0
    share: float = 1.0
    old: Value = None
    new: Value = None
    start_s: float = 0.0
    end_s: float = math.inf

    def active(self, elapsed_s: float) -> bool:
        """Return whether it is in force at this time since the start, in seconds."""
        return self.start_s <= elapsed_s < self.end_s

    def apply(self, value: Value, chance: random.Random, *, whole: bool) -> Value:
        """Return the changed value; `whole` keeps a number whole. Draws from `chance` only for a share."""
        if self.kind == "missing":
            return None if chance.random() < self.share else value
        if value is None:
            return None
        if self.kind == "swap":
            return self.new if value == self.old and chance.random() < self.share else value
        if self.kind == "unseen":
            return UNSEEN_CATEGORY if chance.random() < self.share else value
        number = float(value) + self.amount if self.kind == "shift" else float(value) * self.amount
        low = -(NUMERIC_LIMIT - 1) if self.feature.min is None else self.feature.min
        high = NUMERIC_LIMIT - 1 if self.feature.max is None else self.feature.max
        # To a millionth, so that an amount of money does not become 95.44999999999999.
        number = min(max(round(number, 6), low), high)
        return round(number) if whole and low <= round(number) <= high else number


def parse_drift(text: str, features: Sequence[Feature]) -> Drift:
    """Parse one `--drift` for these features; DriftSpecError names the part that is wrong."""
    body, start, end = _moments(text)
    name, colon, rest = body.partition(":")
    kind, equals, argument = rest.partition("=")
    if not (colon and equals and argument):
        raise DriftSpecError(f"{text!r}: expected FEATURE:KIND=VALUE[@FROM[..TO]]")
    feature = next((f for f in features if f.name == name), None)
    if feature is None:
        raise DriftSpecError(f"{text!r}: no feature {name!r}; there are {', '.join(f.name for f in features)}")
    if kind not in _KINDS:
        raise DriftSpecError(f"{text!r}: no drift {kind!r}; there are {', '.join(_KINDS)}")
    if feature.kind not in _KINDS[kind]:
        raise DriftSpecError(f"{text!r}: {kind} is for {' and '.join(_KINDS[kind])} features, {name} is {feature.kind}")
    match kind:
        case "shift" | "scale":
            return Drift(feature, kind, amount=_number(text, argument), start_s=start, end_s=end)
        case "swap":
            return _swap(text, feature, argument, start, end)
        case "missing" if not feature.nullable:
            raise DriftSpecError(f"{text!r}: {name} is not nullable, so events without it would be rejected")
    return Drift(feature, kind, share=_share(text, argument), start_s=start, end_s=end)  # type: ignore[arg-type]


def _moments(text: str) -> tuple[str, float, float]:
    match = _MOMENTS.search(text)
    if match is None:
        if "@" in text:
            raise DriftSpecError(f"{text!r}: after @ expected a time such as 30s, or 30s..90s")
        return text, 0.0, math.inf
    first, first_unit, last, last_unit = match.groups()
    start = int(first) * _SECONDS[first_unit]
    end = int(last) * _SECONDS[last_unit] if last else math.inf
    if end <= start:
        raise DriftSpecError(f"{text!r}: ends before it starts")
    return text[: match.start()], start, end


def _swap(text: str, feature: Feature, argument: str, start: float, end: float) -> Drift:
    names, colon, share = argument.rpartition(":")
    if not colon:
        names, share = argument, "1"
    old, arrow, new = (part.strip() for part in names.partition(">"))
    if not (old and arrow and new):
        raise DriftSpecError(f"{text!r}: expected swap=OLD>NEW:SHARE")
    known: dict[str, Value] = {name: name for name in feature.categories or ()}
    if feature.kind == "boolean":
        known = {"true": True, "false": False}
    for name in (old, new):
        if name not in known:
            raise DriftSpecError(f"{text!r}: {feature.name} has no {name!r}; there are {', '.join(known)}")
    return Drift(feature, "swap", share=_share(text, share), old=known[old], new=known[new], start_s=start, end_s=end)


def _number(text: str, argument: str) -> float:
    try:
        number = float(argument)
    except ValueError:
        number = math.nan
    if not abs(number) < NUMERIC_LIMIT:
        raise DriftSpecError(f"{text!r}: {argument!r} is not a number")
    return number


def _share(text: str, argument: str) -> float:
    share = _number(text, argument)
    if not 0.0 < share <= 1.0:
        raise DriftSpecError(f"{text!r}: {argument!r} is not a share above 0 and at most 1")
    return share
