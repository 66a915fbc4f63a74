"""What is said on the alerts topic: one episode is `firing`, once more when its severity rises, and `resolved`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import msgspec

VERSION = 1
GROUP = "group"  # the feature of an alert that several features share


class AlertName(StrEnum):
    """What happened: the label, and the heading in the runbook."""

    FEATURE_DRIFT = "FeatureDrift"
    PREDICTION_DRIFT = "PredictionDrift"
    MISSING_VALUES = "MissingValues"
    UNSEEN_CATEGORIES = "UnseenCategories"
    DATA_QUALITY = "DataQuality"
    REFERENCE_MISMATCH = "ReferenceMismatch"
    NO_DATA = "NoData"
    PERFORMANCE_DROP = "PerformanceDrop"
    CLASSIC = "DriftPolicyClassic"


class Severity(StrEnum):
    """`warning` is a ticket, `critical` a page."""

    WARNING = "warning"
    CRITICAL = "critical"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an episode. Times are event time, RFC 3339: a replay writes the same.

    startsAt: end of the first window that exceeded. endsAt: end of the window that resolved it. sequence: grows by 1
    with every message of the episode, `resolved` included.
    """

    version: int = VERSION
    fingerprint: str
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str = msgspec.field(name="startsAt")
    ends_at: str | None = msgspec.field(name="endsAt", default=None)
    sequence: int
    evidence: dict[str, Any]

    def encode(self) -> bytes:
        """The record's value, JSON."""
        return _ENCODER.encode(self)

    def key(self) -> bytes:
        """The record's key: the fingerprint."""
        return self.fingerprint.encode()


def decode_alert(raw: bytes) -> Alert:
    """The alert back; ValueError if `raw` is not one of this version."""
    try:
        alert = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not an alert: {error}") from None
    if alert.version != VERSION:
        raise ValueError(f"alert: version {alert.version} is not known, only {VERSION}")
    return alert


def fingerprint(labels: Mapping[str, str]) -> str:
    """16 hex digits that name the episode's subject, the same over restarts, window lengths and model versions.

    >>> fingerprint({"alertname": "FeatureDrift", "model": "churn-telco", "feature": "tenure", "severity": "warning"})
    'f57a660ed19dbbf7'
    """
    names = sorted({"alertname", "model", "feature"} & labels.keys())
    return hashlib.sha256("".join(f"{name}={labels[name]}\n" for name in names).encode()).hexdigest()[:16]


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Alert)
