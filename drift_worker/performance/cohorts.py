"""Facts → the performance of cohorts: the predictions of one UTC day by one model version. Pure.

Only a final cohort measures how good the model was. Before that, labels of customers who leave arrive first, and an
accuracy of .81 reads .55. So a provisional cohort shows the number of known outcomes of each kind and raises no alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drift_worker.performance import label_free_estimate
from drift_worker.performance.classification_metrics import (
    Estimated,
    Floats,
    Money,
    Rows,
    business_value,
    money_of,
    performance,
)
from drift_worker.performance.label_join import UNKNOWN, Joined, Predictions, join
from drift_worker.performance.label_store import DAY_MS, DayVersion, LabelStore, day_name
from schemas.bundle import Manifest
from schemas.performance import Band, Cohort, Coverage, LabelCount, Metric, Performance, Value
from schemas.timestamps import render


@dataclass(frozen=True, slots=True)
class CohortConfig:
    """The parameters of an evaluation."""

    #: Of the reference bundle. Expected and estimated metrics exist for its version alone.
    manifest: Manifest
    #: A label belongs to a prediction within this time.
    horizon_ms: int
    #: The same, as it is set.
    horizon: str

    @property
    def money(self) -> Money | None:
        """Return the worth of each outcome; None if the bundle has none."""
        return money_of(self.manifest.business)


def evaluate(
    config: CohortConfig,
    store: LabelStore,
    cohorts: Sequence[DayVersion],
    now_ms: int,
    status: Literal["provisional", "final"],
) -> list[Performance]:
    """Return one Performance per cohort (named as in `LabelStore.days`), in the order given. now_ms: event time.

    In a provisional cohort an absent label is not negative: the label may still arrive.
    """
    if not cohorts:
        return []
    predictions = store.predictions()
    joined = join(
        predictions,
        store.labels(),
        config.horizon_ms,
        absent_negative=status == "final" and config.manifest.absent_label == "negative",
        now_ms=now_ms,
    )
    starts = predictions["time_ms"] // DAY_MS * DAY_MS
    found = []
    for start, version in cohorts:
        mine = np.flatnonzero((starts == start) & (predictions["version"] == version))
        # in a fixed order: so the sums of floats do not depend on the order in which facts arrived
        mine = mine[np.lexsort((predictions["prediction"][mine], predictions["customer"][mine]))]
        found.append(_one(config, start, store.versions[version], predictions[mine], _only(joined, mine), status))
    return found


def _only(joined: Joined, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Joined:
    return Joined(joined.outcome[rows], joined.label[rows], joined.unmatched)


def _one(
    config: CohortConfig,
    start: int,
    version: str,
    made: Predictions,
    joined: Joined,
    status: Literal["provisional", "final"],
) -> Performance:
    known = joined.outcome != UNKNOWN
    rows = Rows(
        outcome=joined.outcome[known] == 1,
        probability=made["probability"][known],
        predicted=made["positive"][known],
        customer=made["customer"][known],
    )
    manifest = config.manifest
    ours = version == manifest.version
    money = config.money
    positive = int(rows.outcome.sum())
    return Performance(
        model=manifest.name,
        model_version=version,
        cohort=Cohort(day_name(start), render(start), render(start + DAY_MS)),
        status=status,
        horizon=config.horizon,
        predictions=len(made),
        customers=len(np.unique(made["customer"])),
        labels=LabelCount(positive, int(known.sum()) - positive, absent=int((known & (joined.label < 0)).sum())),
        coverage=_coverage(config, made, joined, ours=ours),
        metrics={name: _metric(one) for name, one in performance(rows).items()},
        business=None
        if money is None or manifest.business is None
        else Value(manifest.business.currency, _metric(business_value(rows, money))),
        expected={
            name: Metric(value, manifest.metric_errors.get(name)) for name, value in manifest.metrics.items() if ours
        },
        estimated=_estimated(config, made) if ours else {},
        estimated_labelled=_estimated(config, made[known]) if ours else {},
    )


def _coverage(config: CohortConfig, made: Predictions, joined: Joined, *, ours: bool) -> Coverage:
    known = joined.outcome != UNKNOWN
    promised = made["probability"]
    if ours and config.manifest.calibration is not None:
        promised = label_free_estimate.calibrated(promised, config.manifest.calibration)
    hopes = float(promised.sum())
    return Coverage(
        all=float(known.mean()),
        positive=_share(int((joined.outcome == 1).sum()), hopes),
        negative=_share(int((joined.outcome == 0).sum()), len(made) - hopes),
        predicted_positive=_share(int((known & made["positive"]).sum()), float(made["positive"].sum())),
        predicted_negative=_share(int((known & ~made["positive"]).sum()), float((~made["positive"]).sum())),
    )


def _share(part: int, whole: float) -> float | None:
    return part / whole if whole > 0.0 else None


def _metric(one: Estimated) -> Metric:
    return Metric(one.value, one.error, one.low, one.high, one.reason)


def _estimated(config: CohortConfig, made: Predictions) -> dict[str, Band | None]:
    """Return the metrics estimated from the scores alone; empty if the bundle has no calibration."""
    calibration = config.manifest.calibration
    if calibration is None or not len(made):
        return {}
    _, customers = np.unique(made["customer"], return_inverse=True)
    probability: Floats = np.ascontiguousarray(made["probability"])
    found = label_free_estimate.estimate(
        probability, config.manifest.binary("performance").threshold, calibration, customers
    )
    return {
        name: None if one is None else Band(one.value, one.low, one.high, one.sampling, one.calibration)
        for name, one in found.items()
    }
