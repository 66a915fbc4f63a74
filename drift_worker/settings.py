"""The drift worker's settings. docs/contracts.md lists every variable; no other variable is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from drift_worker.alerting.limits import Confirm
from kafka_runtime.service.setting_types import (
    BundlePlace,
    Duration,
    ExistingFile,
    Group,
    Host,
    Link,
    Port,
    at_least,
    duration,
    written_duration,
)
from kafka_runtime.service.settings import ServiceSettings
from schemas.setting_names import Topics

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
# Windows are kept open in memory, pane by pane.
_LONGEST_WINDOW = timedelta(days=31)
_CONFIRM = re.compile(r"([^:,]+):([1-9][0-9]?)/([1-9][0-9]?)")


class DriftSettings(ServiceSettings, Topics):
    """All settings of a drift worker. The SCORER_ ones decide what a valid event is: both services must agree."""

    scorer_model: BundlePlace = Path("artifacts/model")
    scorer_model_poll: Duration = timedelta(seconds=5)
    scorer_lane: Literal["auto", "python"] = "auto"
    model_public_key: ExistingFile | None = None
    drift_reference: BundlePlace | None = None  # none: the scorer's model
    drift_pane: Annotated[Duration, at_least(timedelta(seconds=1))] = timedelta(minutes=1)
    drift_windows: str = "15m,1h,24h"
    drift_allowed_lateness: Duration = timedelta(seconds=30)
    drift_idle_timeout: Duration = timedelta(seconds=60)
    drift_straggler: Duration = timedelta(minutes=5)
    drift_min_events: Annotated[int, Field(ge=10, le=1_000_000_000)] = 500
    drift_policy: Literal["calibrated", "classic"] = "calibrated"
    drift_false_pages_per_month: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0
    drift_effect_warning: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 0.1
    drift_effect_critical: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 0.2
    drift_confirm: str = "15m:2/3,1h:2/3,24h:1/1"
    drift_baseline: Literal["training", "week"] = "training"
    drift_group: Group = "driftline-drift"
    drift_first_start: Literal["earliest", "latest"] = "earliest"
    drift_offset_lost: Literal["stop", "earliest", "latest"] = "earliest"
    drift_label_horizon: Duration = timedelta(days=90)
    drift_http_host: Host = "127.0.0.1"
    drift_http_port: Port = 8001
    runbook_url: Link = "docs/runbook.md"

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [*self._window_problems(), *self._confirm_problems()]
        if self.drift_effect_critical < self.drift_effect_warning:
            problems.append("DRIFT_EFFECT_CRITICAL: must not be below DRIFT_EFFECT_WARNING")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _window_problems(self) -> list[str]:
        try:
            lengths = self.lengths
        except ValueError as error:
            return [f"DRIFT_WINDOWS: {error}"]
        pane = _ms(self.drift_pane)
        problems = [
            f"DRIFT_WINDOWS: {label} is no multiple of DRIFT_PANE" for label, length in lengths.items() if length % pane
        ]
        if self.drift_baseline == "week" and _HOUR_MS not in lengths.values():
            problems.append("DRIFT_BASELINE: week needs 1h among DRIFT_WINDOWS: past weeks are kept by the hour")
        return problems

    def _confirm_problems(self) -> list[str]:
        problems = []
        for entry in self.drift_confirm.split(","):
            match = _CONFIRM.fullmatch(entry.strip())
            if match is None or int(match[2]) > int(match[3]):
                problems.append(f"DRIFT_CONFIRM: {entry.strip()!r}: expected LENGTH:k/N with k at most N, like 15m:2/3")
            elif "drift_confirm" in self.model_fields_set and match[1] not in {
                label.strip() for label in self.drift_windows.split(",")
            }:
                problems.append(f"DRIFT_CONFIRM: {match[1]} is not among DRIFT_WINDOWS")
        return problems

    @property
    def reference_path(self) -> Path:
        """Return the bundle whose reference is compared with."""
        return self.drift_reference or self.scorer_model

    @property
    def lengths(self) -> dict[str, int]:
        """Window lengths in ms by label, shortest first; ValueError if one is no duration or is there twice."""
        found: dict[str, int] = {}
        for label in (part.strip() for part in self.drift_windows.split(",")):
            length = duration(label)
            if not isinstance(length, timedelta):
                raise TypeError("a duration is a string")
            if length > _LONGEST_WINDOW:
                raise ValueError(f"{label}: expected at most {written_duration(_LONGEST_WINDOW)}")
            if _ms(length) in found.values():
                raise ValueError(f"{label} is listed twice")
            found[label] = _ms(length)
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @property
    def confirm(self) -> Mapping[str, Confirm]:
        """Return k of n windows per length; by default 2/3 under a day and 1/1 from there on."""
        stated = {m[1]: Confirm(int(m[2]), int(m[3])) for m in _CONFIRM.finditer(self.drift_confirm.replace(" ", ""))}
        return {
            label: stated.get(label, Confirm(2, 3) if length < _DAY_MS else Confirm(1, 1))
            for label, length in self.lengths.items()
        }


def _ms(length: timedelta) -> int:
    return round(length / timedelta(milliseconds=1))
