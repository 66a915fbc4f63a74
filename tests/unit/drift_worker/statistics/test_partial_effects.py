"""What caused a movement of the score: the feature that the model reads, not its twin."""

import numpy as np
import pytest

from drift_worker.statistics import partial_effects as module
from drift_worker.statistics.partial_effects import Rows, partial_effects


def _binned(values):
    cuts = np.quantile(values, np.arange(1, 10) / 10)
    return Rows(np.searchsorted(cuts, values, side="right").astype(np.intp), 10, values)


def test_a_twin_that_is_not_read_has_no_effect():
    """At r = 0.9 its means say that it moves the score as much as the feature that does."""
    generator = np.random.default_rng(1)
    read = generator.normal(size=7000)
    twin = 0.9 * read + np.sqrt(0.19) * generator.normal(size=7000)
    score = 1.0 / (1.0 + np.exp(-1.5 * read))
    of_read, of_twin = partial_effects([_binned(read), _binned(twin)], score)
    assert np.ptp(of_read) > 0.6
    assert np.ptp(of_twin) < 0.05


def test_effects_of_independent_features_are_their_means():
    """As without the model, but for the shrinkage: a step, and a line."""
    generator = np.random.default_rng(2)
    plan = generator.integers(0, 3, 9000)
    x = generator.normal(size=9000)
    score = np.array([0.1, 0.3, 0.2])[plan] + 0.1 * x
    of_plan, of_x = partial_effects([Rows(plan.astype(np.intp), 3, None), _binned(x)], score)
    assert of_plan - of_plan[0] == pytest.approx([0.0, 0.2, 0.1], abs=0.01)
    cuts = _binned(x).bins
    assert of_x == pytest.approx([0.1 * x[cuts == i].mean() for i in range(10)], abs=0.01)
    assert float(np.bincount(plan) @ of_plan) == pytest.approx(0.0, abs=1e-6)


def test_what_is_missing_is_nobodys_effect():
    """Rows without a value have a step of their own, and a bin without rows has the effect 0."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=5000)
    gone = generator.random(5000) < 0.3
    score = np.where(gone, 0.9, 0.1)
    one = _binned(np.where(gone, 0.0, x))
    bins = np.where(gone, -1, one.bins)
    (effect,) = partial_effects([Rows(bins, 11, one.scores)], score)
    assert np.abs(effect).max() < 0.02
    assert effect[10] == 0.0


def test_what_no_line_shows_is_found_by_steps():
    """The score is high at both ends of a feature: a line through it is flat."""
    x = np.random.default_rng(5).normal(size=7000)
    (effect,) = partial_effects([_binned(x)], 0.2 * (np.abs(x) > 1.0))
    assert effect[0] - effect[5] == pytest.approx(0.2, abs=0.02)
    assert effect[9] - effect[5] == pytest.approx(0.2, abs=0.02)


def test_many_features_have_lines_alone_and_too_many_nothing(monkeypatch):
    """The fit grows with the square of the columns."""
    generator = np.random.default_rng(4)
    x = generator.normal(size=(2000, 3))
    rows = [_binned(x[:, i]) for i in range(3)]
    score = 0.2 * x[:, 1]
    monkeypatch.setattr(module, "MOST_COLUMNS", 10)
    effects = partial_effects(rows, score)
    assert int(np.argmax([np.ptp(effect) for effect in effects])) == 1
    monkeypatch.setattr(module, "MOST_COLUMNS", 3)
    assert partial_effects(rows, score) is None
