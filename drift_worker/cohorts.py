"""Facts → the performance of cohorts: the predictions of one UTC day by one model version. Pure.

Only a final cohort says how good the model was. Before, labels of those who leave come first, and accuracy reads .55
where it is .81; so a provisional cohort shows how many outcomes of each kind are known, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drift_worker import estimate
from drift_worker.join import UNKNOWN, Joined, Predictions, join
from drift_worker.label_store import DAY_MS, LabelStore, day_name
from drift_worker.performance import Estimated, Floats, Money, Rows, business_value, money_of, performance
from schemas.bundle import Manifest
from schemas.performance import Band, Cohort, Coverage, LabelCount, Metric, Performance, Value
from schemas.rfc3339 import render


@dataclass(frozen=True, slots=True)
class Terms:
    """What cohorts are evaluated with. horizon_ms: within it a label belongs to a prediction; `horizon`: as it is set.

    manifest: of the bundle that is compared with; what is expected and estimated is known of its version alone.
    """

    manifest: Manifest
    horizon_ms: int
    horizon: str

    @property
    def money(self) -> Money | None:
        """What each outcome is worth; None if the bundle does not say."""
        return money_of(self.manifest.business)


def evaluate(
    terms: Terms,
    store: LabelStore,
    cohorts: Sequence[tuple[int, int]],
    now_ms: int,
    status: Literal["provisional", "final"],
) -> list[Performance]:
    """One Performance per cohort, as `LabelStore.days` names them, in the order given. now_ms: event time.

    Of a provisional cohort no absent label counts as negative: who has none yet may have one tomorrow.
    """
    if not cohorts:
        return []
    predictions = store.predictions()
    joined = join(
        predictions,
        store.labels(),
        terms.horizon_ms,
        absent_negative=status == "final" and terms.manifest.absent_label == "negative",
        now_ms=now_ms,
    )
    starts = predictions["time_ms"] // DAY_MS * DAY_MS
    found = []
    for start, version in cohorts:
        mine = np.flatnonzero((starts == start) & (predictions["version"] == version))
        # in an order of their own: sums of floats, too, are then the same whatever order the facts came in
        mine = mine[np.lexsort((predictions["prediction"][mine], predictions["customer"][mine]))]
        found.append(_one(terms, start, store.versions[version], predictions[mine], _only(joined, mine), status))
    return found


def _only(joined: Joined, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Joined:
    return Joined(joined.outcome[rows], joined.label[rows], joined.unmatched)


def _one(
    terms: Terms,
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
    manifest = terms.manifest
    ours = version == manifest.version
    money = terms.money
    positive = int(rows.outcome.sum())
    return Performance(
        model=manifest.name,
        model_version=version,
        cohort=Cohort(day_name(start), render(start), render(start + DAY_MS)),
        status=status,
        horizon=terms.horizon,
        predictions=len(made),
        customers=len(np.unique(made["customer"])),
        labels=LabelCount(positive, int(known.sum()) - positive, absent=int((known & (joined.label < 0)).sum())),
        coverage=_coverage(terms, made, joined, ours=ours),
        metrics={name: _metric(one) for name, one in performance(rows).items()},
        business=None
        if money is None or manifest.business is None
        else Value(manifest.business.currency, _metric(business_value(rows, money))),
        expected={
            name: Metric(value, manifest.metric_errors.get(name)) for name, value in manifest.metrics.items() if ours
        },
        estimated=_estimated(terms, made) if ours else {},
        estimated_labelled=_estimated(terms, made[known]) if ours else {},
    )


def _coverage(terms: Terms, made: Predictions, joined: Joined, *, ours: bool) -> Coverage:
    known = joined.outcome != UNKNOWN
    promised = made["probability"]
    if ours and terms.manifest.calibration is not None:
        promised = estimate.calibrated(promised, terms.manifest.calibration)
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


def _estimated(terms: Terms, made: Predictions) -> dict[str, Band | None]:
    """What the scores alone promise; nothing if the bundle has no calibration."""
    calibration = terms.manifest.calibration
    if calibration is None or not len(made):
        return {}
    _, customers = np.unique(made["customer"], return_inverse=True)
    probability: Floats = np.ascontiguousarray(made["probability"])
    found = estimate.estimate(probability, terms.manifest.threshold, calibration, customers)
    return {
        name: None if one is None else Band(one.value, one.low, one.high, one.sampling, one.calibration)
        for name, one in found.items()
    }
