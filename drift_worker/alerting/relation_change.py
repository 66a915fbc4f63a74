"""Relations of one window → what moved too far, and how surely.

`RelationDrift` and `SegmentDrift` have one episode each for a model, whichever features it is about. So the level is
that of a window as a whole: of T tests each has a level at which any of them in k of n windows stays within half of
their share of the budget, whether it is the same test (they share the reference) or another one (they do not).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from drift_worker.alerting.limits import (
    CLEAN_SHARE,
    NO_EVIDENCE_LOG10_P,
    RELATION_LIMITS,
    RELATION_SHARE,
    Policy,
)
from drift_worker.alerting.significance import level
from schemas.alert import AlertName
from schemas.measurement import Relation, Relations

_SEGMENT = "segment"


@dataclass(frozen=True, slots=True)
class Window:
    """What else is known of the window."""

    length: str
    #: The correlation of the statistics of two successive windows.
    resemblance: float
    #: The features, and `score`, of which a finding of their own explains a movement.
    explained: Collection[str]


@dataclass(frozen=True, slots=True)
class Moved:
    """One alert's finding: see `findings.Finding`."""

    alertname: AlertName
    grade: int = 0
    sufficient: bool = True
    clean: bool = False
    fast: bool = False
    #: The places in `Relations.moved`, the strongest first.
    places: Sequence[int] = ()


def judge_relations(policy: Policy, relations: Relations, window: Window) -> tuple[Relations, list[Moved]]:
    """Return the relations with what was found, and a finding for each alert name."""
    if relations.reason is not None:
        nothing = [Moved(name, sufficient=False) for name in (AlertName.RELATION_DRIFT, AlertName.SEGMENT_DRIFT)]
        return relations, nothing
    many, one = levels(policy, window.length, relations.tests, window.resemblance)
    segments = [at for at, found in enumerate(relations.moved) if found.kind == _SEGMENT]
    others = [at for at, found in enumerate(relations.moved) if found.kind != _SEGMENT]
    segment = _moved(AlertName.SEGMENT_DRIFT, relations, segments, window.explained, many, one)
    # a segment that moved changes correlations as well: it explains them
    explained = {*window.explained, *(name for at in segment.places for name in relations.moved[at].features)}
    relation = _moved(AlertName.RELATION_DRIFT, relations, others, explained, many, one)
    found = {moved.alertname.value: list(moved.places) for moved in (relation, segment) if moved.places}
    return replace(relations, level=many, found=found), [relation, segment]


def levels(policy: Policy, length: str, tests: int, r: float) -> tuple[float, float]:
    """Return log10 of the level of one test for k of n windows, and for a single window.

    Each of both ways to exceed twice has half of the share: the same test, whose windows have the correlation r, and
    two different ones, whose windows are independent.
    """
    confirm, length_ms, lengths = policy.confirm[length], policy.lengths[length], len(policy.lengths)
    budget = policy.budget * RELATION_SHARE / 2.0
    same = level(confirm.k, confirm.n, tests, lengths, length_ms, budget, r)
    other = level(confirm.k, confirm.n, 1, lengths, length_ms, budget, 0.0) / tests
    return math.log10(min(same, other)), math.log10(level(1, 1, tests, lengths, length_ms, budget, r))


def _moved(
    alertname: AlertName,
    relations: Relations,
    places: Sequence[int],
    explained: Collection[str],
    many: float,
    one: float,
) -> Moved:
    found = [(at, grade) for at in places if (grade := _grade(relations, relations.moved[at], many))]
    own = [(at, grade) for at, grade in found if not set(relations.moved[at].features) & set(explained)]
    if found and not own:
        return Moved(alertname, sufficient=False)
    own.sort(key=lambda pair: -_share(relations.moved[pair[0]]))
    return Moved(
        alertname,
        max((grade for _, grade in own), default=0),
        clean=not any(_stirs(relations, relations.moved[at]) for at in places),
        fast=any(grade == 2 and _log_p(relations.moved[at]) <= one for at, grade in own),
        places=[at for at, _ in own],
    )


def _grade(relations: Relations, moved: Relation, level: float) -> int:
    """Return 2 for critical, 1 for a warning, 0 for no finding: it needs effect, evidence and change."""
    warning, critical = RELATION_LIMITS[moved.kind]
    if abs(moved.effect) < warning or moved.log10_p > level:
        return 0
    if relations.learns and (moved.past is None or moved.past > level):
        return 0  # without a past nothing is a change
    return 2 if abs(moved.effect) >= critical else 1


def _stirs(relations: Relations, moved: Relation) -> bool:
    """Return whether the effect is near its limit, with evidence among that many tests."""
    limit = NO_EVIDENCE_LOG10_P - math.log10(max(1, relations.tests))
    return abs(moved.effect) >= CLEAN_SHARE * RELATION_LIMITS[moved.kind][0] and _log_p(moved) <= limit


def _log_p(moved: Relation) -> float:
    return moved.log10_p if moved.past is None else max(moved.log10_p, moved.past)


def _share(moved: Relation) -> float:
    """Return the effect as a share of its limit."""
    return abs(moved.effect) / RELATION_LIMITS[moved.kind][0]
