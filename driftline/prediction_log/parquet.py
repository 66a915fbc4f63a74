"""An export's rows as a folder of Parquet files, which any Parquet reader reads as one table. Needs pyarrow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from driftline.prediction_log.columns import Row
from schemas.task import TaskName

# A file has about 5 MB without inputs; its rows are held until it is written, and read again after an interruption.
ROWS_PER_FILE = 50_000
_TYPES = {
    **dict.fromkeys(("prediction_id", "event_id", "customer_id", "event_time", "scored_at"), pa.string()),
    **dict.fromkeys(("model_name", "model_version", "source_topic", "input", "label_time"), pa.string()),
    **dict.fromkeys(("probability", "threshold", "value"), pa.float64()),
    **dict.fromkeys(("interval_low", "interval_high", "interval_level"), pa.float64()),
    "probabilities": pa.string(),
    **dict.fromkeys(("source_offset", "source_timestamp_ms"), pa.int64()),
    "source_partition": pa.int32(),
}
# Of a label that is predicted, and of an outcome.
_OUTCOMES: Mapping[TaskName, pa.DataType] = {
    "binary": pa.bool_(),
    "multiclass": pa.string(),
    "regression": pa.float64(),
}
# Written as JSON text: events of other models have other members, and classes other names, and the table stays one.
_TEXTS = ("input", "probabilities")


class ParquetFiles:
    """part-00000.parquet and so on; its size is the number of files."""

    def __init__(self, folder: Path, columns: Sequence[str], task: TaskName) -> None:
        self._folder = folder
        types = {**_TYPES, **dict.fromkeys(("label", "outcome"), _OUTCOMES[task])}
        self._schema = pa.schema([(name, types[name]) for name in columns])
        self._rows: list[Row] = []
        self._files = 0

    def begin(self, size: int) -> None:
        """Remove files beyond the first `size`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("part-*.parquet*"):
            if int(path.name.removeprefix("part-").partition(".")[0]) >= size or path.suffix == ".tmp":
                path.unlink()
        if missing := [n for n in range(size) if not self._part(n).exists()]:
            raise OSError(f"part {missing[0]} is missing, but exported by the state: remove _state.json to start again")
        self._files = size

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}.parquet"

    def add(self, rows: Sequence[Row]) -> None:
        """Hold rows until there are enough for a file."""
        self._rows += [self._flat(row) for row in rows]

    @property
    def full(self) -> bool:
        """Return whether there are enough rows for a file."""
        return len(self._rows) >= ROWS_PER_FILE

    def commit(self) -> int:
        """Write a file of the held rows; return the number of files."""
        if self._rows:
            path = self._part(self._files)
            part = path.with_suffix(".parquet.tmp")
            pq.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
            self._files += 1
            self._rows = []
        return self._files

    def _flat(self, row: Row) -> dict[str, Any]:
        """Return the row with its objects as JSON texts."""
        return {**row, **{name: orjson.dumps(row[name]).decode() for name in _TEXTS if row.get(name) is not None}}
