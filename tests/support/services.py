"""The services as real processes, as an operator starts, stops, kills and freezes them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from support import history, preloaded

from driftline.local_kafka.broker import _free_port

READY_S = 240.0
# One answer over HTTP. A service that computes on a busy machine needs seconds for it.
ANSWER_S = 60.0


def free_port() -> int:
    """Return a port without a listener.

    Not from the range of outgoing connections: until the service listens, seconds later, one of them could have it.
    """
    return _free_port()


class Service:
    """`python -m <module>` with its environment; a context manager that leaves no process behind.

    hurry: constants of the code and what they are to be instead (tests/support/hurried.py).
    """

    def __init__(
        self, module: str, environment: dict[str, str], log: Path, hurry: Mapping[str, float] | None = None
    ) -> None:
        self.port = free_port()
        self.log = log
        port_name = "SCORER_HTTP_PORT" if module == "scorer" else "DRIFT_HTTP_PORT"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KAFKA_", "SCORER_", "DRIFT_", "TOPIC_", "MODEL_", "OTEL_", "COV_CORE"))
        }
        command = ["-m", module]
        if hurry:
            constants = (f"{name}={value}" for name, value in hurry.items())
            command = [str(Path(__file__).with_name("hurried.py")), module, *constants]
        named = {**inherited, "OMP_NUM_THREADS": "1", port_name: str(self.port), **environment}
        history.log(log)
        history.mark(f"{log.stem} started")
        with log.open("ab") as out:
            self.process = preloaded.start(command, named, out.fileno(), out.fileno())

    def get(self, path: str) -> httpx.Response:
        # Plain HTTP: reading the authorities' certificates for each request would cost tens of milliseconds.
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=ANSWER_S, verify=False)  # noqa: S501

    def wait_ready(self, timeout_s: float = READY_S) -> Self:
        deadline = time.monotonic() + timeout_s
        last = "no answer"
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.tail()}"
            try:
                response = self.get("/readyz")
            except httpx.TransportError:
                pass
            else:
                if response.status_code == 200:
                    return self
                last = response.text
            time.sleep(0.1)
        raise AssertionError(f"not ready after {timeout_s} s: {last}\n{self.tail()}")

    def metric(self, name: str, /, **labels: str) -> float:
        """Sum of a metric's samples whose labels include `labels`."""
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            match = re.fullmatch(rf"{re.escape(name)}(?:{{(.*)}})? (\S+)", line)
            if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
                total += float(match[2])
        return total

    def reasons(self) -> list[str] | None:
        """Return why it is not ready, [] if it is; None while it does not answer at all."""
        try:
            return self.get("/readyz").json()["reasons"]
        except httpx.TransportError:
            return None

    def assigned(self) -> int:
        """Return how many partitions it serves."""
        return len(self.partitions())

    def partitions(self) -> dict[int, tuple[str, str]]:
        """State and detail of each partition it serves."""
        if self.reasons() is None:
            return {}
        return {p["partition"]: (p["state"], p["detail"]) for p in self.get("/health").json()["partitions"]}

    def cpu_s(self) -> float:
        """Return the CPU time used so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def sockets(self) -> int:
        """Return the number of open sockets."""
        count = 0
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                count += str(descriptor.readlink()).startswith("socket:")
        return count

    def memory_bytes(self) -> int:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def peak_memory_bytes(self) -> int:
        """Return its peak resident memory; getrusage would count the parent's at the fork."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def tasks(self) -> int:
        """Return the number of tasks on its event loop."""
        return self.get("/health").json()["tasks"]

    def log_lines(self) -> list[str]:
        """Return its log lines so far."""
        return self.log.read_text(errors="replace").splitlines()

    def stop(self, timeout_s: float = 120.0) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        history.mark(f"{self.log.stem} killed")
        self.process.kill()
        self.process.wait()

    def suspend(self) -> None:
        history.mark(f"{self.log.stem} frozen")
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        history.mark(f"{self.log.stem} goes on")
        self.process.send_signal(signal.SIGCONT)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stdout.write(f"{self.log.name}:\n{self.tail()}\n")  # pytest shows it
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
