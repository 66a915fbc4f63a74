"""The comparison's pure parts: from results on streams to shares, page and picture; and the pinned versions."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from quality import contest, page, picture, rows
from quality.cases import Case
from quality.contest import CONTESTANTS, PEERS, Answer, Contestant, Line, tally
from quality.rows import Row
from quality.shares import Share

COLUMNS = Contestant("A tool", "its defaults", "a.py", "a-tool", "MIT")
DATASET = Contestant("A tool, data set", "half of the columns", "a.py", "a-tool", "MIT", verdict="dataset")


def test_a_share_without_hits_is_not_sure_to_be_nothing():
    """Wilson's interval, by hand: 3.84/(n + 3.84) without hits."""
    assert Share(0, 100).interval == pytest.approx((0.0, 0.0370), abs=1e-4)
    assert Share(100, 100).interval == pytest.approx((0.9630, 1.0), abs=1e-4)
    assert Share(50, 100).interval == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert str(Share(1, 4000)) == "1 of 4,000 = 0.03 % (0.00 to 0.14)"


def _answers(kind: str, number: int, *windows: set[str], error: str | None = None) -> dict[str, Answer]:
    return {Case.name_of(kind, number): Answer(list(windows), error, 0.5)}


def test_any_column_is_an_alarm_and_only_the_one_that_moved_is_a_find():
    """Two of five windows alarm; of two drifts one is found, the other one has the wrong name."""
    answers = (
        _answers("still", 0, set(), {"n3_normal"}, set(), {"c1", "(dataset)"}, set())
        | _answers("drift0", 0, set(), {"n0_normal"})
        | _answers("drift0", 1, {"n1_normal"}, set(), set())
    )
    line = tally(COLUMNS, answers)
    assert line.shares == {"still": Share(2, 5), "drift0": Share(1, 2)}
    assert (line.over(False), line.over(True)) == (Share(2, 5), Share(1, 2))
    assert line.ms_per_window == pytest.approx(150.0)


def test_of_a_verdict_on_the_data_set_only_that_counts():
    """Its result per column is another line of the table."""
    answers = _answers("still", 0, set(), {"n3_normal"}, set(), {"c1", "(dataset)"}, set()) | _answers(
        "drift0", 0, {"n0_normal"}, set(), {"(dataset)"}
    )
    assert tally(DATASET, answers).shares == {"still": Share(1, 5), "drift0": Share(1, 1)}


def test_a_stream_that_ended_in_an_error_is_no_alarm_and_no_find():
    """Their number is stated."""
    answers = _answers("still", 0, {"c0"}, error="ValueError: no") | _answers("drift1", 0, error="ValueError: other")
    line = tally(COLUMNS, answers)
    assert line.shares == {"still": Share(1, 5), "drift1": Share(0, 1)}
    assert (line.errors, line.error) == (2, "ValueError: no")


def _run() -> page.Run:
    lines = [
        Line(CONTESTANTS[0], {"still": Share(0, 100), "drift0": Share(39, 40)}, ms_per_window=7.4),
        Line(COLUMNS, {"still": Share(61, 100)}, errors=2, error="ValueError: a | b\nc", ms_per_window=120.0),
        Line(DATASET, why_not="not installed: no wheel for this Python"),
    ]
    table = [
        Row("a", "episodes", "0", "0 of 100", True),
        Row("b", "evidence", "≥ 90 %", "89 of 100", False),
        Row("h", "season", "0", "not measured", None),
    ]
    return page.Run("2026-11-26", ["a machine"], table, lines)


def test_the_page_says_what_was_reached_and_what_was_not():
    """A bar that was missed is shown as plainly as one that was reached, and a tool that is missing is named."""
    text = page.as_markdown(_run())
    assert "| (a) | episodes | 0 | 0 of 100 | reached |" in text
    assert "| (b) | evidence | ≥ 90 % | 89 of 100 | **not reached** |" in text
    assert "| (h) | season | 0 | not measured | – |" in text
    assert "| A tool | its defaults | 61.0 (51.2 – 70.0) | – | 120 |" in text
    assert "- A tool, data set: not installed: no wheel for this Python" in text
    assert "- A tool: an error in 2 streams, the first: `ValueError: a | b c`" in text
    assert "a-tool: MIT" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| (")}
    assert widths == {4}


def test_a_page_of_a_run_has_every_row_and_what_was_measured_apart():
    """A run that writes the page loses nothing: each letter is in a section, and other figures stay."""
    letters = sorted({letter for letter, _, _ in rows.ALL} | {"j", "k", "z"})
    run = page.Run("2026-11-30", ["a machine"], [Row(one, f"what {one}", "≤ 1", "0", True) for one in letters], [])
    text = page.as_markdown(run)
    assert [text.count(f"| ({one}) | what {one} |") for one in letters] == [1] * len(letters)
    assert page.APART.read_text(encoding="utf-8").strip() in text
    assert {"l", "m", "n", "o", "p", "q", "r"} <= set(letters)
    small = text[text.index("## Small streams") : text.index("## Features together")]
    assert "| (r) |" in small
    assert "| (z) | what z |" in text[: text.index("## Streams as they really are")]


def test_the_picture_is_drawn_to_scale():
    """Of measured ones; a contestant without drifts to find is shown as not measured there."""
    root = ET.fromstring(picture.as_svg(_run().lines, "2026-11-26"))  # noqa: S314 - our own text
    space = {"svg": "http://www.w3.org/2000/svg"}
    bars = [float(r.attrib["width"]) for r in root.findall("svg:rect", space) if r.attrib["fill"] == picture.OTHERS]
    assert bars == [pytest.approx(0.61 * picture._SPAN, abs=0.1)]
    texts = [text.text for text in root.findall("svg:text", space)]
    assert texts.count("not measured") == 1
    assert "A tool, data set" not in texts


@pytest.mark.parametrize("name", sorted({c.requirements for c in CONTESTANTS if c.requirements}))
def test_a_peer_is_pinned_with_hashes(name: str):
    """What is installed is what was looked at."""
    lock = (contest.PINS.get(name, PEERS) / f"{name}.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)
    assert name in pinned
    assert {"numpy", "pandas"} <= set(pinned)
    assert len(pinned) <= lock.count("--hash=sha256:")
    assert contest.versions()[name] in lock


def test_every_contestants_script_is_there():
    """A misspelt name would be found after ten minutes."""
    assert all((PEERS / c.script).is_file() for c in CONTESTANTS if c.script is not None)
    assert len({c.title for c in CONTESTANTS}) == len(CONTESTANTS)


def test_alibi_detect_stays_at_its_last_version_under_a_free_licence():
    """Later ones are under the Business Source License 1.1."""
    assert contest.versions()["alibi-detect"] == "0.11.4"
