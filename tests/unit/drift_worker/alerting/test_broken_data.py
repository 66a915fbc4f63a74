"""Data that broke: no page by chance, one alert a movement, and an end at any window size."""

from __future__ import annotations

import numpy as np
import pytest

from drift_worker.alerting.episodes import Announcer
from drift_worker.alerting.findings import judge
from drift_worker.alerting.limits import Confirm, Policy
from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.statistics.measure import Measurer
from schemas.bundle.inputs import Feature
from schemas.measurement import Measurement, Sample, Window
from schemas.reference import Reference
from schemas.timestamps import render

FEATURES = (
    Feature(name="amount", kind="numeric", nullable=True),
    Feature(name="plan", kind="categorical", categories=("a", "b", "c"), nullable=True),
    Feature(name="senior", kind="boolean", nullable=True),
)
CATEGORIES = (("a", "b", "c"), ("false", "true"))
MINUTES = {"15m": 15, "1h": 60, "24h": 1440}
CONFIRM = {"15m": Confirm(2, 3), "1h": Confirm(2, 3), "24h": Confirm(1, 1)}
POLICY = Policy({label: minutes * 60_000 for label, minutes in MINUTES.items()}, CONFIRM)
START_MS = 1_795_305_600_000  # midnight
NO_CUSTOMER_TWICE = aggregate.CustomerHash("00" * 32)


def law(draw, n):
    """Return amounts, codes and scores of n customers."""
    codes = np.column_stack([draw.choice(3, n, p=[0.6, 0.3, 0.1]), draw.choice(2, n, p=[0.8, 0.2])]).astype(np.int32)
    return draw.gamma(4.0, 10.0, (n, 1)), codes, draw.beta(2.0, 5.0, n)


class Stream:
    """Quarter hours against one reference, with the hours and days that they add up to."""

    def __init__(self, reference, min_events=500):
        """Take `reference` as (numeric, codes, scores)."""
        rows = Reference(*reference, np.zeros(2, dtype=np.int64))
        self.cells = Cells(FEATURES, CATEGORIES, rows)
        self.measurer = Measurer(self.cells, rows, min_events)
        self.announcer = Announcer(POLICY, "churn", "docs/runbook.md")
        self.alerts = []
        self.found = {}
        self._sums = {label: {} for label in MINUTES}
        self._events = dict.fromkeys(MINUTES, 0)
        self._minutes = 0

    def quarter(self, numeric, codes, scores):
        """Close a quarter hour with these events, and all windows that end with it."""
        for label in MINUTES:
            self._events[label] += len(numeric)
        panes = np.zeros(len(numeric), dtype=np.int64)
        customers = NO_CUSTOMER_TWICE([f"{self._minutes}-{i}" for i in range(len(numeric))])
        for _, series, part in (
            *aggregate.count_events(self.cells, panes, numeric, codes, customers),
            *aggregate.count_scores(self.cells, panes, scores, scores >= 0.5, customers),
        ):
            for sums in self._sums.values():
                part.add_to(sums.setdefault(series, np.zeros(aggregate.size_of(self.cells, series), dtype=np.int64)))
        self._minutes += 15
        ended = [label for label, minutes in MINUTES.items() if self._minutes % minutes == 0]
        judged = [judge(POLICY, self._measured(label), self.measurer.tests, 0.0) for label in ended]
        self.found |= {(m.window.length, f.alertname.value, f.feature): f for m, findings in judged for f in findings}
        alerts, _ = self.announcer.step(START_MS + self._minutes * 60_000, judged)
        self.alerts += alerts
        for label in ended:
            self._sums[label], self._events[label] = {}, 0
        return alerts

    def _measured(self, label):
        end_ms = START_MS + self._minutes * 60_000
        return Measurement(
            model="churn",
            model_version="1.0.0",
            reference_sha256="00" * 32,
            window=Window(label, render(end_ms - MINUTES[label] * 60_000), render(end_ms)),
            complete=True,
            sample=Sample(self._events[label], 0, 0),
            features=self.measurer.features(self._sums[label]),
            score=self.measurer.score(self._sums[label]),
        )

    @property
    def episodes(self):
        """The alerts about a feature or the score that were opened: (alertname, feature, severity)."""
        return [
            (a.labels["alertname"], a.labels.get("feature"), a.labels["severity"])
            for a in self.alerts
            if a.status == "firing"
        ]


