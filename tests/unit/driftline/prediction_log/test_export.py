"""Exports of every task without a broker: the columns, the outcomes, one task a file, and where a run goes on."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from driftline.prediction_log import export as exporting
from driftline.prediction_log.columns import COLUMNS
from driftline.prediction_log.export import Checkpoint, Export, JsonLines, OtherTaskError, read_checkpoint, task_of
from kafka_runtime.kafka_types import TopicPartition
from schemas.headers import CONTENT_TYPE, Stamp
from schemas.prediction import ModelRef, encoder_of
from schemas.task import Binary, Interval, Multiclass, Regression

PARTITION = TopicPartition("predictions", 0)
CHARGES = Regression(interval=Interval(-1.75, 1.75, 0.9))
TIERS = Multiclass(("bronze", "gold", "silver"))
NAMES = {"binary": "churn", "multiclass": "tiers", "regression": "charges"}


@dataclass
class Record:
    """A record of `predictions`, and of the input that its headers name."""

    offset: int
    value: bytes
    headers: list
    timestamp: int = 1_795_327_199_500
    timestamp_type: int = 0


class Log:
    """A partition of a topic, as a Reader reads it."""

    def __init__(self, *predictions: tuple) -> None:
        self.records = []
        for offset, (task, score) in enumerate(predictions):
            (value,) = encoder_of(ModelRef(NAMES[task.name], "1.0.0"), task).encode(
                [f"events-0-{offset}"], [f"e{offset}"], ["ann"], ["2026-11-22T06:00:00Z"],
                "2026-11-22T06:00:00.137Z", [score],
            )  # fmt: skip
            record = Record(offset, value, [])
            (record.headers,) = Stamp("events", 0, "1.0.0", "g").batch([record], CONTENT_TYPE)
            self.records.append(record)

    async def ends(self, _topic: str) -> dict:
        return {PARTITION: len(self.records)}

    async def starts(self, _ends: dict, since_ms: int) -> dict:
        return {PARTITION: since_ms}  # here a time is an offset

    async def between(self, _partition: TopicPartition, start: int, end: int, most: int) -> list:
        return self.records[start:end][:most]


def _export(log, tmp_path, task, name=None, outcomes=None, checkpoint=None):
    """Run one export; return its rows and its checkpoint."""
    out, state = tmp_path / "log.jsonl", tmp_path / "state.json"
    point = checkpoint or read_checkpoint(state) or Checkpoint({})
    sink = JsonLines(out)
    export = Export(log, None, "events", outcomes, point, state, sink, name, task)
    try:
        asyncio.run(export.run("predictions", 0, lambda _done, _total: None))
    finally:
        sink._file.close()
    return [json.loads(line) for line in out.read_text().splitlines()], read_checkpoint(state)


@pytest.mark.parametrize(
    ("task", "score", "outcome", "result"),
    [
        (Binary(1), 0.75, True, {"probability": 0.75, "label": True, "threshold": 0.5}),
        (
            TIERS,
            [0.25, 0.5, 0.25],
            "platinum",
            {"label": "gold", "probability": 0.5, "probabilities": {"bronze": 0.25, "gold": 0.5, "silver": 0.25}},
        ),
        (CHARGES, 64.25, 63.0, {"value": 64.25, "interval_low": 62.5, "interval_high": 66.0, "interval_level": 0.9}),
        (
            Regression(),
            64.25,
            0.0,
            {"value": 64.25, "interval_low": None, "interval_high": None, "interval_level": None},
        ),
    ],
)
def test_a_row_has_the_columns_of_its_task_and_the_outcome(tmp_path, task, score, outcome, result):
    """In one order, without a member of another task; a number 0 is an outcome as every other."""
    log = Log((task, score), (task, score))
    known = {(0, 0): (outcome, 1_795_927_199_500)}
    (row, later), point = _export(log, tmp_path, task.name, outcomes=known)
    assert list(row) == [*COLUMNS[task.name], "outcome", "label_time"]
    assert {name: row[name] for name in result} == result
    assert (row["outcome"], row["label_time"]) == (outcome, "2026-11-29T04:39:59.500Z")
    assert (later["outcome"], later["label_time"]) == (None, None)
    assert (row["prediction_id"], row["source_offset"]) == ("events-0-0", 0)
    assert (row["model_name"], row["source_timestamp_ms"]) == (NAMES[task.name], 1_795_327_199_500)
    assert point.exported == task.name
    # as former versions wrote it
    assert ("task" in json.loads((tmp_path / "state.json").read_bytes())) == (task.name != "binary")


def test_an_export_has_one_task_which_its_first_prediction_or_its_state_gives(tmp_path):
    """Another task ends it with the chunk before in the file, unless it is another model's than the wanted one."""
    log = Log((CHARGES, 1.0), (TIERS, [0.2, 0.3, 0.5]), (CHARGES, 2.0))
    asked = lambda point, since=0, name=None: asyncio.run(task_of(log, "predictions", point, since, name))  # noqa: E731
    assert asked(Checkpoint({})) == "regression"
    assert asked(Checkpoint({}), since=1) == "multiclass"
    assert asked(Checkpoint({}), name="tiers") == "multiclass"
    assert asked(Checkpoint({}, next={0: 1})) == "multiclass"
    assert asked(Checkpoint({}, next={0: 1}, records=1)) == "binary"
    assert asked(Checkpoint({}, next={0: 1}, records=1, task="regression")) == "regression"
    assert asked(Checkpoint({}), since=3) == "binary"
    assert asked(Checkpoint({}), name="other") == "binary"
    with pytest.raises(OtherTaskError, match=r"task of tiers 1\.0\.0 is multiclass, and of the ones before regression"):
        _export(log, tmp_path, "regression")
    rows, _ = _export(log, tmp_path, "regression", name="charges")
    assert [row["value"] for row in rows] == [1.0, 2.0]


