"""The rows that a model was fitted on, as 64-bit digests in the bundle, so that they are left out of comparisons.

A digest is of the row's features and its label, so a file and the topics give the same one for the same customer. Two
customers with equal rows share a digest; leaving both out is the safe side. A digest reveals a row only to a reader who
can guess the whole row.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.bundle.files import TRAINED_ROWS, BundleBytes
from schemas.bundle.manifest import BundleError
from schemas.features import Columns

_encode = msgspec.json.Encoder().encode


def digests(columns: Columns, outcome: NDArray[Any]) -> NDArray[np.uint64]:
    """Return one digest per row, in order, uint64 (n,).

    outcome: (n,), bool, float64 or names of classes. A number is the double that is scored, however it was written.
    """
    numeric = set(columns.layout.numeric)
    values = [
        [None if v is None else float(v) for v in column] if at in numeric else column
        for at, column in enumerate(columns.values)
    ]
    rows = zip(*values, outcome.tolist(), strict=True)
    hashed = b"".join(hashlib.blake2b(_encode(row), digest_size=8).digest() for row in rows)
    return np.frombuffer(hashed, dtype="<u8").astype(np.uint64)


def to_bytes(seen: NDArray[np.uint64]) -> bytes:
    """Return the digests as a file, sorted: the order of the rows stays private."""
    out = io.BytesIO()
    np.save(out, np.unique(seen))
    return out.getvalue()


def unseen(bundle: BundleBytes, columns: Columns, outcome: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which rows the bundle's model was not fitted on, bool (n,); None if the bundle has no digests.

    BundleError.
    """
    raw = bundle.files.get(TRAINED_ROWS)
    if raw is None:
        return None
    try:
        seen = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BundleError(f"{TRAINED_ROWS}: {error}") from None
    return ~np.isin(digests(columns, outcome), seen)
