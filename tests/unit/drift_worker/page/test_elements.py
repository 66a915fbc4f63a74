"""Small parts of a page."""

import pytest
from support.measured import EVIL
from support.measured import Page as _Read
from support.measured import feature as _feature

from drift_worker.page import elements
from drift_worker.page.markup import tag


def test_a_chip_has_a_word_a_mark_and_an_explanation():
    """The colour alone would have no meaning for many readers."""
    chip = _Read(elements.chip("critical"))
    ((_, attributes),) = chip.elements
    assert (chip.text, attributes["class"]) == ("▲ critical", "chip critical")
    assert attributes["title"] == "moved beyond the critical limit, confirmed"


def test_a_name_out_of_data_is_isolated_and_escaped():
    """Its letters change neither the markup nor the direction of the text around it."""
    assert _Read(elements.name(EVIL)).text == EVIL
    assert elements.name(None) == "<bdi>the score</bdi>"


def test_what_broke_is_in_words():
    """A reason, and a detail if there is one."""
    assert elements.quality(_feature(quality="unit_jump", quality_detail="×100")) == "unit jump ×100"
    assert elements.quality(_feature(quality="constant")) == "constant"


@pytest.mark.parametrize(("text", "shown"), [("2026-11-22T06:00:00.000Z", "2026-11-22 06:00"), ("never", "never")])
def test_a_time_that_is_none_is_shown_as_it_is(text, shown):
    """The page is for what is on the topic."""
    assert elements.at(text) == shown


def test_lists_and_rows_keep_their_order():
    """Commas between, and a class where a cell has one."""
    assert elements.comma([tag("b", "a"), tag("b", "c")]) == "<b>a</b>, <b>c</b>"
    assert elements.cells("td", "x", ("n", 1)) == '<tr><td>x</td><td class="n">1</td></tr>'
    assert 'scope="col"' in elements.cells("th", "x")
    assert (elements.features(1), elements.features(2)) == ("1 feature", "2 features")
