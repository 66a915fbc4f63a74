"""The page about drift: what moved, against what, since when; names are never markup, the unknown is never 0."""

import doctest

import pytest
from msgspec.structs import replace
from support.measured import EVIL, QUARTER_MS, START_MS
from support.measured import Page as _Read
from support.measured import alert as _alert
from support.measured import feature as _feature
from support.measured import measurement as _measurement
from support.measured import page as _page
from support.measured import unknown as _unknown

from drift_worker.page import markup, words
from schemas.measurement import Bins, Level, Window
from schemas.timestamps import render


def test_the_page_says_what_moved_against_what_and_since_when():
    """Header, summary line, windows, alert, effect, limits and the null line, in one file."""
    page = _Read(_page(_measurement(0), _measurement(1), _alert()))
    assert page.open == []
    for part in (
        "Drift of churn-telco version 1.4.0",
        "Reference ab12ab12ab12 (7,032 customers)",
        "1 of 1 feature moved: tenure (critical, 0.34).",
        "The score: mean 0.270 → 0.330 (quiet).",
        "2026-11-22 06:15",
        "Alerts: 1 open, 0 resolved",
        "Since 2026-11-22 06:00, still open.",
        "tenure moved: PSI 0.34",
        "warning 0.1",
        "critical 0.2",
        "solid: 0.011, which PSI exceeds once in 1,000 windows without drift",
        "Effect over time, windows of 15m",
        "40 or more",
    ):
        assert part in page.text, part


@pytest.mark.parametrize(
    ("past", "words"),
    [
        (None, None),
        ({}, "No calm past to compare with yet."),
        ({"distribution": -0.4}, "No change from the calm past of this stream."),
        ({"distribution": -9.0}, None),
    ],
)
def test_the_page_says_why_a_large_effect_is_no_finding(past, words):
    """This stream always is so, or nothing is known of it yet; nothing where it has changed or is not compared."""
    measurement = _measurement(features={"tenure": _feature(past=past)}, level=Level(0.018, 50, 4e-4))
    page = _Read(_page(measurement))
    for sentence in ("No calm past to compare with yet.", "No change from the calm past of this stream."):
        assert (sentence in page.text) == (sentence == words)


def test_no_name_out_of_data_becomes_markup():
    """Feature, category, version, alert, source, unseen category: each is shown as text, and nothing can run."""
    bins = Bins([EVIL, "b"], [0.5, 0.5], [0.4, 0.6])
    evil = _feature(kind="categorical", bins=bins, quality=EVIL, quality_detail=EVIL)
    alert = _alert(
        feature=EVIL,
        annotations={"summary": EVIL, "description": EVIL, "runbook_url": f"javascript:{EVIL}"},
        evidence={"features": [{"feature": EVIL}, "no object", {"other": 1}]},
    )
    window = Window(EVIL, render(START_MS), render(START_MS + 1000))
    page = _Read(
        _page(
            _measurement(
                features={EVIL: evil},
                window=window,
                model_version=EVIL,
                complete=False,
                missing_partitions=[EVIL],
                reference_sha256=EVIL,
            ),
            alert,
            source=EVIL,
            note=EVIL,
            unseen={EVIL: {EVIL: 3}},
        )
    )
    assert page.open == []
    kinds = {tag for tag, _ in page.elements}
    assert kinds & {"script", "b", "iframe", "link", "img", "object"} == set()
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert {a["href"][:2] for tag, a in page.elements if tag == "a"} == {"#f"}
    assert page.text.count(EVIL) >= 12


def test_the_page_loads_nothing_from_elsewhere():
    """No address but a runbook's that is one for browsers."""
    html = _page(_measurement(), _alert(annotations={"summary": "s", "runbook_url": "https://example.org/r#x"}))
    page = _Read(html)
    addresses = [a for tag, a in page.elements if {"src", "href", "srcset", "data", "action"} & a.keys()]
    assert [a["href"] for a in addresses if not a["href"].startswith("#")] == ["https://example.org/r#x"]
    assert "url(" not in html
    assert "@import" not in html


@pytest.mark.parametrize("reason", ["not_enough_data", "reference_too_small", "all_missing"])
def test_what_is_not_known_says_why_and_is_never_0(reason):
    """No number, no bar, no line: the reason in words, in the card and in the table."""
    page = _Read(_page(_measurement(features={"tenure": _unknown(reason), "other": _feature()})))
    card = page.card("tenure")
    assert f"Not known: {words.REASONS[reason]}." in card
    assert "Effect" not in card
    row = page.text[page.text.index("As a table") :]
    row = row[row.index("tenure") :]
    assert "– 0.100 0.200 – – – – 120 15m".replace(" ", "") in row
    assert words.REASONS[reason] in row
    assert "Not measured: 1 feature." in page.text


def test_a_window_in_which_nothing_is_known_claims_nothing():
    """Neither that something moved nor that nothing did."""
    page = _Read(_page(_measurement(features={"tenure": _unknown()})))
    assert "No result yet" in page.text
    assert "confirmed to have moved" not in page.text


@pytest.mark.parametrize(("state", "word"), [(name, word) for name, (word, _, _) in words.STATES.items()])
def test_every_state_has_a_word(state, word):
    """A chip in words and a mark: colour is not needed."""
    page = _Read(_page(_measurement(features={"tenure": _feature(state=state)})))
    assert word in page.card("tenure")
    chips = [a["class"] for tag, a in page.elements if tag == "span" and a.get("class", "").startswith("chip")]
    assert f"chip {state}" in chips


