"""The page about drift: what moved, against what, since when; names are never markup, the unknown is never 0."""

import doctest
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from pages import markup, pictures, words
from pages.drift import drift_page
from pages.history import MOST_EPISODES, MOST_WINDOWS, History
from pages.pictures import Dot, Statistic
from schemas.alert import Alert, fingerprint
from schemas.measurement import Bins, FeatureMeasurement, Level, Measurement, Sample, Window
from schemas.rfc3339 import render

START_MS = 1_795_327_200_000  # 2026-11-22T06:00:00Z
QUARTER_MS = 900_000
EVIL = "<script>alert(1)</script>\"'&<b>"


def _feature(effect=0.336, state="critical", kind="numeric", **changes):
    return FeatureMeasurement(
        **{
            "kind": kind,
            "events": 4120,
            "effective": 3987.2,
            "psi": None if effect is None else effect + 0.01,
            "psi_corrected": effect,
            "ks": 0.22 if effect is not None and kind != "categorical" else None,
            "linf": 0.11 if effect is not None and kind == "categorical" else None,
            "effect": effect,
            "significant": None if effect is None else True,
            "state": state,
            "effect_warning": 0.1,
            "effect_critical": 0.2,
            "reference": 7032,
            "missing_ratio": 0.0,
            "reference_missing_ratio": 0.002,
            "null_999": None if effect is None else 0.011,
            "bins": None if effect is None else Bins([12.0, 40.0], [0.5, 0.3, 0.2], [0.8, 0.15, 0.05]),
            **changes,
        }
    )


def _unknown(reason="not_enough_data", **changes):
    return _feature(None, "not_enough_data", reason=reason, events=120, effective=None, missing_ratio=None, **changes)


def _measurement(number=0, length="15m", ms=QUARTER_MS, features=None, **changes):
    start = START_MS + number * ms
    return Measurement(
        **{
            "model": "churn-telco",
            "model_version": "1.4.0",
            "reference_sha256": "ab12" * 16,
            "window": Window(length, render(start), render(start + ms)),
            "complete": True,
            "sample": Sample(4120, 3, 12),
            "level": Level(0.018, 76),
            "features": {"tenure": _feature()} if features is None else features,
            "score": _feature(0.03, "inactive", "score", mean=0.33, reference_mean=0.27),
            **changes,
        }
    )


def _alert(sequence=1, ended=False, starts_ms=START_MS, feature="tenure", **changes):
    labels = {"alertname": "FeatureDrift", "severity": "critical", "model": "churn-telco", "feature": feature}
    return Alert(
        **{
            "fingerprint": fingerprint(labels),
            "status": "resolved" if ended else "firing",
            "labels": labels,
            "annotations": {"summary": "tenure moved: PSI 0.34", "description": "d", "runbook_url": "docs/r.md#x"},
            "starts_at": render(starts_ms),
            "ends_at": render(starts_ms + QUARTER_MS) if ended else None,
            "sequence": sequence,
            "evidence": {"features": None},
            **changes,
        }
    )


def _history(*found):
    history = History("churn-telco")
    for one in found:
        (history.announced if isinstance(one, Alert) else history.measured)(one)
    return history


def _page(*found, **changes):
    return drift_page(
        _history(*found).story(),
        **{
            "model": "churn-telco",
            "version": "1.4.0",
            "made_ms": START_MS + 7 * QUARTER_MS,
            "source": "From a test.",
            **changes,
        },
    )


