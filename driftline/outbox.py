"""What an Alertmanager is to be told about the alerts topic, as it stands now. No I/O: `driftline.forwarding` posts it.

An Alertmanager names an alert by all its labels, the severity among them; a fingerprint of ours leaves it out. So an
episode whose severity rises is two alerts there, and the former one has to end when the other begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.alert import Alert
from schemas.rfc3339 import parse

# How often an end is told: an Alertmanager of a pair may have missed the first one.
RESOLVED_POSTS = 3
# Prometheus tells the same episodes by the worker's gauges. deploy/alertmanager inhibits what has this label for as
# long as Prometheus reaches it, so that nobody is paged twice.
ORIGIN = {"origin": "kafka"}
_Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)
class Posting:
    """One alert as it is told. ends_at: None while it fires. told: how often the receiver took it."""

    alert: Alert
    ends_at: str | None
    told: int = 0

    def as_json(self, generator_url: str | None = None) -> dict[str, Any]:
        """A `postableAlert` of Alertmanager's API v2; without `endsAt`, it counts as firing for `resolve_timeout`."""
        alert = self.alert
        posted: dict[str, Any] = {
            "labels": {**alert.labels, **ORIGIN},
            "annotations": alert.annotations,
            "startsAt": alert.starts_at,
        }
        if self.ends_at is not None:
            posted["endsAt"] = self.ends_at
        if generator_url is not None:
            posted["generatorURL"] = generator_url
        return posted


class Outbox:
    """Firing alerts until they are resolved, and resolved ones until that was told often enough."""

    def __init__(self) -> None:
        self._postings: dict[_Labels, Posting] = {}

    def take(self, alert: Alert) -> None:
        """The next message of an episode."""
        self._end_others(alert)
        ends_at = None
        if alert.status == "resolved":
            # an end before the start is refused, and a retired alert may have no window that ended
            ends_at = max(alert.starts_at, alert.ends_at or alert.starts_at)
        self._postings[_labels(alert)] = Posting(alert, ends_at)

    def forget(self, fingerprint: str) -> None:
        """The alert's key was deleted: nothing more is said of it."""
        self._postings = {key: p for key, p in self._postings.items() if p.alert.fingerprint != fingerprint}

    def due(self) -> list[Posting]:
        """Everything that is to be said now."""
        return list(self._postings.values())

    def told(self, postings: list[Posting]) -> None:
        """The receiver took them; what was replaced meanwhile has not been told yet."""
        for posting in postings:
            posting.told += 1
            key = _labels(posting.alert)
            over = posting.ends_at is not None and posting.told >= RESOLVED_POSTS
            if over and self._postings.get(key) is posting:
                del self._postings[key]

    def _end_others(self, alert: Alert) -> None:
        """What the same fingerprint said under other labels is over."""
        at = alert.ends_at or alert.evidence.get("window", {}).get("end") or alert.starts_at
        for key, posting in list(self._postings.items()):
            same = posting.alert.fingerprint == alert.fingerprint
            if same and posting.ends_at is None and key != _labels(alert):
                self._postings[key] = Posting(posting.alert, max(posting.alert.starts_at, at))


def fault(alert: Alert) -> str | None:
    """Why an Alertmanager would refuse a whole post because of this one; None if it would not."""
    if not alert.labels:
        return "no labels"
    for name, time in (("startsAt", alert.starts_at), ("endsAt", alert.ends_at)):
        if time is not None and parse(time) is None:
            return f"{name}: no RFC 3339 date-time"
    return None


def _labels(alert: Alert) -> _Labels:
    return tuple(sorted(alert.labels.items()))
