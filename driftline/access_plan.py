"""Who may do what on the cluster: the ACLs of docs/connect-your-kafka.md; topics and users as Strimzi takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka_runtime.topics import Topic
from schemas.setting_names import Topics

API = "kafka.strimzi.io/v1"
# A name in Kubernetes is a DNS name; a topic's may have more in it.
_NOT_DNS = re.compile(r"[^a-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Right:
    """Operations on a topic, a group or a transactional id (`transactionalId`), or on all that begin with the name."""

    kind: str
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def rights(topics: Topics, scorer_group: str, drift_group: str) -> dict[str, list[Right]]:
    """Return each user's rights: the services, the producer upstream, an operator of the commands, and on-call.

    `skip` is left out: it takes a scorer's partitions away, and few should have it.
    """
    t = topics
    every = [getattr(t, field) for field in Topics.model_fields]
    redrive = "driftline-redrive."
    return {
        "scorer": [
            Right("topic", t.topic_events, ("Read",)),
            *_on("topic", (t.topic_predictions, t.topic_dead_letters), "Read", "Write"),
            Right("topic", t.topic_shadow, ("Write",)),
            Right("group", scorer_group, ("Read",)),
            Right("transactionalId", f"{scorer_group}.", ("Write",), prefixed=True),
        ],
        "drift-worker": [
            *_on("topic", (t.topic_events, t.topic_predictions, t.topic_labels), "Read"),
            *_on("topic", (t.topic_panes, t.topic_measurements, t.topic_label_state), "Read", "Write"),
            Right("topic", t.topic_alerts, ("Write",)),
            *_on("group", (drift_group, f"{drift_group}-evaluator", f"{drift_group}-labels"), "Read"),
            *(
                Right("transactionalId", f"{drift_group}{stage}.", ("Write",), prefixed=True)
                for stage in ("", "-evaluator", "-labels")
            ),
        ],
        "upstream": _on("topic", (t.topic_events, t.topic_labels), "Write"),
        "operator": [
            *_on("topic", every, "Create", "Describe", "DescribeConfigs"),
            *_on("topic", (t.topic_events, t.topic_predictions, t.topic_dead_letters), "Read"),
            *_on("topic", (t.topic_labels, t.topic_shadow, t.topic_measurements), "Read"),
            Right("topic", t.topic_events, ("Write",)),
            Right("group", scorer_group, ("Describe",)),
            Right("group", redrive, ("Read",), prefixed=True),
            Right("transactionalId", redrive, ("Write",), prefixed=True),
        ],
        "on-call": _on("topic", (t.topic_measurements, t.topic_alerts), "Read"),
    }


def _on(kind: str, names: Iterable[str], *operations: str) -> list[Right]:
    return [Right(kind, name, operations) for name in names]


def strimzi(topics: Iterable[Topic], users: Mapping[str, list[Right]], cluster: str) -> str:
    """Return KafkaTopic and KafkaUser resources as YAML documents, written in JSON."""
    labels = {"strimzi.io/cluster": cluster}
    resources = [_topic(topic, labels) for topic in topics]
    resources += [_user(name, granted, labels) for name, granted in users.items()]
    return "\n".join(f"---\n{json.dumps(resource, indent=2)}" for resource in resources)


def _topic(topic: Topic, labels: Mapping[str, str]) -> dict[str, Any]:
    spec: dict[str, Any] = {"topicName": topic.name, "partitions": topic.partitions, "config": dict(topic.config)}
    if topic.replication_factor != -1:
        spec["replicas"] = topic.replication_factor
    return {"apiVersion": API, "kind": "KafkaTopic", "metadata": _metadata(topic.name, labels), "spec": spec}


def _user(name: str, granted: Iterable[Right], labels: Mapping[str, str]) -> dict[str, Any]:
    acls = [
        {
            "resource": {
                "type": right.kind,
                "name": right.name,
                "patternType": "prefix" if right.prefixed else "literal",
            },
            "operations": list(right.operations),
        }
        for right in granted
    ]
    spec = {"authentication": {"type": "scram-sha-512"}, "authorization": {"type": "simple", "acls": acls}}
    return {"apiVersion": API, "kind": "KafkaUser", "metadata": _metadata(name, labels), "spec": spec}


def _metadata(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"name": _NOT_DNS.sub("-", name.lower()).strip("-.") or "topic", "labels": dict(labels)}
