"""Who is measured. To add a peer, write its script (peers/__init__.py says what it must do) and add an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Model = Literal["logistic_regression", "hist_gradient_boosting"]


@dataclass(frozen=True)
class Contestant:
    """One program that reads the events topic and writes an answer to each.

    Args:
        name: how `--only` and the JSON call it.
        title: how the report calls it.
        guarantee: what its documentation promises for this configuration.
        script: the program in peers/; None is our own scorer. It is told where and what by BENCH_* variables
            (peers/model.py reads them).
        requirements: peers/<requirements>.lock is installed into an environment of its own; None: our environment.
        model: which model it applies; None copies the event as it is.
        environment: added to the process's own.
        kind: ours, a copy without a model, or a peer.
    """

    name: str
    title: str
    guarantee: str
    script: str | None
    kind: Literal["ours", "copy", "peer"]
    requirements: str | None = None
    model: Model | None = "logistic_regression"
    environment: Mapping[str, str] = field(default_factory=dict)


CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("driftline", "Driftline, exactly-once", "exactly-once", None, "ours"),
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
