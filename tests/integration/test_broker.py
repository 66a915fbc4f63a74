"""The local broker is a real Kafka: transactions, restarts, crashes, and only from the pinned jars."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from support.processes import running

from driftline.errors import CommandError
from driftline.local_kafka import jars as kafka_files
from driftline.local_kafka.broker import LocalBroker


def create_topic(servers: str, name: str) -> None:
    """Make a topic with one partition and wait until it is there."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)


def send_in_transaction(servers: str, topic: str, *values: bytes, commit: bool = True) -> None:
    """Write records in one transaction, which is committed or aborted."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"{topic}-writer"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value)
    producer.flush(20)
    if commit:
        producer.commit_transaction(20)
    else:
        producer.abort_transaction(20)


def read_committed(servers: str, topic: str) -> list[bytes]:
    """Read a topic's only partition from its beginning to its end, as a read_committed consumer sees it."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"{topic}-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    while True:
        record = consumer.poll(20)
        assert record is not None, "the broker did not answer within 20 s"
        if record.error() is not None:
            assert record.error().code() == KafkaError._PARTITION_EOF, record.error()
            consumer.close()
            return values
        values.append(record.value())


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Look again and again until a condition holds, and fail by name when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process exists (a zombie without a waiting parent counts as gone)."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture
def jars(broker: LocalBroker) -> Path:
    """The cache of pinned jars, filled because a broker has been started."""
    assert broker.pid
    if "KAFKA_HOME" in os.environ:
        pytest.skip("KAFKA_HOME is set: the cache may be empty")
    return kafka_files._cache_folder(os.environ)


def linked(jars: Path, folder: Path) -> Path:
    """A folder with links to all the pinned jars."""
    folder.mkdir(parents=True)
    for name in kafka_files.pinned_jars():
        (folder / name).symlink_to(jars / name)
    return folder


def test_a_committed_transaction_is_read_and_an_aborted_one_is_not(broker, topic_prefix):
    """A read_committed reader sees the committed records and nothing of the aborted transaction."""
    create_topic(broker.bootstrap_servers, topic_prefix)
    send_in_transaction(broker.bootstrap_servers, topic_prefix, b"one", b"two")
    send_in_transaction(broker.bootstrap_servers, topic_prefix, b"never", commit=False)
    send_in_transaction(broker.bootstrap_servers, topic_prefix, b"three")
    assert read_committed(broker.bootstrap_servers, topic_prefix) == [b"one", b"two", b"three"]


def test_no_topic_is_made_by_writing_to_it(broker, topic_prefix):
    """A record for a topic that does not exist fails, and the topic does not exist afterwards either."""
    failures = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.timeout.ms": 3000})
    producer.produce(topic_prefix, b"x", on_delivery=lambda error, _record: failures.append(error))
    producer.flush(20)
    assert [failure is not None for failure in failures] == [True]
    topics = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=60).topics
    assert topic_prefix not in topics


def test_records_survive_a_stop_and_a_crash(tmp_path, topic_prefix):
    """The same folder, port and data after a clean stop, and again after a SIGKILL."""
    with LocalBroker(tmp_path / "kafka") as broker:
        servers, first_pid = broker.bootstrap_servers, broker.pid
        create_topic(servers, topic_prefix)
        send_in_transaction(servers, topic_prefix, b"before the stop")
        broker.stop()
        assert not is_running(first_pid)
        broker.start()
        assert broker.bootstrap_servers == servers
        send_in_transaction(servers, topic_prefix, b"before the crash")
        broker.kill()
        broker.start()
        send_in_transaction(servers, topic_prefix, b"after it")
        assert read_committed(servers, topic_prefix) == [b"before the stop", b"before the crash", b"after it"]
    assert (tmp_path / "kafka" / "broker.log").exists()


