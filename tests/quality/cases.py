"""Streams that ours and every peer look at: a reference, windows, and what moved in them. Drawn, and as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from quality.rows import KINDS, dominated
from quality.stream import CATEGORIES, FEATURES, Drift, Events, draw, everything

QUIET_BEFORE = 3  # windows without drift, before one begins


@dataclass(frozen=True)
class Case:
    """before: how many of the windows come first and are not looked at. moved: the feature that drifts, if one does."""

    kind: str
    number: int
    reference: Events
    windows: list[Events]
    before: int = 0
    moved: str | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        return self.name_of(self.kind, self.number)

    @staticmethod
    def name_of(kind: str, number: int) -> str:
        """The same, of a case that is not at hand."""
        return f"{kind}-{number:03d}"

    def write(self, folder: Path) -> None:
        """As the peers read it: arrays, without pickles."""
        np.savez(
            folder / f"{self.name}.npz",
            names=np.array([feature.name for feature in FEATURES]),
            categories=np.array(["|".join(names) for names in CATEGORIES]),
            numeric=self.reference.numeric,
            codes=self.reference.codes.astype(np.int8),
            windows_numeric=np.stack([window.numeric for window in self.windows]),
            windows_codes=np.stack([window.codes for window in self.windows]).astype(np.int8),
            before=self.before,
            moved=self.moved or "",
        )


@dataclass(frozen=True)
class Kind:
    """Cases of one kind. alarm: whether one is right. n, m: rows of the reference and of a window.

    length: of the window, as our policy knows it; the others do not ask.
    """

    name: str
    title: str
    alarm: bool
    cases: int
    windows: int
    n: int = 7000
    m: int = 1500
    drift: Drift | None = None
    moved: str | None = None
    length: str = "15m"
    draw: Callable[[np.random.Generator, int, str], Events] = draw


def _alike(generator: np.random.Generator, m: int, name: str) -> Events:
    """Customers who send the same event five times."""
    return draw(generator, m // 5, name).take(np.repeat(np.arange(m // 5), 5))


def _loud(generator: np.random.Generator, m: int, name: str) -> Events:
    """One customer sends a fifth of the events, all alike."""
    return dominated(generator, draw(generator, 1, "loud"), m, name)


QUIET = (
    Kind("still", "nothing, n = 7,000, m = 1,500", False, cases=20, windows=5),
    Kind("small", "nothing, n = 1,000, m = 500", False, cases=20, windows=5, n=1000, m=500),
    Kind("alike", "nothing, each customer five times alike, m = 3,000", False, 5, 5, m=3000, draw=_alike),
    Kind("loud", "nothing, one customer with a fifth of the events", False, 5, 5, draw=_loud),
    Kind("harmless", "0.15 sd everywhere, m = 150,000", False, 3, 1, m=150_000, drift=everything(0.15), length="24h"),
)
MOVED = tuple(
    Kind(f"drift{i}", name, True, cases=30, windows=3, drift=kind.drift, moved=kind.feature)
    for i, (name, kind) in enumerate(KINDS.items())
)
KINDS_OF_CASES = (*QUIET, *MOVED)


def cases(kind: Kind, strength: float = 1.0) -> Iterator[Case]:
    """Of one kind, this share of them, one after the other: together they are too large to be kept."""
    for number in range(max(1, round(strength * kind.cases))):
        generator = np.random.default_rng([KINDS_OF_CASES.index(kind), number])
        reference = draw(generator, kind.n)
        before = QUIET_BEFORE if kind.alarm else 0
        windows = []
        for i in range(before + kind.windows):
            events = kind.draw(generator, kind.m, f"{i}-")
            if kind.drift is not None and i >= before:
                kind.drift(generator, events)
            windows.append(events)
        yield Case(kind.name, number, reference, windows, before, kind.moved)
