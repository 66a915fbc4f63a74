"""What `driftline alerts list` makes of the topic: which alerts are open, and in which order."""

from driftline.alert_topic import open_alerts
from schemas.alert import Alert


def _alert(mark, status="firing", severity="warning", since="2026-11-22T05:00:00.000Z", sequence=1):
    return mark, Alert(
        fingerprint=mark,
        status=status,
        labels={"alertname": "FeatureDrift", "severity": severity, "model": "churn", "feature": mark},
        annotations={"summary": f"{mark} moved"},
        starts_at=since,
        ends_at="2026-11-22T06:00:00.000Z" if status == "resolved" else None,
        sequence=sequence,
        evidence={},
    )


def test_the_last_message_of_a_fingerprint_says_whether_it_is_open():
    """Resolved is closed; firing again is open again, and shown as in its last message."""
    records = [
        _alert("tenure"),
        _alert("contract"),
        _alert("tenure", "resolved", sequence=2),
        _alert("contract", severity="critical", sequence=2),
        _alert("partner"),
        _alert("partner", "resolved", sequence=2),
        _alert("partner", since="2026-11-23T05:00:00.000Z"),
    ]
    assert [(a.fingerprint, a.labels["severity"], a.sequence, a.starts_at[:10]) for a in open_alerts(records)] == [
        ("contract", "critical", 2, "2026-11-22"),
        ("partner", "warning", 1, "2026-11-23"),
    ]


def test_critical_ones_stand_first_then_the_oldest():
    """The most urgent is at the top."""
    records = [
        _alert("young", since="2026-11-22T07:00:00.000Z"),
        _alert("old", since="2026-11-22T05:00:00.000Z"),
        _alert("page", severity="critical", since="2026-11-22T08:00:00.000Z"),
    ]
    assert [alert.fingerprint for alert in open_alerts(records)] == ["page", "old", "young"]


def test_a_deleted_key_is_no_alert():
    """A null under the fingerprint removes it; one of an unknown key changes nothing."""
    records = [_alert("tenure"), _alert("contract"), ("tenure", None), ("stranger", None)]
    assert [alert.fingerprint for alert in open_alerts(records)] == ["contract"]
