"""`driftline alerts forward` without Kafka: the posts to a real HTTP server, under each of its answers."""

import asyncio
from contextlib import suppress

import httpx
import pytest
from support.receiver import Receiver
from support.services import free_port

from driftline.alertmanager import forwarder
from driftline.alertmanager.forwarder import Poster, pause_s
from driftline.alertmanager.outbox import Outbox, fault
from driftline.commands.alerts import _every_s, _http_url
from driftline.errors import CommandError
from schemas.alert import Alert

BEGAN, RAISED, ENDED = "2026-11-22T05:00:00.000Z", "2026-11-22T05:15:00.000Z", "2026-11-22T06:00:00.000Z"


def alert(feature="tenure", status="firing", severity="warning", **changes):
    """A message of the episode of one feature."""
    members = {
        "fingerprint": f"of-{feature}",
        "status": status,
        "labels": {"alertname": "FeatureDrift", "severity": severity, "model": "churn", "feature": feature},
        "annotations": {"summary": f"{feature} moved"},
        "starts_at": BEGAN,
        "ends_at": ENDED if status == "resolved" else None,
        "sequence": 1,
        "evidence": {"window": {"end": RAISED}},
    }
    return Alert(**{**members, **changes})


def said(outbox):
    """(feature, severity, endsAt) of everything that is due."""
    labels = [(p.alert.labels, p.ends_at) for p in outbox.due()]
    return [(found["feature"], found["severity"], ends_at) for found, ends_at in labels]


def test_a_firing_alert_is_due_until_it_is_resolved_and_its_end_three_times():
    """However often a firing one was posted; an end that was posted three times is not posted again."""
    outbox = Outbox()
    outbox.take(alert())
    for _ in range(10):
        assert said(outbox) == [("tenure", "warning", None)]
        outbox.told(outbox.due())
    outbox.take(alert(status="resolved"))
    for _ in range(3):
        assert said(outbox) == [("tenure", "warning", ENDED)]
        outbox.told(outbox.due())
    assert said(outbox) == []


def test_when_the_severity_rises_the_former_labels_end():
    """For an Alertmanager the severity is part of the name: without an end, the ticket would stay beside the page."""
    outbox = Outbox()
    outbox.take(alert())
    outbox.take(alert(severity="critical"))
    assert said(outbox) == [("tenure", "warning", RAISED), ("tenure", "critical", None)]
    outbox.take(alert("resolved", severity="critical"))
    assert ("tenure", "critical", None) in said(outbox)


def test_what_changes_while_it_is_being_told_is_told_again():
    """An end that arrives during a post does not count as posted by it, nor is a new beginning lost."""
    outbox = Outbox()
    outbox.take(alert(status="resolved"))
    for _ in range(2):
        outbox.told(outbox.due())
    third = outbox.due()
    outbox.take(alert())
    outbox.told(third)
    assert said(outbox) == [("tenure", "warning", None)]


def test_an_end_is_never_before_its_start():
    """An Alertmanager refuses that, and with a retired alert no window may have ended."""
    outbox = Outbox()
    outbox.take(alert(status="resolved", ends_at="1970-01-01T00:00:00.000Z"))
    assert said(outbox) == [("tenure", "warning", BEGAN)]


def test_a_deleted_key_is_no_longer_told():
    """A null under the fingerprint."""
    outbox = Outbox()
    outbox.take(alert())
    outbox.take(alert("contract"))
    outbox.forget("of-tenure")
    assert said(outbox) == [("contract", "warning", None)]


def test_what_would_spoil_the_whole_post_is_named():
    """An Alertmanager that cannot read one time refuses all the others with it."""
    assert fault(alert()) is None
    assert fault(alert(status="resolved")) is None
    assert fault(alert(starts_at="yesterday")) == "startsAt: no RFC 3339 date-time"
    assert fault(alert(ends_at="")) == "endsAt: no RFC 3339 date-time"
    assert fault(alert(labels={})) == "no labels"


