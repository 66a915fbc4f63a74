"""A file of recent customers → columns of an existing bundle.

The file holds rows as training reads them, with the features' names for columns, or events of the topic, one a line.
Of events, `schemas.event` decides what is valid, as in the scorer, and what it would reject is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from driftline.model_life.data_checks import shares
from driftline.training.customer_file import CustomerFileError, is_json, read_bytes
from driftline.training.dataset import DatasetError, read_features
from schemas.bundle.inputs import DataFormat, EventMapping
from schemas.bundle.manifest import Manifest
from schemas.event import EventDecoder
from schemas.features import UNSEEN, Columns, Layout
from schemas.mapping.places import Source, place_of
from schemas.validation import ABSENT, Reading, Rules


@dataclass(frozen=True, slots=True)
class Recent:
    """Rows whose categories are all in the bundle."""

    #: Of the file.
    sha256: str
    columns: Columns
    #: Rows that were left out because of a category that the bundle does not contain.
    unseen_rows: int
    #: The same by feature.
    unseen: dict[str, int]
    #: Whether the file held events, else rows.
    events: bool
    #: Events that were left out, by reason.
    refused: dict[str, int] = field(default_factory=dict)
    #: Distinct ids; None if the file has none.
    customers: int | None = None
    #: Shares of missing and unseen values by feature, of all rows.
    features: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(slots=True)
class _Line:
    """A line of a file as a record (schemas.validation.Record); members from Kafka are empty."""

    value: bytes | None
    key: bytes | None
    topic: str = ""
    partition: int = 0
    offset: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0
    timestamp_type: int = 0


@dataclass(frozen=True, slots=True)
class Customers:
    """All valid rows of a file, unseen categories included; the members are those of `Recent`."""

    sha256: str
    columns: Columns
    events: bool
    refused: dict[str, int] = field(default_factory=dict)
    customers: int | None = None


def read_recent(
    path: Path, manifest: Manifest, now_ms: int, form: DataFormat | None = None, rules: Rules | None = None
) -> Recent:
    """Return the file's customers; DatasetError if it cannot be read, or holds no customer whom the model could score.

    now_ms: epoch milliseconds; an event that is ahead of it is rejected as in the scorer. form: how the file writes its
    cells; None: as the bundle has it. rules: of a valid event; None: the defaults.
    """
    found = read_customers(path, manifest, now_ms, form, rules)
    return Recent(
        found.sha256,
        *_known(path, found.columns),
        events=found.events,
        refused=found.refused,
        customers=found.customers,
        features=shares(found.columns),
    )


def read_customers(
    path: Path, manifest: Manifest, now_ms: int, form: DataFormat | None = None, rules: Rules | None = None
) -> Customers:
    """Return the same with the rows that hold unseen categories."""
    try:
        sha256, raw, name = read_bytes(path)
        json = is_json(raw, name)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except CustomerFileError as error:
        raise DatasetError(f"{path}: {error}") from None
    lines = [line for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    if json and lines and _is_event(lines[0], manifest.event):
        # events in a file are JSON, whatever the topic has
        mapping = manifest.event.model_copy(update={"format": "json"})
        batch = EventDecoder(manifest.features, mapping, rules).decode(
            [_Line(line.strip(), b"%d" % number) for number, line in enumerate(lines, 1)], now_ms
        )
        refused = Counter(rejection.reason.value for rejection in batch.rejections if rejection is not None)
        if not batch.columns.n:
            raise DatasetError(f"{path}: no valid event: {', '.join(f'{r} {n}' for r, n in refused.most_common())}")
        customers = len(set(batch.customer_ids)) if manifest.event.customer_id else None
        return Customers(sha256, batch.columns, events=True, refused=dict(refused), customers=customers)
    columns = Layout(manifest.features).columns(read_features(path, manifest.features, form or manifest.data_format))
    return Customers(sha256, columns, events=False)


def _is_event(line: bytes, mapping: EventMapping) -> bool:
    """Return whether every part that the mapping names is there."""
    try:
        event = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    if not isinstance(event, dict):
        return False
    reading, form = Reading(_Line(line, None)), mapping.forms()[mapping.form_of(line, ())]
    places = [place_of(p) for p in (form.event_id, form.customer_id, form.event_time, form.features, *form.only) if p]
    return all(reading.peek(place, event) is not ABSENT for place in places if place.source is Source.VALUE)


def _known(path: Path, columns: Columns) -> tuple[Columns, int, dict[str, int]]:
    """Return the rows without unseen categories, the number of others, and how many of these by feature.

    A reference holds codes of the manifest's categories only; a value of none of them has another alert.
    """
    layout = columns.layout
    unseen = columns.codes == UNSEEN
    rows = np.flatnonzero(~unseen.any(axis=1))
    counts = {layout.names[feature]: int(unseen[:, at].sum()) for at, feature in enumerate(layout.categorical)}
    if not len(rows):
        shown = ", ".join(f"{name} in {count} of {columns.n} rows" for name, count in counts.items() if count)
        raise DatasetError(f"{path}: every row has a category that is unknown to the model: {shown}")
    kept = columns.take(rows)
    return kept, columns.n - len(rows), {name: count for name, count in counts.items() if count}
