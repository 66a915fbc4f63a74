"""Processes that a test starts: none outlives the test, however it ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """Start a process, and kill it when the block ends while it still runs; `options` are those of Popen.

    Popen as a context manager waits instead: a failed assertion would then wait until the test's time is up.
    """
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
