"""Finds the library, and tries it on a model's golden rows before it serves that model."""

from __future__ import annotations

import importlib
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
from schemas.event import DecodedBatch
from schemas.features import Layout
from scorer.model import Model
from scorer.native.predictions import NativePredictions
from scorer.pipeline import encoder_for, predictions_of

log = logs.get(__name__)

NAME = "driftline_native"
#: Of the calls that this version makes.
INTERFACE = 1
#: A batch of the trial holds a few records, so that there are several.
TRIAL_BYTES = 3000
_TRACE = (h.TRACEPARENT, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@dataclass(frozen=True, slots=True)
class Lane:
    """What encodes predictions: the library's encoder, or None, and then why Python does."""

    predictions: NativePredictions | None
    why_not_native: str | None = None

    def state(self) -> dict[str, str | None]:
        """Return the member `lane` of `/health`."""
        return {
            "predictions": "python" if self.predictions is None else "native",
            "why_not_native": self.why_not_native,
        }


def lane_for(wanted: Literal["auto", "python"], model: Model, group: str, *, prevented: str | None = None) -> Lane:
    """Return the lane that serves a model: the library's if it is installed and proves itself on the golden rows.

    prevented: why Python must encode, None if it need not. A library that fails is logged, and Python serves.
    """
    if wanted == "python":
        return Lane(None, "SCORER_LANE is python")
    if prevented is not None:
        return Lane(None, prevented)
    try:
        library = importlib.import_module(NAME)
    except ModuleNotFoundError:
        return Lane(None, "driftline-native is not installed")
    except ImportError as error:
        return _refused(f"driftline-native cannot be imported: {error}")
    if library.INTERFACE != INTERFACE:
        return _refused(f"driftline-native {library.VERSION} has interface {library.INTERFACE}, expected {INTERFACE}")
    why_not = differs(library, model, group)
    return Lane(NativePredictions(library, model, MAX_BATCH_BYTES)) if why_not is None else _refused(why_not)


def _refused(why: str) -> Lane:
    log.warning("native_lane_refused", reason=why)
    return Lane(None, why)


def differs(library: ModuleType, model: Model, group: str) -> str | None:
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
