"""Events that somebody asks about and waits for: the stream's decoder, verdicts and model, without the stream.

What is asked need not be complete: an event without ids or a time gets placeholders before it is decoded, a bare object
of features an envelope. From there on it is a record like any other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas import rfc3339
from schemas.bundle import EventMapping
from schemas.event import EventDecoder
from schemas.verdict import Defect, Reason, Rules, read_json, split
from scorer.model import Model
from scorer.score import predict_each

MAX_EVENTS = 1000
PLACEHOLDER = "-"  # a valid id; never part of an answer

Path = tuple[str | int, ...]


class NotAnsweredError(Exception):
    """Nothing was answered: one problem per event at fault, each `{"loc", "type", "msg"}`; types are Reasons."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(detail)} problems")
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to write an event."""

    mapping: EventMapping
    decoder: EventDecoder


@dataclass(slots=True)
class _Asked:
    """One event as a record (schemas.verdict.Record). bare: its `features` member is ours; ids: those it came with."""

    form: _Form
    bare: bool
    ids: dict[str, Any]
    value: bytes | None
    timestamp: int
    key: bytes | None = PLACEHOLDER.encode()
    topic: str = "predict"
    partition: int = 0
    offset: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_type: int = 0


class Predictor:
    """Answers with one model. Holds nothing between calls; may be called from several threads."""

    def __init__(self, model: Model, rules: Rules) -> None:
        self.model = model
        features, mapping = model.manifest.features, model.manifest.event
        own = EventMapping()
        self._own = _Form(own, EventDecoder(features, own, rules))
        self._mapped = self._own if mapping == own else _Form(mapping, EventDecoder(features, mapping, rules))

    def answer(self, body: bytes, now_ms: int) -> Any:
        """What JSON `body` asks: an event, a bare object of features, or a list of at most 1,000 of either.

        The answer to a list is a list in its order. NotAnsweredError if anything in it cannot be answered.
        """
        asked, defect = read_json(body)
        if defect is not None:
            raise NotAnsweredError([_problem(("body",), defect)])
        if not isinstance(asked, list):
            return self._answers([asked], [("body",)], now_ms)[0]
        if len(asked) > MAX_EVENTS:
            text = f"a list of {len(asked)} events, at most {MAX_EVENTS} are answered at once"
            raise NotAnsweredError([_problem(("body",), Defect(Reason.TOO_LARGE, text))])
        return self._answers(asked, [("body", i) for i in range(len(asked))], now_ms)

    def _answers(self, events: Sequence[object], places: Sequence[Path], now_ms: int) -> list[dict[str, Any]]:
        asked = [self._asked(event, now_ms) for event in events]
        manifest = self.model.manifest
        model = {"name": manifest.name, "version": manifest.version}
        defects: dict[int, Defect] = {}
        answers: dict[int, dict[str, Any]] = {}
        for form in {id(f): f for f in (self._own, self._mapped)}.values():
            rows = [i for i, a in enumerate(asked) if a.form is form]
            batch = form.decoder.decode([asked[i] for i in rows], now_ms)
            defects |= {i: d for i, d in zip(rows, batch.defects, strict=True) if d is not None}
            probabilities, wrong = predict_each(self.model.predict, batch.columns)
            for row, (accepted, p) in enumerate(zip(batch.accepted.tolist(), probabilities.tolist(), strict=True)):
                i = rows[accepted]
                if row in wrong:
                    defects[i] = Defect(Reason.MODEL_ERROR, f"the model failed on this event: {wrong[row]}")
                    continue
                label = p >= manifest.threshold
                answers[i] = {"probability": p, "label": label, "threshold": manifest.threshold, "model": model}
                answers[i] |= asked[i].ids
        if defects:
            raise NotAnsweredError([_problem(places[i], defects[i], bare=asked[i].bare) for i in sorted(defects)])
        return [answers[i] for i in range(len(asked))]

    def _asked(self, event: object, now_ms: int) -> _Asked:
        """The event as a record in the form that it has, with what it may leave out filled in."""
        form, bare = self._own, False
        if not isinstance(event, dict):
            return _Asked(form, bare, {}, _encode(event), now_ms)  # the decoder says what it thinks of it
        mapped = split(self._mapped.mapping.features)
        in_envelope = isinstance(event.get("features"), dict)
        if isinstance(_at(event, mapped), dict) and (mapped or not in_envelope):
            form = self._mapped
        elif not in_envelope:
            event, bare = {"features": event}, True
        ids = {}
        placeholders = {"event_id": PLACEHOLDER, "customer_id": PLACEHOLDER, "event_time": rfc3339.render(now_ms)}
        for name, placeholder in placeholders.items():
            path = split(getattr(form.mapping, name))
            given = _at(event, path) if path else None
            if given is None and path:
                _put(event, path, placeholder)
            elif given is not None and name != "event_time":
                ids[name] = given
        return _Asked(form, bare, ids, _encode(event), now_ms)


def _at(event: object, path: Sequence[str]) -> object:
    """What stands at a path; None if nothing does."""
    for part in path:
        event = event.get(part) if isinstance(event, dict) else None
    return event


def _put(event: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Set a path that holds nothing; not through something that is no object, which the decoder then refuses."""
    node: object = event
    for part in path[:-1]:
        if not isinstance(node, dict):
            return
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
    if isinstance(node, dict):
        node[path[-1]] = value


def _encode(event: object) -> bytes:
    try:
        return json.dumps(event, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_with_digits(event), separators=(",", ":")).encode()


def _with_digits(value: object) -> object:
    """The same JSON with a number beyond the double range, which was read as infinity, in digits again."""
    if isinstance(value, float) and math.isinf(value):
        return 10**400 if value > 0 else -(10**400)
    if isinstance(value, dict):
        return {name: _with_digits(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_digits(inner) for inner in value]
    return value


def _problem(place: Path, defect: Defect, *, bare: bool = False) -> dict[str, Any]:
    path, text = defect.path, defect.detail
    if bare:  # the `features` in front was ours
        path, text = path[1:], text.replace("features.", "", 1)
    return {"loc": [*place, *path], "type": defect.reason.value, "msg": text}
