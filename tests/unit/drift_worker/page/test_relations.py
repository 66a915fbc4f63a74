"""The card of what moved between features."""

from msgspec.structs import replace
from support.measured import Page as _Read
from support.measured import feature as _feature
from support.measured import history as _history
from support.measured import measurement as _measurement

from drift_worker.page.relations import relations
from schemas.measurement import Relation, Relations

MOVED = (
    Relation(kind="segment", features=["usage", "<b>"], categories=["x"], before=0, now=2, effect=1.6, log10_p=-60),
    Relation(kind="score", features=["score"], before=0.9, now=0.89, effect=-0.01, log10_p=-0.2),
)


def _card(found):
    measured = replace(_measurement(0, features={"usage": _feature(0.01)}), relations=found)
    return relations(_history(measured).story())


def test_without_relations_there_is_no_card():
    """An earlier version measured, or the reference keeps none."""
    assert _card(None) is None


def test_the_largest_movements_are_named_with_their_limits():
    """Names are data: they are escaped."""
    found = Relations(events=1500, effective=1400.0, tests=900, moved=list(MOVED), found={"SegmentDrift": [0]})
    text = str(_card(found))
    assert "a number within a category" in text
    assert "+1.60 sd" in text
    assert "±0.50 sd" in text
    assert "&lt;b&gt;" in text
    assert "<strong>a number" in text
    assert "<strong>the score" not in text
    assert "900 tests of 1,500 events" in text
    _Read(_card(found))


def test_what_is_not_known_has_a_reason():
    """In words."""
    assert "too few independent events" in str(_card(Relations(reason="not_enough_data")))
