"""Measurements decided again: changes of a policy, what is left out, and how both sides are laid beside each other.

The equality under the same policy is tested where measurements are made:
tests/unit/drift_worker/stages/test_evaluate_windows.py.
"""

import pytest
from msgspec.structs import replace

from drift_worker.alerting.episodes import Announcer
from drift_worker.alerting.findings import decide
from drift_worker.alerting.limits import Confirm, Policy
from driftline.commands.backtest import _confirm, _subject
from driftline.errors import CommandError
from driftline.policy_backtest import Change, Episode, Replay, episodes_of, side_by_side
from driftline.since import parse_since
from schemas.measurement import Decision, FeatureMeasurement, Measurement, Sample, Window
from schemas.timestamps import render

LENGTHS = {"5s": 5000, "15s": 15_000}
POLICY = Policy(LENGTHS, {"5s": Confirm(2, 3), "15s": Confirm(2, 3)}, limits={"own": (0.3, 0.4), "half": (0.1, 0.4)})
QUIET = FeatureMeasurement(
    kind="numeric",
    events=1500,
    effective=1500.0,
    psi=0.01,
    psi_textbook=0.01,
    psi_corrected=0.0,
    ks=0.02,
    log10_p=-0.3,
    effect=0.02,
    missing_ratio=0.0,
    reference=5000,
    reference_missing_ratio=0.0,
    tests={"psi": -0.3, "ks": -0.2},
)
MOVED = replace(
    QUIET,
    psi=0.15,
    psi_textbook=0.15,
    psi_corrected=0.15,
    ks=0.12,
    effect=0.15,
    log10_p=-40.0,
    tests={"psi": -40.0, "ks": -30.0},
)


def measured(at_s, length="5s", policy=POLICY, together=None, announced=True, **features):
    """A window that ended `at_s` seconds after 1970 began."""
    return Measurement(
        model="churn",
        model_version="1.0.0",
        reference_sha256="00" * 32,
        window=Window(length, render(at_s * 1000 - LENGTHS[length]), render(at_s * 1000)),
        complete=True,
        sample=Sample(1500, 0, 0),
        features=features,
        decision=Decision(
            tests=8,
            overlap=0.0,
            together=together or [length],
            first=False,
            announced=announced,
            policy=policy.stated(),
        ),
    )


def replayed(measurements, change=None, **options):
    """A replay that has taken them all."""
    replay = Replay(change or Change(), **options)
    for measurement in measurements:
        replay.take(measurement)
    return replay


def stream(*features, policy=POLICY, start_s=5):
    """Windows of 5 s, one after the other."""
    return [measured(start_s + 5 * i, policy=policy, a=feature) for i, feature in enumerate(features)]


def test_what_is_not_changed_stays_as_it_was():
    """An own limit stays; one that equals the general one follows it; confirmation changes length by length."""
    assert Change().of(POLICY) == POLICY
    changed = Change("classic", 0.2, 0.35, 2.5, {"15s": (1, 1)}).of(POLICY)
    assert changed == Policy(
        LENGTHS,
        {"5s": Confirm(2, 3), "15s": Confirm(1, 1)},
        kind="classic",
        budget=2.5,
        effect_warning=0.2,
        effect_critical=0.35,
        limits={"own": (0.3, 0.4), "half": (0.2, 0.4)},
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Change(effect_warning=0.3), "--effect-critical: 0.2 is below the warning limit, 0.3"),
        (Change(confirm={"24h": (1, 1)}), "--confirm: no windows of 24h were measured, only of 5s, 15s"),
    ],
)
def test_a_change_that_makes_no_policy_is_named(change, says):
    """One line that names the option."""
    with pytest.raises(ValueError, match=says):
        change.of(POLICY)


def test_the_policy_survives_the_topic():
    """Written in a measurement and read from it, it is the same; what is none is refused."""
    raw = measured(5, a=QUIET).encode()
    from schemas.measurement import decode_measurement

    assert Policy.of(decode_measurement(raw).decision.policy) == POLICY
    with pytest.raises(ValueError, match="policy: "):
        Policy.of({"lengths": 3})


def test_other_limits_give_other_episodes():
    """PSI* 0.15 in four windows: a warning of two messages; above a limit of 0.2 nothing; critical from 0.12 on."""
    measurements = stream(QUIET, MOVED, MOVED, MOVED, MOVED, QUIET, QUIET, QUIET)
    (episode,) = episodes_of(replayed(measurements).alerts)
    assert episode == Episode(
        model="churn",
        alertname="FeatureDrift",
        feature="a",
        features=(),
        severity="warning",
        start="1970-01-01T00:00:10.000Z",
        end="1970-01-01T00:00:40.000Z",
        messages=2,
    )
    assert replayed(measurements, Change(effect_warning=0.2)).alerts == []
    (critical,) = episodes_of(replayed(measurements, Change(effect_critical=0.12)).alerts)
    assert (critical.severity, critical.start) == ("critical", "1970-01-01T00:00:10.000Z")
    (late,) = episodes_of(replayed(measurements, Change(confirm={"5s": (3, 3)})).alerts)
    assert (late.start, late.messages) == ("1970-01-01T00:00:10.000Z", 2)


