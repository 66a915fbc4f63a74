"""Pictures: what is drawn, what is left out, and that the unknown has no bar."""

from support.measured import QUARTER_MS, START_MS
from support.measured import Page as _Read

from drift_worker.page import charts
from drift_worker.page.charts import Dot, Statistic
from schemas.measurement import Bins


def test_bins_between_two_edges_that_are_alike_are_left_out():
    """Percentiles of a number with few values repeat: what can hold nothing has no bar."""
    bins = Bins([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.7, 0.3], [0.0, 0.0, 0.0, 0.6, 0.4])
    bars = charts.bars_of(bins, "numeric")
    assert [(bar.name, bar.reference, bar.window) for bar in bars] == [
        ("below 0", 0.0, 0.0),
        ("0 to 1", 0.7, 0.6),
        ("1 or more", 0.3, 0.4),
    ]


def test_many_categories_are_the_largest_and_the_rest():
    """Nothing is lost: the rest is one row with its sum."""
    names = [f"c{i}" for i in range(20)]
    shares = [0.43, *[0.03] * 19]
    text = _Read(charts.categories(Bins(names, shares, shares), "categorical", "x")).text
    assert "13 others" in text
    assert "39.0 % → 39.0 %" in text


def test_a_boolean_says_yes_and_no():
    """Its categories are false and true."""
    assert [bar.name for bar in charts.bars_of(Bins(["false", "true"], [0.8, 0.2], [0.7, 0.3]), "boolean")] == [
        "no",
        "yes",
    ]


def test_a_statistic_that_is_not_known_has_no_bar():
    """0 would mean that nothing moved."""
    limits = ((0.1, "warning", "warn"), (0.2, "critical", "crit"))
    picture = charts.statistics([Statistic("PSI", None, limits), Statistic("KS D", 0.3, limits)], "x")
    page = _Read(picture)
    assert len([a for tag, a in page.elements if tag == "rect" and a["class"] == "win"]) == 1
    assert "not known" in page.text


def test_a_huge_statistic_keeps_the_limits_apart():
    """Its bar ends at the border, and its number gives the value."""
    limits = ((0.1, "warning", "warn"), (0.2, "critical", "crit"))
    page = _Read(charts.statistics([Statistic("PSI", 9.0, limits)], "x"))
    at = [float(a["x1"]) for tag, a in page.elements if tag == "line"]
    assert at[1] - at[0] > 25
    assert "9.000 ›" in page.text


def test_a_gap_in_the_measurements_is_a_gap_in_the_line():
    """No line is drawn over unmeasured time."""
    values = [0.1, 0.2, None, 0.3, 0.1]
    dots = [Dot(START_MS + i * QUARTER_MS, value, "inactive") for i, value in enumerate(values)]
    page = _Read(charts.timeline(dots, (START_MS, START_MS + 4 * QUARTER_MS), (), "x"))
    lines = [a["points"].split() for tag, a in page.elements if tag == "polyline"]
    assert [len(points) for points in lines] == [2, 2]


def test_a_long_timeline_keeps_its_peak():
    """A week of windows has more of them than the picture has columns."""
    dots = [Dot(START_MS + i, 0.9 if i == 333 else 0.01, "inactive") for i in range(1000)]
    page = _Read(charts.timeline(dots, (START_MS, START_MS + 1000), (), "x"))
    (points,) = [a["points"].split() for tag, a in page.elements if tag == "polyline"]
    assert len(points) <= charts.MOST_COLUMNS
    assert min(float(point.split(",")[1]) for point in points) == 8.0
