"""The drift reference: a sample of the customers the model was trained for, stored row-aligned in the bundle."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Reference:
    """At most 10,000 rows; row i of every array is the same customer."""

    #: float64 (n, numeric features), NaN = missing.
    numeric: NDArray[np.float64]
    #: int32 (n, categorical and boolean features in manifest order), an index into the categories, or MISSING.
    codes: NDArray[np.int32]
    #: float64 (n,), probability of the positive class, out of sample; of other tasks `Task.watched` of the scores.
    score: NDArray[np.float64]
    #: int64 (categorical and boolean features,): these rows with a category that occurs once in the whole data set;
    #: 0 where the spec lists the categories.
    singletons: NDArray[np.int64]
    #: int32 (n,), the index of the predicted class, out of sample; None where predictions have no class.
    predicted: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        if (self.numeric.ndim, self.codes.ndim, self.score.ndim, self.singletons.ndim) != (2, 2, 1, 1):
            raise ValueError("reference: numeric and codes must have two dimensions, score and singletons one")
        n = len(self.score)
        if not 1 <= n <= MAX_ROWS:
            raise ValueError(f"reference: {n} rows, expected 1 to {MAX_ROWS}")
        if self.numeric.shape[:1] != (n,) or self.codes.shape[:1] != (n,):
            raise ValueError("reference: numeric, codes and score must have the same number of rows")
        if self.singletons.shape != self.codes.shape[1:]:
            raise ValueError("reference: one singleton count per category column is needed")
        if self.predicted is not None and (self.predicted.shape != (n,) or self.predicted.min(initial=0) < 0):
            raise ValueError("reference: one predicted class per row is needed")

    @property
    def rows(self) -> int:
        """Return the number of stored rows: the n of every statistic, never the size of the whole data set."""
        return len(self.score)

    def to_bytes(self) -> bytes:
        """Return an npz archive, the same bytes for the same arrays (numpy writes a fixed time stamp)."""
        out = io.BytesIO()
        arrays: dict[str, Any] = {"numeric": self.numeric, "codes": self.codes, "score": self.score}
        arrays["singletons"] = self.singletons
        if self.predicted is not None:
            arrays["predicted"] = self.predicted
        np.savez(out, **arrays)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Reference:
        """Return the arrays in `raw`; ValueError if it is not such an archive. Never unpickles."""
        try:
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                # not np.load, which guesses what the bytes are and, for a pickle, advises to load it unsafely
                more = ("predicted",) if "predicted.npy" in archive.namelist() else ()
                arrays = {
                    name: np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
                    for name in ("numeric", "codes", "score", "singletons", *more)
                }
        except (KeyError, ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"reference: not a reference archive ({error})") from None
        for name, array in arrays.items():
            if array.dtype.kind not in "fi":
                raise ValueError(f"reference: {name} holds {array.dtype}, not numbers")
        return cls(
            arrays["numeric"].astype(np.float64, copy=False),
            arrays["codes"].astype(np.int32, copy=False),
            arrays["score"].astype(np.float64, copy=False),
            arrays["singletons"].astype(np.int64, copy=False),
            arrays["predicted"].astype(np.int32, copy=False) if more else None,
        )

    @staticmethod
    def digest(raw: bytes) -> str:
        """Return the sha256 of the archive's bytes, lower-case hex: the reference's identity everywhere."""
        return hashlib.sha256(raw).hexdigest()
