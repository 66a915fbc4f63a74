"""The names that every process shares: topics, and the list of all settings."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _topic(name: str) -> str:
    if name in {".", ".."}:  # Kafka rejects both
        raise ValueError("expected a topic's name")
    return name


Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$"), AfterValidator(_topic)]


class Topics(BaseModel):
    """Topic names, by the variable that sets them (`TOPIC_EVENTS`, …)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic_events: Topic = "customer-events"
    topic_predictions: Topic = "predictions"
    topic_shadow: Topic = "predictions-shadow"
    topic_dead_letters: Topic = "dead-letters"
    topic_labels: Topic = "labels"
    topic_panes: Topic = "drift-panes"
    topic_measurements: Topic = "drift-measurements"
    topic_label_state: Topic = "driftline-label-state"
    topic_alerts: Topic = "drift-alerts"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        # a scorer that reads its own output topic would answer its own answers in a loop
        owners: dict[str, str] = {}
        for field in Topics.model_fields:
            owner = owners.setdefault(getattr(self, field), field)
            if owner != field:
                raise ValueError(f"{field.upper()}: the same topic as {owner.upper()}")
        return self


# Every public setting. The scorer accepts the drift worker's and the reverse, so that one environment file serves both.
# Any other name is a spelling mistake. A test compares the list with the settings classes.
KNOWN = frozenset(
    (
        " ".join(name.upper() for name in Topics.model_fields)
        + """
    KAFKA_BOOTSTRAP_SERVERS KAFKA_SECURITY_PROTOCOL KAFKA_SASL_MECHANISM KAFKA_SASL_USERNAME KAFKA_SASL_PASSWORD
    KAFKA_SSL_CAFILE KAFKA_SSL_CERTFILE KAFKA_SSL_KEYFILE KAFKA_SSL_KEY_PASSWORD
    KAFKA_OAUTH_TOKEN_URL KAFKA_OAUTH_CLIENT_ID KAFKA_OAUTH_CLIENT_SECRET KAFKA_OAUTH_SCOPE KAFKA_OAUTH_AUDIENCE
    KAFKA_OAUTH_CAFILE KAFKA_OAUTH_EXTENSIONS KAFKA_OAUTH_TOKEN_FILE
    KAFKA_SESSION_TIMEOUT KAFKA_TRANSACTION_TIMEOUT
    SCHEMA_REGISTRY_URL SCHEMA_REGISTRY_USERNAME SCHEMA_REGISTRY_PASSWORD SCHEMA_REGISTRY_TOKEN SCHEMA_REGISTRY_CAFILE
    SCORER_MODEL SCORER_MODEL_POLL MODEL_PUBLIC_KEY SCORER_CHALLENGER SCORER_CHALLENGER_MODE
    SCORER_GROUP SCORER_DELIVERY SCORER_LANE SCORER_MAX_BATCH_RECORDS SCORER_COMMIT_INTERVAL
    SCORER_MAX_EVENT_BYTES SCORER_MAX_DEAD_LETTER_BYTES SCORER_UNKNOWN_FIELDS SCORER_MAX_FUTURE_SKEW
    SCORER_DETAIL_VALUES SCORER_DEAD_LETTER_LIMIT SCORER_FIRST_START SCORER_OFFSET_LOST
    SCORER_HTTP_HOST SCORER_HTTP_PORT SCORER_DRAIN_TIMEOUT
    DRIFT_REFERENCE DRIFT_PANE DRIFT_WINDOWS DRIFT_ALLOWED_LATENESS DRIFT_IDLE_TIMEOUT DRIFT_STRAGGLER DRIFT_MIN_EVENTS
    DRIFT_POLICY DRIFT_FALSE_PAGES_PER_MONTH DRIFT_EFFECT_WARNING DRIFT_EFFECT_CRITICAL DRIFT_CONFIRM DRIFT_BASELINE
    DRIFT_GROUP DRIFT_FIRST_START DRIFT_OFFSET_LOST DRIFT_LABEL_HORIZON DRIFT_HTTP_HOST DRIFT_HTTP_PORT
    OTEL_TRACES_EXPORTER OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_TRACES_ENDPOINT OTEL_EXPORTER_OTLP_PROTOCOL
    OTEL_TRACES_SAMPLER OTEL_TRACES_SAMPLER_ARG OTEL_SERVICE_NAME
    LOG_LEVEL LOG_FORMAT LOG_HASH_KEY RUNBOOK_URL
    """
    ).split()
)
