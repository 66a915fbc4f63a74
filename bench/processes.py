"""A contestant as a process: started, sampled from outside while it runs, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from driftline.errors import CommandError

STOP_TIMEOUT_S = 15.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
# One thread per numeric library, for every contestant. Broker and reader share two cores, so more threads only compete,
# and CPU per event would not be comparable.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_OURS = ("KAFKA_", "SCORER_", "DRIFT_", "TOPIC_", "MODEL_", "LOG_")


def inherited() -> dict[str, str]:
    """Return the environment without settings of the services: a contestant gets only those that its run sets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


@dataclass(frozen=True, slots=True)
class Sample:
    """at: epoch seconds; cpu_s: user and system time of the process and its children until then."""

    at: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Machine:
    """The whole machine at a moment. busy_s: CPU time of all programs; ours_s: of this process and its children."""

    at: float
    busy_s: float
    ours_s: float

    @classmethod
    def now(cls) -> Self | None:
        """Return the machine's state now; None where it cannot be read."""
        if not can_sample():
            return None
        ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]]
        parents = {pid: int(stat[1]) for pid, stat in _stats().items()}
        ours = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        cpu = sum(_cpu_ticks(stat) for pid, stat in _stats().items() if pid in ours)
        # user, nice, system, then idle and waiting, then interrupts
        return cls(time.time(), (sum(ticks[:3]) + sum(ticks[5:7])) * _TICK_S, cpu * _TICK_S)

    def others_share(self, earlier: Machine) -> float:
        """Return the share of the machine (0 to 1) that programs outside the benchmark have used since `earlier`."""
        others = (self.busy_s - earlier.busy_s) - (self.ours_s - earlier.ours_s)
        return max(0.0, others) / ((self.at - earlier.at) * (os.cpu_count() or 1))


def _stats() -> dict[int, list[str]]:
    """Return /proc/<pid>/stat of every process, from the state on: parent at 1, CPU ticks at 11 to 14 (proc(5))."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(f"/proc/{entry.name}/stat").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended since the listing
            found[int(entry.name)] = stat.rpartition(")")[2].split()
    return found


def _cpu_ticks(stat: Sequence[str]) -> int:
    """Return user and system time of the process and of its ended children."""
    return sum(int(ticks) for ticks in stat[11:15])


class Process:
    """A program in a separate session, so that all its children can be found and ended. A context manager."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.started_at = time.time()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env={**inherited(), **ONE_THREAD, **environment},
                cwd=log.parent,  # remaining files are removed with the run's folder
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._peaks: dict[int, int] = {}

    def check(self) -> None:
        """Raise CommandError with the last line of its log, if it has ended."""
        if (code := self._process.poll()) is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise CommandError(f"it ended with {code}: {lines[-1][:300] if lines else 'its log is empty'}", 1)

    def sample(self) -> Sample:
        """Return its CPU time now, and note the peak memory of each of its processes. Linux only."""
        members = self._members()
        for pid in members:
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    self._peaks[pid] = int(line.split()[1]) * 1024
        return Sample(time.time(), sum(map(_cpu_ticks, members.values())) * _TICK_S)

    @property
    def peak_bytes(self) -> int:
        """Return the largest resident memory of each process, summed, as of the last sample."""
        return sum(self._peaks.values())

    def _members(self) -> dict[int, list[str]]:
        """Return its processes: those of the session that it leads (field 6 of proc(5), here 3)."""
        return {pid: stat for pid, stat in _stats().items() if int(stat[3]) == self._process.pid}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send SIGTERM, and SIGKILL to its whole session if that is not enough."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):  # the rule: no process of its group is left
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def can_sample() -> bool:
    """Return whether CPU time and memory of other processes can be read here (/proc)."""
    return sys.platform == "linux"
