"""Alerts as they are in the topic: episodes, groups, fingerprints, evidence."""

import hashlib
import json

import msgspec
import pytest
from msgspec.structs import replace

from drift_worker.alerting.episodes import Announcer, Decisions
from drift_worker.alerting.findings import Finding, Grade, judge
from drift_worker.alerting.limits import Confirm, Policy
from schemas.alert import AlertName, decode_alert, fingerprint
from schemas.measurement import Bins, FeatureMeasurement, Measurement, Sample, Window, decode_measurement

POLICY = Policy({"5s": 5000, "15s": 15000}, {"5s": Confirm(2, 3), "15s": Confirm(2, 3)})
QUIET = FeatureMeasurement(
    kind="numeric",
    events=1500,
    effective=1480.5,
    psi=0.01,
    psi_textbook=0.011,
    psi_corrected=0.0,
    ks=0.02,
    log10_p=-0.3,
    effect=0.02,
    missing_ratio=0.0,
    reference=5000,
    reference_missing_ratio=0.0,
    tests={"psi": -0.3, "ks": -0.2},
    null_999=0.011,
    score_shift=0.001,
    bins=Bins([1.0, 2.0], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]),
)
MOVED = replace(
    QUIET, psi=0.34, psi_corrected=0.336, ks=0.22, effect=0.336, log10_p=-106.7, tests={"psi": -106.7, "ks": -60.0}
)
SCORE = replace(QUIET, kind="score", psi=0.12, mean=0.33, reference_mean=0.27)


def _measurement(end, length="5s", **features):
    return Measurement(
        model="churn-telco",
        model_version="1.4.0",
        reference_sha256="ab" * 32,
        window=Window(length, "start", end),
        complete=True,
        sample=Sample(1500, 3, 0),
        features={**features},
        score=SCORE,
        offsets={"customer-events": {"0": (100, 220)}},
    )


class _Stream:
    """Feeds windows of 5 s one after the other; unless it is new, everything was clean before the first of them."""

    def __init__(self, *, new=False):
        self.announcer = Announcer(POLICY, "churn-telco", "docs/runbook.md")
        self.now_ms = 0 if new else -5000
        self.alerts = []
        if not new:
            self.window(a=QUIET, b=QUIET, c=QUIET, monthly_charges=QUIET)

    def window(self, **features):
        self.now_ms += 5000
        judged = judge(POLICY, _measurement(str(self.now_ms), **features), 8, 0.0)
        alerts, self.shown = self.announcer.step(self.now_ms, [judged])
        self.alerts += alerts
        return alerts


def test_an_ordinary_episode_is_two_messages():
    """Firing with the whole evidence, resolved three clean windows later; times are event time."""
    stream = _Stream()
    stream.window(monthly_charges=QUIET)
    (fired,) = stream.window(monthly_charges=MOVED)
    assert stream.window(monthly_charges=MOVED) == []
    for _ in range(2):
        assert stream.window(monthly_charges=QUIET) == []
    (resolved,) = stream.window(monthly_charges=QUIET)
    value = json.loads(fired.encode())
    assert value["version"] == 1
    assert value["status"] == "firing"
    assert value["labels"] == {
        "alertname": "FeatureDrift",
        "severity": "critical",
        "model": "churn-telco",
        "feature": "monthly_charges",
    }
    assert value["annotations"]["summary"] == "monthly_charges moved: PSI 0.34, KS D 0.22 (limit 0.10)"
    assert value["annotations"]["runbook_url"] == "docs/runbook.md#featuredrift"
    assert (value["startsAt"], value["endsAt"], value["sequence"]) == ("1970-01-01T00:00:10.000Z", None, 1)
    evidence = value["evidence"]
    assert evidence["statistic"]["psi"] == 0.34
    assert evidence["statistic"]["log10_p"] == -106.7
    assert evidence["limits"]["effect_critical"] == 0.2
    assert evidence["sample"] == {
        "events": 1500,
        "effective": 1480.5,
        "reference": 5000,
        "missing_ratio": 0.0,
        "unseen_ratio": None,
        "late": 3,
        "complete": True,
    }
    assert evidence["score_shift"] == {"probability_psi": 0.12, "mean_before": 0.27, "mean_now": 0.33}
    assert evidence["offsets"] == {"customer-events": {"0": [100, 220]}}
    assert resolved.status == "resolved"
    assert (resolved.starts_at, resolved.ends_at) == ("1970-01-01T00:00:10.000Z", "1970-01-01T00:00:30.000Z")
    assert resolved.sequence == 2
    assert resolved.fingerprint == fired.fingerprint == fired.key().decode()
    assert len(stream.alerts) == 2


