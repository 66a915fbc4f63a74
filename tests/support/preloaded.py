"""Starts Python programs from a process that has imported the libraries: 0.3 s of CPU each instead of 2 to 4.

The programs are real processes with their own pid, environment and output; only what they import from other people is
there already, and the descriptions of records. The project's other modules are imported by each program afresh, so that
`hurried.py` can change them.
A program whose environment changes the interpreter (LD_*, PYTHON* but PYTHONPATH) needs an interpreter of its own.

Where such a program starts `sys.executable`, that is a launcher, which has the new program started in the same way.
At its end a program runs its exit handlers and frees nothing: to take the libraries apart costs 0.1 to 0.2 s of CPU.
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
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    "aiokafka", "aiokafka.admin", "aiokafka.coordinator.assignors.sticky.sticky_assignor", "aiokafka.helpers", "anyio",
    "anyio._backends._asyncio", "confluent_kafka", "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.serialization", "fastapi", "fastapi.staticfiles", "fastapi_offline", "httpx",
    "jinja2", "joblib", "lz4", "msgspec", "multiprocessing.spawn", "narwhals._interchange.dataframe",
    "narwhals._pandas_like.dataframe", "narwhals._pandas_like.namespace", "orjson", "pandas", "prometheus_client",
    "prometheus_client.parser", "pydantic.functional_serializers", "pydantic.v1", "pydantic_settings", "rich.progress",
    "rich.status", "rich.table", "scipy.stats", "sklearn.compose", "sklearn.ensemble", "sklearn.impute",
    "sklearn.isotonic", "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing", "statistics", "structlog",
    "tomllib", "typer", "uvicorn.lifespan.off", "uvicorn.loops.asyncio", "uvicorn.protocols.http.h11_impl",
    "uvicorn.protocols.http.httptools_impl", "uvloop",
)  # fmt: skip
# Of the project, what only describes records: a third of the time in which a program imports its own modules.
DESCRIPTIONS = (
    "schemas.alert", "schemas.bundle", "schemas.event", "schemas.headers", "schemas.measurement", "schemas.performance",
    "schemas.prediction", "schemas.reference", "schemas.validation",
)  # fmt: skip
# In a program's environment: it is started as usual, because its memory is measured, or how long it takes to start.
OWN_INTERPRETER = {"PYTHONFAULTHANDLER": "1"}
NUMBER = struct.Struct("!i")

# What `sys.executable` is in a program: it hands its arguments, environment and files to the process with the libraries
# and ends as the new program does. `python -IS`: the least that can do it. A program that looks at its parent, as a
# challenger does, is started as usual, and so is what would need an interpreter of its own.
LAUNCHER = """
import json, os, signal, socket, struct, sys
server, interpreter, inherited = {told!r}
arguments = sys.argv[1:]
needs = [name for name in os.environ if name.startswith(("LD_", "PYTHON")) and name not in inherited]
if needs or arguments[:1] not in (["-m"], ["-P"], ["-c"]) or "scorer.challenger.process" in arguments:
    os.execv(interpreter, [interpreter, *arguments])
number = struct.Struct("!i")
message = {{"arguments": arguments, "environment": dict(os.environ), "cwd": os.getcwd()}}
message = json.dumps(message).encode()
with socket.socket(socket.AF_UNIX) as way:
    way.connect(server)
    socket.send_fds(way, [number.pack(len(message))], [0, 1, 2])
    way.sendall(message)
    pid = number.unpack(way.recv(number.size, socket.MSG_WAITALL))[0]
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda given, _: os.kill(pid, given))
    code = number.unpack(way.recv(number.size, socket.MSG_WAITALL))[0]
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


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
    if _needs_an_interpreter(environment):
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


def _needs_an_interpreter(environment: Mapping[str, str]) -> bool:
    """Return whether these variables change what the process with the libraries has done already."""
    changed = {
        name: value
        for name, value in environment.items()
        if name.startswith(("LD_", "PYTHON")) and os.environ.get(name) != value
    }
    folders = changed.pop("PYTHONPATH", "").split(os.pathsep)
    return bool(changed) or any((Path(folder) / "sitecustomize.py").exists() for folder in folders)


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


