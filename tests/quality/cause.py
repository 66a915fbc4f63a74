"""Who caused a movement of the score: models that read five of ten features, three of which have a twin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells
from drift_worker.statistics.measure import Measurer
from schemas.bundle.inputs import Feature
from schemas.reference import Reference

FEATURES = tuple(Feature(name=f"n{i}", kind="numeric", nullable=True) for i in range(10))
READ = 5
N, M = 7000, 1500
Floats = NDArray[np.float64]


def _population(generator: np.random.Generator, n: int) -> Floats:
    x = generator.normal(size=(n, 10))
    x[:, 1] = 0.5 * x[:, 0] + 0.87 * x[:, 1]
    for twin in range(3):
        x[:, READ + twin] = 0.9 * x[:, twin] + np.sqrt(0.19) * x[:, READ + twin]
    x[:, 3] = np.exp(0.7 * x[:, 3])
    x[:, 8] = np.where(x[:, 8] < 0.25, 0.0, x[:, 8])
    return x


def _score(x: Floats, weights: Floats, kind: int) -> Floats:
    """A logistic regression, one with bends, or one with steps as of trees."""
    terms = [
        (x[:, 0], x[:, 0], np.sign(x[:, 0] - 0.3) + (x[:, 0] > 1)),
        (x[:, 1], 1.5 * np.maximum(x[:, 1], 0.0), np.sign(x[:, 1])),
        (x[:, 2], x[:, 2], 1.5 * (x[:, 2] > 0)),
        (x[:, 3], np.log(x[:, 3]), 1.5 * (x[:, 3] > 1)),
        (x[:, 4], np.abs(x[:, 4]), 2.0 * (x[:, 4] > 0.5)),
    ]
    logit = np.column_stack([term[kind] for term in terms]) @ weights - 0.5
    odds: Floats = 1.0 / (1.0 + np.exp(-logit))
    return odds


def first_is_the_cause(seed: int) -> bool:
    """One feature that is read and two that are not move; whether the one with the largest `score_shift` is read."""
    generator = np.random.default_rng([3, seed])
    weights = generator.uniform(0.3, 1.2, READ) * generator.choice([-1, 1], READ)
    rows = _population(generator, N)
    none = np.empty((N, 0), dtype=np.int32)
    reference = Reference(rows, none, _score(rows, weights, seed % 3), np.empty(0, dtype=np.int64))
    cells = Cells(FEATURES, [], reference)
    x = _population(generator, M)
    cause = int(generator.integers(READ))
    x[:, cause] += generator.uniform(0.4, 0.8) * rows[:, cause].std()
    for other in generator.permutation(np.arange(READ, 10))[:2].tolist():
        x[:, other] += generator.uniform(0.6, 1.0) * generator.choice([-1, 1]) * rows[:, other].std()
    vectors = {}
    customers = generator.integers(0, 1 << 63, M).astype(np.uint64)
    for _, series, part in aggregate.count_events(cells, np.zeros(M, dtype=np.int64), x, none[:M], customers):
        vectors[series] = np.zeros(aggregate.size_of(cells, series), dtype=np.int64)
        part.add_to(vectors[series])
    measured = Measurer(cells, reference, 500).features(vectors)
    return max(measured, key=lambda name: abs(measured[name].score_shift or 0.0)) == f"n{cause}"