def test_a_policy_that_changed_on_the_way_is_followed():
    """As a worker that was restarted with other settings: what was open stays open, later windows count by the new."""
    other = Policy(LENGTHS, {"5s": Confirm(3, 3), "15s": Confirm(2, 3)})
    features = [MOVED, MOVED, QUIET, QUIET, QUIET, QUIET, QUIET, QUIET, MOVED, MOVED, QUIET, MOVED, MOVED, MOVED]
    measurements = stream(*features[:3]) + stream(*features[3:], policy=other, start_s=20)
    said, announcer = [], Announcer(POLICY, "churn", "docs/runbook.md")
    for number, measurement in enumerate(measurements):
        policy = POLICY if number < 3 else other
        if number == 3:
            announcer = Announcer(other, "churn", "docs/runbook.md", announcer.decisions)
        said += announcer.step((number + 1) * 5000, [decide(policy, measurement)])[0]
    assert replayed(measurements).alerts == said
    assert [(e.start[14:19], e.messages) for e in episodes_of(said)] == [("00:05", 2), ("00:45", 1)]


def test_windows_that_ended_together_are_decided_together():
    """A short and a long one; the features that move in either are one group."""
    both = ["5s", "15s"]
    measurements = [
        measured(15, together=both, a=replace(MOVED, effect=0.5, psi_corrected=0.5), b=QUIET),
        measured(15, "15s", together=both, a=QUIET, b=replace(MOVED, effect=0.5, psi_corrected=0.5)),
    ]
    (episode,) = episodes_of(replayed(measurements).alerts)
    assert (episode.feature, episode.features) == ("group", ("a", "b"))


def test_what_cannot_be_decided_again_is_counted():
    """Without a decision, without its companions, or too old: left out, and the rest goes on."""
    both = ["5s", "15s"]
    replay = replayed(
        [
            measured(10, "15s", together=both, a=MOVED),  # its short window is no longer on the topic
            replace(measured(15, a=MOVED), decision=None),
            measured(20, together=both, a=MOVED),  # the long one never comes
            measured(25, announced=False, a=MOVED),
            measured(30, a=MOVED),
        ]
    )
    assert replay.left_out == {"no_decision": 1, "cut": 2, "too_old": 1}
    assert replay.decided == 1
    assert replay.since() == {"churn": "1970-01-01T00:00:30.000Z"}


def test_models_are_decided_apart():
    """Two models on one topic: each has separate episodes, with any records between its windows."""
    ours = stream(QUIET, MOVED, MOVED, MOVED)
    theirs = [replace(m, model="other") for m in stream(MOVED, QUIET, MOVED, QUIET)]
    mixed = [m for pair in zip(ours, theirs, strict=True) for m in pair]
    assert sorted(e.model for e in episodes_of(replayed(mixed).alerts)) == ["churn", "other"]
    assert episodes_of(replayed(ours).alerts)[0] in episodes_of(replayed(mixed).alerts)


def episode(feature, start, end, alertname="FeatureDrift", features=(), messages=2):
    """Of one hour of one day; `start` and `end` are minutes."""
    at = "2026-11-22T05:{}:00.000Z".format
    return Episode("churn", alertname, feature, features, "warning", at(start), end and at(end), messages)


def test_the_same_movement_stands_in_one_row():
    """One feature at the same time, under any name of the policy, alone or in a group; another time is another row."""
    tenure, later = episode("tenure", "10", "20"), episode("tenure", "30", "40")
    classic = episode("tenure", "15", None, "DriftPolicyClassic")
    group = episode("group", "12", "18", features=("partner", "tenure"))
    score, unseen = episode(None, "10", "20", "PredictionDrift"), episode("tenure", "10", "20", "UnseenCategories")
    assert side_by_side([tenure, later], [classic]) == [(tenure, classic), (later, None)]
    assert side_by_side([tenure], [group]) == [(tenure, group)]
    assert side_by_side([tenure], [later]) == [(tenure, None), (None, later)]
    assert side_by_side([tenure], [score]) == [(tenure, None), (None, score)]
    assert side_by_side([tenure], [unseen]) == [(tenure, None), (None, unseen)]
    assert side_by_side([], []) == []


def test_confirm_is_read_as_the_setting():
    """LENGTH:k/N, k at most N."""
    assert _confirm("15m:2/3, 1h:1/1") == {"15m": (2, 3), "1h": (1, 1)}
    assert _confirm(None) == {}
    for text in ("15m", "15m:3/2", "15m:0/3", "15m:2/3,"):
        with pytest.raises(CommandError, match="--confirm: "):
            _confirm(text)


def test_since_is_a_duration_or_a_time():
    """Back from now, or a date-time; nothing is the beginning."""
    assert parse_since(None) == 0
    assert parse_since("1970-01-01T00:00:01Z") == 1000
    assert abs(parse_since("1h") - parse_since("2h") - 3_600_000) < 60_000
    with pytest.raises(CommandError, match="--since: expected"):
        parse_since("yesterday")


@pytest.mark.parametrize(
    ("alertname", "subject"),
    [("PredictionDrift", "the score"), ("NoData", "all"), ("RelationDrift", "features together")],
)
def test_an_episode_without_a_feature_has_a_subject(alertname, subject):
    """The score, the window as a whole, or features together."""
    episode = Episode("churn", alertname, None, (), "warning", "2026-11-22T05:00:00.000Z", None, 1)
    assert _subject(episode) == subject
