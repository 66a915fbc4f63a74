"""Events over HTTP → predictions: the decoder, rules and model of the stream, without the stream.

A request need not be complete. An event without ids or a time gets placeholders before it is decoded, and a bare object
of features gets an envelope. From there on it is a record like any other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas import timestamps
from schemas.bundle.inputs import EventMapping
from schemas.event import EventDecoder
from schemas.mapping.places import place_of, steps_of
from schemas.rejection_reasons import Reason, Rejection
from schemas.validation import ABSENT, Reading, Rules, read_json
from scorer.model import Model

MAX_EVENTS = 1000
#: The `type` of a problem, beside the Reasons.
IGNORED = "ignored"
PLACEHOLDER = "-"  # a valid id; never part of an answer

Path = tuple[str | int, ...]


class NotAnsweredError(Exception):
    """No event was answered: one problem per rejected event, each `{"loc", "type", "msg"}`; types are Reasons."""

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
    """One event as a record (schemas.validation.Record). bare: its `features` member is ours; ids: that it has."""

    form: _Form
    bare: bool
    ids: frozenset[str]
    value: bytes | None
    timestamp: int
    key: bytes | None = PLACEHOLDER.encode()
    topic: str = "predict"
    partition: int = 0
    offset: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_type: int = 0


class Predictor:
    """Answers with one model. No state between calls; thread-safe."""

    def __init__(self, model: Model, rules: Rules) -> None:
        self.model = model
        features, mapping = model.manifest.features, model.manifest.event
        own = EventMapping()
        self._own = _Form(own, EventDecoder(features, own, rules))
        forms = [_without_record(form) for form in mapping.forms()] if mapping != own else []
        self._mapped = [_Form(form, EventDecoder(features, form, rules)) for form in forms]

    def answer(self, body: bytes, now_ms: int) -> Any:
        """Return the answer to a JSON body: an event, a bare object of features, or a list of at most 1,000 of them.

        A list gets a list in the same order. Raise NotAnsweredError if anything in the body is rejected.
        """
        asked, rejection = read_json(body)
        if rejection is not None:
            raise NotAnsweredError([_problem(("body",), rejection)])
        if not isinstance(asked, list):
            return self._answers([asked], [("body",)], now_ms)[0]
        if len(asked) > MAX_EVENTS:
            text = f"a list of {len(asked)} events, at most {MAX_EVENTS} are answered at once"
            raise NotAnsweredError([_problem(("body",), Rejection(Reason.TOO_LARGE, text))])
        return self._answers(asked, [("body", i) for i in range(len(asked))], now_ms)

    def _answers(self, events: Sequence[object], places: Sequence[Path], now_ms: int) -> list[dict[str, Any]]:
        asked = [self._asked(event, now_ms) for event in events]
        manifest = self.model.manifest
        task = manifest.predicts
        model = {"name": manifest.name, "version": manifest.version}
        rejections: dict[int, Rejection] = {}
        ignored: set[int] = set()
        answers: dict[int, dict[str, Any]] = {}
        for form in (self._own, *self._mapped):
            rows = [i for i, a in enumerate(asked) if a.form is form]
            batch = form.decoder.decode([asked[i] for i in rows], now_ms)
            rejections |= {i: d for i, d in zip(rows, batch.rejections, strict=True) if d is not None}
            ignored |= {rows[at] for at in batch.ignored}
            scores, wrong = self.model.score_each(batch.columns)
            for row, (accepted, score) in enumerate(zip(batch.accepted.tolist(), scores.tolist(), strict=True)):
                i = rows[accepted]
                if row in wrong:
                    rejections[i] = Rejection(Reason.MODEL_ERROR, f"the model failed on this event: {wrong[row]}")
                    continue
                answers[i] = {**task.content(score), "model": model}
                ids = {"event_id": batch.event_ids[row], "customer_id": batch.customer_ids[row]}
                answers[i] |= {name: ids[name] for name in ids if name in asked[i].ids}
        if rejections or ignored:
            problems = {i: _problem(places[i], rejection, bare=asked[i].bare) for i, rejection in rejections.items()}
            text = "no event: [event.only] of the spec lists other values"
            problems |= {i: {"loc": list(places[i]), "type": IGNORED, "msg": text} for i in ignored}
            raise NotAnsweredError([problems[i] for i in sorted(problems)])
        return [answers[i] for i in range(len(asked))]

    def _asked(self, event: object, now_ms: int) -> _Asked:
        """Return the event as a record, with placeholders for what it may leave out."""
        form, bare = self._own, False
        if not isinstance(event, dict):
            return _Asked(form, bare, frozenset(), _encode(event), now_ms)  # the decoder rejects it
        in_envelope = isinstance(event.get("features"), dict)
        for mapped in self._mapped:
            root = mapped.mapping.features
            if isinstance(_at(event, root), dict | list) and (root or not in_envelope):
                form = mapped
                break
        else:
            # what [event.only] is about is in the event: the decoder names what it lacks
            known = [m for m in self._mapped if any(_at(event, path) is not None for path in m.mapping.only)]
            if known:
                form = known[0]
            elif not in_envelope:
                event, bare = {"features": event}, True
        given = set()
        time: str | float = timestamps.render(now_ms)
        if form.mapping.time_unit != "rfc3339":
            time = {"s": now_ms / 1000, "ms": now_ms, "us": now_ms * 1000, "ns": now_ms * 10**6}[form.mapping.time_unit]
        for name, placeholder in {"event_id": PLACEHOLDER, "customer_id": PLACEHOLDER, "event_time": time}.items():
            path = getattr(form.mapping, name)
            if path and _at(event, path) is None:
                _put(event, steps_of(path), placeholder)
            elif path and name != "event_time":
                given.add(name)
        return _Asked(form, bare, frozenset(given), _encode(event), now_ms)


def _without_record(mapping: EventMapping) -> EventMapping:
    """Return the mapping of an event that comes without a key and headers."""
    names = ("event_id", "customer_id", "event_time")
    away: dict[str, Any] = {name: "" for name in names if getattr(mapping, name).startswith("$")}
    away["format"] = "json"
    away["only"] = {path: values for path, values in mapping.only.items() if not path.startswith("$")}
    return mapping.model_copy(update=away)


def _at(event: object, path: str) -> object:
    """Return the value at a path; None if there is none."""
    found = Reading(None).peek(place_of(path), event)
    return None if found is ABSENT else found


def _put(event: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Set a path without a value. Do nothing if the path leads through a value that is no object."""
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
    """Return the same JSON, with infinity, which was a number beyond the double range, in digits again."""
    if isinstance(value, float) and math.isinf(value):
        return 10**400 if value > 0 else -(10**400)
    if isinstance(value, dict):
        return {name: _with_digits(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_digits(inner) for inner in value]
    return value


def _problem(place: Path, rejection: Rejection, *, bare: bool = False) -> dict[str, Any]:
    path, text = rejection.path, rejection.detail
    if bare:  # the `features` in front was ours
        path, text = path[1:], text.replace("features.", "", 1)
    return {"loc": [*place, *path], "type": rejection.reason.value, "msg": text}
