"""Starts Python programs from a process that has imported the libraries: 0.3 s of CPU each instead of 2 to 4.

The programs are real processes with their own pid, environment and output; only what they import from other people is
there already. The project's own modules are imported by each program afresh, so that `hurried.py` can change them.
A program whose environment changes the interpreter (LD_*, PYTHON*) needs an interpreter of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "aiokafka", "anyio", "confluent_kafka", "fastapi", "httpx", "jinja2", "joblib", "lz4", "orjson", "pandas",
    "prometheus_client", "pydantic_settings", "rich.progress", "rich.table", "scipy.stats", "sklearn.compose",
    "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.impute",
    "structlog", "typer", "uvicorn.protocols.http.httptools_impl", "uvloop",
)  # fmt: skip
# In a program's environment: it is started as usual, because its memory is measured, or how long it takes to start.
OWN_INTERPRETER = {"PYTHONFAULTHANDLER": "1"}
NUMBER = struct.Struct("!i")


class Program:
    """A started program, with the part of subprocess.Popen that tests use."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self.pid: int = NUMBER.unpack(self._status.recv(NUMBER.size, socket.MSG_WAITALL))[0]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the program runs."""
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raise subprocess.TimeoutExpired if the program still runs after `timeout` seconds."""
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout_s)[0]:
            answer = self._status.recv(NUMBER.size, socket.MSG_WAITALL)
            assert answer, f"the process that started {self.pid} has ended"
            self.returncode = NUMBER.unpack(answer)[0]
            self._status.close()
        return self.returncode


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    out: int,
    err: int,
    given: int = 0,
    folder: Path | None = None,
) -> Program | subprocess.Popen:
    """Start `python <arguments>`, in `folder`: `-m module …`, `-P -m module …`, `-c code …` or `file …`.

    out, err, given: descriptors of its output, its errors and its input.
    """
    if any(name.startswith(("LD_", "PYTHON")) and os.environ.get(name) != environment[name] for name in environment):
        files = {"stdin": given, "stdout": out, "stderr": err}
        return subprocess.Popen([sys.executable, *arguments], env=environment, cwd=folder, **files)
    ours, theirs = socket.socketpair()
    message = json.dumps(
        {"arguments": list(arguments), "environment": dict(environment), "cwd": str(folder or Path.cwd())}
    ).encode()
    with theirs, _one_request:
        socket.send_fds(_parent(), [NUMBER.pack(len(message))], [given, out, err, theirs.fileno()])
        _parent().sendall(message)
    return Program(ours)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float = 240.0, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `python <arguments>` to its end, as subprocess.run does with captured text. given: its standard input."""
    done = run_bytes(arguments, environment, timeout_s, given.encode())
    out, err = (data.decode(errors="surrogateescape") for data in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def run_bytes(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float = 240.0,
    given: bytes = b"",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `python <arguments>` to its end in `folder`, with `given` as its standard input."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as text:
        text.write(given)
        text.seek(0)
        program = start(arguments, environment, out.fileno(), err.fileno(), text.fileno(), folder)
        try:
            code = program.wait(timeout_s)
        finally:
            program.kill()
        found = []
        for file in (out, err):
            file.seek(0)
            found.append(file.read())
    return subprocess.CompletedProcess(list(arguments), code, *found)


_connection: socket.socket | None = None
_one_request = threading.Lock()  # threads of a test share the connection


def _parent() -> socket.socket:
    """Return the way to the process with the libraries; it is started once for each test process."""
    global _connection
    if _connection is None:
        _connection, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
            )
        atexit.register(lambda: (_connection.close(), process.wait(10)))
    return _connection


def _serve(requests: socket.socket) -> list[str] | None:
    """Fork at each request. Return the arguments in a child, None in the parent at the end of the test run."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # an optional one
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    # The project's modules are compiled once for all programs, also where Python is told to write no bytecode.
    compiled = tempfile.mkdtemp(prefix="driftline-bytecode-")
    sys.dont_write_bytecode, sys.pycache_prefix = False, compiled
    children: dict[int, socket.socket] = {}
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            wake.recv(4096)
            _report_ended(children)
        if requests in ready:
            size, files, _, _ = socket.recv_fds(requests, NUMBER.size, 4)
            if not size:  # the test run is over, perhaps because it was killed
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                shutil.rmtree(compiled)
                return None
            request = json.loads(requests.recv(NUMBER.unpack(size)[0], socket.MSG_WAITALL))
            answers = socket.socket(fileno=files.pop())
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for open_one in (requests, wake, woken, answers, *children.values()):
                    open_one.close()
                for number, file in enumerate(files):
                    os.dup2(file, number)
                os.closerange(3, max(files) + 1)
                os.chdir(request["cwd"])
                os.environ.clear()
                os.environ.update(request["environment"])
                time.tzset()
                return request["arguments"]
            for file in files:
                os.close(file)
            answers.sendall(NUMBER.pack(pid))
            children[pid] = answers


def _report_ended(children: dict[int, socket.socket]) -> None:
    """Send the exit code of each program that has ended to whom it belongs."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with children.pop(pid) as child, contextlib.suppress(BrokenPipeError):
            child.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _become(arguments: list[str]) -> None:
    """Run the program as the interpreter does."""
    if arguments[0] == "-P":  # a safe path: not the current folder
        del arguments[0]
    elif arguments[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *arguments[2:]]
        exec(arguments[1], {"__name__": "__main__"})  # noqa: S102 - what the interpreter does
    else:
        sys.path.insert(0, str(Path(arguments[0]).parent))
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # modules of this folder have names like `network`
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        found = _serve(connection)
    if found is not None:
        _become(found)
