"""A virtual environment per peer, made from its pinned requirements when it is first wanted and kept in the cache.

peers/<name>.in says what a peer needs, peers/<name>.lock pins all of it with hashes (`make lock`), with the same
scikit-learn, numpy and pandas as ours: the model is the same file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from driftline.errors import CommandError

PEERS = Path(__file__).parent / "peers"
_INSTALL_TIMEOUT_S = 900


def python_for(requirements: str | None, say: Callable[[str], None], peers: Path = PEERS) -> Path:
    """The interpreter with these requirements, our own for None; CommandError if they can't be installed.

    peers: the folder that holds the lock file.
    """
    if requirements is None:
        return Path(sys.executable)
    lock = peers / f"{requirements}.lock"
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


def pinned(requirements: str) -> dict[str, str]:
    """The version of the first package that peers/<requirements>.in names, and of the Kafka client below it."""
    (name,) = re.findall(r"^([a-z0-9-]+)", (PEERS / f"{requirements}.in").read_text(encoding="utf-8"), re.MULTILINE)[:1]
    lock = (PEERS / f"{requirements}.lock").read_text(encoding="utf-8")
    found = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE))
    clients = [f"{client} {found[client]}" for client in ("aiokafka", "confluent-kafka") if client in found]
    return {name: f"{found[name]} (on {', '.join(clients)})"}


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(command[:4])} … did not end in {_INSTALL_TIMEOUT_S} s", 1) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"{' '.join(command[:4])} … failed: {said[-1] if said else done.returncode}", 1)
