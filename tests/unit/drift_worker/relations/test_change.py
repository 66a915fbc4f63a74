"""RelationTests of relations: what they must find, and that nothing is found where a marginal moved."""

import numpy as np
import pytest

from drift_worker.counts.products import Frequent, Products, Ranked
from drift_worker.relations.change import CORRELATION, SEGMENT, RelationTests, two_sided
from drift_worker.relations.matrix import Matrix

SCALE = np.append(np.clip(np.arange(-48, 49), -48, 48), 0).astype(np.int8)
PRODUCTS = Products(
    [Ranked(0, SCALE), Ranked(1, SCALE), Frequent(2, (0, 1, 2)), Frequent(3, (0, 1))],
    np.zeros(8, dtype=np.int64),
    (0, 1),
)
MATRIX = Matrix(PRODUCTS)


def _z(seed, n, r=0.5, within=0.0, shift=0.0, shares=(0.5, 0.3, 0.2), phi=0.6):
    generator = np.random.default_rng(seed)
    a = generator.normal(size=n)
    b = r * a + np.sqrt(1 - r * r) * generator.normal(size=n)
    c = generator.choice(3, n, p=shares)
    d = np.where(generator.random(n) < phi, c % 2, generator.integers(0, 2, n))
    a = a + 0.6 * (c == 2) + within * (c == 1) + shift
    cells = [np.clip(np.rint(16 * x) + 48, 0, 96).astype(np.int64) for x in (a, b)]
    return PRODUCTS.rows(cells, [c, d])


REFERENCE = _z(0, 7000)
TESTS = RelationTests(MATRIX, REFERENCE)


def _values(z, tests=None):
    return (tests or TESTS).values(MATRIX.moments(PRODUCTS.sums(z)))


BEFORE = _values(REFERENCE)


def _changes(**drift):
    m = 1500
    return TESTS.compare(_values(_z(1, m, **drift)), m, BEFORE, 7000)


def _of(changes, kind):
    at = [i for i, name in enumerate(TESTS.kinds) if name == kind]
    return np.abs(changes.effect[at]), changes.log10_p[at]


def test_z_is_standard_normal_without_drift():
    """Over 300 windows and references of their own, every kind of test has the variance that it claims."""
    z = []
    for seed in range(150):
        rows = _z(1000 + seed, 3000)
        tests = RelationTests(MATRIX, rows)
        now = _values(_z(5000 + seed, 1000), tests)
        z.append(tests.compare(now, 1000, _values(rows, tests), 3000))
    kinds = np.array(TESTS.kinds)
    for kind in set(TESTS.kinds):
        values = np.concatenate([one.z[(kinds == kind) & one.made] for one in z])
        assert 0.8 < values.std() < 1.15, kind


def test_a_correlation_that_is_lost_is_found():
    """0.5 → 0, both marginals as before."""
    effect, log_p = _of(_changes(r=0.0), CORRELATION)
    assert effect.max() > 0.35
    assert log_p.min() < -20


def test_a_number_that_moves_in_one_category_is_found_there():
    """One of three categories by one standard deviation; what is measured is how far beyond the others."""
    changes = _changes(within=1.0)
    at = int(np.argmax(np.abs(changes.effect) * (np.array(TESTS.kinds) == SEGMENT)))
    assert (TESTS.first[at], TESTS.second[at]) == (1, 4)  # the first number, and the second category of the third block
    assert changes.effect[at] == pytest.approx(0.75, abs=0.2)
    assert changes.now[at] - changes.before[at] == pytest.approx(0.95, abs=0.2)


@pytest.mark.parametrize("drift", [{"shift": 0.8}, {"shares": (0.2, 0.3, 0.5)}])
def test_where_only_a_marginal_moved_nothing_is_found(drift):
    """The number everywhere, or the mix of categories that it depends on: no segment and no correlation moved."""
    changes = _changes(**drift)
    assert np.abs(changes.effect[np.array(TESTS.kinds) == SEGMENT]).max() < 0.25
    assert np.abs(changes.effect[np.array(TESTS.kinds) == CORRELATION]).max() < 0.1


def test_rare_pairs_of_categories_are_not_tested():
    """Ten events must be expected: five of one event are no association."""
    few = TESTS.compare(_values(_z(2, 25)), 25, BEFORE, 7000)
    assert not few.made[[i for i, name in enumerate(TESTS.kinds) if name == "association"]].all()
    assert not few.made[[i for i, name in enumerate(TESTS.kinds) if name == SEGMENT]].any()


def test_two_sided_is_scipys():
    """To tails that a double cannot hold."""
    from scipy.stats import norm

    z = np.array([0.0, 1.0, -3.0, 8.0])
    assert two_sided(z) == pytest.approx(np.log10(2 * norm.sf(np.abs(z))))
    assert two_sided(np.array([60.0]))[0] < -700