def test_the_next_run_goes_on_with_the_task_of_its_state(tmp_path, monkeypatch):
    """Nothing is written twice."""
    monkeypatch.setattr(exporting, "CHUNK", 1)
    first = Log((CHARGES, 1.0), (CHARGES, 2.0))
    _, point = _export(first, tmp_path, "regression")
    more = Log((CHARGES, 1.0), (CHARGES, 2.0), (CHARGES, 3.0))
    assert asyncio.run(task_of(more, "predictions", point, 0, None)) == "regression"
    rows, point = _export(more, tmp_path, "regression")
    assert [row["value"] for row in rows] == [1.0, 2.0, 3.0]
    assert (point.records, point.next) == (3, {0: 3})


@pytest.mark.parametrize(
    ("task", "score", "outcome"), [(TIERS, [0.2, 0.3, 0.5], "gold"), (CHARGES, 64.25, 63.0), (Binary(1), 0.75, False)]
)
def test_parquet_has_the_types_of_the_task(tmp_path, task, score, outcome):
    """Outcomes of each task in one type; the probabilities are one text, whatever the classes are called."""
    parquet = pytest.importorskip("pyarrow.parquet")
    from driftline.prediction_log.parquet import ParquetFiles

    sink = ParquetFiles(tmp_path / "log", [*COLUMNS[task.name], "outcome", "label_time"], task.name)
    export = Export(Log((task, score)), None, "events", {(0, 0): (outcome, 0)}, Checkpoint({}), tmp_path / "s", sink,
                    None, task.name)  # fmt: skip
    asyncio.run(export.run("predictions", 0, lambda _done, _total: None))
    (row,) = parquet.read_table(tmp_path / "log").to_pylist()
    assert row["outcome"] == outcome
    if task is TIERS:
        assert (row["label"], row["probability"]) == ("silver", 0.5)
        assert json.loads(row["probabilities"]) == {"bronze": 0.2, "gold": 0.3, "silver": 0.5}