def test_the_fingerprint_is_the_contracts():
    """First 16 hex digits of sha256 over sorted name=value lines; the severity and all other values are not in it."""
    labels = {"severity": "warning", "model": "m", "feature": "f", "alertname": "FeatureDrift"}
    expected = hashlib.sha256(b"alertname=FeatureDrift\nfeature=f\nmodel=m\n").hexdigest()[:16]
    assert fingerprint(labels) == expected
    without = {"alertname": "NoData", "model": "m"}
    assert fingerprint(without) == hashlib.sha256(b"alertname=NoData\nmodel=m\n").hexdigest()[:16]


def test_features_that_open_together_share_one_alert():
    """Two at once are a group, ranked by how far they move the score; a third joins silently; the last one ends it."""
    stream = _Stream()
    (fired,) = stream.window(a=MOVED, b=replace(MOVED, score_shift=-0.2), c=QUIET)
    assert fired.labels["feature"] == "group"
    assert [member["feature"] for member in fired.evidence["features"]] == ["b", "a"]
    assert stream.window(a=MOVED, b=MOVED, c=MOVED) == []
    for _ in range(3):
        assert stream.window(a=QUIET, b=QUIET, c=MOVED) == []
    messages = [alert for _ in range(3) for alert in stream.window(a=QUIET, b=QUIET, c=QUIET)]
    (resolved,) = messages
    assert resolved.status == "resolved"
    assert sorted(member["feature"] for member in resolved.evidence["features"]) == ["a", "b", "c"]
    assert resolved.sequence == 2


def test_one_feature_after_another_are_two_alerts():
    """Only what opens at the same window close is a group."""
    stream = _Stream()
    stream.window(a=MOVED, b=QUIET)
    stream.window(a=MOVED, b=MOVED)
    assert [alert.labels["feature"] for alert in stream.alerts] == ["a", "b"]


def test_missing_values_and_drift_are_alerts_of_their_own():
    """A group is of features that drift; other kinds have separate alerts."""
    stream = _Stream()
    gone = replace(QUIET, missing_ratio=0.3, tests={**QUIET.tests, "missing": -200.0})
    for _ in range(2):
        stream.window(a=MOVED, b=gone)
    assert {(a.labels["alertname"], a.labels["feature"]) for a in stream.alerts} == {
        ("FeatureDrift", "a"),
        ("MissingValues", "b"),
    }


def test_the_severity_rises_in_one_more_message():
    """Warning, then two critical windows: sequence 2, the same fingerprint, still one episode."""
    small = replace(MOVED, psi_corrected=0.12, psi=0.12, ks=0.12, effect=0.12)
    stream = _Stream()
    for feature in (small, small, MOVED, MOVED, MOVED):
        stream.window(a=feature)
    assert [(a.status, a.labels["severity"], a.sequence) for a in stream.alerts] == [
        ("firing", "warning", 1),
        ("firing", "critical", 2),
    ]
    assert len({a.fingerprint for a in stream.alerts}) == 1
    assert stream.alerts[0].starts_at == "1970-01-01T00:00:05.000Z"


def test_windows_that_end_together_are_one_close():
    """A short and a long window end at the same moment: their openings are one group, not two alerts."""
    announcer = _Stream().announcer
    short, long = (
        judge(POLICY, _measurement("15000", length, **f), 8, 0.0)
        for length, f in (("5s", {"a": MOVED, "b": QUIET}), ("15s", {"a": MOVED, "b": MOVED}))
    )
    alerts, shown = announcer.step(15000, [short, long])
    assert [alert.labels["feature"] for alert in alerts] == ["group"]
    assert [episode.status for episode in shown.values()] == ["firing"]


def test_the_score_drifts_without_a_feature():
    """PredictionDrift names no feature."""
    announcer = _Stream().announcer
    measurement = replace(_measurement("5000"), score=replace(MOVED, kind="score", mean=0.5, reference_mean=0.27))
    alerts, _ = announcer.step(5000, [judge(POLICY, measurement, 8, 0.0)])
    assert [alert.labels for alert in alerts] == [
        {"alertname": "PredictionDrift", "severity": "critical", "model": "churn-telco"}
    ]


def test_what_differs_from_the_first_window_on_is_a_mismatch():
    """One message, a ticket however large it is, that proposes another reference; clean windows resolve it."""
    stream = _Stream(new=True)
    (fired,) = stream.window(monthly_charges=MOVED)
    for _ in range(5):
        assert stream.window(monthly_charges=MOVED) == []
    assert stream.window(monthly_charges=QUIET) == stream.window(monthly_charges=QUIET) == []
    (resolved,) = stream.window(monthly_charges=QUIET)
    assert fired.labels == {
        "alertname": "ReferenceMismatch",
        "severity": "warning",
        "model": "churn-telco",
        "feature": "monthly_charges",
    }
    assert fired.annotations["summary"] == (
        "monthly_charges never fitted the reference: PSI 0.34, KS D 0.22 (limit 0.10)"
    )
    assert "`driftline rebaseline`" in fired.annotations["description"]
    assert fired.annotations["runbook_url"] == "docs/runbook.md#referencemismatch"
    assert (fired.sequence, resolved.sequence, resolved.status) == (1, 2, "resolved")
    assert resolved.fingerprint == fired.fingerprint
    assert resolved.annotations["summary"].startswith("resolved: monthly_charges fits the reference now:")


