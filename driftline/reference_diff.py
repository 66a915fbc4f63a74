"""Two drift references, feature by feature, in the cells in which the drift worker would count.

The PSI is the drift worker's (docs/adr/0004-backtest-imports-decisions.md), with the former reference as reference and
the new one as window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drift_worker.counts.bins import CategoryCells, Cells
from drift_worker.statistics.baseline import Column, Columns
from drift_worker.statistics.psi import psi
from schemas.bundle.inputs import Feature
from schemas.features import Layout
from schemas.reference import Reference

SCORE = "score"


@dataclass(frozen=True, slots=True)
class Change:
    """One feature, or the score; pairs are (former, new). Of a category or boolean: its shares among values present.

    psi: None if one of both has no value.
    """

    name: str
    kind: str
    missing: tuple[float, float]
    psi: float | None
    mean: tuple[float, float] | None = None
    sd: tuple[float, float] | None = None
    shares: dict[str, tuple[float, float]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return builtin types; members that do not apply to the kind are left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None or name == "psi"}


def differences(features: Sequence[Feature], old: Reference, new: Reference) -> list[Change]:
    """Return every feature in manifest order, then the score. Both references have the manifest's columns."""
    layout = Layout(features)
    cells = Cells(features, layout.categories, old)
    before, after = Columns(cells, old), Columns(cells, new)
    numeric = {layout.names[at]: column for column, at in enumerate(layout.numeric)}
    changes = []
    for feature, former, latter in zip(features, before.features, after.features, strict=True):
        if isinstance(former.cells, CategoryCells):
            changes.append(_category(feature, former.cells, former, latter))
        else:
            column = numeric[feature.name]
            changes.append(
                _number(feature.name, "numeric", former, latter, old.numeric[:, column], new.numeric[:, column])
            )
    return [*changes, _number(SCORE, SCORE, before.score, after.score, old.score, new.score)]


def _number(
    name: str, kind: str, former: Column[Any], latter: Column[Any], old: NDArray[np.float64], new: NDArray[np.float64]
) -> Change:
    present = [values[~np.isnan(values)] for values in (old, new)]
    known = all(len(values) for values in present)
    return Change(
        name=name,
        kind=kind,
        missing=(_missing(former), _missing(latter)),
        psi=psi(former.training.psi_counts, latter.training.psi_counts) if known else None,
        mean=(float(present[0].mean()), float(present[1].mean())) if known else None,
        sd=(float(present[0].std()), float(present[1].std())) if known else None,
    )


def _category(feature: Feature, cells: CategoryCells, former: Column[Any], latter: Column[Any]) -> Change:
    # in the former one's cells: the rarity of categories decides which of them share one
    width = len(former.training.psi_counts)
    counts = np.bincount(former.psi_cell, weights=latter.training.shown, minlength=width).astype(np.int64)
    # an unseen value is in neither of both; a separate cell for it would always be empty
    size = width - int(cells.open and former.training.psi_counts[-1] == 0)
    shares = [column.training.shown / max(1, column.present) for column in (former, latter)]
    pairs = zip(cells.categories, shares[0].tolist(), shares[1].tolist(), strict=False)
    known = bool(former.present and latter.present)
    return Change(
        name=feature.name,
        kind=feature.kind,
        missing=(_missing(former), _missing(latter)),
        psi=psi(former.training.psi_counts[:size], counts[:size]) if known else None,
        shares={category: (before, after) for category, before, after in pairs},
    )


def _missing(column: Column[Any]) -> float:
    return column.missing / (column.present + column.missing)
