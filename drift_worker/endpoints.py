"""The drift worker over HTTP: `/drift`, `/drift.html`, `/performance`, `/health`, and what every service has."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from drift_worker.page.page import drift_page
from drift_worker.session import Session
from drift_worker.settings import DriftSettings
from drift_worker.telemetry import DriftTelemetry
from kafka_runtime.service.http import application, status
from kafka_runtime.service.metrics import described
from kafka_runtime.service.process import Usage
from kafka_runtime.service.setting_types import written_duration

# The page has no script and loads no resource; the browser enforces it.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "cache-control": "no-store",
}


class Endpoints:
    """Answers from the session of the moment."""

    def __init__(
        self,
        settings: DriftSettings,
        version: str,
        registry: CollectorRegistry,
        report: DriftTelemetry,
        *,
        session: Callable[[], Session],
        parts: Callable[[], Mapping[str, str | None]],
        following: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Take the present `session`; `parts` and `following` are members of `/health`."""
        self._settings = settings
        self._version = version
        self._registry = registry
        self._report = report
        self._session = session
        self._parts = parts
        self._following = following
        self._started = time.time()
        self._usage = Usage()

    def application(self) -> FastAPI:
        """Return the application that serves them."""
        app = application(
            "Driftline drift worker",
            self._version,
            self._registry,
            live=lambda: [reason for member in self._session().members for reason in member.live()],
            not_ready=lambda: self._session().not_ready(),
            standby=lambda: self._session().standby(),
            refusal=self._refusal,
            health=self.health,
        )

        @app.get("/drift", summary="Current state per feature")
        def drift() -> dict[str, Any]:
            return self.drift()

        @app.get("/drift.html", summary="The same for people, and what was before: one page", response_class=Response)
        def page() -> Response:
            return Response(self.page(), media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

        @app.get("/performance", summary="How good the model was, by cohort, newest first")
        def performance() -> dict[str, Any]:
            return self.performance()

        return app

    def performance(self) -> dict[str, Any]:
        """Return the cohorts of the last horizon and before, as far as this process evaluates."""
        manifest, cohorts = self._session().loaded.manifest, self._session().levels.cohorts
        return {
            "model": {"name": manifest.name, "version": manifest.version},
            "horizon": written_duration(self._settings.drift_label_horizon),
            "evaluating": cohorts is not None and cohorts.running,
            "cohorts": [] if cohorts is None else cohorts.shown,
        }

    def drift(self) -> dict[str, Any]:
        """Return the last windows, the states, the open episodes, and names of unseen categories (shown here only)."""
        manifest = self._session().loaded.manifest
        return {
            "model": {"name": manifest.name, "version": manifest.version},
            "reference_sha256": self._session().loaded.identity.reference,
            "evaluating": self._session().evaluates,
            **self._session().evaluating.shown,
            "unseen_categories": {
                name: dict(seen.most_common()) for name, seen in self._session().counting.unseen.items()
            },
        }

    def page(self) -> str:
        """Return `drift` as a page, with the last windows over time and the alerts."""
        manifest, evaluating = self._session().loaded.manifest, self._session().evaluates
        note = (
            _said_late(self._session().evaluating.found_late)
            if evaluating
            else "This process does not evaluate: another one does, or will. Its page has the numbers."
        )
        return drift_page(
            self._session().evaluating.story,
            model=manifest.name,
            version=manifest.version,
            made_ms=_ms(time.time()),
            source="From the drift worker that evaluates." if evaluating else "From a drift worker.",
            note=note,
            unseen={name: dict(seen.most_common()) for name, seen in self._session().counting.unseen.items()},
        )

    def _refusal(self) -> str | None:
        return next((m.refusal for m in self._session().members if m.refusal is not None), None)

    def health(self) -> dict[str, Any]:
        """Return the state of this process for operators."""
        manifest = self._session().loaded.manifest
        usage = resource.getrusage(resource.RUSAGE_SELF)
        progress = self._report.progressed_at
        reasons = self._session().not_ready()
        parts = described(self._parts())
        limits = list(dict.fromkeys([*reasons, *self._session().degraded()]))
        return {
            "service": "drift-worker",
            "version": self._version,
            **status([*limits, *parts["degraded"]], manifest.version, manifest.created_at),
            "system": self._usage.now(),
            "model": {
                "name": manifest.name,
                "version": manifest.version,
                "created_at": manifest.created_at.isoformat(),
                "sha256": self._session().loaded.manifest_sha256,
                "signed": self._session().loaded.signed,
            },
            "lane": self._session().lane.state(),
            "reference": {
                "sha256": self._session().loaded.identity.reference,
                "rows": self._session().loaded.reference.rows,
                **self._following(),
            },
            "not_watched": {"features": self._session().unwatched, "reason": self._session().unwatched_text or None},
            "relations": self._session().evaluating.relations_kept,
            "parts": parts["parts"],
            "evaluating": self._session().evaluates,
            "found_late": self._session().evaluating.found_late,
            "uptime_s": round(time.time() - self._started, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "max_memory_bytes": usage.ru_maxrss * 1024,
            "ready": not reasons,
            "reasons": reasons,
            "refusal": self._refusal(),
            "partitions": [
                {"topic": p.topic, "partition": p.partition, "state": p.state, "detail": p.detail}
                for member in self._session().members
                for p in member.partitions
            ],
            "lag_records": self._session().lag_records,
            "last_progress": datetime.fromtimestamp(progress, UTC).isoformat() if progress is not None else None,
        }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _said_late(found: Mapping[str, Any] | None) -> str | None:
    """Return a sentence about episodes in windows that were too old to be announced; None without such episodes."""
    if found is None or not found["episodes"]:
        return None
    episodes = ", ".join(f"{number} {name}" for name, number in found["episodes"].items())
    return (
        f"Found late and not announced: {episodes}, in {found['windows']:,} windows from {found['from']} "
        f"to {found['to']} that were measured more than a day after their end. {found['look']} lists them."
    )
