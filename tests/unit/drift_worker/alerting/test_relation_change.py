"""Relations of one window → findings: effect, evidence, change, and one movement, one alert."""

import math

import pytest

from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.alerting.relation_change import Window, judge_relations, levels
from schemas.alert import AlertName
from schemas.measurement import Relation, Relations

HOUR = 3_600_000
POLICY = Policy(
    lengths={"15m": HOUR // 4, "1h": HOUR, "24h": 24 * HOUR},
    confirm={"15m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)},
)


def _relation(kind="correlation", features=("a", "b"), effect=0.3, log10_p=-20.0, past=-20.0, **more):
    return Relation(
        kind=kind,
        features=list(features),
        before=0.5,
        now=0.5 + effect,
        effect=effect,
        log10_p=log10_p,
        past=past,
        **more,
    )


def _judge(*moved, explained=(), learns=True, length="15m", reason=None):
    relations = Relations(events=1500, effective=1400.0, tests=1000, learns=learns, moved=list(moved), reason=reason)
    judged, found = judge_relations(POLICY, relations, Window(length, 0.1, set(explained)))
    return judged, {one.alertname: one for one in found}


def _grades(*moved, **more):
    found = _judge(*moved, **more)[1]
    return found[AlertName.RELATION_DRIFT].grade, found[AlertName.SEGMENT_DRIFT].grade


def test_the_level_of_a_window_stays_within_its_share_of_the_budget():
    """Any of T tests in two of three windows: by the same test or by two, as often as a fifth of a page a month."""
    many, one = levels(POLICY, "15m", 1000, 0.0)
    a, windows = 10.0**many, 2880 * 3
    assert windows * 2 * ((1000 * a) ** 2 + 1000 * a * a) <= 0.2 * 1.001
    assert windows * 1000 * 10.0**one == pytest.approx(0.1)
    assert one < many
    day = 10.0 ** levels(POLICY, "24h", 1000, 0.0)[0]
    assert 90 * 1000 * day <= 0.1 * 1.001


@pytest.mark.parametrize(
    ("relation", "grades"),
    [
        (_relation(), (1, 0)),
        (_relation(effect=-0.45), (2, 0)),
        (_relation(effect=0.19), (0, 0)),
        (_relation(log10_p=-4.0), (0, 0)),
        (_relation(past=-4.0), (0, 0)),
        (_relation(past=None), (0, 0)),
        (_relation("association", effect=0.25, categories=["x", "y"]), (1, 0)),
        (_relation("score", ["score"], effect=-0.9), (2, 0)),
        (_relation("segment", effect=0.45, categories=["x"]), (0, 0)),
        (_relation("segment", effect=-0.6, categories=["x"]), (0, 1)),
        (_relation("segment", effect=1.2, categories=["x"]), (0, 2)),
    ],
)
def test_a_finding_needs_effect_evidence_and_change(relation, grades):
    """Each of the kinds has limits of its own."""
    assert _grades(relation) == grades


def test_a_day_has_no_past_and_needs_none():
    """Windows that do not learn are compared with the reference alone."""
    assert _grades(_relation(past=None), learns=False, length="24h") == (1, 0)


def test_what_one_feature_explains_is_no_finding_of_two():
    """Neither opened nor ended: the feature's own alert is the alert."""
    found = _judge(_relation(), explained=["b"])[1][AlertName.RELATION_DRIFT]
    assert (found.grade, found.sufficient) == (0, False)
    assert _grades(_relation(), _relation(features=["c", "d"]), explained=["b"]) == (1, 0)
    assert _grades(_relation("score", ["score"]), explained=["score"]) == (0, 0)


def test_a_segment_explains_the_relations_of_its_features():
    """One movement, one alert: the segment's is the more precise one."""
    segment = _relation("segment", ["a", "plan"], effect=0.8, categories=["x"])
    judged, found = _judge(_relation(), segment)
    assert (found[AlertName.RELATION_DRIFT].sufficient, found[AlertName.SEGMENT_DRIFT].grade) == (False, 1)
    assert judged.found == {"SegmentDrift": [1]}
    assert _grades(_relation(features=["c", "d"]), segment) == (1, 1)


def test_the_strongest_comes_first():
    """By effect over its limit; an alert's evidence lists them in this order."""
    judged, _ = _judge(_relation(effect=0.3), _relation(features=["c", "d"], effect=0.5))
    assert judged.found == {"RelationDrift": [1, 0]}
    assert judged.level == pytest.approx(levels(POLICY, "15m", 1000, 0.1)[0])


def test_one_window_is_enough_for_what_is_critical_and_sure():
    """As of a feature's drift."""
    assert _judge(_relation(effect=0.5))[1][AlertName.RELATION_DRIFT].fast
    assert not _judge(_relation(effect=0.3))[1][AlertName.RELATION_DRIFT].fast


def test_an_episode_ends_where_nothing_is_near_its_limit():
    """Four fifths of the limit with evidence is not clean; without it, it is."""
    assert _judge()[1][AlertName.RELATION_DRIFT].clean
    assert not _judge(_relation(effect=0.17))[1][AlertName.RELATION_DRIFT].clean
    assert _judge(_relation(effect=0.17, log10_p=-2.0))[1][AlertName.RELATION_DRIFT].clean
    assert _judge(_relation(effect=0.12))[1][AlertName.RELATION_DRIFT].clean


def test_a_window_that_is_not_known_decides_nothing():
    """Too few events, or some that an older version counted."""
    found = _judge(reason="not_enough_data")[1]
    assert {one.sufficient for one in found.values()} == {False}
    assert math.isfinite(levels(POLICY, "1h", 1, 0.0)[0])
    many, one = levels(POLICY, "15m", 1000, 0.1)
    between = (many + one) / 2.0
    found = _judge(_relation(effect=0.5, log10_p=between, past=between))[1][AlertName.RELATION_DRIFT]
    assert (found.grade, found.fast) == (2, False)
