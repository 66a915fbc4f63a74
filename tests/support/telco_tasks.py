"""The Telco customers as a regression (monthly charges) and as several classes (how they pay)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from driftline.training.dataset import read_dataset
from driftline.training.spec import parse_spec
from driftline.training.train import train
from schemas.bundle import write_bundle

DATA = Path("examples/telco_churn.csv")
# task → name, target, further members of [model], features that would give the target away
_TASKS = {
    "multiclass": ("payment-telco", "payment_method", "", ("payment_method",)),
    "regression": ("charges-telco", "monthly_charges", '\nunit = "USD"', ("monthly_charges", "total_charges")),
}


def spec_text(task: str) -> str:
    """Return the Telco spec with another target."""
    name, target, more, without = _TASKS[task]
    text = Path("examples/telco.toml").read_text(encoding="utf-8")
    text = text.replace('name = "churn-telco"', f'name = "{name}"\ntask = "{task}"{more}')
    text = text.replace('target = "churn"', f'target = "{target}"')
    text = re.sub(r"^(threshold|positive|kind = \"logistic_regression\").*\n", "", text, flags=re.MULTILINE)
    for table in ("business", *(rf"features\.{feature}" for feature in without)):
        text = re.sub(rf"\[{table}\][^\[]*", "", text)
    return text


def write_task(task: str, directory: Path) -> Path:
    """Train on the real customers; return the bundle's folder."""
    spec = parse_spec(spec_text(task))
    trained = train(spec, read_dataset(DATA, spec), datetime(2026, 1, 1, tzinfo=UTC))
    write_bundle(directory, trained.manifest, trained.files)
    return directory
