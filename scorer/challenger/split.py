"""Which customers the challenger scores, and its predictions for them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.event import EventDecoder
from schemas.formats.registered import Schemas
from schemas.validation import Record, Rules
from scorer.model import Model


def is_challengers(customer_id: str, name: bytes, percent: int) -> bool:
    """Return whether this customer is among the `percent` that the challenger of this name scores.

    The same customers for every version of a challenger and in every process; for another name, others.

    >>> [is_challengers(f"c{i}", b"churn-next", 50) for i in range(4)]
    [True, True, True, False]
    """
    digest = hashlib.blake2b(customer_id.encode(), key=name, digest_size=8).digest()
    return (int.from_bytes(digest, "big") * 100) >> 64 < percent


class Split:
    """One challenger that scores part of the customers. No state between batches."""

    def __init__(self, model: Model, percent: int, rules: Rules, schemas: Schemas | None = None) -> None:
        manifest = model.manifest
        self.model = model
        self._percent = percent
        self._name = manifest.name.encode()
        # unknown fields that only the champion has are no fault of the event
        rules = replace(rules, reject_unknown_fields=False)
        self._decoder = EventDecoder(manifest.features, manifest.event, rules, schemas)

    def rows_of(self, customer_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return int64: rows of its customers, ascending."""
        name, percent = self._name, self._percent
        return np.array([i for i, c in enumerate(customer_ids) if is_challengers(c, name, percent)], dtype=np.int64)

    def score(self, records: Sequence[Record], now_ms: int) -> NDArray[np.float64]:
        """Return its score per record, of its task's shape; NaN where it has none, and the champion's counts."""
        out = np.full(self.model.manifest.predicts.shape(len(records)), np.nan)
        batch = self._decoder.decode(records, now_ms)
        scores, _ = self.model.score_each(batch.columns)
        out[batch.accepted] = scores
        return out
