"""Eight ways in which data is broken rather than drifted.

Each function returns whether the engine recognised the fault.

What a record may hold is decided by the services' decoder, so the first three begin with bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from quality.stream import CATEGORIES, FEATURES, NUMERIC, Events, Stream, draw
from support.events import NOW_MS, record

from schemas.bundle.inputs import EventMapping
from schemas.event import EventDecoder
from schemas.measurement import Measurement

_NAMES = [feature.name for feature in FEATURES]
_RECORDS, _EACH = 1000, 10  # one record in ten is broken


def _as_bytes(events: Events, i: int, first: str | None) -> bytes:
    """An event as a producer sends it; `first`: the JSON of the first feature's value, if another than its own."""
    values = [float(x) for x in events.numeric[i]] + [
        names[code] for names, code in zip(CATEGORIES, events.codes[i].tolist(), strict=True)
    ]
    encoded = {name: json.dumps(value) for name, value in zip(_NAMES, values, strict=True)}
    if first is not None:
        encoded[_NAMES[0]] = first
    features = ",".join(f'"{name}":{value}' for name, value in encoded.items())
    about = json.dumps({"event_id": str(i), "customer_id": events.customers[i], "event_time": "2026-11-22T05:59:59Z"})
    return f'{about[:-1]},"features":{{{features}}}}}'.encode()


def _refused(first: tuple[str, ...], reason: str) -> bool:
    """Records with such a first value are refused for this reason; the others are counted, and show no drift."""
    stream, decoder = Stream(3, 7000), EventDecoder(FEATURES, EventMapping())
    for _ in range(2):
        events = draw(stream.generator, _RECORDS, f"{stream.seen.windows}-")
        broken = [first[i // _EACH % len(first)] if i % _EACH == 0 else None for i in range(_RECORDS)]
        batch = decoder.decode([record(_as_bytes(events, i, text)) for i, text in enumerate(broken)], NOW_MS)
        if [None if d is None else d.reason.value for d in batch.rejections] != [text and reason for text in broken]:
            return False
        columns = batch.columns
        stream.close(Events(columns.numeric, columns.codes, events.scores[batch.accepted], batch.customer_ids))
    return not stream.seen.alerts


def _window(change: Callable[[Events], None], m: int = 1500) -> tuple[Stream, Measurement]:
    stream = Stream(3, 7000)
    events = draw(stream.generator, m)
    change(events)
    return stream, stream.close(events)


def _outlier() -> bool:
    """One value of 10⁶ among 1,500 around 50 is no drift."""

    def change(events: Events) -> None:
        events.numeric[0, 0] = 1e6

    stream, measured = _window(change)
    effect = measured.features[_NAMES[0]].effect
    return effect is not None and effect < 0.1 and not stream.seen.alerts


def _said_alone(stream: Stream, alertname: str, feature: str) -> bool:
    """Exactly one alert, with this name, about this feature."""
    return [(a.labels["alertname"], a.labels.get("feature")) for a in stream.seen.alerts] == [(alertname, feature)]


def _all_missing() -> bool:
    """Every value of a feature is missing: announced as such at once, and not as drift."""

    def change(events: Events) -> None:
        events.numeric[:, 2] = np.nan

    stream, measured = _window(change)
    return measured.features[_NAMES[2]].quality == "all_missing" and _said_alone(stream, "DataQuality", _NAMES[2])


def _constant() -> bool:
    """Every value of a feature is the same: announced as such at once, and not as drift."""

    def change(events: Events) -> None:
        events.numeric[:, 1] = 50.0

    stream, measured = _window(change)
    return measured.features[_NAMES[1]].quality == "constant" and _said_alone(stream, "DataQuality", _NAMES[1])


def _short() -> bool:
    """A window of 100 events is reported as too short; it has no measurement and raises no alert."""
    stream, measured = _window(lambda _: None, m=100)
    found = measured.features[_NAMES[0]]
    return (found.psi, found.ks, found.reason) == (None, None, "not_enough_data") and not stream.seen.alerts


def _replay() -> bool:
    """Every event twice, as after a replay upstream: no alert fires."""
    stream = Stream(4, 7000)
    for _ in range(4):
        events = draw(stream.generator, 1500, f"{stream.seen.windows}-")
        stream.close(events.take(np.tile(np.arange(1500), 2)))
    return not stream.seen.alerts


assert len(NUMERIC) > 2, "the traps change the first three numbers"

TRAPS: dict[str, Callable[[], bool]] = {
    "NaN": lambda: _refused(("NaN",), "not_json"),
    "±∞": lambda: _refused(("1e400", "-1e400"), "not_finite") and _refused(("Infinity", "-Infinity"), "not_json"),
    "a new type": lambda: _refused(('"12"', "true", "[]"), "wrong_type"),
    "an outlier of 10⁶": _outlier,
    "all missing": _all_missing,
    "a constant": _constant,
    "a short window": _short,
    "everything twice": _replay,
}
