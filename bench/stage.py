"""The environment of the contestants: a separate broker, trained models, topics, and readers of the results.

All readers use confluent-kafka (librdkafka), which shares no code with the services.
"""

from __future__ import annotations

import csv
import gc
import json
import subprocess
import sys
import threading
import time
from bisect import bisect
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from types import TracebackType
from typing import IO, Any, Self, cast

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.contestants import PARTITIONS, Contestant, Model
from bench.forms import IDS, Registry, with_form
from driftline.errors import CommandError
from driftline.local_kafka.broker import LocalBroker
from schemas.bundle.files import read_bundle
from schemas.task import TaskName

ROOT = Path(__file__).parents[1]
DATA = ROOT / "examples" / "telco_churn.csv"
SPEC = ROOT / "examples" / "telco.toml"
WAIT_S = 60.0
# librdkafka writes to standard error whenever a broker stops, as this one does at the end.
QUIET_LOG = 2


class Stage:
    """A broker with a backlog, and bundles. A context manager; all its files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bootstrap = ""
        self.backlog_events = 0
        self._things = ExitStack()
        self._registry: Registry | None = None
        self._models: dict[tuple[Model, TaskName], Future[Path]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as things:
            # Segments and fetches of the input stay in the page cache either way; the heap is what a backlog needs.
            trainer = things.enter_context(ThreadPoolExecutor(1))
            self._trainer = trainer
            self.model("logistic_regression")  # meanwhile the broker starts
            self.bootstrap = things.enter_context(LocalBroker()).bootstrap_servers
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": QUIET_LOG})
            self.feeder = things.enter_context(Feeder(self.bootstrap, self.model("logistic_regression").result()))
            self._things = things.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._things.close()

    def model(self, kind: Model, task: TaskName = "binary") -> Future[Path]:
        """Return the bundle's folder; train the model at the first call."""
        if (kind, task) not in self._models:
            self._models[kind, task] = self._trainer.submit(_train, kind, task, self.folder / f"{kind}-{task}")
        return self._models[kind, task]

    def bundle(self, contestant: Contestant) -> Path:
        """Return the folder of the bundle for a contestant's events; train the model at the first call."""
        made = self.model(contestant.model or "logistic_regression", contestant.task).result()
        if contestant.form in {"json", "wide"}:
            return made
        out = made.with_name(f"{made.name}-{contestant.form}")
        return out if out.exists() else with_form(made, out, contestant.form)

    def registry(self, form: str) -> dict[str, str]:
        """Return the settings of the registry that has the schemas of events in a form; start it at the first call."""
        if form not in IDS:
            return {}
        if self._registry is None:
            features = read_bundle(self.model("logistic_regression").result()).manifest.features
            self._registry = self._things.enter_context(Registry(features))
        return {"SCHEMA_REGISTRY_URL": self._registry.url}

    def create(self, topics: Sequence[str], config: dict[str, str] | None = None, partitions: int = PARTITIONS) -> None:
        """Make topics of so many partitions."""
        new = [
            NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config or {}) for topic in topics
        ]
        for topic, made in self._admin.create_topics(new).items():
            try:
                made.result(WAIT_S)
            except Exception as error:  # KafkaException and time-outs alike: there is no benchmark without its topics
                raise CommandError(f"topic {topic}: {error}", 1) from error
        deadline = time.monotonic() + WAIT_S
        for topic in topics:  # the broker answers the request before it answers for the topic
            while not self._is_served(topic, partitions):
                if time.monotonic() > deadline:
                    raise CommandError(f"topic {topic} is not served {WAIT_S:g} s after it was made", 1)
                time.sleep(0.05)

    def _is_served(self, topic: str, partitions: int) -> bool:
        found = self._admin.list_topics(topic, timeout=WAIT_S).topics.get(topic)
        return found is not None and len([p for p in found.partitions.values() if p.leader >= 0]) == partitions

    def committed(self, group: str) -> int:
        """Return the sum of a group's committed offsets: records, and one more per transaction that wrote them."""
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        found = asked[group].result(WAIT_S).topic_partitions or []
        return sum(max(0, place.offset) for place in found)

    def delete(self, topics: Sequence[str]) -> None:
        """Remove topics, so that one contestant's output does not fill the disk under the next."""
        for removed in self._admin.delete_topics(list(topics)).values():
            removed.result(WAIT_S)