class Server:
    """The process with the libraries: forks at each request, from the test process or from a launcher."""

    def __init__(self, requests: socket.socket) -> None:
        for name in (*LIBRARIES, *DESCRIPTIONS):
            with contextlib.suppress(ImportError):  # an optional one
                importlib.import_module(name)
        gc.collect()
        gc.freeze()
        # The project's modules are compiled once for all programs, also where Python is told to write no bytecode.
        self._folder = Path(tempfile.mkdtemp(prefix="driftline-preloaded-"))
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(self._folder)
        self._requests, self._launched = requests, _launcher(self._folder)
        self._children: dict[int, socket.socket] = {}  # who waits for the exit code of each program
        self._launchers: dict[socket.socket, int] = {}  # the program of each, 0 before it has asked for one
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken.fileno())

    def serve(self) -> list[str] | None:
        """Return the arguments in a child, None in the parent at the end of the test run."""
        while True:
            ready, _, _ = select.select([self._requests, self._launched, self._wake, *self._launchers], [], [])
            if self._wake in ready:
                self._wake.recv(4096)
                self._report_ended()
            if self._launched in ready:
                self._launchers[self._launched.accept()[0]] = 0
            for asking in (self._requests, *self._launchers):
                if asking not in ready or asking.fileno() < 0:
                    continue
                size, files, _, _ = socket.recv_fds(asking, NUMBER.size, 4)
                if size:
                    if arguments := self._fork(asking, NUMBER.unpack(size)[0], files):
                        return arguments
                elif asking is self._requests:  # the test run is over, perhaps because it was killed
                    for pid in self._children:
                        os.kill(pid, signal.SIGKILL)
                    shutil.rmtree(self._folder)
                    return None
                elif pid := self._launchers.pop(asking):  # a launcher was killed
                    os.kill(pid, signal.SIGKILL)

    def _fork(self, asking: socket.socket, size: int, files: list[int]) -> list[str] | None:
        """Return the arguments in the child, None in the parent."""
        request = json.loads(asking.recv(size, socket.MSG_WAITALL))
        answers = socket.socket(fileno=files.pop()) if asking is self._requests else asking
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ours = {self._requests, self._launched, self._wake, self._woken, answers}
            for one in ours.union(self._children.values(), self._launchers):
                one.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
            os.closerange(3, max(files) + 1)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["environment"])
            time.tzset()
            sys.executable = str(self._folder / "python")
            return request["arguments"]
        for file in files:
            os.close(file)
        answers.sendall(NUMBER.pack(pid))
        self._children[pid] = answers
        if asking is not self._requests:
            self._launchers[asking] = pid
        return None

    def _report_ended(self) -> None:
        """Send the exit code of each program that has ended to whom it belongs."""
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid)
            self._launchers.pop(child, None)
            with child, contextlib.suppress(BrokenPipeError):
                child.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _launcher(folder: Path) -> socket.socket:
    """Write the program `python` that asks for programs; return where it asks."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "asked"))
    listening.listen(100)
    inherited = [name for name in os.environ if name.startswith(("LD_", "PYTHON"))] + ["PYTHONPATH"]
    told = (str(folder / "asked"), sys.executable, inherited)
    (folder / "launcher.py").write_text(LAUNCHER.format(told=told))
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {shlex.quote(str(folder / "launcher.py"))} "$@"\n'
    (folder / "python").write_text(script)
    (folder / "python").chmod(0o700)
    return listening


def _become(arguments: list[str]) -> None:
    """Run the program as the interpreter does."""
    short_check.install()
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
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


def _run_to_the_end(arguments: list[str]) -> NoReturn:
    """Run the program and end as the interpreter does, exit handlers included, without taking its modules apart."""
    code: object = 0
    try:
        _become(arguments)
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        traceback.print_exc()
        code = -signal.SIGINT
    except BaseException:  # noqa: BLE001 - as at the top of every program
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    if not (code is None or isinstance(code, int)):
        sys.stderr.write(f"{code}\n")
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120  # as the interpreter's
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    import short_check

    del sys.path[0]  # modules of this folder have names like `network`
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        found = Server(connection).serve()
    if found is not None:
        _run_to_the_end(found)
