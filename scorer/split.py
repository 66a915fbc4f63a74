"""Whose customers are the challenger's, and what it says to their events. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.event import EventDecoder
from schemas.verdict import Record, Rules
from scorer.model import Model
from scorer.score import predict_each


def is_challengers(customer_id: str, name: bytes, percent: int) -> bool:
    """Whether this customer is among the `percent` whom the challenger of this name answers.

    The same customers for every version of a challenger and in every process; for another name, others.

    >>> [is_challengers(f"c{i}", b"churn-next", 50) for i in range(4)]
    [True, True, True, False]
    """
    digest = hashlib.blake2b(customer_id.encode(), key=name, digest_size=8).digest()
    return (int.from_bytes(digest, "big") * 100) >> 64 < percent


class Split:
    """One challenger that answers part of the customers. Holds nothing between batches."""

    def __init__(self, model: Model, percent: int, rules: Rules) -> None:
        manifest = model.manifest
        self.model = model
        self._percent = percent
        self._name = manifest.name.encode()
        # fields that the champion knows and the challenger does not are no defect of the event
        self._decoder = EventDecoder(manifest.features, manifest.event, replace(rules, reject_unknown_fields=False))

    def rows_of(self, customer_ids: Sequence[str]) -> NDArray[np.int64]:
        """int64: rows of its customers, ascending."""
        name, percent = self._name, self._percent
        return np.array([i for i, c in enumerate(customer_ids) if is_challengers(c, name, percent)], dtype=np.int64)

    def score(self, records: Sequence[Record], now_ms: int) -> NDArray[np.float64]:
        """float64 (n,): the challenger's probability per record, NaN where it has none and the champion answers."""
        out = np.full(len(records), np.nan)
        batch = self._decoder.decode(records, now_ms)
        probabilities, _ = predict_each(self.model.predict, batch.columns)
        out[batch.accepted] = probabilities
        return out
