"""The card of what moved between features."""

import pytest
from msgspec.structs import replace
from support.measured import START_MS
from support.measured import Page as _Read
from support.measured import alert as _alert
from support.measured import feature as _feature
from support.measured import history as _history
from support.measured import measurement as _measurement

from drift_worker.page.relations import relations
from schemas.alert import fingerprint
from schemas.measurement import Relation, Relations

MOVED = (
    Relation(kind="segment", features=["usage", "<b>"], categories=["x"], before=0, now=2, effect=1.6, log10_p=-60),
    Relation(kind="score", features=["score"], before=0.9, now=0.89, effect=-0.01, log10_p=-0.2),
)


FOUND = Relations(events=1500, effective=1400.0, tests=900, moved=list(MOVED), found={"SegmentDrift": [0]})


def _measured(found, **changes):
    return replace(_measurement(0, features={"usage": _feature(0.01)}, **changes), relations=found)


def _card(found):
    return relations(_history(_measured(found)).story())


def test_without_relations_there_is_no_card():
    """An earlier version measured, or the reference keeps none."""
    assert _card(None) is None


def test_the_largest_movements_are_named_with_their_limits():
    """Names are data: they are escaped."""
    text = str(_card(FOUND))
    assert "a number within a category" in text
    assert "+1.60 sd" in text
    assert "±0.50 sd" in text
    assert "&lt;b&gt;" in text
    assert "<strong>a number" in text
    assert "<strong>the score" not in text
    assert "900 tests of 1,500 events that were counted together and count as 1,400 independent ones" in text
    _Read(_card(FOUND))


def test_a_row_has_both_values_the_movement_its_limit_and_how_likely_it_is():
    """The score is called by its word, and a segment names its category."""
    text = _Read(_card(replace(FOUND, effective=None))).text
    assert "usage, <b> · x02.00+1.60 sd±0.50 sd10^-60" in text.replace("\u2212", "-")
    assert "the score with its featuresthe score0.900.89-0.01±0.200.631" in text.replace("\u2212", "-")
    assert "independent" not in text


@pytest.mark.parametrize(
    ("alertname", "ended", "shown"),
    [("SegmentDrift", False, "warning"), ("SegmentDrift", True, "inactive"), ("FeatureDrift", False, "inactive")],
)
def test_the_card_has_the_state_of_an_open_episode_of_relations(alertname, ended, shown):
    """An alert of a feature, or one that has ended, is not the card's."""
    labels = {"alertname": alertname, "severity": "warning", "model": "churn-telco"}
    told = _alert(ended=ended, starts_ms=START_MS, labels=labels, fingerprint=fingerprint(labels))
    assert f'class="card {shown}"' in str(relations(_history(_measured(FOUND), told).story()))


def test_the_shortest_window_in_which_relations_are_known_is_shown():
    """A quarter hour has too few events, the hour has enough."""
    hour = _measured(FOUND, length="1h", ms=3_600_000)
    card = relations(_history(_measured(Relations(reason="not_enough_data")), hour).story())
    assert "window of 1h to" in str(card)
    assert "Not known" not in str(card)


def test_what_is_not_known_has_a_reason():
    """In words."""
    assert "too few independent events" in str(_card(Relations(reason="not_enough_data")))
