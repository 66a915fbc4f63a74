"""Decide what is posted to an Alertmanager about the alerts topic. No I/O: `forwarder` posts it.

An Alertmanager identifies an alert by all its labels, the severity among them; a fingerprint leaves it out. So an
episode whose severity rises is two alerts there, and the former one must end when the other begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.alert import Alert
from schemas.timestamps import parse

# How often an end is posted: an Alertmanager of a pair may have missed the first one.
RESOLVED_POSTS = 3
# Prometheus raises the same episodes from the worker's gauges. deploy/alertmanager inhibits alerts with this label
# while Prometheus reaches it, so that each episode pages once.
ORIGIN = {"origin": "kafka"}
_Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)
class Posting:
    """One alert as it is posted. ends_at: None while it fires. `told`: how often the receiver accepted it."""

    alert: Alert
    ends_at: str | None
    told: int = 0

    def as_json(self, generator_url: str | None = None) -> dict[str, Any]:
        """Return a `postableAlert` of Alertmanager's API v2; without `endsAt` it fires for `resolve_timeout`."""
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
    """Firing alerts until they are resolved, and resolved ones until their end was posted often enough."""

    def __init__(self) -> None:
        self._postings: dict[_Labels, Posting] = {}

    def take(self, alert: Alert) -> None:
        """Take in the next message of an episode."""
        self._end_others(alert)
        ends_at = None
        if alert.status == "resolved":
            # an end before the start is rejected, and a retired alert may have no window that ended
            ends_at = max(alert.starts_at, alert.ends_at or alert.starts_at)
        self._postings[_labels(alert)] = Posting(alert, ends_at)

    def forget(self, fingerprint: str) -> None:
        """Drop an alert whose key was deleted: it is posted no more."""
        self._postings = {key: p for key, p in self._postings.items() if p.alert.fingerprint != fingerprint}

    def due(self) -> list[Posting]:
        """Return every alert that is to be posted now."""
        return list(self._postings.values())

    def told(self, postings: list[Posting]) -> None:
        """Note that the receiver took them; alerts that were replaced meanwhile are still to be posted."""
        for posting in postings:
            posting.told += 1
            key = _labels(posting.alert)
            over = posting.ends_at is not None and posting.told >= RESOLVED_POSTS
            if over and self._postings.get(key) is posting:
                del self._postings[key]

    def _end_others(self, alert: Alert) -> None:
        """End the alerts of the same fingerprint with other labels."""
        at = alert.ends_at or alert.window_end() or alert.starts_at
        for key, posting in list(self._postings.items()):
            same = posting.alert.fingerprint == alert.fingerprint
            if same and posting.ends_at is None and key != _labels(alert):
                self._postings[key] = Posting(posting.alert, max(posting.alert.starts_at, at))


def fault(alert: Alert) -> str | None:
    """Return why an Alertmanager would reject a whole post because of this alert; None if it would not."""
    if not alert.labels:
        return "no labels"
    for name, time in (("startsAt", alert.starts_at), ("endsAt", alert.ends_at)):
        if time is not None and parse(time) is None:
            return f"{name}: no RFC 3339 date-time"
    return None


def _labels(alert: Alert) -> _Labels:
    return tuple(sorted(alert.labels.items()))
