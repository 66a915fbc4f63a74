"""Golden rows: synthetic customers for which a loaded model must return the same probabilities as when it was made.

They are put together feature by feature from quantiles and category names, so no row is a real customer's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.bundle.inputs import Feature
from schemas.features import Columns, Value

ROWS = 16
QUANTILES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
UNSEEN_CATEGORY = "driftline: a category that training never saw"
# The first four rows: all nullable features missing, all categories unseen, the lowest numbers, the highest numbers.
MISSING_ROW, UNSEEN_ROW, LOW_ROW, HIGH_ROW = range(4)


def golden_rows(features: Sequence[Feature], columns: Columns, seed: int) -> list[dict[str, Value]]:
    """Return 16 feature objects as in an event's JSON, by feature name; None where a feature is missing."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Value]] = [{} for _ in range(ROWS)]
    for feature in features:
        position = columns.layout.names.index(feature.name)
        choices = _choices(feature, columns.values[position])
        picks = random.integers(len(choices), size=ROWS)
        gaps = random.random(ROWS) < 0.15
        for i, row in enumerate(rows):
            row[feature.name] = choices[picks[i]]
            if feature.kind == "numeric" and i in (LOW_ROW, HIGH_ROW):
                row[feature.name] = choices[0 if i == LOW_ROW else -1]
            if feature.kind == "categorical" and i == UNSEEN_ROW:
                row[feature.name] = UNSEEN_CATEGORY
            if feature.nullable and (i == MISSING_ROW or (i > HIGH_ROW and gaps[i])):
                row[feature.name] = None
    return rows


def golden_values(features: Sequence[Feature], rows: Sequence[dict[str, Value]]) -> list[list[Value]]:
    """Return the rows as one list of values per feature, as Layout.columns takes them."""
    return [[row.get(feature.name) for row in rows] for feature in features]


def _choices(feature: Feature, values: Sequence[Value]) -> list[Value]:
    if feature.kind == "boolean":
        return [False, True]
    if feature.kind == "categorical":
        return list(feature.categories or (UNSEEN_CATEGORY,))
    present = [value for value in values if value is not None]
    if not present:  # a nullable feature that is missing in every row may have a value in an event
        return [next((bound for bound in (feature.min, feature.max) if bound is not None), 0.0)]
    quantiles = np.quantile(np.array(present, dtype=np.float64), QUANTILES)
    if all(isinstance(value, int) for value in present):
        return [round(q) for q in quantiles.tolist()]
    return [float(q) for q in quantiles.tolist()]
