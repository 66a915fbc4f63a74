"""The example's customers and specs: in the wheel beside this file, in a checkout at its root."""

from __future__ import annotations

from pathlib import Path

NAMES = ("README.md", "churn5.toml", "telco.toml", "telco_churn.csv")


def folder() -> Path:
    """Return the folder that holds NAMES."""
    installed = Path(__file__).parent / "examples"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "examples"
