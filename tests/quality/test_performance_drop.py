"""How often PerformanceDrop pages without any change, and how soon with one: whole years of daily cohorts, simulated.

The bundle's numbers are of held-out customers from the same stream, so all of its cohorts share their sampling error.
The calibration, a curve fitted on a sample, does too. `--long`: 60 bundles, a year each.
"""

from __future__ import annotations

import numpy as np
import pytest

from drift_worker.performance.classification_metrics import Rows, performance
from drift_worker.performance.label_free_estimate import estimate
from drift_worker.performance.performance_drop import METRICS, DropDetector
from schemas.bundle.manifest import Calibration
from schemas.performance import Band, Cohort, Coverage, LabelCount, Metric, Performance
from schemas.timestamps import render

DAY_MS = 86_400_000
EVEN = Coverage(1.0, 1.0, 1.0, 1.0, 1.0)
# Customers a day, and predictions of each: alike, so that they count as one.
SIZES = [(500, 1), (1500, 1), (1500, 3), (10_000, 1)]


def _customers(
    draw: np.random.Generator, n: int, moved: float = 0.0, household: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Scores as of a churn model (mean .27, AUC .84), and outcomes of n customers, or of fewer by a rest.

    moved: share that no score explains. household: so many customers have one score, and one outcome.
    """
    p = draw.beta(0.55, 1.5, n // household)
    told = draw.random(n // household) < (1 - moved) * p + moved * 0.5
    return np.repeat(p, household), np.repeat(told, household)


def _numbers(p: np.ndarray, told: np.ndarray, customer: np.ndarray) -> dict[str, Metric]:
    found = performance(Rows(told, p, p >= 0.5, customer))
    return {name: Metric(found[name].value, found[name].error) for name in METRICS}


def _calibration(draw: np.random.Generator) -> Calibration:
    """5,600 training customers, and the band that such a bundle has: .02 (telco's own is .03)."""
    p, told = _customers(draw, 5600)
    order = np.argsort(p)
    parts = np.array_split(order, 20)
    y = np.maximum.accumulate([float(told[part].mean()) for part in parts])
    x = [float(p[part].mean()) for part in parts]
    return Calibration(x=tuple(x), y=tuple(y.tolist()), rows=5600, band=dict.fromkeys(METRICS, 0.02))


def _pages(
    draw: np.random.Generator,
    days: int,
    customers: int,
    repeats: int,
    moved_from: int | None = None,
    household: int = 1,
) -> list:
    """The alerts that fire in this number of days of one bundle."""
    p, told = _customers(draw, 1409, household=household)
    expected, calibration = _numbers(p, told, np.arange(len(p))), _calibration(draw)
    judge = DropDetector("m", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    said = []
    for day in range(days):
        moved = 0.3 if moved_from is not None and day >= moved_from else 0.0
        p, told = _customers(draw, customers, moved, household)
        p, told = np.tile(p, repeats), np.tile(told, repeats)
        who = np.tile(np.arange(customers), repeats)
        bands = {
            name: None if e is None else Band(e.value, e.low, e.high, e.sampling, e.calibration)
            for name, e in estimate(p, 0.5, calibration, who).items()
        }
        positive = int(told.sum())
        cohort = Performance(
            model="m",
            model_version="1.0.0",
            cohort=Cohort(str(day), render(day * DAY_MS), render((day + 1) * DAY_MS)),
            status="final",
            horizon="90d",
            predictions=len(p),
            customers=customers,
            labels=LabelCount(positive, len(p) - positive, 0),
            coverage=EVEN,
            metrics=_numbers(p, told, who),
            expected=expected,
            estimated_labelled=bands,
        )
        _, alert = judge.step(cohort)
        if alert is not None and alert.status == "firing":
            said.append((day, alert))
    return said


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("customers", "repeats"), SIZES)
def test_a_year_without_change_pages_less_than_once(customers: int, repeats: int, long: bool) -> None:
    """Bundles with a year of cohorts each: at most one episode a year on average, and not near it."""
    bundles, days = (60, 365) if long else (4, 90)
    draw = np.random.default_rng(customers + repeats)
    pages = sum(len(_pages(draw, days, customers, repeats)) for _ in range(bundles))
    print(f"{customers} customers x {repeats}: {pages} pages in {bundles * days / 365:.0f} years")  # noqa: T201
    assert pages <= bundles * days / 365


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("household", [2, 5])
def test_households_that_decide_together_page_less_than_once_a_year(household: int, long: bool) -> None:
    """1,500 customers a day. No field names the household, so errors are too small by the root of its size."""
    bundles, days = (60, 365) if long else (8, 120)
    draw = np.random.default_rng(household)
    pages = sum(len(_pages(draw, days, 1500, 1, household=household)) for _ in range(bundles))
    print(f"households of {household}: {pages} pages in {bundles * days / 365:.1f} years")  # noqa: T201
    # the first month has most of them: in 120 days the bar of a year
    assert pages <= bundles * (days / 365 if long else 1)


def test_households_do_not_hide_a_change_for_long() -> None:
    """Three in ten leave by the toss of a coin: announced within three days, most of the time on the first."""
    draw = np.random.default_rng(5)
    first = []
    for _ in range(8):
        days = [day for day, _ in _pages(draw, 34, 1500, 1, moved_from=30, household=5) if day >= 30]
        first.append(min(days, default=99) - 30)
    assert sorted(first)[5] <= 1
    assert max(first) <= 3


def test_a_change_that_no_score_shows_is_announced_on_its_first_day() -> None:
    """Three in ten customers leave by the toss of a coin: accuracy and AUC fall by 10 points and more."""
    draw = np.random.default_rng(3)
    first = [_pages(draw, 12, 1500, 1, moved_from=10)[0] for _ in range(5)]
    assert [day for day, _ in first] == [10] * 5
    assert all({"expected", "estimated"} <= {d["against"] for d in alert.evidence["drops"]} for _, alert in first)