def test_what_moves_after_a_mismatch_has_ended_is_drift():
    """It was clean in between, so it has changed."""
    stream = _Stream(new=True)
    for feature in (MOVED, *[QUIET] * 3, *[MOVED] * 4):
        stream.window(a=feature)
    assert [(a.labels["alertname"], a.status) for a in stream.alerts] == [
        ("ReferenceMismatch", "firing"),
        ("ReferenceMismatch", "resolved"),
        ("FeatureDrift", "firing"),
    ]


def test_a_single_clean_window_makes_it_drift():
    """Exceeding, clean, exceeding again: it has changed. So it has if one of two windows that end together is clean."""
    small = replace(MOVED, psi_corrected=0.12, psi=0.12, ks=0.12, effect=0.12)
    stream = _Stream(new=True)
    for feature in (small, QUIET, small):
        stream.window(a=feature)
    assert [a.labels["alertname"] for a in stream.alerts] == ["FeatureDrift"]
    assert stream.alerts[0].starts_at == "1970-01-01T00:00:05.000Z"
    announcer = _Stream(new=True).announcer
    both = [judge(POLICY, _measurement("15000", length, a=f), 8, 0.0) for length, f in (("5s", QUIET), ("15s", MOVED))]
    assert [a.labels["alertname"] for a in announcer.step(15_000, both)[0]] == ["FeatureDrift"]


def test_features_that_never_fitted_share_one_alert():
    """Those that open together, those that follow, and not those that drift meanwhile; the score is separate."""
    stream = _Stream(new=True)
    (fired,) = stream.window(a=MOVED, b=replace(MOVED, score_shift=-0.2), c=replace(MOVED, reason="x", effect=None))
    assert (fired.labels["alertname"], fired.labels["feature"]) == ("ReferenceMismatch", "group")
    assert fired.annotations["summary"].startswith("2 features never fitted the reference: b (PSI 0.34")
    assert stream.window(a=MOVED, b=MOVED, c=MOVED, d=QUIET) == []
    (drifting,) = stream.window(a=MOVED, b=MOVED, c=MOVED, d=MOVED)
    assert (drifting.labels["alertname"], drifting.labels["feature"]) == ("FeatureDrift", "d")
    ended = [alert for _ in range(3) for alert in stream.window(a=QUIET, b=QUIET, c=QUIET, d=MOVED)]
    (resolved,) = ended
    assert (resolved.labels["alertname"], resolved.status, resolved.sequence) == ("ReferenceMismatch", "resolved", 2)
    assert sorted(member["feature"] for member in resolved.evidence["features"]) == ["a", "b", "c"]


def test_a_score_that_never_fitted_is_a_mismatch_without_a_feature():
    """As its drift has none."""
    announcer = _Stream(new=True).announcer
    measurement = replace(_measurement("5000"), score=replace(MOVED, kind="score", mean=0.5, reference_mean=0.27))
    (alert,) = announcer.step(5000, [judge(POLICY, measurement, 8, 0.0)])[0]
    assert alert.labels == {"alertname": "ReferenceMismatch", "severity": "warning", "model": "churn-telco"}
    assert alert.annotations["summary"].startswith("the score never fitted the reference")


def test_a_mismatch_has_a_state_of_its_own():
    """Rules page on the state of drift: it stays inactive, and the mismatch is a warning; later the other way round."""
    stream = _Stream(new=True)
    stream.window(a=MOVED, b=QUIET)
    stream.window(a=MOVED, b=MOVED)
    states = stream.announcer.states()
    assert (states["ReferenceMismatch", "a"], states["FeatureDrift", "a"]) == ("warning", "inactive")
    assert (states["ReferenceMismatch", "b"], states["FeatureDrift", "b"]) == ("inactive", "critical")
    assert (stream.announcer.state_of("a", ""), stream.announcer.state_of("b", "")) == ("warning", "critical")
    assert stream.announcer.state_of("c", "never seen") == "never seen"
    assert ("ReferenceMismatch", "") in states, "the score's"
    assert ("MissingValues", "a") in states


