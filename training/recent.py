"""A file of recent customers → columns of a bundle that exists already.

Rows as training reads them, with the features' names for columns (CSV, JSON Lines), or events as they stand on the
topic, one a line: then `schemas.event` decides what is valid, as in the scorer, and what it would refuse is left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from schemas.bundle import EventMapping, Manifest
from schemas.event import EventDecoder
from schemas.features import UNSEEN, Columns, Layout
from schemas.verdict import split
from training.dataset import JSON_LINES, DatasetError, read_features


@dataclass(frozen=True, slots=True)
class Recent:
    """Rows whose every category the bundle knows.

    sha256: of the file. events: whether it held events, else rows. refused: what was left out of events, by reason.
    unseen: by feature, rows that were left out because of a category that the bundle does not know; unseen_rows: how
    many in all. customers: distinct ids; None if the file says none.
    """

    sha256: str
    columns: Columns
    unseen_rows: int
    unseen: dict[str, int]
    events: bool
    refused: dict[str, int] = field(default_factory=dict)
    customers: int | None = None


@dataclass(slots=True)
class _Line:
    """A line of a file as a record (schemas.verdict.Record); what only Kafka knows is empty, and its time long ago."""

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


def read_recent(path: Path, manifest: Manifest, now_ms: int) -> Recent:
    """The file's customers; DatasetError if it cannot be read, or holds nobody whom the model could score.

    now_ms: epoch milliseconds; an event that is ahead of it is refused as the scorer refuses it.
    """
    found = read_customers(path, manifest, now_ms)
    return Recent(
        found.sha256,
        *_known(path, found.columns),
        events=found.events,
        refused=found.refused,
        customers=found.customers,
    )


def read_customers(path: Path, manifest: Manifest, now_ms: int) -> Customers:
    """The same with the rows that hold unseen categories."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    sha256 = hashlib.sha256(raw).hexdigest()
    lines = [line for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    if path.suffix.lower() in JSON_LINES and lines and _is_event(lines[0], manifest.event):
        batch = EventDecoder(manifest.features, manifest.event).decode(
            [_Line(line.strip(), b"%d" % number) for number, line in enumerate(lines, 1)], now_ms
        )
        refused = Counter(defect.reason.value for defect in batch.defects if defect is not None)
        if not batch.columns.n:
            raise DatasetError(f"{path}: no valid event: {', '.join(f'{r} {n}' for r, n in refused.most_common())}")
        customers = len(set(batch.customer_ids)) if manifest.event.customer_id else None
        return Customers(sha256, batch.columns, events=True, refused=dict(refused), customers=customers)
    columns = Layout(manifest.features).columns(read_features(path, manifest.features))
    return Customers(sha256, columns, events=False)


def _is_event(line: bytes, mapping: EventMapping) -> bool:
    """Whether every part that the mapping names is there."""
    try:
        event = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    for path in (mapping.event_id, mapping.customer_id, mapping.event_time, mapping.features):
        node = event
        for part in split(path):
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
    return isinstance(event, dict)


def _known(path: Path, columns: Columns) -> tuple[Columns, int, dict[str, int]]:
    """The rows without unseen categories, how many others there are, and how many by feature.

    A reference holds codes of the manifest's categories only; that a value is of none of them has an alert of its own.
    """
    layout = columns.layout
    unseen = columns.codes == UNSEEN
    rows = np.flatnonzero(~unseen.any(axis=1))
    if not len(rows):
        raise DatasetError(f"{path}: every row has a category that the model does not know")
    counts = {layout.names[feature]: int(unseen[:, at].sum()) for at, feature in enumerate(layout.categorical)}
    kept = columns.take(rows)
    for at, absent in ((layout.numeric, np.isnan(kept.numeric)), (layout.categorical, kept.codes < 0)):
        gone = [layout.names[feature] for column, feature in enumerate(at) if bool(absent[:, column].all())]
        if gone:
            raise DatasetError(f"{path}: {gone[0]}: missing in every row")
    return kept, columns.n - len(rows), {name: count for name, count in counts.items() if count}
