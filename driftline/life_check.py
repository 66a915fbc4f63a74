"""The prediction log → the same numbers as the drift worker's, by scikit-learn: the demo's proof."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score


def recomputed(log: Path, cohorts: Iterable[Mapping[str, Any]]) -> float:
    """The largest difference of any metric of `cohorts` to scikit-learn's on the rows of `driftline export`."""
    rows: dict[tuple[str, str], list[tuple[bool, float, bool]]] = {}
    with log.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            if row["outcome"] is not None:
                key = (row["event_time"][:10], row["model_version"])
                rows.setdefault(key, []).append((row["outcome"], row["probability"], row["label"]))
    worst = 0.0
    for cohort in cohorts:
        of_day = rows[cohort["cohort"]["day"], cohort["model_version"]]
        outcome, probability, label = (np.array(column) for column in zip(*of_day, strict=True))
        again = {
            "accuracy": accuracy_score(outcome, label),
            "f1": f1_score(outcome, label),
            "roc_auc": roc_auc_score(outcome, probability),
            "brier": brier_score_loss(outcome, probability),
            "log_loss": log_loss(outcome, probability),
        }
        worst = max(worst, *(abs(cohort["metrics"][name]["value"] - value) for name, value in again.items()))
    return worst
