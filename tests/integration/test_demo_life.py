"""`driftline demo-life`, unattended, as a newcomer runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(900)
def test_a_model_falls_is_replaced_and_the_numbers_are_found_again(tmp_path: Path, long: bool) -> None:
    """Exit code 0 means that performance fell and recovered, and that scikit-learn finds the same numbers."""
    if not long:
        pytest.skip("three minutes: --long, or make demo-life")
    command = [sys.executable, "-m", "driftline", "demo-life", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("tenure in years", "FIRING PerformanceDrop", "in shadow", "compared on", "promoted", "recovered"):
        assert said in done.stdout
    assert (tmp_path / "life.svg").stat().st_size > 5000
    assert (tmp_path / "predictions.jsonl").stat().st_size > 1_000_000
