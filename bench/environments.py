"""A virtual environment per peer, made from its pinned requirements at its first use and kept in the cache.

peers/<name>.in lists a peer's requirements; peers/<name>.lock pins all of them with hashes (`make lock`). scikit-learn,
numpy and pandas have the same versions as here, because the model is the same file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from driftline.evidently import environment

PEERS = Path(__file__).parent / "peers"


def python_for(requirements: str | None, say: Callable[[str], None], peers: Path = PEERS) -> Path:
    """Return the interpreter with a peer's requirements.

    None: this environment's. CommandError if they cannot be installed.

    peers: the folder that holds the lock file.
    """
    return Path(sys.executable) if requirements is None else environment.python_for(requirements, say, peers)


def pinned(requirements: str) -> dict[str, str]:
    """Return the versions of the first package that peers/<requirements>.in names, and of the Kafka client below it."""
    (name,) = re.findall(r"^([a-z0-9-]+)", (PEERS / f"{requirements}.in").read_text(encoding="utf-8"), re.MULTILINE)[:1]
    lock = (PEERS / f"{requirements}.lock").read_text(encoding="utf-8")
    found = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE))
    clients = [f"{client} {found[client]}" for client in ("aiokafka", "confluent-kafka") if client in found]
    return {name: f"{found[name]} (on {', '.join(clients)})"}
