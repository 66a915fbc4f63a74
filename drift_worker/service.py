"""The life of the drift worker's process, from top to bottom."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from drift_worker.endpoints import Endpoints
from drift_worker.follow import ReferenceFollower
from drift_worker.metrics import DriftMetrics
from drift_worker.reference import LoadedReference, load
from drift_worker.session import Session
from drift_worker.settings import DriftSettings
from drift_worker.telemetry import DriftTelemetry
from kafka_runtime import model_registry
from kafka_runtime.service import logs
from kafka_runtime.service.http import HttpThread
from schemas.bundle.files import copy_bundle

log = logs.get(__name__)


class DriftWorker:
    """One process of the drift service: one session after the other, each around the reference of its time."""

    def __init__(self, settings: DriftSettings, version: str) -> None:
        """Load the reference; BundleError if it must not be used."""
        self._settings = settings
        directory, refresh = model_registry.local(settings.reference_path, copy_bundle)
        loaded = load(directory, settings.model_public_key)
        self._registry = CollectorRegistry()
        self._metrics = DriftMetrics(
            self._registry,
            [settings.topic_events, settings.topic_predictions],
            internal=[settings.topic_panes, settings.topic_measurements, settings.topic_label_state],
            windows=list(settings.lengths),
        )
        self._report = DriftTelemetry(self._metrics)
        self._follower = ReferenceFollower(directory, settings.model_public_key, refresh, self._report)
        self._failure: str | None = None  # why the reference is not followed any more
        self._session = Session(settings, loaded, self._metrics, self._report)
        self._metrics.parts.source = self.parts
        #: What the process answers over HTTP.
        self.endpoints = Endpoints(
            settings,
            version,
            self._registry,
            self._report,
            session=lambda: self._session,
            parts=self.parts,
            following=self._follower.state,
        )

    async def run(self, drain: asyncio.Event) -> None:
        """Serve until `drain` is set; change to another reference when there is one."""
        http = HttpThread(self.endpoints.application(), self._settings.drift_http_host, self._settings.drift_http_port)
        http.start()
        try:
            while not drain.is_set():
                loaded = await self._serve(drain)
                if loaded is not None and not drain.is_set():
                    self._session = Session(self._settings, loaded, self._metrics, self._report)
        finally:
            http.stop()

    async def _serve(self, drain: asyncio.Event) -> LoadedReference | None:
        """Run the session until the process drains, or return another reference when there is one."""
        until = asyncio.Event()
        serving = asyncio.create_task(self._session.run(until), name="session")
        following = asyncio.create_task(self._follow(), name="reference")
        draining = asyncio.create_task(drain.wait(), name="drain")
        try:
            await asyncio.wait((serving, following, draining), return_when=asyncio.FIRST_COMPLETED)
            until.set()
            await serving
        finally:
            for task in (serving, following, draining):
                task.cancel()
            await asyncio.gather(serving, following, draining, return_exceptions=True)
        return None if following.cancelled() else following.result()

    async def _follow(self) -> LoadedReference:
        """Return the next reference. A defect ends the following, which is reported; the session goes on."""
        used = self._session.loaded
        try:
            while True:
                await asyncio.sleep(self._settings.scorer_model_poll.total_seconds())
                found = await asyncio.to_thread(self._follower.look, used)
                if found is not None:
                    return found
        except Exception as error:
            self._failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
            log.exception("reference_not_followed")
            await asyncio.Event().wait()
            raise

    def parts(self) -> dict[str, str | None]:
        """Return every part of this process with the reason why it does not work, None while it does."""
        return {**self._session.parts(), "reference": self._failure or self._follower.refusal}
