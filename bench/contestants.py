"""The contestants. To add a peer, write its script (peers/__init__.py has the rules) and add an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas.task import TaskName

Model = Literal["logistic_regression", "hist_gradient_boosting"]
PARTITIONS = 4


@dataclass(frozen=True)
class Contestant:
    """One program that reads the events topic and writes an answer to each.

    Args:
        name: its name for `--only` and in the JSON.
        title: its name in the report.
        guarantee: what its documentation guarantees for this configuration.
        script: the program in peers/; None is the scorer. BENCH_* variables configure it (peers/model.py reads them).
        requirements: peers/<requirements>.lock is installed into a separate environment; None: this environment.
        model: which model it applies; None copies the event as it is. Of a regression, the linear one is `ridge`.
        task: what that model predicts of the same 19 features.
        environment: added to the process's own.
        kind: ours, a copy without a model, a peer, or a drift worker.
        module: that it needs besides; without it, it has an error instead of figures.
        form: of the events (bench/forms.py); where it is not `json`, the default envelope, only a backlog is measured.
        partitions: of each topic; where they are not the usual four, only event age at 1,000/s is measured.
        reads: of a drift worker, the topics of which a backlog is measured.
    """

    name: str
    title: str
    guarantee: str
    script: str | None
    kind: Literal["ours", "copy", "peer", "drift"]
    form: Literal["json", "table", "wide", "avro", "protobuf"] = "json"
    requirements: str | None = None
    model: Model | None = "logistic_regression"
    task: TaskName = "binary"
    module: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    partitions: int = PARTITIONS
    reads: tuple[Literal["events", "predictions"], ...] = ()


CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("driftline", "Driftline, exactly-once", "exactly-once", None, "ours"),
    Contestant(
        "driftline-native",
        "Driftline, exactly-once, native lane",
        "exactly-once",
        None,
        "ours",
        module="driftline_native",
        environment={"SCORER_LANE": "auto"},
    ),
    Contestant(
        "driftline-alo",
        "Driftline, at-least-once",
        "at-least-once",
        None,
        "ours",
        environment={"SCORER_DELIVERY": "at_least_once"},
    ),
    Contestant(
        "driftline-boosting",
        "Driftline, gradient boosting",
        "exactly-once",
        None,
        "ours",
        model="hist_gradient_boosting",
    ),
    Contestant("driftline-regression", "Driftline, regression", "exactly-once", None, "ours", task="regression"),
    Contestant("driftline-classes", "Driftline, five classes", "exactly-once", None, "ours", task="multiclass"),
    Contestant(
        "driftline-table", "Driftline, epoch times, numbers as strings", "exactly-once", None, "ours", form="table"
    ),
    Contestant("driftline-wide", "Driftline, events of 5 KB", "exactly-once", None, "ours", form="wide"),
    Contestant("driftline-avro", "Driftline, events in Avro", "exactly-once", None, "ours", form="avro"),
    Contestant("driftline-protobuf", "Driftline, events in Protobuf", "exactly-once", None, "ours", form="protobuf"),
    *(
        Contestant(f"driftline-{n}", f"Driftline, {n} partitions", "exactly-once", None, "ours", partitions=n)
        for n in (16, 64, 200)
    ),
    Contestant("drift-events", "drift worker, events", "exactly-once", None, "drift", reads=("events",)),
    Contestant("drift-predictions", "drift worker, predictions", "exactly-once", None, "drift", reads=("predictions",)),
    Contestant("drift", "drift worker, both", "exactly-once", None, "drift", reads=("events", "predictions")),
    Contestant(
        "drift-native",
        "drift worker, both, native lane",
        "exactly-once",
        None,
        "drift",
        module="driftline_native",
        environment={"SCORER_LANE": "auto"},
        reads=("events", "predictions"),
    ),
    Contestant(
        "copy-aiokafka-eos", "copy, aiokafka transactions", "exactly-once", "copy_aiokafka.py", "copy", model=None
    ),
    Contestant(
        "copy-librdkafka-eos",
        "copy, librdkafka transactions",
        "exactly-once",
        "copy_librdkafka.py",
        "copy",
        model=None,
        environment={"BENCH_TRANSACTIONS": "yes"},
    ),
    Contestant("copy-librdkafka-alo", "copy, librdkafka", "at-least-once", "copy_librdkafka.py", "copy", model=None),
    Contestant("librdkafka-batch", "librdkafka batches by hand", "exactly-once", "librdkafka_batch.py", "peer"),
    Contestant(
        "bytewax-batch", "Bytewax, batches", "recovery store", "bytewax_batch.py", "peer", requirements="bytewax"
    ),
    Contestant(
        "faststream-batch",
        "FastStream, batches",
        "at-least-once",
        "faststream_batch.py",
        "peer",
        requirements="faststream",
    ),
    Contestant(
        "faststream-each",
        "FastStream, event by event",
        "at-most-once",
        "faststream_each.py",
        "peer",
        requirements="faststream",
    ),
    Contestant(
        "quix-eos", "Quix Streams, event by event", "exactly-once", "quix_eos.py", "peer", requirements="quixstreams"
    ),
    Contestant("aiokafka-loop", "aiokafka, event by event", "automatic commit", "aiokafka_loop.py", "peer"),
)

QUICK = ("driftline", "copy-aiokafka-eos")
"""What `driftline bench --quick` compares."""
