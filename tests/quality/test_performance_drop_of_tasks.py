"""How often PerformanceDrop pages for several classes and for a regression, without any change and with one.

As tests/quality/test_performance_drop.py does it for binary models: each bundle has its own held-out customers and its
own curves, so that their luck lasts for all of its cohorts. `--long`: 60 bundles, a year each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from drift_worker.performance import class_estimate, error_estimate
from drift_worker.performance.clustered_error import Estimated
from drift_worker.performance.label_free_estimate import Estimate
from drift_worker.performance.multiclass_metrics import ClassRows, class_performance
from drift_worker.performance.performance_drop import CLASS_METRICS, DropDetector
from drift_worker.performance.regression_metrics import ValueRows, value_performance
from driftline.training.without_labels.calibration import curve_of
from driftline.training.without_labels.error_curve import _points
from schemas.bundle.manifest import ClassCalibration, Curve, ErrorCurve
from schemas.performance import (
    AnyPerformance,
    Band,
    ClassCoverage,
    ClassLabelCount,
    ClassPerformance,
    Cohort,
    Metric,
    ValueCoverage,
    ValueLabelCount,
    ValuePerformance,
)
from schemas.timestamps import render

DAY_MS = 86_400_000
TRAINED, HELD_OUT = 5600, 1409
CLASSES = ("bronze", "gold", "silver")
# Share of customers whose outcome no prediction explains any more, once something has changed.
MOVED = 0.3

Day = Callable[[int, float], AnyPerformance]


def _head(day: int, customers: int) -> dict[str, Any]:
    of_day = Cohort(str(day), render(day * DAY_MS), render((day + 1) * DAY_MS))
    return {
        "model": "m",
        "model_version": "1.0.0",
        "cohort": of_day,
        "status": "final",
        "horizon": "90d",
        "predictions": customers,
        "customers": customers,
    }


def _metrics(found: dict[str, Estimated]) -> dict[str, Metric]:
    return {name: Metric(one.value, one.error) for name, one in found.items()}


def _bands(found: dict[str, Estimate | None]) -> dict[str, Band | None]:
    return {
        name: None if e is None else Band(e.value, e.low, e.high, e.sampling, e.calibration)
        for name, e in found.items()
    }


@dataclass(frozen=True)
class _OfClasses:
    """A bundle of three classes, whose probabilities are as good as true; the band is .02, as telco's."""

    draw: np.random.Generator
    customers: int

    def _rows(self, n: int, moved: float = 0.0) -> ClassRows:
        p = self.draw.dirichlet([0.6, 0.9, 1.5], n)
        told = (self.draw.random(n)[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
        told = np.where(self.draw.random(n) < moved, self.draw.integers(0, 3, n), told)
        return ClassRows(told, p.argmax(axis=1), p, np.arange(n))

    def days(self) -> Day:
        expected, trained = _metrics(class_performance(self._rows(HELD_OUT))), self._rows(TRAINED)
        curves = [curve_of(trained.outcome == k, trained.probabilities[:, k]) for k in range(3)]
        calibration = ClassCalibration(
            curves={
                name: Curve(x=tuple(c.X_thresholds_.tolist()), y=tuple(c.y_thresholds_.tolist()))
                for name, c in zip(CLASSES, curves, strict=True)
            },
            rows=TRAINED,
            band=dict.fromkeys(CLASS_METRICS, 0.02),
            class_band={},
        )

        def cohort(day: int, moved: float) -> AnyPerformance:
            rows = self._rows(self.customers, moved)
            promised = class_estimate.estimate(rows.probabilities, CLASSES, calibration)
            counts = [dict(zip(CLASSES, np.bincount(c, minlength=3).tolist(), strict=True))
                      for c in (rows.outcome, rows.predicted)]  # fmt: skip
            return ClassPerformance(
                **_head(day, self.customers),
                predicted=counts[1],
                labels=ClassLabelCount(self.customers, counts[0]),
                coverage=ClassCoverage(1.0, dict.fromkeys(CLASSES, 1.0)),
                metrics=_metrics(class_performance(rows)),
                expected=expected,
                estimated_labelled=_bands(promised.overall),
            )

        return cohort


@dataclass(frozen=True)
class _OfValues:
    """A bundle of a regression whose errors grow with the value; the band is a twentieth, as telco's with ridge."""

    draw: np.random.Generator
    customers: int

    def _rows(self, n: int, moved: float = 0.0) -> ValueRows:
        value = self.draw.gamma(2.0, 30.0, n)
        error = self.draw.standard_t(5, n) * (3.0 + 0.1 * value)
        error = np.where(self.draw.random(n) < moved, 4.0 * error, error)
        return ValueRows(value + error, value, np.arange(n))

    def days(self) -> Day:
        expected, trained = _metrics(value_performance(self._rows(HELD_OUT))), self._rows(TRAINED)
        x, y, spread = (tuple(p.tolist()) for p in _points(trained.value, np.abs(trained.outcome - trained.value)))
        curve = ErrorCurve(x=x, y=y, spread=spread, rows=TRAINED, band=0.05)

        def cohort(day: int, moved: float) -> AnyPerformance:
            rows = self._rows(self.customers, moved)
            return ValuePerformance(
                **_head(day, self.customers),
                labels=ValueLabelCount(self.customers),
                coverage=ValueCoverage(1.0),
                metrics=_metrics(value_performance(rows)),
                expected=expected,
                estimated_labelled=_bands(dict(error_estimate.estimate(rows.value, curve))),
            )

        return cohort


BUNDLES = {"classes": _OfClasses, "values": _OfValues}


def _pages(day: Day, days: int, moved_from: int | None = None) -> list:
    """The alerts that fire in this number of days of one bundle."""
    judge = DropDetector("m", "1.0.0", 500, "docs/runbook.md")
    judge.renew(0)
    said = []
    for number in range(days):
        _, alert = judge.step(day(number, MOVED if moved_from is not None and number >= moved_from else 0.0))
        if alert is not None and alert.status == "firing":
            said.append((number, alert))
    return said


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("customers", [500, 1500])
@pytest.mark.parametrize("task", list(BUNDLES))
def test_a_year_without_change_pages_less_than_once(task: str, customers: int, long: bool) -> None:
    """Bundles with a year of cohorts each: at most one episode a year on average."""
    if customers > 500 and not long:
        pytest.skip("--long")
    bundles, days = (60, 365) if long else (4, 90)
    draw = np.random.default_rng(customers)
    pages = sum(len(_pages(BUNDLES[task](draw, customers).days(), days)) for _ in range(bundles))
    print(f"{task}, {customers} customers: {pages} pages in {bundles * days / 365:.0f} years")  # noqa: T201
    assert pages <= bundles * days / 365


@pytest.mark.parametrize("task", list(BUNDLES))
def test_a_change_that_no_prediction_shows_is_announced_on_its_first_day(task: str) -> None:
    """Three in ten outcomes have nothing to do with the prediction, or four times the error."""
    draw = np.random.default_rng(3)
    first = [_pages(BUNDLES[task](draw, 1500).days(), 12, moved_from=10)[0] for _ in range(5)]
    assert [day for day, _ in first] == [10] * 5
    assert all({"expected", "estimated"} <= {d["against"] for d in alert.evidence["drops"]} for _, alert in first)
