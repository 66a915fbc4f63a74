"""Which customers a model was fitted on, so that nobody judges it by them: a 64-bit digest per row, in the bundle.

A digest is of the row's features and its label, so that a file and the topics give the same for the same customer. Two
customers who are alike in all of it share one; leaving both out is the safe side. It says nothing to somebody who
cannot guess a whole row.
"""

from __future__ import annotations

import hashlib
import io

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.bundle import TRAINED_ROWS, BundleBytes, BundleError
from schemas.features import Columns

_encode = msgspec.json.Encoder().encode


def digests(columns: Columns, positive: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """uint64 (n,): one per row, in order. A number is the double it is scored as, however it was written."""
    numeric = set(columns.layout.numeric)
    values = [
        [None if v is None else float(v) for v in column] if at in numeric else column
        for at, column in enumerate(columns.values)
    ]
    rows = zip(*values, positive.tolist(), strict=True)
    hashed = b"".join(hashlib.blake2b(_encode(row), digest_size=8).digest() for row in rows)
    return np.frombuffer(hashed, dtype="<u8").astype(np.uint64)


def to_bytes(seen: NDArray[np.uint64]) -> bytes:
    """The digests as a file, sorted: the order of the rows is nobody's business."""
    out = io.BytesIO()
    np.save(out, np.unique(seen))
    return out.getvalue()


def unseen(bundle: BundleBytes, columns: Columns, positive: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Bool (n,): rows that the bundle's model was not fitted on; None if the bundle does not say. BundleError."""
    raw = bundle.files.get(TRAINED_ROWS)
    if raw is None:
        return None
    try:
        seen = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BundleError(f"{TRAINED_ROWS}: {error}") from None
    return ~np.isin(digests(columns, positive), seen)
