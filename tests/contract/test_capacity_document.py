"""docs/capacity.md: its table is its own arithmetic, with the figures that the other documents have."""

from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TEXT = (DOCS / "capacity.md").read_text(encoding="utf-8")
UTILISATION, EVENT_BYTES, BROKER_MB = 0.5, 1165, 150


def _figure(pattern: str, text: str) -> float:
    return float(re.search(pattern, text)[1].replace(",", ""))


def _benchmark(contestant: str, column: int) -> float:
    line = next(row for row in (DOCS / "benchmark.md").read_text().splitlines() if row.startswith(f"| {contestant} |"))
    return float(line.split("|")[column].replace(",", ""))


def test_the_figures_are_those_of_the_newest_benchmark() -> None:
    """If this fails: the benchmark was measured again; the page needs its figures and a new table."""
    assert _figure(r"per event, exactly once \| ([\d.]+) µs", TEXT) == _benchmark("Driftline, exactly-once", 5)
    assert _figure(r"gradient boosting \| ([\d.]+) µs", TEXT) == _benchmark("Driftline, gradient boosting", 5)
    assert _figure(r"under a backlog \| ([\d,]+) \|", TEXT) == _benchmark("Driftline, exactly-once", 4)
    assert _figure(r"its prediction \| ([\d.]+) µs", TEXT) == _benchmark("drift worker, both", 3)
    lanes = _benchmark("Driftline, exactly-once, native lane", 5), _benchmark("drift worker, both, native lane", 3)
    assert "{} µs, {} µs".format(*lanes) in TEXT


def test_the_table_is_the_arithmetic_above_it() -> None:
    """Every row, from its rate."""
    scorer_us = _figure(r"per event, exactly once \| ([\d.]+) µs", TEXT)
    drift_us = _figure(r"its prediction \| ([\d.]+) µs", TEXT)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\| \d.*\|$", TEXT, re.MULTILINE)]
    assert [row[0] for row in rows] == ["1,000", "10,000", "100,000", "1,000,000", "10,000,000"]
    for row in rows:
        rate = float(row[0].replace(",", ""))
        scorer, drift = rate * scorer_us * 1e-6 / UTILISATION, rate * drift_us * 1e-6 / UTILISATION
        scorers, workers = max(2, math.ceil(scorer)), max(2, math.ceil(drift))
        partitions = math.ceil(max(4, 2 * scorers, workers) / 4) * 4
        written = rate * EVENT_BYTES / 1e6
        assert row[1:] == [
            f"{scorer:.2f}",
            str(scorers),
            f"{drift:.2f}",
            str(workers),
            str(partitions),
            f"{written:,.1f}",
            f"{3 * written:,.1f}",
            str(max(3, math.ceil(3 * written / BROKER_MB))),
            f"{2 * (2 * scorers + partitions):,}",
        ]


def test_the_charts_default_leaves_a_scorer_a_third() -> None:
    """One replica for two thirds of the events that it was measured at, or fewer."""
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "driftline" / "values.yaml").read_text())
    measured = _figure(r"under a backlog \| ([\d,]+) \|", TEXT)
    assert 0.5 * measured <= values["autoscaling"]["eventsPerSecond"] <= 2 / 3 * measured
