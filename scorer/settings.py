"""The scorer's settings. docs/contracts.md lists every variable; nothing else is read from the environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from schemas.environment import Topics
from schemas.verdict import Rules
from streaming.settings import Duration, KafkaSettings, LogSettings

Port = Annotated[int, Field(ge=1, le=65_535)]


class ScorerSettings(KafkaSettings, LogSettings, Topics):
    """Everything a scorer can be told."""

    scorer_model: Path = Path("artifacts/model")
    scorer_model_poll: Duration = timedelta(seconds=5)
    model_public_key: Path | None = None
    scorer_challenger: Path | None = None
    scorer_challenger_mode: Annotated[str, Field(pattern=r"^(shadow|split:[1-9][0-9]?)$")] = "shadow"
    scorer_group: Annotated[str, Field(min_length=1, max_length=200)] = "driftline-scorer"
    scorer_delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    # 5,000: below it the fixed cost of a batch shows, above it latency under backlog grows for nothing
    scorer_max_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 5000
    scorer_commit_interval: Duration = timedelta(milliseconds=10)
    # the prediction repeats the event's key, and must fit into one batch of the producer (1,000,000)
    scorer_max_event_bytes: Annotated[int, Field(ge=1024, le=900_000)] = 65_536
    # a stub of 1 KiB key and 1 KiB value with our headers must always fit
    scorer_max_dead_letter_bytes: Annotated[int, Field(ge=8192, le=1_000_000)] = 900_000
    scorer_unknown_fields: Literal["ignore", "reject"] = "ignore"
    scorer_max_future_skew: Duration = timedelta(minutes=5)
    scorer_detail_values: bool = False
    scorer_dead_letter_limit: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    scorer_first_start: Literal["earliest", "latest"] = "earliest"
    scorer_offset_lost: Literal["stop", "earliest", "latest"] = "stop"
    scorer_http_host: str = "127.0.0.1"
    scorer_http_port: Port = 8000
    scorer_drain_timeout: Duration = timedelta(seconds=20)

    @property
    def rules(self) -> Rules:
        """What makes an event valid."""
        return Rules(
            max_event_bytes=self.scorer_max_event_bytes,
            max_future_skew_ms=round(self.scorer_max_future_skew.total_seconds() * 1000),
            reject_unknown_fields=self.scorer_unknown_fields == "reject",
            detail_values=self.scorer_detail_values,
        )

    @property
    def split_percent(self) -> int:
        """Percent of the customers whom the challenger answers; 0 for a shadow, and without a challenger."""
        mode, _, percent = self.scorer_challenger_mode.partition(":")
        return int(percent) if mode == "split" and self.scorer_challenger is not None else 0
