"""What the library does for one model, tried on its golden rows before it serves."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kafka_runtime.clients import MAX_BATCH_BYTES
from kafka_runtime.kafka_types import ConsumerRecord
from kafka_runtime.native.library import Wanted, find, refused, state_of
from kafka_runtime.sinks import record_batches
from schemas import headers as h
from schemas import timestamps
from schemas.event import DecodedBatch, EventDecoder
from schemas.features import Layout
from schemas.native_events import NativeDecoder, differs_on_events, unfit
from schemas.validation import Rules
from scorer.model import Model
from scorer.native.predictions import NativePredictions
from scorer.pipeline import encoder_for, predictions_of

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


def lane_for(wanted: Wanted, model: Model, group: str, rules: Rules, *, prevented: str | None = None) -> Lane:
    """Return the lane that serves a model: each part of the library that proves itself on the golden rows.

    prevented: why Python must encode the predictions, None if it need not. A library that fails is logged, and Python
    serves.
    """
    library = find(wanted)
    if isinstance(library, str):
        return Lane(None, None, library, library)
    manifest = model.manifest
    why_not_events, why_not_predictions = _unfit(model), prevented
    events, predictions = None, None
    if why_not_events is None:
        events = NativeDecoder(library, manifest, rules, EventDecoder(manifest.features, manifest.event, rules))
        why_not_events = refused(differs_on_events(events, manifest, rules))
    if why_not_predictions is None:
        predictions = NativePredictions(library, model, MAX_BATCH_BYTES)
        why_not_predictions = refused(differs_on_predictions(library, model, group))
    return Lane(
        events if why_not_events is None else None,
        predictions if why_not_predictions is None else None,
        why_not_events,
        why_not_predictions,
    )


def _unfit(model: Model) -> str | None:
    """Return why the library cannot read a model's events; None if it can."""
    if (why := unfit(model.manifest)) is None and model.form != "direct":
        return "the model is scored in frame form, which needs the values as they were"
    return why


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
