"""The topics of docs/contracts.md as they should be, and how a cluster's topics differ from that."""

from __future__ import annotations

from kafka_runtime.topics import Topic
from schemas.setting_names import Topics

DAY_MS = 86_400_000

# fields of Topics whose partition count is copied from the existing input topic
AS_THE_INPUT = ("topic_predictions", "topic_shadow", "topic_dead_letters")


def wanted(
    settings: Topics, existing: dict[str, Topic], partitions: int, replication_factor: int, min_isr: int | None
) -> list[Topic]:
    """Return every topic as in docs/contracts.md; `partitions` is for customer-events where it does not exist."""
    events = existing.get(settings.topic_events)
    as_input = events.partitions if events is not None else partitions
    retention_days = {
        "topic_events": 7,
        "topic_predictions": 7,
        "topic_shadow": 3,
        "topic_dead_letters": 14,
        "topic_labels": 90,
        "topic_panes": 2,
        "topic_measurements": 30,
    }
    partition_counts = dict.fromkeys(AS_THE_INPUT, as_input) | {
        "topic_events": partitions,
        "topic_labels": 4,
        "topic_label_state": 4,
    }
    out = []
    for field in Topics.model_fields:
        config = {"compression.type": "producer"}
        if field in retention_days:
            config |= {"cleanup.policy": "delete", "retention.ms": str(retention_days[field] * DAY_MS)}
        else:
            config |= {"cleanup.policy": "compact"}
        if field == "topic_alerts":
            # the history of 90 days can be read, and the last state of every alert without limit
            config |= {"min.compaction.lag.ms": str(90 * DAY_MS)}
        if min_isr is not None:
            config["min.insync.replicas"] = str(min_isr)
        out.append(Topic(getattr(settings, field), partition_counts.get(field, 1), replication_factor, config))
    return out


def differences(wanted_topics: list[Topic], existing: dict[str, Topic], *, any_count: str) -> list[str]:
    """Return one line per topic that is missing or differs.

    The topic `any_count` may have any number of partitions.
    """
    lines = []
    for topic in wanted_topics:
        found = existing.get(topic.name)
        if found is None:
            lines.append(f"{topic.name}: missing")
            continue
        if found.partitions != topic.partitions and topic.name != any_count:
            lines.append(f"{topic.name}: {found.partitions} partitions, expected {topic.partitions}")
        if topic.replication_factor not in {-1, found.replication_factor}:
            lines.append(
                f"{topic.name}: replication factor {found.replication_factor}, expected {topic.replication_factor}"
            )
        lines += [
            f"{topic.name}: {name} is {found.config.get(name)}, expected {value}"
            for name, value in topic.config.items()
            if found.config.get(name) != value
        ]
    return lines