def test_pauses_grow_up_to_the_interval():
    """1, 2, 4, … seconds after a failure; the interval itself after a success, and a short one is never exceeded."""
    assert [pause_s(n, 60.0) for n in (0, 1, 2, 3, 6, 7, 5000)] == [60.0, 1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
    assert pause_s(9, 0.5) == 0.5


def post(url, outbox, until, *, every_s=0.05, say=None, **options):
    """Runs a poster over the outbox until `await until(poster)` returns; returns its notes."""
    lines = []

    async def run():
        async with httpx.AsyncClient() as client:
            poster = Poster(outbox, client, httpx.URL(url), every_s, say=say or lines.append, **options)
            running = asyncio.ensure_future(poster.run())
            poster.changed()
            await asyncio.wait_for(until(poster), 60)
            assert not running.done(), running
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(run())
    return lines


def posts_of(receiver, count):
    """An `until`: this number of posts has arrived."""
    return lambda _: asyncio.to_thread(receiver.wait_for, count)


def test_an_alert_is_posted_as_the_api_expects_and_posted_again():
    """POST {URL}/api/v2/alerts, a list of labels, annotations and startsAt; firing without endsAt."""
    outbox = Outbox()
    outbox.take(alert())
    with Receiver() as receiver:
        lines = post(receiver.url + "/", outbox, posts_of(receiver, 3), generator_url="http://drift:8001")
    assert receiver.posts[0] == receiver.posts[1] == receiver.posts[2]
    assert receiver.posts[0] == (
        "/api/v2/alerts",
        "application/json",
        [
            {
                "labels": {
                    "alertname": "FeatureDrift",
                    "severity": "warning",
                    "model": "churn",
                    "feature": "tenure",
                    "origin": "kafka",
                },
                "annotations": {"summary": "tenure moved"},
                "startsAt": "2026-11-22T05:00:00.000Z",
                "generatorURL": "http://drift:8001",
            }
        ],
    )
    assert lines == ["posted 1 firing, 0 resolved"]


def test_an_end_is_posted_three_times_and_then_there_is_silence():
    """With endsAt; with an empty outbox, nothing is posted."""
    outbox = Outbox()
    outbox.take(alert(status="resolved"))
    with Receiver() as receiver:

        async def until(poster):
            await posts_of(receiver, 3)(poster)
            outbox.take(alert("contract"))
            poster.changed()
            await posts_of(receiver, 6)(poster)

        post(receiver.url, outbox, until)
    ends = [[a.get("endsAt") for a in alerts] for _, _, alerts in receiver.posts]
    assert ends[:6] == [[ENDED]] * 3 + [[None]] * 3


def test_a_change_is_posted_at_once():
    """A page does not wait for the next minute."""
    outbox = Outbox()
    outbox.take(alert())
    with Receiver() as receiver:

        async def until(poster):
            await posts_of(receiver, 1)(poster)
            outbox.take(alert(severity="critical"))
            poster.changed()
            await posts_of(receiver, 2)(poster)

        post(receiver.url, outbox, until, every_s=3600.0)
    severities = [[(a["labels"]["severity"], a.get("endsAt")) for a in alerts] for _, _, alerts in receiver.posts]
    assert severities == [[("warning", None)], [("warning", RAISED), ("critical", None)]]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (500, "answered 500 because"),
        (400, "answered 400 because"),
        (302, "answered 302 because"),
        ("nothing", "RemoteProtocolError"),
        ("garbage", "RemoteProtocolError"),
        ("endless", "no answer within"),
    ],
)
def test_a_receiver_that_breaks_is_tried_again(answer, says, monkeypatch):
    """Each failure is reported once, its end too, and only accepted alerts count as posted."""
    monkeypatch.setattr(forwarder, "TIMEOUT_S", 0.3)
    outbox = Outbox()
    outbox.take(alert(status="resolved"))
    with Receiver([answer] * 2) as receiver:
        lines = post(receiver.url, outbox, posts_of(receiver, 5))
    assert len(receiver.posts) == 5
    assert len(lines) == 3
    assert lines[0].startswith(f"{receiver.url}/api/v2/alerts: ")
    assert says in lines[0]
    assert lines[1:] == [f"{receiver.url}/api/v2/alerts: takes alerts again", "posted 0 firing, 1 resolved"]


def test_a_receiver_that_is_not_there_yet_gets_the_alert_when_it_comes():
    """The port has no listener; then it has one. A password is posted with and never shown."""
    outbox, port, lines, refused = Outbox(), free_port(), [], asyncio.Event()
    outbox.take(alert())

    def say(line):
        lines.append(line)
        refused.set()

    async def until(poster):
        await refused.wait()
        with Receiver(port=port) as receiver:
            await posts_of(receiver, 1)(poster)

    post(f"http://driftline:secret@127.0.0.1:{port}", outbox, until, say=say)
    assert lines[0].startswith(f"http://127.0.0.1:{port}/api/v2/alerts: ConnectError ")
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize("text", ["localhost:9093", "ftp://host", "http://", "http://h:99999", "alertmanager"])
def test_an_address_that_is_none_is_wrong_use(text):
    """One line that names the option."""
    with pytest.raises(CommandError, match="--to: ") as caught:
        _http_url("--to", text)
    assert caught.value.exit_code == 2


def test_an_interval_is_a_duration():
    """In the same form as everywhere."""
    assert _every_s("90s") == 90.0
    with pytest.raises(CommandError, match="--every: expected a duration"):
        _every_s("60")