def test_a_mismatch_survives_a_restart_and_not_another_reference():
    """It keeps its name; with a new reference it ends, open drift continues, and the fit is tested again."""
    stream = _Stream(new=True)
    stream.window(a=MOVED, b=QUIET)
    stream.window(a=MOVED, b=MOVED)
    raw = msgspec.msgpack.encode(stream.announcer.decisions)
    stream.announcer = Announcer(POLICY, "churn-telco", "docs/runbook.md", msgspec.msgpack.decode(raw, type=Decisions))
    assert stream.window(a=MOVED, b=MOVED) == []
    (ended,) = stream.announcer.start_anew(99_000)
    assert (ended.labels["alertname"], ended.labels["feature"], ended.status) == ("ReferenceMismatch", "a", "resolved")
    assert (ended.annotations["reason"], ended.sequence) == ("reference_changed", 2)
    assert ended.ends_at == "1970-01-01T00:01:39.000Z"
    (again,) = stream.window(a=MOVED, b=MOVED)
    assert (again.labels["alertname"], again.labels["feature"], again.sequence) == ("ReferenceMismatch", "a", 1)
    later = [alert for _ in range(3) for alert in stream.window(a=MOVED, b=QUIET)]
    assert [(a.labels["alertname"], a.labels["feature"], a.status) for a in later] == [
        ("FeatureDrift", "b", "resolved")
    ]


def test_what_was_seen_in_a_backlog_counts_for_the_fit():
    """Windows too old to raise anything: one that was clean drifts afterwards, one that never was does not fit."""
    stream = _Stream(new=True)
    for feature in (QUIET, MOVED, MOVED, MOVED):
        stream.announcer.observe([judge(POLICY, _measurement("0", a=feature, b=MOVED), 8, 0.0)])
    assert not stream.announcer.decisions.episodes
    stream.window(a=MOVED, b=MOVED)
    assert {(a.labels["alertname"], a.labels["feature"]) for a in stream.alerts} == {
        ("FeatureDrift", "a"),
        ("ReferenceMismatch", "b"),
    }


def test_the_textbooks_rule_knows_no_mismatch():
    """It is configured as it is."""
    policy = Policy({"5s": 5000}, {"5s": Confirm(2, 3)}, kind="classic")
    announcer = Announcer(policy, "churn-telco", "docs/runbook.md")
    alerts, _ = announcer.step(5000, [judge(policy, _measurement("5000", a=replace(MOVED, psi_textbook=0.3)), 8, 0.0)])
    assert [a.labels["alertname"] for a in alerts] == ["DriftPolicyClassic"]
    assert announcer.state_of("a", "") == "critical"


def test_decisions_survive_a_restart():
    """Encoded and decoded in the middle of an episode, everything goes on as if nothing had happened."""
    stream = _Stream()
    stream.window(a=MOVED)
    raw = msgspec.msgpack.encode(stream.announcer.decisions)
    decisions = msgspec.msgpack.decode(raw, type=Decisions)
    stream.announcer = Announcer(POLICY, "churn-telco", "docs/runbook.md", decisions)
    for _ in range(3):
        stream.window(a=QUIET)
    assert [(a.status, a.sequence) for a in stream.alerts] == [("firing", 1), ("resolved", 2)]


def test_an_alert_of_a_feature_that_is_gone_is_resolved():
    """The new model has no such feature: resolved as retired, with the last evidence."""
    stream = _Stream()
    stream.window(a=MOVED, b=QUIET)
    (alert,) = stream.announcer.retire(["b"], 99_000)
    assert (alert.status, alert.annotations["reason"], alert.sequence) == ("resolved", "retired", 2)
    assert alert.ends_at == "1970-01-01T00:01:39.000Z"
    assert stream.announcer.retire(["b"], 99_000) == []


def test_alerts_and_measurements_can_be_read_back():
    """What is written is what is read; another version is refused."""
    stream = _Stream()
    (alert,) = stream.window(a=MOVED)
    assert decode_alert(alert.encode()) == alert
    measurement = _measurement("5000", a=MOVED)
    assert decode_measurement(measurement.encode()) == measurement
    assert measurement.key() == b"churn-telco/5s"
    for decode, value in ((decode_alert, alert), (decode_measurement, measurement)):
        with pytest.raises(ValueError, match="version 2"):
            decode(replace(value, version=2).encode())
        with pytest.raises(ValueError, match="malformed"):
            decode(b"\x00")


def test_a_finding_of_no_data_names_no_feature():
    """The longest window lacks data, twice: a warning about the model as a whole."""
    announcer = Announcer(POLICY, "churn-telco", "docs/runbook.md")
    nothing = Finding(AlertName.NO_DATA, None, Grade.WARNING)
    alerts = [announcer.step(i, [(_measurement(str(i), "15s"), [nothing])])[0] for i in (15000, 30000)]
    assert alerts[0] == []
    assert alerts[1][0].labels == {"alertname": "NoData", "severity": "warning", "model": "churn-telco"}
