"""`driftline dead-letters`, `skip` and `verify` as an operator runs them, against a real broker."""

from __future__ import annotations

import json
from fractions import Fraction

from support.oracle import assert_exactly_once, committed, send
from support.stage import Stage


def test_redriven_records_are_answered_again_once_and_carry_their_attempt(stage: Stage) -> None:
    """A mended upstream: what was refused goes back to its partition, attempt + 1; the second redrive sends nothing."""
    sent = stage.send_customers(2000, bad=Fraction(1, 20))
    with stage.scorer() as scorer:
        stage.reader.wait_for(2000)
        counted = json.loads(stage.driftline("dead-letters", "count", "--json").stdout)
        assert sum(counted.values()) == 100
        dry = json.loads(stage.driftline("dead-letters", "redrive", "--dry-run", "--json").stdout)
        passed_over = {"too_old": 0, "attempts": 0, "stubs": 0, "foreign": 0, "too_large": 0}
        assert dry == {"sent": 100, **passed_over, "dry_run": True}
        assert len(stage.reader.answers) == 2000
        done = json.loads(stage.driftline("dead-letters", "redrive", "--json").stdout)
        assert done["sent"] == 100
        stage.reader.wait_for(2100)
        again = [a for a in stage.reader.answers if dict(a.headers).get("driftline-attempt") == b"1"]
        assert len(again) == 100
        originals = {
            (answer.source[0], sent.records[answer.source][1])
            for answer in stage.reader.answers
            if answer.source in sent.records and answer.reason is not None
        }
        assert {(answer.source[0], answer.value) for answer in again} == originals
        # these came back as new dead letters: the limit of attempts lets nothing through, for good
        left = json.loads(stage.driftline("dead-letters", "redrive", "--max-attempts", "1", "--json").stdout)
        assert (left["sent"], left["attempts"]) == (0, 100)
        assert json.loads(stage.driftline("dead-letters", "redrive", "--json").stdout)["sent"] == 0
        shown = stage.driftline("dead-letters", "show", "--limit", "3", "--json").stdout.splitlines()
        assert [json.loads(line)["attempt"] for line in shown] == [1, 1, 1]
        assert scorer.stop() == 0


def test_skip_takes_the_partition_over_and_the_scorer_goes_on_behind_it(stage: Stage) -> None:
    """One stub per skipped offset and the group's offset, at once; verify accepts them; nothing else is lost."""
    sent = stage.send_customers(4000)
    target = max(offset for partition, offset in sent.records if partition == 2) + 1
    # nothing is committed yet: the skip starts at the first offset
    done = stage.driftline(
        "skip", "--topic", stage.names.events, "--partition", "2", "--to-offset", "100", "--why", "é test"
    )
    assert done.returncode == 0, done.stderr
    assert "offsets 0 to 99 skipped" in done.stdout
    assert committed(stage.bootstrap, stage.names.group, stage.names.events) == {2: 100}
    with stage.scorer() as scorer:
        stage.reader.wait_for(4000)
        more = send(stage.bootstrap, stage.names.events, [(b"k", b"not json", [], 2)] * 3)
        stage.reader.wait_for(4003)
        # while a scorer owns the partition: it is fenced, and goes on where the skip ended
        more2 = stage.driftline("skip", "--topic", stage.names.events, "--partition", "2",
                          "--to-offset", str(target + 4), "--why", "too far")  # fmt: skip
        assert more2.returncode == 2
        assert "--to-offset" in more2.stderr
        sent.records.update(more.records)
        assert scorer.stop() == 0
    stubs = [a for a in stage.reader.answers if a.reason == "skipped"]
    assert [(s.key, s.value) for s in stubs] == [(None, None)] * 100
    assert_exactly_once(sent, stage.reader.answers)
    verified = stage.driftline("verify", "--topic", stage.names.events, "--model", str(stage.bundle), "--json")
    findings = json.loads(verified.stdout)
    assert verified.returncode == 0, findings
    assert findings["reasons"] == {"skipped": 100, "not_json": 3}
    assert findings["inputs"] == 4003
    assert findings["scores_checked"] == 3900


def test_verify_says_not_yet_until_the_first_event_is_reached(stage: Stage) -> None:
    """Nothing is lost while nothing is answered, and nothing is shown; later, a stream that goes on is no reason."""
    assert stage.driftline("verify").returncode == 0, "without any event there is none to wait for"
    stage.send_customers(10)
    early = stage.driftline("verify")
    assert (early.returncode, early.stdout.splitlines()[-1]) == (3, "exactly once: not yet")
    found = json.loads(stage.driftline("verify", "--json").stdout)
    assert (found["answer"], found["inputs"], found["pending"]) == ("not_yet", 0, 10)
    with stage.scorer() as scorer:
        stage.reader.wait_for(10)
        assert scorer.stop() == 0
    stage.send_customers(5)
    found = json.loads(stage.driftline("verify", "--json").stdout)
    assert (found["answer"], found["inputs"], found["pending"]) == ("yes", 10, 5)


def test_verify_says_no_when_an_answer_is_missing_doubled_or_foreign(stage: Stage) -> None:
    """Each kind of fault is counted under its name, with an example, and the exit code is 1."""
    sent = stage.send_customers(500)
    with stage.scorer() as scorer:
        stage.reader.wait_for(500)
        assert scorer.stop() == 0
    assert stage.driftline("verify", "--topic", stage.names.events).returncode == 0
    one = next(a for a in stage.reader.answers if a.topic == stage.names.predictions)
    unmarked = (b"k", b"{}", [], 0)
    send(stage.bootstrap, stage.names.predictions, [(one.key, one.value, one.headers, one.partition), unmarked])
    beyond = [(n, b"999999" if n == "driftline-source-offset" else v) for n, v in one.headers]
    send(stage.bootstrap, stage.names.dead_letters, [(one.key, one.value, one.headers, one.partition),
                                                     (one.key, one.value, beyond, one.partition)])  # fmt: skip
    verified = stage.driftline("verify", "--topic", stage.names.events, "--json")
    faults = json.loads(verified.stdout)["faults"]
    assert verified.returncode == 1
    assert {kind for kind, count in faults.items() if count} == {
        "duplicated", "predicted_and_dead_lettered", "unmarked", "torn", "out_of_order"
    }  # fmt: skip
    assert len(sent.records) == 500