class _Read(HTMLParser):
    """Elements with their attributes, texts, and whether every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)

    def card(self, name):
        """Texts from a feature's heading up to the next one's."""
        after = self.texts[max(i for i, text in enumerate(self.texts) if text == name and i < self._table()) :]
        return " ".join(after[: after.index("All numbers as a table")])

    def _table(self):
        return self.texts.index("As a table")


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


def test_no_name_out_of_data_becomes_markup():
    """Feature, category, version, alert, source, unseen category: each stands there as text, and nothing can run."""
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
    assert "Nothing can be said yet" in page.text
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

    Beside a feature that moved it is said after it, and all members of a group are named.
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


# -- history ----------------------------------------------------------------------------------------------------


def test_the_newest_message_of_an_episode_is_its_story():
    """Open ones first, then the newest; what came twice counts once."""
    story = _history(
        _alert(1, starts_ms=START_MS),
        _alert(2, ended=True, starts_ms=START_MS),
        _alert(1, starts_ms=START_MS),
        _alert(1, starts_ms=START_MS - QUARTER_MS, feature="charges"),
        _alert(1, ended=True, starts_ms=START_MS + QUARTER_MS, feature="total"),
    ).story()
    assert [(t.feature, t.open, t.sequence) for t in story.told] == [
        ("charges", True, 1),
        ("total", False, 1),
        ("tenure", False, 2),
    ]


def test_features_and_score_that_close_apart_are_one_window():
    """The score of a window may come later than its features, in a record of its own."""
    pending = FeatureMeasurement(kind="score", events=0, reason="pending")
    later = _measurement(features={}, complete=False, missing_partitions=["predictions-1"])
    story = _history(_measurement(score=pending), later).story()
    (window,) = story.newest.values()
    assert list(window.features) == ["tenure"]
    assert window.score is not None
    assert window.score.mean == 0.33
    assert (window.complete, window.missing_partitions) == (False, ["predictions-1"])
    assert [list(past.points) for past in story.past] == [["tenure", None]]


def test_another_reference_begins_another_story():
    """What was measured against the old one cannot be compared, and the page says since when."""
    changed = _measurement(2, reference_sha256="cd34")
    story = _history(_measurement(0), _measurement(1), changed).story()
    assert [past.start_ms for past in story.past] == [START_MS + 2 * QUARTER_MS]
    assert story.reference_since_ms == START_MS + 2 * QUARTER_MS
    assert "The reference changed at 2026-11-22 06:30" in _page(_measurement(0), changed)


def test_other_models_are_passed_over():
    """Several may share the topics."""
    other = _alert(labels={"alertname": "FeatureDrift", "severity": "critical", "model": "other"})
    story = _history(_measurement(model="other"), other).story()
    assert (dict(story.newest), story.past, story.told) == ({}, (), ())


def test_lengths_are_shortest_first_whatever_came_first():
    """The order of the table and of the choice."""
    story = _history(_measurement(0, "1h", 4 * QUARTER_MS), _measurement(0)).story()
    assert list(story.newest) == ["15m", "1h"]


def test_a_history_is_bounded():
    """A worker keeps it for months."""
    history = _history(*(_measurement(i, features={}) for i in range(MOST_WINDOWS + 5)))
    for i in range(MOST_EPISODES + 5):
        history.announced(_alert(ended=i > 0, starts_ms=START_MS + i))
    story = history.story()
    assert len(story.past) == MOST_WINDOWS
    assert story.past[0].start_ms == START_MS + 5 * QUARTER_MS
    assert len(story.told) == MOST_EPISODES
    assert story.told[0].open, "what is still open is not forgotten first"


def test_a_record_without_a_time_is_an_error():
    """Its reader counts it and goes on."""
    with pytest.raises(ValueError, match="not a time: 'yesterday'"):
        _history(_measurement(window=Window("15m", "yesterday", "today")))


# -- pictures ---------------------------------------------------------------------------------------------------


def test_bins_between_two_edges_that_are_alike_are_left_out():
    """Percentiles of a number with few values repeat: what can hold nothing has no bar."""
    bins = Bins([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.7, 0.3], [0.0, 0.0, 0.0, 0.6, 0.4])
    bars = pictures.bars_of(bins, "numeric")
    assert [(bar.name, bar.reference, bar.window) for bar in bars] == [
        ("below 0", 0.0, 0.0),
        ("0 to 1", 0.7, 0.6),
        ("1 or more", 0.3, 0.4),
    ]


def test_many_categories_are_the_largest_and_the_rest():
    """Nothing is lost: the rest is one row with its sum."""
    names = [f"c{i}" for i in range(20)]
    shares = [0.43, *[0.03] * 19]
    text = _Read(pictures.categories(Bins(names, shares, shares), "categorical", "x")).text
    assert "13 others" in text
    assert "39.0 % → 39.0 %" in text


def test_a_boolean_says_yes_and_no():
    """Its categories are false and true."""
    assert [bar.name for bar in pictures.bars_of(Bins(["false", "true"], [0.8, 0.2], [0.7, 0.3]), "boolean")] == [
        "no",
        "yes",
    ]


def test_a_statistic_that_is_not_known_has_no_bar():
    """0 would say that nothing moved."""
    limits = ((0.1, "warning", "warn"), (0.2, "critical", "crit"))
    picture = pictures.statistics([Statistic("PSI", None, limits), Statistic("KS D", 0.3, limits)], "x")
    page = _Read(picture)
    assert len([a for tag, a in page.elements if tag == "rect" and a["class"] == "win"]) == 1
    assert "not known" in page.text


def test_a_huge_statistic_keeps_the_limits_apart():
    """It runs off the picture, and its number says how far."""
    limits = ((0.1, "warning", "warn"), (0.2, "critical", "crit"))
    page = _Read(pictures.statistics([Statistic("PSI", 9.0, limits)], "x"))
    at = [float(a["x1"]) for tag, a in page.elements if tag == "line"]
    assert at[1] - at[0] > 25
    assert "9.000 ›" in page.text


def test_a_gap_in_the_measurements_is_a_gap_in_the_line():
    """No line is drawn over a time that nobody measured."""
    values = [0.1, 0.2, None, 0.3, 0.1]
    dots = [Dot(START_MS + i * QUARTER_MS, value, "inactive") for i, value in enumerate(values)]
    page = _Read(pictures.timeline(dots, (START_MS, START_MS + 4 * QUARTER_MS), (), "x"))
    lines = [a["points"].split() for tag, a in page.elements if tag == "polyline"]
    assert [len(points) for points in lines] == [2, 2]


def test_a_long_timeline_keeps_its_peak():
    """A week of windows has more of them than the picture has columns."""
    dots = [Dot(START_MS + i, 0.9 if i == 333 else 0.01, "inactive") for i in range(1000)]
    page = _Read(pictures.timeline(dots, (START_MS, START_MS + 1000), (), "x"))
    (points,) = [a["points"].split() for tag, a in page.elements if tag == "polyline"]
    assert len(points) <= pictures.MOST_COLUMNS
    assert min(float(point.split(",")[1]) for point in points) == 8.0


@pytest.mark.parametrize("module", [markup, words])
def test_the_examples_in_the_docstrings_hold(module):
    """They are what a reader believes."""
    assert doctest.testmod(module).failed == 0


def test_markup_escapes_whatever_is_not_markup():
    """Text, attributes and numbers; only markup passes."""
    made = markup.tag("p", EVIL, markup.tag("i", 0.5), None, title=EVIL, hidden=True, lang=None)
    assert made == (
        '<p title="&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;&lt;b&gt;" hidden>'
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;&lt;b&gt;<i>0.5</i></p>"
    )


def test_limits_of_a_feature_are_shown_where_they_are_its_own():
    """A bundle may state them."""
    own = replace(_feature(), effect_warning=0.15, effect_critical=0.25)
    text = _Read(_page(_measurement(features={"tenure": own}))).card("tenure")
    assert "warning 0.15" in text
    assert "critical 0.25" in text
