"""The prediction log → the drift worker's numbers, recomputed by scikit-learn: the demo's proof."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from schemas.performance import Performance


def recomputed(log: Path, cohorts: Iterable[Performance]) -> float:
    """Return the largest difference of any metric of `cohorts` from scikit-learn's on the rows of `driftline export`.

    A metric that is unknown in a cohort is not compared: with one class alone there is no ROC AUC, for instance.
    """
    rows: dict[tuple[str, str], list[tuple[bool, float, bool]]] = {}
    with log.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            if row["outcome"] is not None:
                key = (row["event_time"][:10], row["model_version"])
                rows.setdefault(key, []).append((row["outcome"], row["probability"], row["label"]))
    worst = 0.0
    for cohort in cohorts:
        known = {name: metric.value for name, metric in cohort.metrics.items() if metric.value is not None}
        of_day = rows.get((cohort.cohort.day, cohort.model_version), [])
        if not of_day:
            worst = max(worst, *([math.inf] if known else [0.0]))
            continue
        outcome, probability, label = (np.array(column) for column in zip(*of_day, strict=True))
        again: dict[str, Callable[[], float]] = {
            "accuracy": partial(accuracy_score, outcome, label),
            "f1": partial(f1_score, outcome, label),
            "roc_auc": partial(roc_auc_score, outcome, probability),
            "brier": partial(brier_score_loss, outcome, probability),
            "log_loss": partial(log_loss, outcome, probability, labels=[False, True]),
        }
        for name, compute in again.items():
            if name in known:
                worst = max(worst, abs(known[name] - compute()))
    return worst