def test_a_frozen_broker_is_silent_goes_on_and_leaves_nothing_behind():
    """SIGSTOP and SIGCONT; a caller's settings are in force; an ephemeral broker's folder is gone at the end."""
    with LocalBroker(settings={"message.max.bytes": 123_456}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        resource = ConfigResource(ResourceType.BROKER, "1")
        assert admin.describe_configs([resource])[resource].result(20)["message.max.bytes"].value == "123456"
        broker.suspend()
        os.waitid(os.P_PID, broker.pid, os.WSTOPPED | os.WNOWAIT)  # a signal is not yet a stop
        with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as client:
            # ApiVersions, version 0: size 10, key 18, version 0, correlation id 7, no client id.
            client.sendall(bytes.fromhex("0000000a 0012 0000 00000007 ffff"))
            client.settimeout(1)
            with pytest.raises(TimeoutError):
                client.recv(8)
            broker.resume()
            client.settimeout(20)
            assert client.recv(8)[4:] == bytes.fromhex("00000007")
    assert not broker.data_dir.exists()


def test_a_broker_does_not_outlive_its_parent():
    """When the process that started it is killed, the broker ends and its temporary folder goes."""
    script = (
        "import time; from driftline.local_kafka.broker import LocalBroker; b = LocalBroker().start(); "
        "print(b.pid, b.data_dir, flush=True); time.sleep(600)"
    )
    with running([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        pid, data_dir = parent.stdout.readline().split()
        assert is_running(int(pid))
        parent.kill()
    wait_until(lambda: not is_running(int(pid)), "the broker ends")
    wait_until(lambda: not Path(data_dir).exists(), "its folder goes")


def test_the_command_prints_the_address_and_stops_on_ctrl_c(tmp_path):
    """The address alone on standard output; SIGINT ends with 0; meanwhile the port is refused to another one."""
    command = [sys.executable, "-m", "driftline", "broker", "--data-dir", str(tmp_path / "kafka")]
    with running([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        address = process.stdout.readline().strip()
        port = address.removeprefix("127.0.0.1:")
        second = subprocess.run([*command, "--port", port], capture_output=True, text=True, check=False, timeout=240)
        assert second.returncode == 2
        assert second.stderr == (
            f"driftline: port {port} is in use: stop what listens there, or choose another with --port\n"
        )
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=240)
    assert (process.returncode, rest) == (0, "")
    assert said.endswith("stopping\n")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5)


def test_contradicting_options_are_one_line_and_exit_2():
    """Wrong use is no traceback."""
    refused = subprocess.run(
        [sys.executable, "-m", "driftline", "broker", "--ephemeral", "--data-dir", "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr == "driftline: --ephemeral uses a temporary folder and excludes --data-dir\n"


def test_a_jar_that_is_not_the_pinned_one_is_refused(jars, tmp_path, monkeypatch):
    """One byte more in one of the cached jars, and no broker starts."""
    cache = linked(jars, tmp_path / "driftline" / f"kafka-{kafka_files.KAFKA_VERSION}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(kafka_files.classpath().split(os.pathsep)) == 92
    jar = cache / f"kafka-clients-{kafka_files.KAFKA_VERSION}.jar"
    original = jar.read_bytes()
    jar.unlink()
    jar.write_bytes(original + b"\0")
    with pytest.raises(CommandError, match=r"kafka-clients-4\.3\.1\.jar is not the pinned jar"), LocalBroker():
        pass
    jar.unlink()
    with pytest.raises(CommandError, match=r"lacks kafka-clients-4\.3\.1\.jar"):
        kafka_files.classpath()


def test_kafka_home_comes_first(jars, tmp_path, monkeypatch):
    """A broker runs on the jars under KAFKA_HOME though the cache is empty; a folder without Kafka 4 is refused."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path / "kafka"))
    with pytest.raises(CommandError, match=r"holds no kafka_2\.13-4"):
        kafka_files.classpath()
    linked(jars, tmp_path / "kafka" / "libs")
    with LocalBroker() as broker:
        assert AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=60).brokers
    assert not (tmp_path / "empty").exists()


def maven_that(folder: Path, does: str) -> str:
    """A program named mvn, first on the path, which is given the target folder as $target; returns the path."""
    folder.mkdir()
    program = folder / "mvn"
    program.write_text(
        f'#!/bin/sh\nfor word; do target="${{word#-DoutputDirectory=}}"; done\n{does}\n', encoding="utf-8"
    )
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_what_maven_brings_is_checked_before_it_is_cached(jars, tmp_path, monkeypatch):
    """Damaged jars are refused and leave no cache behind; the pinned ones fill it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with monkeypatch.context() as damaged:
        damaged.setenv(
            "PATH", maven_that(tmp_path / "bad", f'cp {jars}/*.jar "$target"; echo >> "$target/jose4j-0.9.6.jar"')
        )
        with pytest.raises(CommandError, match=r"jose4j-0\.9\.6\.jar is not the pinned jar"):
            kafka_files.classpath()
    assert list((tmp_path / "cache" / "driftline").iterdir()) == []
    monkeypatch.setenv("PATH", maven_that(tmp_path / "good", f'cp {jars}/*.jar "$target"'))
    assert len(kafka_files.classpath().split(os.pathsep)) == 92
    assert kafka_files._cache_folder(os.environ).is_dir()


def java_that_says(folder: Path, version: str) -> Path:
    """A JAVA_HOME whose java answers with a version line."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho '{version}' >&2\n", encoding="utf-8")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("line", "used"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('java version "25" 2025-09-16', True),
        ('openjdk version "11.0.22" 2024-01-16', False),
        ('java version "1.8.0_392"', False),
        ("no java here", False),
    ],
)
def test_java_home_is_used_if_new_enough(tmp_path, line, used):
    """Java 17 and newer under JAVA_HOME is taken, else the JDK that comes as a Python package."""
    home = java_that_says(tmp_path, line)
    found = kafka_files.find_java({"JAVA_HOME": str(home), "PATH": str(tmp_path)})
    assert (found == str(home / "bin" / "java")) is used
    assert shutil.which(found)