def _train(kind: Model, task: TaskName, out: Path) -> Path:
    from driftline.training.spec import read_spec
    from driftline.training.train import train_bundle

    spec, data = read_spec(SPEC), DATA
    kinds: Mapping[str, str] = {"logistic_regression": "ridge"} if task == "regression" else {}
    tables: dict[str, Any] = {"estimator": {"kind": kinds.get(kind, kind)}}
    if task != "binary":
        data = write_revenue(out.with_suffix(".csv"))
        target = "revenue" if task == "regression" else "band"
        tables |= {"model": {"task": task}, "data": {"target": target, "positive": None, "absent_label": None}}
    changed = {name: getattr(spec, name).model_copy(update=keys) for name, keys in tables.items()}
    spec = spec.model_copy(update={**changed, **({} if task == "binary" else {"business": None})})
    train_bundle(spec, data, out, datetime.now(UTC).replace(microsecond=0))
    return out


def write_revenue(out: Path) -> Path:
    """Write the Telco customers with the next year's revenue, and its band: none, or one of four."""
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    limits = quantiles([float(row["monthly_charges"]) for row in rows], n=4)
    with out.open("w", encoding="utf-8", newline="") as file:
        written = csv.writer(file)
        written.writerow([*rows[0], "revenue", "band"])
        for row in rows:
            charges, stays = float(row["monthly_charges"]), row["churn"] != "Yes"
            band = f"band {bisect(limits, charges) + 1}" if stays else "none"
            written.writerow([*row.values(), round(12 * charges, 2) if stays else 0, band])
    return out


class Feeder:
    """The process that makes events (feed.py). A context manager."""

    def __init__(self, bootstrap: str, model: Path) -> None:
        options = ["--bootstrap", bootstrap, "--model", str(model), "--data", str(DATA)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.feed", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(
        self, topic: str, rate: float, count: int, sampled: float | None = None, *, form: str = "json"
    ) -> dict[str, float]:
        """Send `count` events at `rate` per second, 0 = as fast as possible; return when the broker has them.

        form: at rate 0, of bench/forms.py. sampled: at rate 0, the share of events with a sampled trace
        context, the others have one that is not.
        """
        request = json.dumps({"topic": topic, "rate": rate, "count": count, "sampled": sampled, "form": form})
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write(request + "\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise CommandError(f"the process that makes events ended with {self._process.wait()}", 1)
        return cast("dict[str, float]", json.loads(line))

    def __enter__(self) -> Self:
        self._answer()  # it is ready
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _committed_reader(bootstrap: str, *, tell_end: bool) -> Consumer:
    options: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": "bench-reader",
        "log_level": QUIET_LOG,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": tell_end,
    }
    return Consumer(options)


class Watch:
    """How far a topic can be read by a `read_committed` consumer, from the broker's offsets, without reading it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Look at a topic of four partitions."""
        self._consumer = _committed_reader(bootstrap, tell_end=True)
        self._partitions = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]

    def readable(self) -> int:
        """Return the sum of the last stable offsets: records, and one more per transaction and partition."""
        return sum(self._consumer.get_watermark_offsets(tp, timeout=WAIT_S)[1] for tp in self._partitions)

    def timestamps_ms(self) -> list[int]:
        """Return when the broker appended each readable record, sorted, epoch milliseconds (LogAppendTime)."""
        self._consumer.assign([TopicPartition(tp.topic, tp.partition, 0) for tp in self._partitions])
        found: list[int] = []
        at_end: set[int] = set()
        while len(at_end) < PARTITIONS:
            for message in self._consumer.consume(10_000, timeout=0.2):
                error = message.error()
                if error is None:
                    found.append(message.timestamp()[1])
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own name for it
                    at_end.add(message.partition() or 0)
                else:
                    raise CommandError(f"reading the answers: {error}", 1)
        return sorted(found)

    def close(self) -> None:
        """Close all connections."""
        self._consumer.close()


class Reader(threading.Thread):
    """Reads a topic as a downstream consumer does, one poll a record, and notes when each could be read.

    seen: (epoch nanoseconds, value) in the order of arrival; other threads may look at it at any time.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int = PARTITIONS) -> None:
        super().__init__(name="reader", daemon=True)
        self.seen: list[tuple[int, bytes]] = []
        self._ended = threading.Event()
        self._consumer = _committed_reader(bootstrap, tell_end=False)
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])

    def run(self) -> None:
        """Read until close()."""
        poll, note = self._consumer.poll, self.seen.append
        while not self._ended.is_set():
            message = poll(0.2)
            if message is not None and message.error() is None:
                note((time.time_ns(), message.value() or b""))

    def __enter__(self) -> Self:
        gc.disable()  # a collection over a long list of records would be measured as event age
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self.join(10)
        self._consumer.close()
        gc.enable()
