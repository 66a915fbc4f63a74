"""A card for each feature: its state, effect, pictures, names and all numbers."""

from support.measured import EVIL
from support.measured import Page as _Read
from support.measured import feature as _feature
from support.measured import history as _history
from support.measured import measurement as _measurement
from support.measured import unknown as _unknown

from drift_worker.page.cards import cards
from drift_worker.page.subject import ranked
from drift_worker.statistics.catalogue import CATALOGUE


def _cards(*found, unseen=None):
    story = _history(*found).story()
    return _Read(cards(story, ranked(story), unseen or {}))


def test_a_card_states_the_effect_and_what_it_is_made_of():
    """And what the movement does to the score."""
    text = _cards(_measurement(features={"tenure": _feature(0.336, score_shift=-0.02, against="week")})).text
    assert "Effect 0.336 (PSI 0.346, KS D 0.220)." in text
    assert "Moves the mean score by -0.020." in text
    assert "Compared with the same hours of past weeks." in text


def test_an_unknown_feature_says_why_and_has_no_picture_of_statistics():
    """No number is shown for an unknown value."""
    page = _cards(_measurement(features={"tenure": _unknown()}))
    assert "Not known: too few independent events in this window." in page.text
    assert "Statistics; dashed: limits" not in page.text
    assert "Effect" not in page.texts


def test_every_statistic_of_the_catalogue_is_in_the_table():
    """A new one is there without a line on this page."""
    texts = _cards(_measurement(features={"tenure": _feature()})).texts
    assert [known.label for known in CATALOGUE if known.label not in texts] == []


def test_broken_data_is_a_second_chip():
    """It is not the same as having moved."""
    page = _cards(_measurement(features={"tenure": _feature(quality="unit_jump", quality_detail="×100")}))
    assert "▲ unit jump ×100" in page.texts


def test_names_of_unseen_categories_are_text():
    """They come from producers."""
    page = _cards(_measurement(features={"plan": _feature(kind="categorical")}), unseen={"plan": {EVIL: 1200}})
    assert f"training never saw: {EVIL} (1,200)." in page.text


def test_a_timeline_needs_two_known_windows():
    """One point is no line."""
    one = _cards(_measurement(0), _measurement(1, features={"tenure": _unknown()})).text
    assert "Effect over time" not in one
    assert "Effect over time, windows of 15m" in _cards(_measurement(0), _measurement(1)).text
