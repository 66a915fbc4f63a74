"""Records of the alerts topic: one episode is `firing`, firing again if it becomes severer, and `resolved`."""

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
    RELATION_DRIFT = "RelationDrift"
    SEGMENT_DRIFT = "SegmentDrift"
    REFERENCE_MISMATCH = "ReferenceMismatch"
    NO_DATA = "NoData"
    PERFORMANCE_DROP = "PerformanceDrop"
    CLASSIC = "DriftPolicyClassic"


# Alerts on features together: they have no feature of their own, and at most one of each is open for a model.
RELATIONAL = frozenset({AlertName.RELATION_DRIFT, AlertName.SEGMENT_DRIFT})


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
        """Return the record's value, JSON."""
        return _ENCODER.encode(self)

    def key(self) -> bytes:
        """Return the record's key: the fingerprint."""
        return self.fingerprint.encode()

    def title(self) -> str:
        """Return name, feature and severity, as far as the labels have them."""
        return " ".join(self.labels[name] for name in ("alertname", "feature", "severity") if name in self.labels)

    # A record of an unknown producer may hold anything in its evidence, so the values that readers need are checked
    # here.

    def window_end(self) -> str | None:
        """Return the end of the window that this message is about; None if the evidence does not name one."""
        window = self.evidence.get("window")
        end = window.get("end") if isinstance(window, dict) else None
        return end if isinstance(end, str) else None

    def members(self) -> list[dict[str, Any]]:
        """Return the evidence about each feature of a group; empty for any other alert."""
        listed = self.evidence.get("features")
        members = listed if isinstance(listed, list) and self.labels.get("feature") == GROUP else []
        return [member for member in members if isinstance(member, dict) and isinstance(member.get("feature"), str)]


def decode_alert(raw: bytes) -> Alert:
    """Return the alert in `raw`; ValueError if it is not one of this version."""
    try:
        alert = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not an alert: {error}") from None
    if alert.version != VERSION:
        raise ValueError(f"alert: version {alert.version} is not known, only {VERSION}")
    return alert


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return 16 hex digits for the episode's subject, the same over restarts, window lengths and model versions.

    >>> fingerprint({"alertname": "FeatureDrift", "model": "churn-telco", "feature": "tenure", "severity": "warning"})
    'f57a660ed19dbbf7'
    """
    names = sorted({"alertname", "model", "feature"} & labels.keys())
    return hashlib.sha256("".join(f"{name}={labels[name]}\n" for name in names).encode()).hexdigest()[:16]


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Alert)