def _mostly(draw, n, share, *, missing):
    """Amounts of which `share` are missing, or zero."""
    numeric, codes, scores = law(draw, n)
    numeric[draw.random(n) < share] = np.nan if missing else 0.0
    return numeric, codes, scores


@pytest.mark.parametrize(("rows", "m", "share"), [(5000, 700, 0.995), (1000, 500, 0.99), (7000, 1500, 0.999)])
def test_a_feature_that_is_nearly_always_missing_pages_nobody(rows, m, share):
    """A day of quarter hours, many of them without a value, as in training: no alert."""
    draw = np.random.default_rng(3)
    stream = Stream(_mostly(draw, rows, share, missing=True))
    for _ in range(96):
        stream.quarter(*_mostly(draw, m, share, missing=True))
    assert stream.alerts == []


@pytest.mark.parametrize("kind", ["boolean", "categorical", "numeric"])
@pytest.mark.parametrize("column", ["missing", "constant"])
def test_a_reference_with_one_other_value_of_a_thousand_makes_no_window_constant(kind, column):
    """999 equal (or missing) rows of 1,000, then a day of 15,000 of them: two-sample p = .06, and no alert."""
    draw = np.random.default_rng(4)

    def rows(n, *, first):
        numeric, codes, scores = law(draw, n)
        place = (numeric, 0) if kind == "numeric" else (codes, 0 if kind == "categorical" else 1)
        common = (np.nan if kind == "numeric" else -1) if column == "missing" else 0
        place[0][:, place[1]] = common
        if first:
            place[0][0, place[1]] = 1
        return numeric, codes, scores

    stream = Stream(rows(1000, first=True))
    for _ in range(96):
        stream.quarter(*rows(157, first=False))
    assert stream.alerts == []


def test_a_day_in_which_a_varying_feature_is_constant_is_broken_data():
    """The two-sample test loses nothing: 1 % of other values in the reference, none in 15,000."""
    draw = np.random.default_rng(5)
    stream = Stream(_mostly(draw, 5000, 0.99, missing=False))
    for _ in range(96):
        stream.quarter(*_mostly(draw, 157, 1.1, missing=False))
    assert stream.episodes == [("DataQuality", "amount", "critical")]


@pytest.mark.parametrize("how", ["all_missing", "constant", "unit_jump"])
def test_broken_data_ends_by_the_rule_that_opened_it_where_values_are_few(how):
    """700 events, a third of them without a value: fewer values than DRIFT_MIN_EVENTS. Three clean windows end it."""
    draw = np.random.default_rng(6)
    stream = Stream(_mostly(draw, 5000, 0.33, missing=True))
    for _ in range(2):
        numeric, codes, scores = law(draw, 700)
        numeric = {"all_missing": numeric * np.nan, "constant": numeric * 0 + 40.0, "unit_jump": numeric * 100.0}[how]
        stream.quarter(numeric, codes, scores)
    assert stream.episodes == [("DataQuality", "amount", "critical")]
    ends = [bool(stream.quarter(*_mostly(draw, 700, 0.33, missing=True))) for _ in range(3)]
    assert ends == [False, False, True]
    assert [a.status for a in stream.alerts] == ["firing", "resolved"]


def test_a_unit_that_is_still_wrong_keeps_its_alert_where_values_are_few():
    """469 values in cents instead of euros are no end of the episode that 700 of them opened."""
    draw = np.random.default_rng(7)
    stream = Stream(_mostly(draw, 5000, 0.33, missing=True))
    numeric, codes, scores = law(draw, 700)
    stream.quarter(numeric * 100.0, codes, scores)
    for _ in range(8):
        numeric, codes, scores = _mostly(draw, 700, 0.33, missing=True)
        stream.quarter(numeric * 100.0, codes, scores)
    assert [a.status for a in stream.alerts] == ["firing"]


