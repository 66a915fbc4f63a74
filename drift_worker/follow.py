"""Follow the bundle of the reference: notice, read and check another one by the rules of the scorer's reload.

The scorer and the drift worker watch the same manifest, so that both change to the same model. A bundle that the scorer
must reject, because producers would have to send more fields, is rejected here as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drift_worker.reference import LoadedReference, load
from drift_worker.telemetry import DriftTelemetry
from kafka_runtime.model_registry import RegistryError
from schemas.bundle.manifest import MANIFEST, BundleError, new_requirement

# After this many reads of a bundle that is being written, this is reported and the bundle is read again.
TORN_READS = 3

# name, mtime in ns, size and inode of every file that a bundle consists of
Fingerprint = frozenset[tuple[str, int, int, int]]


class ReferenceFollower:
    """Looks at a bundle's manifest and loads it when it is another one."""

    def __init__(
        self, directory: Path, public_key: Path | None, refresh: Callable[[], None], report: DriftTelemetry
    ) -> None:
        """Watch `directory`; `refresh` brings it up to date first, where it is a copy of something else."""
        self._directory = directory
        self._public_key = public_key
        self._refresh = refresh
        self._report = report
        self._files: Fingerprint = frozenset()  # of the rejected bundle
        self._torn = 0
        #: Why the bundle that is there now is not used; None if it is.
        self.refusal: str | None = None
        #: When it was refused.
        self.since: datetime | None = None

    def state(self) -> dict[str, Any]:
        """Return the member of `/health`: `watching` or `refused`, the reason, and since when."""
        return {
            "state": "watching" if self.refusal is None else "refused",
            "reason": self.refusal,
            "since": self.since.isoformat(timespec="milliseconds") if self.since is not None else None,
        }

    def look(self, used: LoadedReference) -> LoadedReference | None:
        """Return another bundle's reference if it may replace the one in use. Reads files: call it in a thread."""
        try:
            self._refresh()
        except (BundleError, RegistryError, OSError) as error:
            self._refuse(str(error), frozenset())
            return None
        try:
            digest = hashlib.sha256((self._directory / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            digest = ""  # load() names what is wrong with the file
        files = self._fingerprint()
        if digest == used.manifest_sha256:
            self.refusal = self.since = None
            return None
        if self.refusal is not None and files == self._files:
            return None
        found, reason = self._load(used)
        if found is not None:
            self.refusal, self.since, self._torn = None, None, 0
        elif self._torn < TORN_READS and self._fingerprint() != files:
            self._torn += 1  # it was being replaced while it was read
        else:
            self._refuse(reason, files)
        return found

    def _load(self, used: LoadedReference) -> tuple[LoadedReference | None, str]:
        try:
            found = load(self._directory, self._public_key)
        except BundleError as error:
            return None, str(error)
        requirement = new_requirement(used.manifest, found.manifest)
        if requirement is not None:
            return None, f"{MANIFEST}: restart with producers updated: {requirement}"
        return found, ""

    def _refuse(self, reason: str, files: Fingerprint) -> None:
        if reason != self.refusal:
            self.since = datetime.now(UTC)
            self._report.reference_refused(reason)
        self.refusal, self._files, self._torn = reason, files, 0

    def _fingerprint(self) -> Fingerprint:
        try:
            stats = [(path.name, path.stat()) for path in self._directory.iterdir()]
        except OSError:
            return frozenset()
        return frozenset((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats)
