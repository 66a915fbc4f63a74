"""Who reads fetched batches and events: the library of native/ where it is installed and proven, or Python."""

from __future__ import annotations

from dataclasses import dataclass

from kafka_runtime.native.library import Wanted, find, refused, state_of
from kafka_runtime.native.records import Reader, reader_for
from schemas.bundle.manifest import Manifest
from schemas.event import EventDecoder
from schemas.native_events import NativeDecoder, differs_on_events, unfit
from schemas.validation import Rules


@dataclass(frozen=True, slots=True)
class Lane:
    """What reads records and events: the library's parts, or None, and then why Python does it."""

    records: Reader
    events: NativeDecoder | None
    why_not_events: str | None

    def state(self) -> dict[str, dict[str, str | None]]:
        """Return the member `lane` of `/health`."""
        return {"records": self.records.state(), "events": state_of(self.events, self.why_not_events)}


def lane_for(wanted: Wanted, manifest: Manifest, rules: Rules) -> Lane:
    """Return each part of the library that proves itself; one that fails is logged, and Python serves."""
    records, library = reader_for(wanted), find(wanted)
    if isinstance(library, str):
        return Lane(records, None, library)
    if (why_not := unfit(manifest)) is not None:
        return Lane(records, None, why_not)
    python = EventDecoder(manifest.features, manifest.event, rules)
    events = NativeDecoder(library, manifest, rules, python)
    why_not = refused(differs_on_events(events, manifest, rules))
    return Lane(records, events if why_not is None else None, why_not)