@pytest.mark.parametrize("broken", ["stuck", "missing", "cents"])
@pytest.mark.parametrize("lead", [0.0, 0.1, 0.4, 0.9])
def test_one_stuck_sensor_is_one_alert(broken, lead):
    """Stuck from the middle of a window for five quarter hours, and back: the mixed windows, hours and day are one."""
    draw = np.random.default_rng(8)
    stream = Stream(law(draw, 5000))
    change = {"stuck": lambda x: x * 0 + 40.0, "missing": lambda x: x * np.nan, "cents": lambda x: x * 100.0}[broken]

    def quarter(first, last):
        numeric, codes, scores = law(draw, 1500)
        rows = slice(int(first * 1500), int(last * 1500))
        numeric[rows] = change(numeric[rows])
        stream.quarter(numeric, codes, scores)

    for _ in range(6):
        quarter(0.0, 0.0)
    quarter(lead, 1.0)
    for _ in range(4):
        quarter(0.0, 1.0)
    quarter(0.0, lead)
    for _ in range(2 * 96 - 12):
        quarter(0.0, 0.0)
    fingerprints = {alert.fingerprint for alert in stream.alerts}
    assert len(fingerprints) == 1, stream.episodes
    assert stream.alerts[-1].status == "resolved"
    assert sum(alert.status == "resolved" for alert in stream.alerts) == 1
    fired = [state for state in stream.announcer.states().values() if state in {"warning", "critical"}]
    assert fired == []


def test_a_drift_that_outlasts_broken_data_is_announced():
    """The sensor is replaced by another one that measures half a standard deviation more."""
    draw = np.random.default_rng(9)
    stream = Stream(law(draw, 5000))
    for change in [lambda x: x, *[lambda x: x * 0 + 40.0] * 3, *[lambda x: x + 12.0] * 12]:
        numeric, codes, scores = law(draw, 1500)
        stream.quarter(change(numeric), codes, scores)
    assert {(name, feature) for name, feature, _ in stream.episodes} == {
        ("DataQuality", "amount"),
        ("FeatureDrift", "amount"),
    }


def test_data_that_breaks_during_a_lasting_drift_has_its_own_alert():
    """The drift of the days before explains nothing of it."""
    draw = np.random.default_rng(10)
    stream = Stream(law(draw, 5000))
    for change in [*[lambda x: x] * 4, *[lambda x: x + 12.0] * 12, *[lambda x: x * 0 + 40.0] * 3]:
        numeric, codes, scores = law(draw, 1500)
        stream.quarter(change(numeric), codes, scores)
    assert {(name, feature) for name, feature, _ in stream.episodes} == {
        ("FeatureDrift", "amount"),
        ("DataQuality", "amount"),
    }


def test_a_score_that_is_always_the_same_has_drifted():
    """Nothing is broken upstream; the model answers one probability to all."""
    draw = np.random.default_rng(11)
    stream = Stream(law(draw, 5000))
    for stuck in [False] * 4 + [True] * 2:
        numeric, codes, scores = law(draw, 1500)
        stream.quarter(numeric, codes, scores * 0 + 0.25 if stuck else scores)
    assert stream.episodes == [("PredictionDrift", None, "critical")]


@pytest.mark.parametrize("subject", ["amount", "plan", "senior", "score", "missing", "unseen"])
def test_an_episode_ends_in_windows_of_sixty_events(subject):
    """DRIFT_MIN_EVENTS=50: chance alone moves 60 events by more than any limit, and is no evidence."""
    draw = np.random.default_rng(12)
    stream = Stream(law(draw, 5000), min_events=50)

    def quarter(*, moved):
        numeric, codes, scores = law(draw, 60)
        if moved and subject == "amount":
            numeric *= 3.1
        if moved and subject in {"plan", "senior"}:
            codes[:, ("plan", "senior").index(subject)] = 1
        if moved and subject == "score":
            scores = 0.9 + 0.1 * scores
        if moved and subject == "missing":
            numeric[:40] = np.nan
        if moved and subject == "unseen":
            codes[:40, 0] = -2
        stream.quarter(numeric, codes, scores)

    for moved in [False] * 3 + [True] * 4:
        quarter(moved=moved)
    assert stream.episodes
    for _ in range(40):
        quarter(moved=False)
    assert [alert.status for alert in stream.alerts][-1] == "resolved"
    assert len({alert.fingerprint for alert in stream.alerts}) == sum(a.status == "resolved" for a in stream.alerts)
