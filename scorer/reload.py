"""A changed bundle, loaded and verified in a thread of its own and swapped in between two batches.

The manifest is the switch: writers replace it last, so that its bytes decide what the bundle is. Whatever goes wrong
with a new bundle, the old model serves on; the reason stands in /health until a good bundle comes.
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

from schemas.bundle import MANIFEST, BundleError, Manifest
from scorer.model import Model, load
from streaming.registry import RegistryError

# A writer that takes longer than this many polls between two files is reported, and tried again all the same.
TORN_READS = 3

# name, mtime in ns, size and inode of every file a bundle's fate depends on
Fingerprint = frozenset[tuple[str, int, int, int]]
# of a refusal before any file was looked at
NO_FILES: Fingerprint = frozenset({("", 0, 0, 0)})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a bundle is not served, since when, and the files it was made of."""

    reason: str
    at: datetime
    files: Fingerprint


def new_requirement(old: Manifest, new: Manifest) -> str | None:
    """What `new` asks of producers that `old` did not; None if every event of today is valid for it, too.

    A narrower `min` or `max` is no new input: it is a decision of whoever wrote the spec.
    """
    if new.event != old.event:
        return "the event mapping is another one"
    had = {feature.source: feature for feature in old.features}
    for feature in new.features:
        before = had.get(feature.source)
        if before is not None and before.kind != feature.kind:
            return f"{feature.source} is {feature.kind} and was {before.kind}"
        if not feature.nullable and (before is None or before.nullable):
            was = "was not asked for" if before is None else "could be missing"
            return f"{feature.source} is required and {was}"
    return None


def needs_other_producers(served: Manifest, new: Manifest) -> str | None:
    """Why `new` must not replace `served` in a running process; None if it may."""
    requirement = new_requirement(served, new)
    return f"restart with producers updated: {requirement}" if requirement is not None else None


def unfit_challenger(champion: Manifest, challenger: Manifest) -> str | None:
    """Why a challenger cannot be held against this champion; None if it can."""
    if (challenger.name, challenger.version) == (champion.name, champion.version):
        return f"the champion is {champion.name} {champion.version}, too: predictions would not tell them apart"
    requirement = new_requirement(champion, challenger)
    return f"not in the events of the champion: {requirement}" if requirement is not None else None


class Told(Protocol):
    """Who wants to know about bundles."""

    def model_loaded(self, model: Model, *, first: bool) -> None:
        """A model is served from the next batch on."""

    def model_refused(self, reason: str) -> None:
        """A changed bundle is not served."""


class Reloader:
    """Polls a bundle's manifest and hands over what may be served instead of the present model.

    served: the present model, None if there is none yet. unfit: why a bundle's model must not take its place, one line;
    None if it may. refresh: brings the directory up to date first, where it is a copy of something else; an error of
    it is a refusal, and the running model stays.
    """

    def __init__(
        self,
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
        self._ended = threading.Event()
        self._looked = threading.Event()
        # a daemon: a bundle whose unpickling never returns must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self, wait_s: float = 0.0) -> None:
        """Poll from now on; where nothing is served yet, at once. Returns after that look, or `wait_s`."""
        self._thread.start()
        self._looked.wait(wait_s)

    def stop(self) -> None:
        """End after the load in hand, or leave it behind after two seconds."""
        self._ended.set()
        self._thread.join(timeout=2.0)

    def state(self) -> dict[str, Any]:
        """For /health: `watching`, `loading`, or `refused` with the reason and since when."""
        refusal = self._refusal
        name = "loading" if self._loading else "watching" if refusal is None else "refused"
        return {
            "state": name,
            "reason": refusal.reason if refusal else None,
            "since": refusal.at.isoformat(timespec="milliseconds") if refusal else None,
        }

    def retry(self) -> None:
        """What was refused is tried again, though none of its files has changed."""
        self._retries += 1
        self._refusal = None

    def look(self) -> None:
        """One poll: load and serve a changed bundle, or remember why not."""
        try:
            self._refresh()
        except (BundleError, RegistryError, OSError) as error:
            if self._refusal is None or self._refusal.reason != str(error):
                self._refuse(str(error), NO_FILES)
            return
        try:
            digest = hashlib.sha256((self._directory / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            digest = ""  # load() says what is wrong with the file
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
            # it was being replaced while it was read: neither bundle is to blame
            self._torn += 1
            return
        if self._retries != retries:
            return  # what it was measured against has changed meanwhile: the next look asks again
        self._refuse(reason, files)

    def _refuse(self, reason: str, files: Fingerprint) -> None:
        self._refusal, self._torn = Refusal(reason, datetime.now(UTC), files), 0
        self._report.model_refused(reason)

    def _load_and_serve(self) -> str | None:
        """None if the new model is served now, else the reason why it is not, one line."""
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
        # A decoder's types hold each other, and the collector, tuned for batches, comes by for them too rarely.
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
            if self._served() is None:
                self.look()
        finally:
            self._looked.set()
        while not self._ended.wait(self._poll_s):
            self.look()
