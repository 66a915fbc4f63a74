"""`driftline export` and `driftline compare` on a real Kafka: what two models and labels have left there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from support import preloaded
from support.events import GOOD
from support.oracle import Names, create_topics, send

from driftline.local_kafka.broker import LocalBroker
from schemas.headers import CONTENT_TYPE, Stamp
from schemas.label import Label
from schemas.measurement import FeatureMeasurement, Measurement, Sample, Window
from schemas.prediction import ModelRef, PredictionEncoder

CUSTOMERS = 1200
# Kills the process at the n-th checkpoint: before it is written, or after.
KILLED = """
import os, signal, sys
from driftline.prediction_log import export as exporting
exporting.CHUNK = 100
save, count = exporting.Checkpoint.save, 0
def fatal(self, path):
    global count
    count += 1
    if count == {at} and {before}: os.kill(os.getpid(), signal.SIGKILL)
    save(self, path)
    if count == {at}: os.kill(os.getpid(), signal.SIGKILL)
exporting.Checkpoint.save = fatal
from driftline.cli import main
main()
"""


@dataclass
class Log:
    """The content of the topics; `ids` of all predictions."""

    environment: dict[str, str]
    ids: list[str]

    def run(self, *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
        command = ["-c", code] if code is not None else ["-m", "driftline"]
        return preloaded.run([*command, *arguments], self.environment)


@pytest.fixture(scope="module")
def log(broker: LocalBroker) -> Log:
    """1,200 customers with an event each, all scored by both models, every second one labelled.

    The champion is right on two of three, the challenger on all. One event is no longer there, one record is foreign.
    """
    names = Names("prediction-log")
    create_topics(broker.bootstrap_servers, names)
    events = [
        (
            f"c{i}".encode(),
            json.dumps({**GOOD, "event_id": f"e{i}", "customer_id": f"c{i}"}, indent=1).encode(),
            [],
            i % 4,
        )
        for i in range(CUSTOMERS)
    ]
    sent = send(broker.bootstrap_servers, names.events, events)
    positions = {key: position for position, (key, _, _) in sent.records.items()}
    ids = []
    for topic, model in ((names.predictions, ("churn", "1.0.0")), (names.shadow, ("churn-next", "2.0.0"))):
        encoder = PredictionEncoder(ModelRef(*model), 0.5)
        records = []
        for i, (key, _, _, partition) in enumerate(events):
            offset = positions[key][1] if i != 7 else 99_999
            truth = i % 3 == 0
            told = truth if model[0] == "churn-next" or i % 3 else not truth
            (value,) = encoder.encode(
                [f"{names.events}-{partition}-{offset}"], [f"e{i}"], [f"c{i}"], [GOOD["event_time"]],
                "2026-11-22T06:00:00.000Z", [0.9 if told else 0.1],
            )  # fmt: skip
            position = Position(offset)
            (headers,) = Stamp(names.events, partition, model[1], names.group).batch([position], CONTENT_TYPE)
            records.append((key, value, headers, partition))
            if topic == names.predictions:
                ids.append(f"{names.events}-{partition}-{offset}")
        send(broker.bootstrap_servers, topic, records)
    send(broker.bootstrap_servers, names.predictions, [(b"x", b"foreign", [], 1)])
    labels = [
        (f"c{i}".encode(), Label(f"c{i}", i % 3 == 0, "2026-11-23T06:00:00Z").encode()) for i in range(0, CUSTOMERS, 2)
    ]
    # another customer's, much later: by now every label of the others has had its time
    labels.append((b"nobody", Label("nobody", False, "2026-11-25T06:00:00Z").encode()))
    send(broker.bootstrap_servers, names.environment["TOPIC_LABELS"], labels)
    own = {n: v for n, v in os.environ.items() if not n.startswith(("KAFKA_", "SCORER_", "DRIFT_", "TOPIC_"))}
    own |= {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, **names.environment}
    return Log(own, ids)


@dataclass
class Position:
    """An input record, as far as headers speak of it."""

    offset: int
    timestamp: int = 1_795_327_199_500
    timestamp_type: int = 0


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_export_has_predictions_inputs_and_outcomes_and_goes_on_wherever_it_was_killed(
    log: Log, tmp_path: Path
) -> None:
    """Killed after the third checkpoint, and before the fifth of the next run: nothing is lost, nothing is doubled."""
    out = tmp_path / "log.jsonl"
    options = ("export", "--out", str(out), "--with-inputs", "--with-labels", "--json", "--horizon", "36500d")
    for at, before in ((3, False), (5, True)):
        killed = log.run(*options, code=KILLED.format(at=at, before=before))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert out.read_bytes(), killed.stderr
    # a line that was cut in the middle is not gone on with, either
    with out.open("ab") as file:
        file.write(b'{"prediction_id": "torn')
    state = json.loads((tmp_path / "log.jsonl.state.json").read_text())
    assert state["records"] == 600
    ended = log.run(*options)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "out": str(out), "records": 600, "all_records": 1200, "resumed": True, "not_a_prediction": 0,
        "inputs_gone": 1, "labelled": 300,
    }  # fmt: skip
    rows = _lines(out)
    assert sorted(row["prediction_id"] for row in rows) == sorted(log.ids)
    assert sum(row["outcome"] is not None for row in rows) == 600
    for row in rows:
        i = int(row["customer_id"][1:])
        assert row["outcome"] == (None if i % 2 else i % 3 == 0)
        assert row["label_time"] == (None if i % 2 else "2026-11-23T06:00:00.000Z")
        assert row["input"] == (None if i == 7 else {**GOOD, "event_id": f"e{i}", "customer_id": f"c{i}"})
        assert (row["model_name"], row["model_version"], row["source_partition"]) == ("churn", "1.0.0", i % 4)
    other = log.run("export", "--out", str(out))
    assert (other.returncode, other.stdout) == (2, "")
    assert "the export was begun with inputs True, labels True" in other.stderr


def test_since_decides_once_and_an_export_that_lost_its_file_says_so(
    log: Log, broker: LocalBroker, tmp_path: Path
) -> None:
    """What comes after a first run is exported by the next one, however old `--since` makes it; no file is padded."""
    out = tmp_path / "later.jsonl"
    topic = "prediction-log-later"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    encoder = PredictionEncoder(ModelRef("churn", "1.0.0"), 0.5)
    (value,) = encoder.encode(["e-0-0"], ["e0"], ["c0"], [GOOD["event_time"]], "2026-11-22T06:00:00.000Z", [0.9])
    (headers,) = Stamp("e", 0, "1.0.0", "g").batch([Position(0)], CONTENT_TYPE)
    options = ("export", "--out", str(out), "--json", "--topic", topic, "--since", "2099-01-01T00:00:00Z")
    for records in (0, 1):
        send(broker.bootstrap_servers, topic, [(b"c0", value, headers)])
        assert json.loads(log.run(*options).stdout)["records"] == records
    out.unlink()
    lost = log.run(*options)
    assert (lost.returncode, lost.stdout) == (1, "")
    assert "exported by its state" in lost.stderr
    assert not out.exists()


def test_an_export_of_the_shadow_by_name_and_into_parquet(log: Log, tmp_path: Path) -> None:
    """Another topic and model; without pyarrow, one line names the package to install."""
    out = tmp_path / "shadow.jsonl"
    shadow = log.environment["TOPIC_SHADOW"]
    assert log.run("export", "--out", str(out), "--topic", shadow, "--name", "churn-next").returncode == 0
    assert len(_lines(out)) == 1200
    (tmp_path / "mine.jsonl").write_text("mine\n")
    assert log.run("export", "--out", str(tmp_path / "mine.jsonl")).returncode == 2
    assert (tmp_path / "mine.jsonl").read_text() == "mine\n"

    folder = tmp_path / "log"
    options = ("export", "--out", str(folder), "--format", "parquet", "--with-inputs", "--with-labels")
    try:
        from pyarrow import parquet
    except ImportError:
        refused = log.run(*options)
        assert refused.returncode == 2
        assert refused.stderr == "driftline: --format parquet needs pyarrow: pip install 'driftline[parquet]'\n"
        return
    smaller = "import driftline.prediction_log.parquet\ndriftline.prediction_log.parquet.ROWS_PER_FILE = 300\n"
    killed = log.run(*options, code=smaller + KILLED.format(at=2, before=True))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert log.run(*options).returncode == 0
    table = parquet.read_table(folder).to_pylist()
    assert sorted(row["prediction_id"] for row in table) == sorted(log.ids)
    assert json.loads(next(row for row in table if row["customer_id"] == "c8")["input"])["event_id"] == "e8"


def test_the_challenger_that_is_right_is_found_better_once_enough_labels_are_there(log: Log) -> None:
    """Exit codes 3, 0 and, with the roles swapped, 1; the coverage; the text has the same."""
    options = ("compare", "--horizon", "2d")
    early = log.run(*options, "--min-customers", "601", "--json")
    said = json.loads(early.stdout)
    assert (early.returncode, said["verdict"], said["customers"], said["needed"]) == (3, "not_enough_data", 600, 601)
    assert said["coverage"] == {"champion": 1200, "both": 1200}
    better = log.run(*options, "--min-customers", "600", "--json")
    said = json.loads(better.stdout)
    assert (better.returncode, said["verdict"]) == (0, "better")
    assert said["challenger"] == {"name": "churn-next", "version": "2.0.0"}
    assert (said["comparison"]["challenger"], said["comparison"]["customers"]) == (1.0, 600)
    assert said["comparison"]["champion"] == pytest.approx(2 / 3)
    table = log.run(*options, "--min-customers", "600", "--margin", "0.5")
    assert table.returncode == 1
    assert "1,200 of 1,200 answered events have both predictions (100.0%)" in table.stdout
    assert "\nbetter by more than 0.5: not shown\n" in table.stdout
    assert log.run(*options, "--metric", "business_value").returncode == 2


def test_a_comparison_ends_with_what_is_missing_or_unseen_in_the_champions_newest_window(log: Log) -> None:
    """As evaluate, retrain and report do; without a measurement there is nothing to report."""
    options = ("compare", "--horizon", "2d", "--min-customers", "600")
    assert json.loads(log.run(*options, "--json").stdout)["data"] is None
    features = {
        "contract": FeatureMeasurement(kind="categorical", events=600, missing_ratio=0.25, unseen_ratio=0.5),
        "tenure": FeatureMeasurement(kind="numeric", events=600, missing_ratio=0.0),
    }
    window = Window("1h", "2026-11-22T05:00:00.000Z", "2026-11-22T06:00:00.000Z")
    for model, shown in (("churn", features), ("another", {})):
        measured = Measurement(model=model, model_version="1.0.0", reference_sha256="ab", window=window, complete=True,
                               sample=Sample(600, 0, 0), features=shown)  # fmt: skip
        key = f"{model}/1h".encode()
        send(log.environment["KAFKA_BOOTSTRAP_SERVERS"], log.environment["TOPIC_MEASUREMENTS"],
             [(key, measured.encode(), [], 0)])  # fmt: skip
    said = json.loads(log.run(*options, "--json").stdout)["data"]
    assert said == {
        "window": {"length": "1h", "start": window.start, "end": window.end},
        "features": {"contract": {"missing": 0.25, "unseen": 0.5}, "tenure": {"missing": 0.0, "unseen": 0.0}},
    }
    assert log.run(*options).stdout.splitlines()[-2:] == [
        "unseen categories: contract in 50.0 % of the rows of the newest 1h window",
        "missing values: contract in 25.0 % of the rows of the newest 1h window",
    ]
