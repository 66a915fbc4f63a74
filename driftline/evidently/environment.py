"""A virtual environment with pinned requirements, made at its first use and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from driftline.errors import CommandError

_INSTALL_TIMEOUT_S = 900


def python_for(requirements: str, say: Callable[[str], None], locks: Path) -> Path:
    """Return the interpreter that has these requirements; CommandError if they cannot be installed.

    locks: the folder that holds `{requirements}.lock`, which pins all of them with hashes.
    """
    lock = locks / f"{requirements}.lock"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "driftline" / "peers" / requirements
    python = folder / "bin" / "python"
    # Another lock or another Python makes another environment.
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    installed = folder / "installed"
    if installed.exists() and installed.read_text(encoding="utf-8") == wanted:
        return python
    say(f"installing {requirements} into {folder} (a minute, once)")
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    _run([*pip, "--no-deps", "--require-hashes", "-r", str(lock)])
    installed.write_text(wanted, encoding="utf-8")
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(command[:4])} … did not end in {_INSTALL_TIMEOUT_S} s", 1) from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"{' '.join(command[:4])} … failed: {lines[-1] if lines else done.returncode}", 1)
