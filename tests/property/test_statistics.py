"""Statistics from counts against scipy and numpy on the raw values: the oracle shares no code with ours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from drift_worker.counts.bins import NumericCells
from drift_worker.statistics import chi2, ks, psi, rates, tail_probability

DENORMAL = 5e-324
AWKWARD = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 2.0, 1e300, -1e300, DENORMAL, -DENORMAL, 1e-310, 0.1, 0.1 + 1e-17, 3.5]
)
VALUES = st.one_of(AWKWARD, st.floats(-1e300, 1e300), st.integers(-3, 3).map(float))
SAMPLE = st.lists(VALUES, min_size=1, max_size=80).map(np.array)


def _textbook_psi(reference, window):
    """PSI as textbooks compute it: numpy's histogram of the raw values over the reference's percentiles."""
    breaks = np.percentile(reference, np.arange(0, 101, 10))
    breaks[0], breaks[-1] = -np.inf, np.inf
    p = (np.histogram(reference, breaks)[0] + 1) / (len(reference) + 10)
    q = (np.histogram(window, breaks)[0] + 1) / (len(window) + 10)
    return np.sum((q - p) * np.log(q / p))


def _scipys_d(reference, window):
    """Scipy's two-sample statistic; a single value on each side only makes its p-value divide by 0."""
    with np.errstate(divide="ignore"):
        return stats.ks_2samp(reference, window, method="asymp").statistic


def _check(reference, window):
    cells = NumericCells.of("x", reference)
    r = np.cumsum(np.bincount(cells.cell_of(reference), minlength=cells.cells))
    w = np.cumsum(np.bincount(cells.cell_of(window), minlength=cells.cells))
    assert ks.distance(ks.function(r), w) == pytest.approx(_scipys_d(reference, window), abs=1e-12)
    assert psi.psi_textbook(cells, r, w) == pytest.approx(_textbook_psi(reference, window), abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(SAMPLE, SAMPLE)
def test_counts_give_scipys_ks_and_numpys_psi(reference, window):
    """Ties, constants, signed zeros, 1e300 and denormals: D and the textbook PSI are those of the raw values."""
    _check(reference, window)


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_counts_give_scipys_ks_and_numpys_psi_on_a_thousand_windows(first):
    """Samples of up to 900: ties, constants, duplicate percentiles, and tails of a Cauchy distribution."""
    for seed in range(first, first + 100):
        draw = np.random.default_rng(seed)
        shapes = [
            lambda n, draw=draw: draw.normal(size=n),
            lambda n, draw=draw: draw.standard_cauchy(n) * 1e6,
            lambda n, draw=draw: draw.integers(0, 4, n).astype(float),
            lambda n, draw=draw: np.round(draw.exponential(size=n), 1),
            lambda n, draw=draw: np.where(draw.random(n) < 0.7, 0.0, draw.random(n)),
            lambda n: np.full(n, 7.25),
        ]
        reference, window = (shapes[draw.integers(len(shapes))](draw.integers(2, 900)) for _ in range(2))
        _check(reference, window)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 1), st.floats(0, 1))
def test_rates_are_fishers_test(n, m, reference_share, window_share):
    """Tails of the hypergeometric distribution are scipy's."""
    a, x = int(n * reference_share), int(m * window_share)
    below, above = tail_probability.log10_hypergeometric(x, m, a + x, n)
    law = stats.hypergeom(n + m, a + x, m)
    for ours, theirs in ((below, law.cdf(x)), (above, law.sf(x - 1))):
        if theirs > 1e-200:
            assert 10**ours == pytest.approx(theirs, rel=1e-6)
    if 0 < a + x < n + m:
        assert rates.log10_p_two_sided(a, n, x, m, m) == pytest.approx(min(0, np.log10(2) + min(below, above)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(40, 500), min_size=2, max_size=8), st.data())
def test_chi2_is_scipys_contingency_test(reference, data):
    """Without sparse cells the statistic and its p are those of scipy.stats.chi2_contingency."""
    size = len(reference)
    window = data.draw(st.lists(st.integers(40, 500), min_size=size, max_size=size))
    r, w = np.array(reference), np.array(window)
    (statistic,), (df,) = chi2.chi2s(r, w[None, :], np.array([float(w.sum())]), rare_last=False)
    theirs = stats.chi2_contingency([reference, window], correction=False)
    assert statistic == pytest.approx(theirs.statistic, rel=1e-9)
    assert df == theirs.dof
    if theirs.pvalue > 1e-250:
        assert 10 ** chi2.log10_p(statistic, df) == pytest.approx(theirs.pvalue, rel=1e-6)


@pytest.mark.parametrize("df", [1, 2, 9, 20, 200])
@pytest.mark.parametrize("factor", [0.5, 1, 2, 5, 20])
def test_log10_chi2_goes_on_where_p_underflows(df, factor):
    """log10 p is scipy's where scipy has one, and falls on steadily where p is below the smallest double."""
    x = df * factor
    p = stats.chi2.sf(x, df)
    if p > 0:
        assert tail_probability.log10_chi2(x, df) == pytest.approx(np.log10(p), rel=1e-9)
    # -x/2·log10(e) is the leading term
    assert tail_probability.log10_chi2(1e6, df) == pytest.approx(-1e6 / 2 / np.log(10), rel=0.01)


@pytest.mark.parametrize("df", [1, 2, 9, 20, 200])
def test_log10_chi2_has_no_seam(df):
    """Where the series takes over from scipy's p (at 1e-280) the slope does not change."""
    x = np.linspace(1000, 2200, 600)
    logs = np.array([tail_probability.log10_chi2(v, df) for v in x])
    assert logs[0] > -280 > logs[-1]
    assert np.diff(logs) == pytest.approx(np.full(599, np.diff(logs).mean()), rel=0.25)
    assert np.abs(np.diff(logs, 2)).max() < 2e-3
