"""The scorer's settings. docs/contracts.md lists every variable; no other variable is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kafka_runtime.service.setting_types import BundlePlace, Duration, ExistingFile, Group, Host, Port, at_most
from kafka_runtime.service.settings import ServiceSettings, TraceSettings
from schemas.setting_names import Topics
from schemas.validation import Rules


class ScorerSettings(ServiceSettings, TraceSettings, Topics):
    """All settings of a scorer."""

    scorer_model: BundlePlace = Path("artifacts/model")
    scorer_model_poll: Duration = timedelta(seconds=5)
    model_public_key: ExistingFile | None = None
    scorer_challenger: BundlePlace | None = None
    scorer_challenger_mode: Annotated[str, Field(pattern=r"^(shadow|split:[1-9][0-9]?)$")] = "shadow"
    scorer_group: Group = "driftline-scorer"
    scorer_delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    # python: for on-call who suspects the library, and for a comparison of both
    scorer_lane: Literal["auto", "python"] = "auto"
    # 5,000: below it the fixed cost of a batch is visible, above it latency under backlog grows without a gain
    scorer_max_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 5000
    # a member that waits for minutes is removed from its group
    scorer_commit_interval: Annotated[Duration, at_most(timedelta(minutes=1))] = timedelta(milliseconds=10)
    # a stub of 1 KiB key and 1 KiB value with the headers must always fit
    scorer_max_dead_letter_bytes: Annotated[int, Field(ge=8192, le=1_000_000)] = 900_000
    scorer_detail_values: bool = False
    scorer_dead_letter_limit: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    scorer_first_start: Literal["earliest", "latest"] = "earliest"
    scorer_offset_lost: Literal["stop", "earliest", "latest"] = "stop"
    scorer_http_host: Host = "127.0.0.1"
    scorer_http_port: Port = 8000

    def problems(self) -> list[str]:
        """Add that a challenger is a directory: a registry holds the champion only."""
        problems = super().problems()
        if self.scorer_challenger is not None and str(self.scorer_challenger).startswith("mlflow:"):
            problems.append("SCORER_CHALLENGER: expected a directory, got an address")
        return problems

    @property
    def rules(self) -> Rules:
        """Return what makes an event valid."""
        return replace(Rules.of(self), detail_values=self.scorer_detail_values)

    @property
    def split_percent(self) -> int:
        """Return percent of the customers that the challenger scores; 0 for a shadow, and without a challenger."""
        mode, _, percent = self.scorer_challenger_mode.partition(":")
        return int(percent) if mode == "split" and self.scorer_challenger is not None else 0
