"""Finds the library, and tries it on a model's golden rows before it serves that model."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np

from kafka_runtime.clients import MAX_BATCH_BYTES
from kafka_runtime.kafka_types import ConsumerRecord
from kafka_runtime.service import logs
from kafka_runtime.sinks import record_batches
from schemas import headers as h
from schemas import timestamps
from schemas.event import DecodedBatch, EventDecoder
from schemas.features import Layout
from schemas.validation import Rules, features_object
from scorer.model import Model
from scorer.native.events import NativeDecoder, unfit
from scorer.native.predictions import NativePredictions
from scorer.pipeline import encoder_for, predictions_of

log = logs.get(__name__)

NAME = "driftline_native"
#: Of the calls that this version makes.
INTERFACE = 3
#: A batch of the trial holds a few records, so that there are several.
TRIAL_BYTES = 3000
_TRACE = (h.TRACEPARENT, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@dataclass(frozen=True, slots=True)
class Lane:
    """What reads events and encodes predictions: the library's parts, or None, and then why Python does it."""

    events: NativeDecoder | None
    predictions: NativePredictions | None
    why_not_events: str | None = None
    why_not_predictions: str | None = None

    def state(self) -> dict[str, dict[str, str | None]]:
        """Return the member `lane` of `/health`."""
        return {
            "events": state_of(self.events, self.why_not_events),
            "predictions": state_of(self.predictions, self.why_not_predictions),
        }


def state_of(part: object, why_not: str | None) -> dict[str, str | None]:
    """Return who serves a part, and why it is not the library."""
    return {"served_by": "python" if part is None else "native", "why_not_native": why_not}


def lane_for(
    wanted: Literal["auto", "python"], model: Model, group: str, rules: Rules, *, prevented: str | None = None
) -> Lane:
    """Return the lane that serves a model: each part of the library that proves itself on the golden rows.

    prevented: why Python must encode the predictions, None if it need not. A library that fails is logged, and Python
    serves.
    """
    library = find(wanted)
    if isinstance(library, str):
        return Lane(None, None, library, library)
    manifest = model.manifest
    why_not_events, why_not_predictions = unfit(manifest, model.form), prevented
    events, predictions = None, None
    if why_not_events is None:
        events = NativeDecoder(library, manifest, rules, EventDecoder(manifest.features, manifest.event, rules))
        why_not_events = refused(differs_on_events(events, model, rules))
    if why_not_predictions is None:
        predictions = NativePredictions(library, model, MAX_BATCH_BYTES)
        why_not_predictions = refused(differs_on_predictions(library, model, group))
    return Lane(
        events if why_not_events is None else None,
        predictions if why_not_predictions is None else None,
        why_not_events,
        why_not_predictions,
    )


def find(wanted: Literal["auto", "python"]) -> ModuleType | str:
    """Return the library, or why there is none that fits and is wanted."""
    if wanted == "python":
        return "SCORER_LANE is python"
    try:
        library = importlib.import_module(NAME)
    except ModuleNotFoundError:
        return "driftline-native is not installed"
    except ImportError as error:
        return refused(f"driftline-native cannot be imported: {error}") or ""
    if library.INTERFACE != INTERFACE:
        has = f"driftline-native {library.VERSION} has interface {library.INTERFACE}, expected {INTERFACE}"
        return refused(has) or ""
    return library


def refused(why: str | None) -> str | None:
    """Log a reason against the library, if there is one; return it."""
    if why is not None:
        log.warning("native_lane_refused", reason=why)
    return why


def differs_on_events(decoder: NativeDecoder, model: Model, rules: Rules) -> str | None:
    """Return None if the golden rows, as events, have the same columns in both lanes, else one line.

    Each comes plain, with a category that is new, and without its time.
    """
    manifest = model.manifest
    now_ms = timestamps.parse("2026-11-22T06:00:00Z") or 0
    records: list[ConsumerRecord] = []
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
            ConsumerRecord(
                "t", 0, len(records) + at, 0, 0, b"c-2", json.dumps({**event, **change}).encode(), None, 3, 0, ()
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


def differs_on_predictions(library: ModuleType, model: Model, group: str) -> str | None:
    """Return None if the golden rows' predictions are the same bytes in both lanes, else one line."""
    golden = model.manifest.golden.rows
    columns = Layout(model.manifest.features).columns(
        [[row.get(feature.name) for row in golden] for feature in model.manifest.features]
    )
    # each of them as plain and as odd as a record may be
    texts = ('"\\/\b\t\x01é🙂', "7590-VHVEG")
    records = [
        ConsumerRecord("t", 0, at << 7, at - 1, at % 2, (None, b"", b"k")[at % 3], b"{}", None, 0, 2, headers)
        for at, headers in enumerate([(), (_TRACE,)] * len(golden))
    ]
    ids = [texts[record.offset >> 7 & 1] for record in records]
    scores = np.repeat(model.predict(columns), 2, axis=0)
    times = np.zeros(len(records), dtype=np.int64)
    rows = np.arange(len(records))
    batch = DecodedBatch(
        [None] * len(records), rows, ids, ids[::-1], timestamps.render_batch(times), times, columns, 0, 0
    )
    stamp = h.Stamp("customer-events", 3, model.manifest.version, group)
    now_ms, producer = 1_795_327_200_000, (77, 5, 1234)
    wanted, counted = predictions_of(encoder_for(model), records, batch, scores, stamp, now_ms)
    for limit in (TRIAL_BYTES, MAX_BATCH_BYTES):
        encoded = NativePredictions(library, model, limit).encode(records, batch, scores, stamp, now_ms)
        if encoded is None:
            return "driftline-native does not take the golden rows"
        predictions, spoofed = encoded
        sealed = []
        for one in predictions.batches(now_ms, transactional=True):
            one._set_producer_state(*producer)  # noqa: SLF001 - as aiokafka's sender calls it
            sealed.append(one._build())  # noqa: SLF001 - the same
        if sealed != record_batches(wanted, now_ms, limit, producer) or spoofed != counted:
            return "driftline-native encodes the golden rows differently"
    return None
