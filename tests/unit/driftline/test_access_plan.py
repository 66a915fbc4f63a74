"""Rights: exactly those that docs/connect-your-kafka.md lists; and what Strimzi is given."""

from __future__ import annotations

import pytest
import yaml
from confluent_kafka.admin import ResourcePatternType, ResourceType
from support.oracle import Names
from support.secured import documented_acls
from typer.testing import CliRunner

from driftline.access_plan import rights
from driftline.cli import app
from schemas.setting_names import Topics

KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
# The headings of the document that each user's rights add up from.
SECTIONS = {
    "scorer": ("Scorer",),
    "drift-worker": ("Drift worker",),
    "upstream": ("Upstream producer",),
    "operator": (
        "driftline topics check",
        "driftline topics create",
        "driftline verify",
        "driftline compare, export",
        "driftline dead-letters show, count",
        "driftline dead-letters redrive",
    ),
    "on-call": ("driftline alerts tail", "driftline backtest, report"),
}


@pytest.mark.parametrize("user", SECTIONS)
def test_a_user_has_the_rights_of_the_document_and_no_other(user):
    """With other names of topics and groups than the defaults."""
    names = Names("own")
    own = {n.lower(): value for n, value in names.environment.items()}
    topics = Topics(**{field: own[field] for field in Topics.model_fields})
    granted = {
        (
            KINDS[right.kind],
            right.name,
            ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
            operation.upper(),
        )
        for right in rights(topics, own["scorer_group"], own["drift_group"])[user]
        for operation in right.operations
    }
    documented = {
        (acl.restype, acl.name, acl.resource_pattern_type, acl.operation.name.replace("_", ""))
        for title in SECTIONS[user]
        for acl in documented_acls(title, names, user)
    }
    assert granted == documented


def _printed(*options):
    done = CliRunner().invoke(app, ["topics", "create", "--print", "strimzi", *options])
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.output))


def test_strimzi_gets_every_topic_and_user(monkeypatch):
    """A topic whose name is none in Kubernetes gets another one there."""
    monkeypatch.setenv("TOPIC_EVENTS", "Customer_Events.v2")
    printed = _printed("--partitions", "12", "--replication-factor", "3", "--min-isr", "2", "--cluster", "prod")
    assert {r["apiVersion"] for r in printed} == {"kafka.strimzi.io/v1"}
    assert {r["metadata"]["labels"]["strimzi.io/cluster"] for r in printed} == {"prod"}
    topics = {r["spec"]["topicName"]: r for r in printed if r["kind"] == "KafkaTopic"}
    assert len(topics) == len(Topics.model_fields)
    events = topics["Customer_Events.v2"]
    assert events["metadata"]["name"] == "customer-events.v2"
    assert (events["spec"]["partitions"], events["spec"]["replicas"]) == (12, 3)
    assert events["spec"]["config"]["min.insync.replicas"] == "2"
    users = {r["metadata"]["name"]: r["spec"] for r in printed if r["kind"] == "KafkaUser"}
    assert users.keys() == SECTIONS.keys()
    assert users["upstream"]["authorization"]["acls"][0] == {
        "resource": {"type": "topic", "name": "Customer_Events.v2", "patternType": "literal"},
        "operations": ["Write"],
    }


def test_the_brokers_default_is_left_to_the_broker():
    """-1 is a word of Kafka's own commands, and no number of replicas."""
    assert all("replicas" not in r["spec"] for r in _printed() if r["kind"] == "KafkaTopic")


def test_a_form_without_print_is_refused():
    """Nothing is created by mistake."""
    done = CliRunner().invoke(app, ["topics", "create", "strimzi"])
    assert "expected --print with it" in str(done.exception)