def test_a_state_of_a_later_version_is_shown_as_it_is():
    """The page is no gate."""
    assert "? some new state" in _Read(_page(_measurement(features={"t": _feature(state="some_new_state")}))).text


def test_pending_and_broken_are_said_apart_from_moved():
    """The summary line keeps what is confirmed, what is only seen and what is broken apart."""
    features = {
        "charges": _feature(0.5, "critical"),
        "tenure": _feature(0.15, "pending"),
        "plan": _unknown("all_missing", quality="all_missing"),
    }
    text = _Read(_page(_measurement(features=features))).text
    assert (
        "1 of 3 features moved: charges (critical, 0.50). Broken data: plan (all missing). "
        "Seen but not confirmed: tenure. Not measured: 1 feature." in text
    )


@pytest.mark.parametrize(
    ("alertname", "what"),
    [
        ("MissingValues", "missing values"),
        ("UnseenCategories", "unseen categories"),
        ("DataQuality", "broken data"),
    ],
)
def test_what_is_wrong_with_values_is_said_first_where_nothing_moved(alertname, what):
    """While such an alert is open the page does not begin with features that did not move; once it is resolved it does.

    Beside a feature that moved it follows, and all members of a group are named.
    """
    quiet = _measurement(features={"tenure": _feature(0.02, "inactive"), "plan": _feature(0.03, "inactive")})
    labels = {"alertname": alertname, "severity": "warning", "model": "churn-telco"}
    one, resolved = (_alert(1 + ended, ended, labels={**labels, "feature": "plan"}) for ended in (False, True))
    page = _page(quiet, one)
    assert f"An alert is open for 1 of 2 features: plan ({what})." in _Read(page).text
    assert "confirmed to have moved" not in page
    assert 'class="moved warning"' in page
    assert "No feature of 2 is confirmed to have moved." in _Read(_page(quiet, one, resolved)).text
    moved = _measurement(features={"tenure": _feature(), "plan": _feature(0.03, "inactive")})
    expected = f"1 of 2 features moved: tenure (critical, 0.34). Alerts of values: plan ({what})."
    assert expected in _Read(_page(moved, one)).text
    members = {"features": [{"feature": "tenure"}, {"feature": "plan"}]}
    group = _alert(labels={**labels, "feature": "group"}, evidence=members)
    said = _Read(_page(quiet, group)).text
    assert f"An alert is open for 2 of 2 features: tenure ({what}), plan ({what})." in said


def test_features_are_ranked_by_effect_and_the_unknown_come_last():
    """The first card is the one to look at."""
    features = {"a": _unknown(), "b": _feature(0.01, "inactive"), "c": _feature(0.4), "d": _feature(0.2)}
    page = _Read(_page(_measurement(features=features)))
    tail = page.texts[page.texts.index("As a table") :]
    assert [text for text in tail if text in features] == ["c", "d", "b", "a"]


def test_a_feature_is_shown_in_the_shortest_window_that_knows_it():
    """And the table of its card has all of them."""
    page = _Read(
        _page(
            _measurement(0, "1h", 4 * QUARTER_MS, features={"tenure": _feature(0.123, "warning")}),
            _measurement(0, features={"tenure": _unknown()}),
        )
    )
    card = page.card("tenure")
    assert "numeric, window of 1h to 2026-11-22 07:00" in card
    assert "Effect 0.123" in card


def test_an_incomplete_window_says_what_is_missing():
    """In words, not by colour."""
    page = _page(_measurement(complete=False, missing_partitions=["customer-events-3"], reason="reference_changed"))
    text = _Read(page).text
    assert "incomplete: the reference changed while the window was open; without customer-events-3" in text
    assert "window of 15m to 2026-11-22 06:15, incomplete" in text


def test_before_the_first_window_the_page_says_so():
    """No table of nothing, and no error."""
    page = _Read(_page(note="This process does not evaluate."))
    assert page.open == []
    assert "No window has closed yet." in page.text
    assert "This process does not evaluate." in page.text
    assert "version 1.4.0" in page.text


def test_the_textbooks_policy_is_read_against_its_own_statistic():
    """Without a level the limits are those of the textbook's PSI."""
    feature = _feature(0.5, "warning", psi_textbook=0.15, significant=None)
    page = _Read(_page(_measurement(features={"tenure": feature}, level=None)))
    assert "Effect 0.150" in page.card("tenure")
    assert "textbook" in page.card("tenure")


def test_a_group_names_its_members():
    """Which features share the alert."""
    alert = _alert(feature="group", evidence={"features": [{"feature": "tenure"}, {"feature": "charges"}]})
    assert "Features: tenure, charges." in _Read(_page(_measurement(), alert)).text


@pytest.mark.parametrize("module", [markup, words])
def test_the_examples_in_the_docstrings_hold(module):
    """They are what a reader believes."""
    assert doctest.testmod(module).failed == 0


def test_limits_of_a_feature_are_shown_where_they_are_its_own():
    """A bundle may state them."""
    own = replace(_feature(), effect_warning=0.15, effect_critical=0.25)
    text = _Read(_page(_measurement(features={"tenure": own}))).card("tenure")
    assert "warning 0.15" in text
    assert "critical 0.25" in text
