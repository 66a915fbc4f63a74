"""Rows of a customer file → events, without end and repeatable: no clock, no Kafka.

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
from driftline.replay.injected_drift import Drift, DriftSpecError, parse_drift
from driftline.training.dataset import DatasetError, customer_ids, read_table, typed_features, typed_values
from driftline.training.spec import SpecError, read_spec
from schemas import timestamps
from schemas.bundle.files import read_bundle
from schemas.bundle.inputs import EventMapping, Feature
from schemas.bundle.manifest import BundleError
from schemas.features import Value
from schemas.mapping.places import put, steps_of, written
from schemas.rejection_reasons import Reason
from schemas.validation import features_object

_NAN = "driftline: to become a NaN token"


class EventSource:
    """Events made of rows in a random order, which is drawn again for every pass.

    Args:
        features: the bundle's, in manifest order.
        values: one sequence per feature, as driftline.training.dataset reads them; all valid for their feature.
        mapping: the places of an event's parts.
        ids: one customer id per row; None numbers them: customer-00001 is the first row.
        run: begins every event_id, followed by a number that counts up.
        seed: of the order, of the drifts' shares and of the kinds of bad records.
        drifts: changes, each from its moment on.
        bad: share of records made unusable, evenly spread; `bad_limit`: stop after that many.

    `numbered`: whether customers are named by the number of their row. `made` counts all records; `refusals` the bad
    ones by the reason for which a scorer must reject them.
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
        self.numbered = ids is None
        self._ids = list(ids) if ids is not None else [f"customer-{i + 1:05d}" for i in range(self.rows)]
        names = [f.name for f in self.features]
        self._customers = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        self._mapped = any(f.from_ is not None or f.true is not None for f in self.features)
        # A column of whole numbers stays one under drift: nobody has 12.5 months of tenure.
        self._whole = {
            f.name: f.kind == "numeric" and all(isinstance(v, int) for v in column if v is not None)
            for f, column in zip(self.features, values, strict=True)
        }
        self._mapping = mapping.forms()[0]
        self._run = run
        self._drifts = tuple(drifts)
        self._bad = bad
        self._bad_limit = bad_limit
        self._chance = random.Random(seed)
        self._order = self._rows_in_random_order(seed)

    def take(self, count: int, elapsed_s: float, now_ms: int) -> list[tuple[bytes, bytes | None]]:
        """Return the next `count` records, (key, value) each.

        elapsed_s: seconds since the start, which decide the drift. now_ms: their event time, epoch milliseconds.
        """
        active = [drift for drift in self._drifts if drift.active(elapsed_s)]
        event_time: str | float = timestamps.render(now_ms)
        if self._mapping.time_unit != "rfc3339":
            event_time = {"s": now_ms / 1000, "ms": now_ms, "us": now_ms * 1000, "ns": now_ms * 1_000_000}[
                self._mapping.time_unit
            ]
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
            name = drift.feature.name
            changed[name] = drift.apply(changed[name], self._chance, whole=self._whole[name])
        return changed

    def _event(self, customer_id: str, event_time: str | float, customer: Mapping[str, Value]) -> bytes:
        mapping = self._mapping
        if self._mapped:
            customer = features_object(self.features, customer)
        event_id = f"{self._run}-{self.made:08d}"
        if mapping.is_envelope:
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
        for path, values in mapping.only.items():
            put(event, steps_of(path), values[0])
        for path, value in (
            (mapping.event_id, event_id),
            (mapping.customer_id, customer_id),
            (mapping.event_time, event_time),
        ):
            if path and not path.startswith("$"):
                put(event, steps_of(path), value)
        root = steps_of(mapping.features)
        _merge(_inner(event, root), customer)
        return orjson.dumps(written(event))

    def _is_bad(self) -> bool:
        if self._bad_limit is not None and self.refusals.total() >= self._bad_limit:
            return False
        above, below = self._bad.numerator, self._bad.denominator
        return (self.made + 1) * above // below > self.made * above // below

    def _spoilt(self, event: Callable[[Mapping[str, Value]], bytes], customer: Mapping[str, Value]) -> bytes | None:
        """Return the event with a fault that upstream systems really make; count the reason in `refusals`."""
        required = [f for f in self.features if not f.nullable]
        spoilt: dict[str, Any] = dict(customer)
        kinds = ["truncated", "nan", "wrong type", "no bytes", "null"] + (["missing feature"] if required else [])
        match self._chance.choice(kinds):
            case "truncated":
                self.refusals[Reason.NOT_JSON] += 1
                whole = event(spoilt)
                return whole[: len(whole) * 2 // 3]
            case "nan":
                self.refusals[Reason.NOT_JSON] += 1
                spoilt[self._chance.choice(self.features).name] = _NAN
                return event(spoilt).replace(orjson.dumps(_NAN), b"NaN")
            case "wrong type":
                self.refusals[Reason.WRONG_TYPE] += 1
                feature = self._chance.choice(self.features)
                spoilt[feature.name] = "12" if feature.kind != "categorical" else 12
                if feature.parse or feature.integers or feature.true:
                    spoilt[feature.name] = [12]  # what others take for a number is one here
            case "missing feature":
                self.refusals[Reason.MISSING_FEATURE] += 1
                del spoilt[self._chance.choice(required).name]
            case kind:
                self.refusals[Reason.EMPTY] += 1
                return None if kind == "null" else b""
        return event(spoilt)


def _inner(event: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The object at `path`, made on the way where it is absent."""
    if not path:
        return event
    made: dict[str, Any] = {}
    put(event, path, found := _peek(event, path, made))
    return found


def _peek(event: dict[str, Any], path: Sequence[str], absent: dict[str, Any]) -> dict[str, Any]:
    node: Any = event
    for step in path:
        node = node.get(step, absent) if isinstance(node, dict) else absent
    return node if node is not None else absent


def _merge(event: dict[str, Any], features: Mapping[str, Any]) -> None:
    """Put the features beside what the event has; one object may hold both, as `customer` with an id."""
    for name, value in features.items():
        if isinstance(value, dict):
            _merge(event.setdefault(name, {}), value)
        else:
            event[name] = value


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
    id_column: str | None = None,
) -> EventSource:
    """Return an EventSource over the customers in `data`, with the events of a bundle or of a spec.

    Args:
        data: CSV or JSON Lines; no label column is needed.
        model: a bundle's folder; not read if there is a `spec`.
        spec: a TOML spec, instead of a bundle.
        id_column: column of the customers' ids; None is the one that the bundle or the spec names, if any.
        run: begins every event_id.
        seed: of everything random.
        drifts: as `--drift` takes them.
        bad: share of bad records.
        bad_limit: their largest number.

    Raises:
        CommandError: one line: what is wrong with the file, the bundle, the spec or a drift.
    """
    try:
        found = _from_bundle(data, model, id_column) if spec is None else _from_spec(data, spec, id_column)
        features, values, mapping, ids = found
        _check(mapping)
        changes = [parse_drift(text, features) for text in drifts]
    except (BundleError, DatasetError, DriftSpecError, SpecError) as error:
        raise CommandError(str(error)) from error
    return EventSource(features, values, mapping, ids, run=run, seed=seed, drifts=changes, bad=bad, bad_limit=bad_limit)


def _check(mapping: EventMapping) -> None:
    """Raise CommandError for an event that is no JSON, or whose parts are in headers or in a key that is JSON."""
    if mapping.format != "json":
        raise CommandError(f"[event] format: {mapping.format!r}: only JSON is written here")
    for path in (mapping.event_id, mapping.customer_id, mapping.event_time, *mapping.only):
        if path.startswith("$") and path not in {"$key", "$timestamp"}:
            raise CommandError(f"[event]: {path}: no headers and no keys of JSON are written here")


_Rows = tuple[Sequence[Feature], Sequence[Sequence[Value]], EventMapping, Sequence[str] | None]


def _from_bundle(data: Path, model: Path, id_column: str | None) -> _Rows:
    manifest = read_bundle(model).manifest
    names = [feature.name for feature in manifest.features]
    named = id_column or manifest.training_data.id
    try:
        table = read_table(data, [*names, *([named] if named else [])], manifest.data_format)
    except DatasetError:
        # a file without the column that the bundle names is a file of customers all the same
        if id_column is not None or named is None:
            raise
        table, named = read_table(data, names, manifest.data_format), None
    try:
        values = typed_values(table, manifest.features)
    except DatasetError as error:
        raise DatasetError(f"{data}: {error}") from None
    return manifest.features, values, manifest.event, customer_ids(table, named) if named else None


def _from_spec(data: Path, path: Path, id_column: str | None) -> _Rows:
    spec = read_spec(path)
    named = id_column or spec.data.id
    table = read_table(data, [*spec.features, *([named] if named else [])], spec.data.format())
    features, values = typed_features(table, spec, empty=True)
    return features, values, spec.event, customer_ids(table, named) if named else None
