"""GET /health of the scorer: the state of the process for operators, as JSON."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kafka_runtime.group_member import GroupMember
from kafka_runtime.native.records import Reader
from kafka_runtime.service.http import status
from kafka_runtime.service.metrics import described
from kafka_runtime.service.process import Usage
from scorer.model import Model
from scorer.processor import ScoringProcessor
from scorer.reload import Reloader
from scorer.settings import ScorerSettings
from scorer.telemetry import ScorerTelemetry


class Health:
    """Describes one scorer. Called from the HTTP thread."""

    def __init__(
        self,
        *,
        settings: ScorerSettings,
        version: str,
        started: float,
        work: ScoringProcessor,
        member: GroupMember,
        report: ScorerTelemetry,
        reloader: Reloader,
        challenger_reloader: Reloader | None,
        parts: Callable[[], Mapping[str, str | None]],
        records: Reader,
    ) -> None:
        self._settings = settings
        self._version = version
        self._started = started
        self._work = work
        self._member = member
        self._report = report
        self._reloader = reloader
        self._challenger_reloader = challenger_reloader
        self._parts = parts
        self._records = records
        self._usage = Usage()

    def __call__(self) -> dict[str, Any]:
        """Return the members of `/health`."""
        model, member = self._work.model, self._member
        usage = resource.getrusage(resource.RUSAGE_SELF)
        progress = self._report.progressed_at
        parts = described(self._parts())
        reasons, reload, challenger = member.not_ready(), self._reloader.state(), self._challenger()
        limits = list(dict.fromkeys([*reasons, *member.degraded()]))
        return {
            "service": "scorer",
            "version": self._version,
            **status(
                [*_degraded(limits, reload, challenger), *parts["degraded"]],
                model.manifest.version,
                model.manifest.created_at,
            ),
            "parts": parts["parts"],
            "system": self._usage.now(),
            "model": _model(model),
            "reload": reload,
            "challenger": challenger,
            "delivery": self._settings.scorer_delivery,
            "lane": {"records": self._records.state(), **self._work.lane.state()},
            "uptime_s": round(time.time() - self._started, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "max_memory_bytes": usage.ru_maxrss * 1024,
            "tasks": member.tasks,
            "ready": not reasons,
            "reasons": reasons,
            "refusal": member.refusal,
            "partitions": [
                {"topic": p.topic, "partition": p.partition, "state": p.state, "detail": p.detail}
                for p in member.partitions
            ],
            "lag_records": sum(self._report.lags.values()),
            "last_progress": datetime.fromtimestamp(progress, UTC).isoformat() if progress is not None else None,
        }

    def _challenger(self) -> dict[str, Any] | None:
        if self._work.shadow is not None:
            return self._work.shadow.state()
        if self._challenger_reloader is None:
            return None
        model = self._work.challenger
        served = (
            None
            if model is None
            else {
                "name": model.manifest.name,
                "version": model.manifest.version,
                "sha256": model.sha256,
                "form": model.form,
            }
        )
        mode = self._settings.scorer_challenger_mode
        return {"mode": mode, "model": served, **self._challenger_reloader.state()}


def _model(model: Model) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "created_at": manifest.created_at.isoformat(),
        "sha256": model.sha256,
        "form": model.form,
        "why_not_direct": model.why_not_direct or None,
        "signed": model.signed,
    }


def _degraded(limits: list[str], reload: dict[str, Any], challenger: dict[str, Any] | None) -> list[str]:
    """Return why the scorer does less than it should: what limits its group member, and models that were rejected."""
    words = list(limits)
    if reload["state"] == "refused":
        words.append("model_refused")
    if challenger is not None and challenger["state"] == "refused":
        words.append("challenger_refused")
    return words
