"""A batch of records → columns in one call of the library, for events of the default envelope.

The library accepts what is plainly valid, and nothing else. Every other record goes to Python's decoder on its own, so
that an odd record has its neighbours read as fast as ever.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from schemas import timestamps
from schemas.bundle.inputs import EventMapping, Feature
from schemas.bundle.manifest import Manifest
from schemas.event import DecodedBatch, EventDecoder, merged, number_bounds
from schemas.features import Columns
from schemas.validation import Record, Rules, features_object


def unfit(manifest: Manifest) -> str | None:
    """Return why the library cannot read a bundle's events; None if it can."""
    mapping = manifest.event
    if not mapping.is_envelope or mapping.model_copy(update={"tombstones": "reject"}) != EventMapping():
        return "events are not in the default envelope"
    if odd := [feature.name for feature in manifest.features if not _plain(feature)]:
        return f"{odd[0]}: a feature with a conversion or a place of its own"
    return None


def _plain(feature: Feature) -> bool:
    """Return whether JSON's values of a feature are its values, under its own name."""
    conversions = (feature.from_, feature.parse, feature.integers, feature.true, feature.false)
    return all(conversion is None for conversion in conversions)


@dataclass(frozen=True, slots=True)
class _Read:
    """A batch of records that were read. rest: Python's share, with the rows that it has."""

    records: int
    decoded: Any
    rest: Any


class NativeDecoder:
    """Decodes the events of one bundle (scorer.pipeline.Decoder). No state between batches."""

    def __init__(self, library: ModuleType, manifest: Manifest, rules: Rules, python: EventDecoder) -> None:
        """Take the library, and Python's decoder of the same bundle. `unfit` has returned None."""
        self._python = python
        self._skew_ms = rules.max_future_skew_ms
        low, high = number_bounds([f for f in manifest.features if f.kind == "numeric"])
        bounds = iter(zip(low.tolist(), high.tolist(), strict=True))
        features = [
            (f.name, f.nullable, f.kind, *(next(bounds) if f.kind == "numeric" else (0.0, 0.0)), f.categories or ())
            for f in manifest.features
        ]
        self._decoder = library.Decoder(features, rules.max_event_bytes, timestamps.EARLIEST_MS)

    def decode(self, records: Sequence[Record], now_ms: int) -> DecodedBatch:
        """Return what `EventDecoder.decode` returns, but for the columns' `values`: they have none."""
        return self.assemble(self.read(records, now_ms))

    def read(self, records: Sequence[Record], now_ms: int) -> _Read:
        """Read every record: first half of `decode`."""
        everything = records if isinstance(records, list) else list(records)
        decoded = self._decoder.decode(everything, now_ms + self._skew_ms)
        rest = None
        if decoded.rest:
            rest = self._python.read([records[i] for i in decoded.rest], now_ms)
        return _Read(len(records), decoded, rest)

    def assemble(self, read: _Read) -> DecodedBatch:
        """Return one batch of both shares: second half of `decode`."""
        decoded, layout = read.decoded, self._python.layout
        accepted = np.frombuffer(decoded.accepted, dtype=np.int64)
        n = len(accepted)
        plain = DecodedBatch(
            rejections=[None] * n,
            accepted=np.arange(n),
            event_ids=decoded.event_ids,
            customer_ids=decoded.customer_ids,
            event_times=decoded.event_times,
            event_time_ms=np.frombuffer(decoded.event_time_ms, dtype=np.int64),
            columns=Columns(
                layout,
                n,
                np.frombuffer(decoded.numbers, dtype=np.float64).reshape(len(layout.numeric), n).T,
                np.frombuffer(decoded.codes, dtype=np.int32).reshape(len(layout.categorical), n).T,
                (),
            ),
            unknown_fields=0,
            key_mismatches=decoded.key_mismatches,
        )
        if read.rest is None:
            return plain
        return merged([(accepted.tolist(), plain), (decoded.rest, self._python.assemble(read.rest))])


def differs_on_events(decoder: NativeDecoder, manifest: Manifest, rules: Rules) -> str | None:
    """Return None if the golden rows, as events, have the same columns in both lanes, else one line.

    Each comes plain, with a category that is new, and without its time.
    """
    now_ms = timestamps.parse("2026-11-22T06:00:00Z") or 0
    records: list[Any] = []
    for row in manifest.golden.rows:
        features = features_object(manifest.features, {f.name: row.get(f.name) for f in manifest.features})
        event = {
            "event_id": "e-1",
            "customer_id": "c-1",
            "event_time": "2026-11-22T05:59:59.1239Z",
            "features": features,
        }
        new = {f.name: f"{features.get(f.name)} new" for f in manifest.features if f.kind == "categorical"}
        odd: tuple[dict[str, object], ...] = (
            {},
            {"features": {**features, **new}},
            {"event_time": None},
            {"schema_version": 1},
        )
        records += [
            SimpleNamespace(
                topic="t",
                partition=0,
                offset=len(records) + at,
                timestamp=0,
                timestamp_type=0,
                key=b"c-2",
                value=json.dumps({**event, **change}).encode(),
                headers=(),
            )
            for at, change in enumerate(odd)
        ]
    python = EventDecoder(manifest.features, manifest.event, rules).decode(records, now_ms)
    native = decoder.decode(records, now_ms)
    parts = [
        (
            batch.rejections,
            batch.accepted.tolist(),
            [*batch.event_ids],
            [*batch.customer_ids],
            [*batch.event_times],
            batch.event_time_ms.tolist(),
            batch.columns.numeric.tobytes(),
            batch.columns.codes.tobytes(),
            (batch.unknown_fields, batch.key_mismatches, batch.ignored),
        )
        for batch in (native, python)
    ]
    return None if parts[0] == parts[1] else "driftline-native reads the golden rows differently"
