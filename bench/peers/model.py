"""What every peer does with events: the same model on the same DataFrame, the same answer.

The frame is built column by column, the fastest way that does not leave pandas, and a batch is one call of the model.
How events arrive and answers leave is the peer's own.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

BOOTSTRAP, GROUP = os.environ["BENCH_BOOTSTRAP"], os.environ["BENCH_GROUP"]
INPUT, OUTPUT = os.environ["BENCH_INPUT"], os.environ["BENCH_OUTPUT"]

_bundle = Path(os.environ["BENCH_MODEL"])
_manifest = json.loads((_bundle / "manifest.json").read_text(encoding="utf-8"))
_estimator = joblib.load(_bundle / "model.joblib")
_positive = _estimator.classes_.tolist().index(_manifest["positive_class"])
_dtypes = {f["name"]: np.float64 if f["kind"] == "numeric" else object for f in _manifest["features"]}
_model = {"name": _manifest["name"], "version": _manifest["version"]}


def predict(events: list[dict]) -> list[dict]:
    """Return one answer per event, in order."""
    features = [event["features"] for event in events]
    columns = {
        name: np.array([np.nan if (value := row.get(name)) is None else value for row in features], dtype=dtype)
        for name, dtype in _dtypes.items()
    }
    probabilities = _estimator.predict_proba(pd.DataFrame(columns))[:, _positive].tolist()
    scored_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return [
        {
            "event_id": event["event_id"],
            "customer_id": event["customer_id"],
            "event_time": event["event_time"],
            "scored_at": scored_at,
            "probability": probability,
            "label": probability >= _manifest["threshold"],
            "model": _model,
        }
        for event, probability in zip(events, probabilities, strict=True)
    ]
