"""All features over time on one screen."""

from support.measured import Page as _Read
from support.measured import alert as _alert
from support.measured import feature as _feature
from support.measured import history as _history
from support.measured import measurement as _measurement
from support.measured import unknown as _unknown

from drift_worker.page.overview import MOST_CELLS, MOST_STRIPS, overview
from drift_worker.page.subject import ranked


def _overview(*found):
    story = _history(*found).story()
    return _Read(overview(story, ranked(story)))


def test_a_cell_is_coloured_by_the_limits_and_unknown_is_no_colour_of_them():
    """Quiet, warning, critical, and a window in which nothing is known."""
    effects = [0.05, 0.15, 0.3]
    windows = [_measurement(i, features={"tenure": _feature(effect)}) for i, effect in enumerate(effects)]
    page = _overview(*windows, _measurement(3, features={"tenure": _unknown()}))
    strips = [a for name, a in page.elements if name == "svg" and a.get("class") == "strip"]
    assert [a["aria-label"] for a in strips] == ["tenure over time: 1 quiet, 1 warning, 1 critical, 1 unknown"]


def test_many_windows_share_cells_and_the_worst_is_shown():
    """A short peak is not lost between its neighbours."""
    number = 3 * MOST_CELLS
    windows = [_measurement(i, features={"tenure": _feature(0.9 if i == number // 2 else 0.01)}) for i in range(number)]
    labels = [a["aria-label"] for _, a in _overview(*windows).elements if a.get("class") == "strip"]
    assert labels == [f"tenure over time: {MOST_CELLS - 1} quiet, 1 critical"]


def test_open_alerts_have_a_row_of_their_own():
    """It is absent without an alert."""
    page = _overview(_measurement(0), _measurement(1), _alert())
    assert "When alerts were open" in [a.get("aria-label") for _, a in page.elements]
    assert any("FeatureDrift tenure" in text for text in page.texts)
    assert "alerts open" not in _overview(_measurement()).texts


def test_more_features_than_rows_are_counted():
    """Those with the smallest effect are left out."""
    features = {f"f{i}": _feature(0.01 * i, "inactive") for i in range(MOST_STRIPS + 3)}
    page = _overview(_measurement(features=features))
    assert "The 3 features with the smallest effect are left out here." in page.texts
    assert "f0" not in page.texts
