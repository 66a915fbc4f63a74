"""Records of the alerts topic, and what is read out of a stranger's."""

import json

import pytest
from msgspec.structs import replace

from schemas.alert import GROUP, Alert, decode_alert, fingerprint

LABELS = {"alertname": "FeatureDrift", "severity": "critical", "model": "churn", "feature": "tenure"}
ALERT = Alert(
    fingerprint=fingerprint(LABELS),
    status="firing",
    labels=LABELS,
    annotations={"summary": "tenure moved"},
    starts_at="2026-11-22T05:00:00.000Z",
    sequence=1,
    evidence={"window": {"end": "2026-11-22T05:15:00.000Z"}, "features": None},
)


def test_an_alert_is_read_as_it_was_written_with_alertmanagers_names():
    """StartsAt and endsAt, as Alertmanager spells them; the key is the fingerprint."""
    assert decode_alert(ALERT.encode()) == ALERT
    assert json.loads(ALERT.encode())["startsAt"] == "2026-11-22T05:00:00.000Z"
    assert ALERT.key() == ALERT.fingerprint.encode()
    assert ALERT.title() == "FeatureDrift tenure critical"


def test_the_fingerprint_names_the_subject_and_not_how_bad_it_is():
    """An alert that becomes critical, or of another model version, is the same episode."""
    assert fingerprint({**LABELS, "severity": "warning", "model_version": "2"}) == ALERT.fingerprint
    assert fingerprint({**LABELS, "feature": "fees"}) != ALERT.fingerprint
    assert fingerprint({k: v for k, v in LABELS.items() if k != "feature"}) != ALERT.fingerprint


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not an alert"),
        (b"\xff", "not an alert"),
        (b"{}", "not an alert"),
        (b"[" * 100_000, "not an alert"),
        (ALERT.encode().replace(b'"firing"', b'"burning"'), "not an alert"),
        (replace(ALERT, version=2).encode(), "alert: version 2 is not known, only 1"),
    ],
)
def test_other_bytes_are_an_error(raw, message):
    """Anybody may write to the topic."""
    with pytest.raises(ValueError, match=message):
        decode_alert(raw)


def test_evidence_of_a_stranger_gives_what_has_the_form():
    """It may hold anything."""
    assert ALERT.window_end() == "2026-11-22T05:15:00.000Z"
    assert [replace(ALERT, evidence={"window": w}).window_end() for w in (None, [], {}, {"end": 5})] == [None] * 4
    listed = [{"feature": "a"}, {"feature": 5}, "b", {}]
    group = replace(ALERT, labels={**LABELS, "feature": GROUP}, evidence={"features": listed})
    assert group.members() == [{"feature": "a"}]
    assert replace(ALERT, evidence={"features": listed}).members() == []
    assert replace(group, evidence={"features": "a"}).members() == []
