"""Local brokers whose falls and rises are noted in the history, alone or as three that replicate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from support import history

from driftline.local_kafka.broker import HOST, LocalBroker, _free_port, new_cluster_id


class Broker(LocalBroker):
    """A local broker of a test."""

    # What Kafka wrote into the folder of the run's first one: a Java for each folder costs more than a second of CPU.
    _bootstrap: ClassVar[bytes | None] = None

    @property
    def logs(self) -> list[Path]:
        """Return the logs that a failing run keeps."""
        return [self.log_path]

    def start(self) -> Self:
        super().start()
        history.mark("broker started")
        return self

    def _format(self, command: list[str], properties: str) -> None:
        """Prepare the first folder as Kafka does, and the others alike."""
        log = self.data_dir / "log"
        if Broker._bootstrap is None:
            super()._format(command, properties)
            Broker._bootstrap = (log / "bootstrap.checkpoint").read_bytes()
            return
        log.mkdir()
        (log / "bootstrap.checkpoint").write_bytes(Broker._bootstrap)
        ids = {"node.id": self._settings["node.id"], "directory.id": new_cluster_id(), "cluster.id": self._cluster_id}
        text = "".join(f"{name}={value}\n" for name, value in {"version": 1, **ids}.items())
        (log / "meta.properties").write_text(text, encoding="utf-8")

    def kill(self) -> None:
        if self._process is not None:
            history.mark("broker killed")
        super().kill()

    def suspend(self) -> None:
        history.mark("broker frozen")
        super().suspend()

    def resume(self) -> None:
        super().resume()
        history.mark("broker goes on")


class Cluster:
    """Three brokers, each a controller, too; every topic may have three replicas, two of which must have a record."""

    def __init__(self) -> None:
        ports = [(_free_port(), _free_port()) for _ in range(3)]
        voters = ",".join(f"{number}@{HOST}:{controller}" for number, (_, controller) in enumerate(ports, 1))
        cluster_id = new_cluster_id()
        self.brokers = [
            Broker(
                port=port,
                cluster_id=cluster_id,
                settings={
                    "node.id": number,
                    "controller.quorum.voters": voters,
                    "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
                    "default.replication.factor": 3,
                    "min.insync.replicas": 2,
                    "offsets.topic.replication.factor": 3,
                    "transaction.state.log.replication.factor": 3,
                    "transaction.state.log.min.isr": 2,
                },
                start_timeout=180.0,
            )
            for number, (port, controller) in enumerate(ports, 1)
        ]

    @property
    def bootstrap_servers(self) -> str:
        """Return the addresses of all three."""
        return ",".join(broker.bootstrap_servers for broker in self.brokers)

    @property
    def logs(self) -> list[Path]:
        """Return the logs that a failing run keeps, under separate names."""
        return [broker.log_path for broker in self.brokers]

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor(3) as pool:  # none is ready before a second one is there
                list(pool.map(lambda broker: broker.start(), self.brokers))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop everything and remove the data."""
        for broker in self.brokers:
            broker.kill()  # in order, the last one would wait for a majority that is gone
            broker.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
