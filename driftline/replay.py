"""Rows of a customer file → events, endlessly and repeatably: no clock, no Kafka.

`produce`, the demo and the tests send what an EventSource makes; the same arguments give the same bytes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from driftline.errors import CommandError
from driftline.injected_drift import Drift, DriftSpecError, parse_drift
from schemas import rfc3339
from schemas.bundle import BundleError, EventMapping, Feature, read_bundle
from schemas.features import Value
from schemas.verdict import Reason, split
from training.dataset import DatasetError, customer_ids, read_features, read_table, typed_features
from training.spec import SpecError, read_spec

_NAN = "driftline: to become a NaN token"


class EventSource:
    """Events made of rows in a random order that begins anew with every pass.

    Args:
        features: the bundle's, in manifest order.
        values: one sequence per feature, as training.dataset reads them; all valid for their feature.
        mapping: where an event's parts stand.
        ids: one customer id per row; None numbers them: customer-00001 is the first row.
        run: begins every event_id, followed by a number that counts up.
        seed: of the order, of the drifts' shares and of the kinds of bad records.
        drifts: changes, each from its moment on.
        bad: share of records made unusable, evenly spread; `bad_limit`: stop after that many.

    `made` counts all records; `refusals` the bad ones by the reason for which a scorer must refuse them.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        values: Sequence[Sequence[Value]],
        mapping: EventMapping,
        ids: Sequence[str] | None,
        *,
        run: str,
        seed: int = 0,
        drifts: Sequence[Drift] = (),
        bad: Fraction = Fraction(0),
        bad_limit: int | None = None,
    ) -> None:
        self.features = tuple(features)
        self.made = 0
        self.refusals: Counter[Reason] = Counter()
        self.rows = len(values[0])
        self._ids = list(ids) if ids is not None else [f"customer-{i + 1:05d}" for i in range(self.rows)]
        sources = [f.source for f in self.features]
        self._customers = [dict(zip(sources, row, strict=True)) for row in zip(*values, strict=True)]
        # A column of whole numbers stays one under drift: nobody has 12.5 months of tenure.
        self._whole = {
            f.name: f.kind == "numeric" and all(isinstance(v, int) for v in column if v is not None)
            for f, column in zip(self.features, values, strict=True)
        }
        self._mapping = mapping
        self._run = run
        self._drifts = tuple(drifts)
        self._bad = bad
        self._bad_limit = bad_limit
        self._chance = random.Random(seed)
        self._order = self._rows_in_random_order(seed)

    def take(self, count: int, elapsed_s: float, now_ms: int) -> list[tuple[bytes, bytes | None]]:
        """The next `count` records, (key, value) each.

        elapsed_s: seconds since the start, which decide what drift there is. now_ms: their event time, epoch
        milliseconds.
        """
        active = [drift for drift in self._drifts if drift.active(elapsed_s)]
        event_time = rfc3339.render(now_ms)
        records: list[tuple[bytes, bytes | None]] = []
        for _ in range(count):
            row = next(self._order)
            customer: Mapping[str, Value] = self._customers[row]
            if active:
                customer = self._drifted(customer, active)
            event = partial(self._event, self._ids[row], event_time)
            value = self._spoilt(event, customer) if self._is_bad() else event(customer)
            records.append((self._ids[row].encode(), value))
            self.made += 1
        return records

    def _rows_in_random_order(self, seed: int) -> Iterator[int]:
        generator = np.random.default_rng(seed)
        while True:
            yield from generator.permutation(self.rows).tolist()

    def _drifted(self, customer: Mapping[str, Value], active: Sequence[Drift]) -> Mapping[str, Value]:
        changed = dict(customer)
        for drift in active:
            source = drift.feature.source
            changed[source] = drift.apply(changed[source], self._chance, whole=self._whole[drift.feature.name])
        return changed

    def _event(self, customer_id: str, event_time: str, customer: Mapping[str, Value]) -> bytes:
        mapping = self._mapping
        event_id = f"{self._run}-{self.made:08d}"
        if mapping == EventMapping():
            return orjson.dumps(
                {
                    "schema_version": 1,
                    "event_id": event_id,
                    "customer_id": customer_id,
                    "event_time": event_time,
                    "features": customer,
                }
            )
        event: dict[str, Any] = {}
        for path, value in (
            (mapping.event_id, event_id),
            (mapping.customer_id, customer_id),
            (mapping.event_time, event_time),
        ):
            if path:
                *outer, name = split(path)
                _inner(event, outer)[name] = value
        _inner(event, split(mapping.features)).update(customer)
        return orjson.dumps(event)

    def _is_bad(self) -> bool:
        if self._bad_limit is not None and self.refusals.total() >= self._bad_limit:
            return False
        above, below = self._bad.numerator, self._bad.denominator
        return (self.made + 1) * above // below > self.made * above // below

    def _spoilt(self, event: Callable[[Mapping[str, Value]], bytes], customer: Mapping[str, Value]) -> bytes | None:
        """The event as something upstream really sends by mistake; counts the reason in `refusals`."""
        required = [f for f in self.features if not f.nullable]
        spoilt = dict(customer)
        kinds = ["truncated", "nan", "wrong type", "no bytes", "null"] + (["missing feature"] if required else [])
        match self._chance.choice(kinds):
            case "truncated":
                self.refusals[Reason.NOT_JSON] += 1
                whole = event(spoilt)
                return whole[: len(whole) * 2 // 3]
            case "nan":
                self.refusals[Reason.NOT_JSON] += 1
                spoilt[self._chance.choice(self.features).source] = _NAN
                return event(spoilt).replace(orjson.dumps(_NAN), b"NaN")
            case "wrong type":
                self.refusals[Reason.WRONG_TYPE] += 1
                feature = self._chance.choice(self.features)
                spoilt[feature.source] = 12 if feature.kind == "categorical" else "12"
            case "missing feature":
                self.refusals[Reason.MISSING_FEATURE] += 1
                del spoilt[self._chance.choice(required).source]
            case kind:
                self.refusals[Reason.EMPTY] += 1
                return None if kind == "null" else b""
        return event(spoilt)


def _inner(event: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The object at `path`, made on the way where it is absent."""
    for part in path:
        event = event.setdefault(part, {})
    return event


def open_source(
    data: Path,
    model: Path,
    spec: Path | None = None,
    *,
    run: str,
    seed: int = 42,
    drifts: Sequence[str] = (),
    bad: Fraction = Fraction(0),
    bad_limit: int | None = None,
) -> EventSource:
    """An EventSource over the customers in `data`, whose events are those of a bundle or of a spec.

    Args:
        data: CSV or JSON Lines; no label column is needed.
        model: a bundle's folder; not read if there is a `spec`.
        spec: a TOML spec. Its id column gives the customers' ids; a bundle knows of none.
        run: begins every event_id.
        seed: of everything random.
        drifts: as `--drift` takes them.
        bad: share of bad records.
        bad_limit: at most so many of them.

    Raises:
        CommandError: one line: what is wrong with the file, the bundle, the spec or a drift.
    """
    try:
        features, values, mapping, ids = _from_bundle(data, model) if spec is None else _from_spec(data, spec)
        changes = [parse_drift(text, features) for text in drifts]
    except (BundleError, DatasetError, DriftSpecError, SpecError) as error:
        raise CommandError(str(error)) from error
    return EventSource(features, values, mapping, ids, run=run, seed=seed, drifts=changes, bad=bad, bad_limit=bad_limit)


_Rows = tuple[Sequence[Feature], Sequence[Sequence[Value]], EventMapping, Sequence[str] | None]


def _from_bundle(data: Path, model: Path) -> _Rows:
    manifest = read_bundle(model).manifest
    return manifest.features, read_features(data, manifest.features), manifest.event, None


def _from_spec(data: Path, path: Path) -> _Rows:
    spec = read_spec(path)
    table = read_table(data, [*spec.features, *([spec.data.id] if spec.data.id else [])])
    features, values = typed_features(table, spec)
    return features, values, spec.event, customer_ids(table, spec.data.id) if spec.data.id else None
