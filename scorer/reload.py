"""A changed bundle, loaded and verified in a separate thread and swapped in between two batches.

The manifest is the switch: writers replace it last, so its bytes identify the bundle. If a new bundle has any fault,
the old model stays, and `/health` has the reason until a good bundle arrives.
"""

from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from kafka_runtime.model_registry import RegistryError
from kafka_runtime.service import logs
from schemas.bundle.manifest import MANIFEST, BundleError, Manifest, new_requirement
from scorer.model import Model, load

log = logs.get(__name__)

# After this many polls between two files of a slow writer, this is reported; the bundle is still tried again.
TORN_READS = 3

# name, mtime in ns, size and inode of every file that decides about a bundle
Fingerprint = frozenset[tuple[str, int, int, int]]
# files of a rejection before any file was read
NO_FILES: Fingerprint = frozenset({("", 0, 0, 0)})


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason against a bundle, its time, and the files it was made of."""

    reason: str
    at: datetime
    files: Fingerprint


def needs_other_producers(served: Manifest, new: Manifest) -> str | None:
    """Return why `new` must not replace `served` in a running process; None if it may."""
    if (before := served.predicts.name) != (after := new.predicts.name):
        return f"restart with consumers updated: task is {after} and was {before}"
    requirement = new_requirement(served, new)
    return f"restart with producers updated: {requirement}" if requirement is not None else None


def unfit_challenger(champion: Manifest, challenger: Manifest) -> str | None:
    """Return why a challenger cannot be compared with this champion; None if it can."""
    if (own := champion.predicts.name) != (task := challenger.predicts.name):
        return f"task of {challenger.name} {challenger.version} is {task}, and the champion's is {own}"
    if (challenger.name, challenger.version) == (champion.name, champion.version):
        return f"the champion is {champion.name} {champion.version}, too: predictions could not be distinguished"
    requirement = new_requirement(champion, challenger)
    return f"not in the events of the champion: {requirement}" if requirement is not None else None


class Told(Protocol):
    """Receives the outcome of each load."""

    def model_loaded(self, model: Model, *, first: bool) -> None:
        """Receive a model that is served from the next batch on."""

    def model_refused(self, reason: str) -> None:
        """Receive the reason why a changed bundle is not served."""


class Reloader:
    """Polls a bundle's manifest and passes on each bundle that may replace the present model.

    served: returns the present model, or None. unfit: returns why a bundle's model must not replace it, in one line, or
    None. refresh: updates the directory first, where it is a copy. If that fails, the running model stays.
    """

    def __init__(
        self,
        *,
        directory: Path,
        public_key: Path | None,
        poll_s: float,
        served: Callable[[], Model | None],
        serve: Callable[[Model], None],
        unfit: Callable[[Manifest], str | None],
        report: Told,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._public_key = public_key
        self._poll_s = poll_s
        self._served = served
        self._serve = serve
        self._unfit = unfit
        self._report = report
        self._refresh = refresh
        self._refusal: Refusal | None = None
        self._loading = False
        self._torn = 0
        self._retries = 0
        #: Why the thread ended because of an error; None while it has not.
        self.failure: str | None = None
        self._ended = threading.Event()
        self._looked = threading.Event()
        # a daemon: a bundle whose unpickling never returns must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self, wait_s: float = 0.0) -> None:
        """Poll from now on, and at once if no model is served yet. Return after that poll, or `wait_s`."""
        self._thread.start()
        self._looked.wait(wait_s)

    def stop(self) -> None:
        """Stop after the present load, or without it after two seconds."""
        self._ended.set()
        self._thread.join(timeout=2.0)

    def state(self) -> dict[str, Any]:
        """Return `watching`, `loading`, or `refused` with the reason and its time, for `/health`."""
        refusal = self._refusal
        name = "loading" if self._loading else "watching" if refusal is None else "refused"
        return {
            "state": name,
            "reason": refusal.reason if refusal else None,
            "since": refusal.at.isoformat(timespec="milliseconds") if refusal else None,
        }

    def retry(self) -> None:
        """Try a rejected bundle again, although none of its files has changed."""
        self._retries += 1
        self._refusal = None

    def look(self) -> None:
        """Poll once: load and serve a changed bundle, or keep the reason against it."""
        try:
            self._refresh()
        except (BundleError, RegistryError, OSError) as error:
            if self._refusal is None or self._refusal.reason != str(error):
                self._refuse(str(error), NO_FILES)
            return
        try:
            digest = hashlib.sha256((self._directory / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            digest = ""  # load() names the file and its fault
        served = self._served()
        if served is not None and digest == served.sha256:
            self._refusal = None
            return
        files = self._fingerprint()
        if self._refusal is not None and self._refusal.files == files:
            return
        self._loading, retries = True, self._retries
        try:
            reason = self._load_and_serve()
        finally:
            self._loading = False
        if reason is None:
            self._refusal, self._torn = None, 0
            return
        if self._torn < TORN_READS and self._fingerprint() != files:
            # it was being replaced while it was read: neither bundle has a fault
            self._torn += 1
            return
        if self._retries != retries:
            return  # the champion has changed meanwhile: the next poll compares again
        self._refuse(reason, files)

    def _refuse(self, reason: str, files: Fingerprint) -> None:
        self._refusal, self._torn = Refusal(reason, datetime.now(UTC), files), 0
        self._report.model_refused(reason)

    def _load_and_serve(self) -> str | None:
        """Serve the new model and return None, or return the reason against it in one line."""
        try:
            model = load(self._directory, self._public_key)
            if (why := self._unfit(model.manifest)) is not None:
                return f"{MANIFEST}: {why}"
            self._serve(model)
        except BundleError as error:
            return str(error)
        except BaseException as error:  # noqa: BLE001 - unpickling is foreign code: it may even ask to exit
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._report.model_loaded(model, first=False)
        # A decoder's types refer to each other, and the collector, tuned for batches, runs too rarely to free them.
        gc.collect()
        return None

    def _fingerprint(self) -> Fingerprint:
        try:
            paths = [*self._directory.iterdir(), *([self._public_key] if self._public_key else [])]
            stats = [(path.name, path.stat()) for path in paths]
        except OSError:
            return frozenset()
        return frozenset((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats)

    def _run(self) -> None:
        try:
            self._poll()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
            log.exception("reload_ended")
        finally:
            self._looked.set()

    def _poll(self) -> None:
        if self._served() is None:
            self.look()
        self._looked.set()
        while not self._ended.wait(self._poll_s):
            self.look()
