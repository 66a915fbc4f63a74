"""The calm past: what varies anyway is no change, what changed is found, and every bit of it can be stored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from drift_worker.statistics import calm_past
from drift_worker.statistics.calm_past import DISTRIBUTION, LEAST, CalmPast, Instead, Layout, Seen

QUARTER_MS = 900_000
EVEN = np.full(4, 0.25)
LAYOUT = Layout([(0, DISTRIBUTION)], [4], np.ones(4))
M = 500
ONE_IN_A_THOUSAND = -3.0


def _seen(counts: np.ndarray) -> Seen:
    return Seen(counts.astype(np.float64), np.array([float(counts.sum())]), np.array([True]))


def _run(
    shares: Callable[[np.random.Generator, int], np.ndarray], windows: int, seed: int, past: CalmPast | None = None
) -> tuple[CalmPast, list[float | None]]:
    """Every window is learnt, whatever it looks like; log10 p of each."""
    draw = np.random.default_rng(seed)
    past = CalmPast(LAYOUT, QUARTER_MS) if past is None else past
    found = []
    for at in range(windows):
        log_p, _ = past.compare(_seen(draw.multinomial(M, shares(draw, at))))
        found.append(log_p[0].get(DISTRIBUTION))
        past.learn(np.array([True]))
    return past, found


def _steady(_: np.random.Generator, __: int) -> np.ndarray:
    return EVEN


def _batches(draw: np.random.Generator, _: int) -> np.ndarray:
    """Ten batches of fifty customers of one region each."""
    return draw.multinomial(10, EVEN) / 10


def test_p_is_that_of_chi2_while_nothing_varies() -> None:
    """Without variation of its own a stream is judged as two samples are; against scipy, within the pseudo-counts."""
    past, _ = _run(_steady, 12, 1)
    counts = np.array([160, 110, 120, 110])
    log_p, phi = past.compare(_seen(counts))
    kept = past.vector[-2 * LAYOUT.cells : -LAYOUT.cells]
    expected = stats.chi2_contingency(np.array([counts, kept])).pvalue
    assert phi.tolist() == [1.0]
    assert log_p[0][DISTRIBUTION] == pytest.approx(np.log10(expected), abs=0.4)


def test_a_few_windows_are_no_past() -> None:
    """Two windows are not compared with, three are."""
    _, found = _run(_steady, LEAST + 1, 2)
    assert [value is None for value in found] == [True] * LEAST + [False]


def test_a_steady_stream_is_seldom_unusual() -> None:
    """40 streams of 50 windows: p below 1 in 1,000 about as often as that."""
    low = sum(p is not None and p < ONE_IN_A_THOUSAND for seed in range(40) for p in _run(_steady, 50, seed)[1])
    assert low <= 8


def test_batches_vary_and_are_no_change() -> None:
    """Windows that differ by fifty times what their customers explain: from the first day on no evidence at all."""
    for seed in range(20):
        past, found = _run(_batches, 96, seed)
        assert past.compare(_seen(np.full(4, 125)))[1][0] > 20
        assert min(p for p in found if p is not None) > -5.0
        assert sum(p < ONE_IN_A_THOUSAND for p in found if p is not None) <= 2


def test_a_lasting_offset_is_no_change() -> None:
    """The reference plays no part: what always was so is usual."""
    _, found = _run(lambda _, __: np.array([0.33, 0.17, 0.25, 0.25]), 96, 3)
    assert min(p for p in found if p is not None) > -4.0


@pytest.mark.parametrize("before", [LEAST, 30, 300])
def test_a_change_is_evident_at_once(before: int) -> None:
    """Twelve points move from one category to another, after an hour or after three days."""
    past, _ = _run(_steady, before, 4)
    log_p, _ = past.compare(_seen(np.array([185, 65, 125, 125])))
    assert log_p[0][DISTRIBUTION] < -8.0


def test_the_first_half_of_a_drift_is_not_learnt() -> None:
    """A window that is unusual waits for the next, and is dropped if that is not calm; calm, it is learnt late."""
    half = _seen(np.array([160, 90, 125, 125]))
    for calm in (False, True):
        past, _ = _run(_steady, 10, 5)
        before = past.windows
        past.compare(half)
        past.learn(np.array([True]))
        assert past.windows == before
        past.compare(_seen(np.array([185, 65, 125, 125])))
        past.learn(np.array([calm]))
        assert past.windows == before + calm


def test_what_is_not_calm_is_not_learnt() -> None:
    """A drift that lasts never becomes usual."""
    past, _ = _run(_steady, 20, 6)
    moved = _seen(np.array([185, 65, 125, 125]))
    first = past.compare(moved)[0][0][DISTRIBUTION]
    for _ in range(500):
        past.compare(moved)
        past.learn(np.array([False]))
    assert past.compare(moved)[0][0][DISTRIBUTION] == first


def test_a_restart_anywhere_gives_the_same_bits() -> None:
    """The vector is all there is: through bytes and back, in the middle of a window that waits, too."""
    for cut in (1, 7, 40):
        whole, _ = _run(_batches, 60, 7)
        draw = np.random.default_rng(7)
        past = CalmPast(LAYOUT, QUARTER_MS)
        for at in range(60):
            if at == cut:
                past = CalmPast(LAYOUT, QUARTER_MS, np.frombuffer(past.vector.tobytes(), dtype=np.int64).copy())
            past.compare(_seen(draw.multinomial(M, _batches(draw, at))))
            past.learn(np.array([True]))
        assert past.vector.tobytes() == whole.vector.tobytes()
    with pytest.raises(ValueError, match="not a calm past of 1 profiles"):
        CalmPast(LAYOUT, QUARTER_MS, np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="not a calm past of 1 profiles"):
        CalmPast(LAYOUT, QUARTER_MS, -np.ones(LAYOUT.size, dtype=np.int64))
    with pytest.raises(ValueError, match="not a calm past of 1 profiles"):
        CalmPast(LAYOUT, QUARTER_MS, np.full(LAYOUT.size, 1 << 62, dtype=np.int64))


def test_two_weeks_are_remembered() -> None:
    """Sums are halved when two weeks of windows are known, so that an old year does not outweigh a week."""
    past, _ = _run(_steady, 200, 8, CalmPast(LAYOUT, calm_past.WEEK_MS // 10))
    assert 10 <= past.windows < 20


def test_a_season_is_compared_with_its_own_past() -> None:
    """With past weeks instead only the variation around them is learnt; without them nothing is compared."""
    past = CalmPast(LAYOUT, QUARTER_MS, seasonal=True)
    draw = np.random.default_rng(9)
    night = np.array([0.1, 0.4, 0.25, 0.25])
    for known in (False, True):
        for _ in range(20):
            slot = Instead(night, np.array([2000.0]), np.array([known]))
            log_p, phi = past.compare(_seen(draw.multinomial(M, night)), slot)
            past.learn(np.array([True]))
            assert (DISTRIBUTION in log_p[0]) == known
            assert phi[0] == 1.0
            assert log_p[0].get(DISTRIBUTION, 0.0) > -4.0
    assert past.windows == 20
