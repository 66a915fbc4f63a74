"""A challenger on a real Kafka, in shadow and in a split: what it writes, and what it cannot touch."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from support import bundles
from support.events import FEATURES, GOOD, GOOD_FEATURES
from support.oracle import WAIT_S, Reader, Sent, assert_exactly_once, send
from support.services import Service
from support.slow_model import PickyClassifier, SlowClassifier
from support.stage import Stage
from support.waiting import wait_until

from driftline.local_kafka.broker import LocalBroker
from schemas.bundle.files import write_bundle
from schemas.bundle.inputs import Feature
from schemas.reference import Reference
from scorer.challenger.split import is_challengers

SUPPORT = str(Path(__file__).parents[1])
PRODUCED = "driftline_scorer_shadow_produced_total"
DROPPED = "driftline_scorer_shadow_dropped_total"
FALLBACKS = "driftline_scorer_challenger_fallbacks_total"
# Its process has a low priority, and imports scikit-learn: on a machine that others use that takes its time.
START_S = 240.0


@pytest.fixture
def small(broker: LocalBroker, topic_prefix: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose champion is the small bundle of bundles.py, churn-small 1.4.0."""
    bundles.write(tmp_path / "champion")
    stage = Stage(broker, topic_prefix, tmp_path / "champion", tmp_path)
    yield stage
    stage.reader.close()


@pytest.fixture
def shadows(small: Stage) -> Iterator[Reader]:
    """Everything that appears on the shadow topic."""
    reader = Reader(small.bootstrap, small.names, topics=(small.names.shadow,))
    yield reader
    reader.close()


def _scorer(stage: Stage, challenger: Path, **environment: str) -> Service:
    path = os.pathsep.join([SUPPORT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return stage.scorer(SCORER_CHALLENGER=str(challenger), SCORER_MODEL_POLL="100ms", PYTHONPATH=path, **environment)


def _send(stage: Stage, count: int, sent: Sent | None = None, **features: object) -> Sent:
    """`count` events, a customer each."""
    records = [
        (
            f"c{i}".encode(),
            json.dumps(
                {**GOOD, "event_id": f"e{i}", "customer_id": f"c{i}", "features": {**GOOD_FEATURES, **features}}
            ).encode(),
        )
        for i in range(count)
    ]
    return send(stage.bootstrap, stage.names.events, records, sent)


def _challenger(scorer: Service) -> dict:
    return scorer.get("/health").json()["challenger"]


def _wait_for_challenger(scorer: Service, version: str) -> None:
    served = lambda: (_challenger(scorer)["model"] or {}).get("version") == version  # noqa: E731
    wait_until(served, f"challenger {version}", START_S)


def _shadow_of(sent: Sent, scorer: Service) -> None:
    """Every event has a shadow, or is counted as having none."""
    wait_until(lambda: scorer.metric(PRODUCED) + scorer.metric(DROPPED) == len(sent.records), "all are accounted for")


def test_a_challenger_answers_what_the_champion_has_answered(small: Stage, shadows: Reader) -> None:
    """Same positions, keys, partitions and headers, under its own name; a new version is taken while it runs.

    What was refused has no shadow. The process that scores them ends with the scorer and comes back when it is killed.
    """
    challenger = small.folder / "challenger"
    bundles.write(challenger, PickyClassifier(), name="churn-next", version="2.0.0")
    with _scorer(small, challenger) as scorer:
        scorer.wait_ready()
        _wait_for_challenger(scorer, "2.0.0")
        assert scorer.metric("driftline_scorer_challenger_info", name="churn-next", version="2.0.0") == 1
        assert scorer.metric("driftline_model_info") == 1
        sent = _send(small, 300)
        send(small.bootstrap, small.names.events, [(b"c", b"no event")], sent)
        small.reader.wait_for(301)
        shadows.wait_for(300)
        answers = {a.source: a for a in small.reader.answers if a.topic == small.names.predictions}
        assert {a.source for a in shadows.answers} == set(answers)
        for shadow in shadows.answers:
            answer = answers[shadow.source]
            assert (shadow.key, shadow.partition) == (answer.key, answer.partition)
            theirs, ours = dict(answer.headers), dict(shadow.headers)
            assert ours.pop("driftline-model-version") == b"2.0.0"
            assert theirs.pop("driftline-model-version") == b"1.4.0"
            assert ours == theirs
            prediction = json.loads(shadow.value)
            assert prediction["model"] == {"name": "churn-next", "version": "2.0.0"}
            assert (prediction["probability"], prediction["label"]) == (0.75, True)
            assert prediction["prediction_id"] == json.loads(answer.value)["prediction_id"]

        bundles.write(challenger, PickyClassifier(), name="churn-next", version="2.1.0")
        _wait_for_challenger(scorer, "2.1.0")
        (process,) = _children(scorer)
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: _children(scorer) not in ([], [process]), "another process", START_S)
        _wait_for_challenger(scorer, "2.1.0")
        _send(small, 100, sent)
        shadows.wait_for(400)
        assert dict(shadows.answers[-1].headers)["driftline-model-version"] == b"2.1.0"
        (process,) = _children(scorer)
        assert scorer.stop() == 0
        assert not Path(f"/proc/{process}").exists()
    assert_exactly_once(sent, small.reader.answers)


def _children(scorer: Service) -> list[int]:
    pid = scorer.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _asking_for_more(directory: Path) -> None:
    """A bundle that requires a feature which the champion's events do not have."""
    estimator, base = bundles.fitted(), bundles.reference()
    extra = Feature(name="region", kind="categorical", categories=("north",))
    golden = bundles.manifest(estimator).golden
    golden = golden.model_copy(update={"rows": tuple({**row, "region": "north"} for row in golden.rows)})
    codes = np.hstack([base.codes, np.zeros_like(base.codes[:, :1])])
    reference = Reference(base.numeric, codes, base.score, np.zeros(5, dtype=np.int64))
    files = {"model.joblib": bundles.pickled(estimator), "reference.npz": reference.to_bytes()}
    features = (*FEATURES, extra)
    more = bundles.manifest(estimator, name="churn-next", version="1.0.0", features=features, golden=golden)
    write_bundle(directory, more, files)


def _lose_the_topic(stage: Stage, scorer: Service, sent: Sent) -> None:
    """The challenger's topic is deleted while it writes, and recreated: half a minute for its producer's time-out."""
    admin, before = AdminClient({"bootstrap.servers": stage.bootstrap}), scorer.metric(PRODUCED)
    admin.delete_topics([stage.names.shadow])[stage.names.shadow].result(WAIT_S)
    _send(stage, 200, sent)
    stage.reader.wait_for(len(sent.records))
    wait_until(lambda: scorer.metric(DROPPED, reason="not_written") > 0, "the deleted topic is noticed")
    _send(stage, 200, sent)
    stage.reader.wait_for(len(sent.records))
    assert scorer.reasons() == []
    assert scorer.metric("driftline_scorer_producer_rebuilds_total") == 0
    admin.create_topics([NewTopic(stage.names.shadow, 4, 1)])[stage.names.shadow].result(WAIT_S)

    def written_again() -> bool:
        _send(stage, 1, sent)
        return scorer.metric(PRODUCED) > before

    wait_until(written_again, "it writes to the new topic")


def test_whatever_a_challenger_does_the_champion_answers(small: Stage, long: bool) -> None:
    """It does not fit, raises, loses its topic (--long), is slow: each is counted, and no answer is lost.

    At half a second for every event, 10,000 would take it an hour and a half, and the champion is through at once.
    """
    challenger = small.folder / "challenger"
    _asking_for_more(challenger)
    with _scorer(small, challenger) as scorer:
        scorer.wait_ready()
        wait_until(lambda: _challenger(scorer)["state"] == "refused", "refused", START_S)
        assert _challenger(scorer)["model"] is None
        reason = "manifest.json: not in the events of the champion: region is required and did not exist before"
        assert _challenger(scorer)["reason"] == reason
        sent = _send(small, 10)
        _shadow_of(sent, scorer)
        assert scorer.metric(DROPPED, reason="no_model") == 10

        bundles.write(challenger, PickyClassifier(), name="churn-next", version="2.0.0")
        _wait_for_challenger(scorer, "2.0.0")
        _send(small, 20, sent)
        _send(small, 20, sent, monthly_charges=5000.0)
        _shadow_of(sent, scorer)
        assert scorer.metric(PRODUCED) == 20
        assert scorer.metric(DROPPED, reason="not_scored") == 20

        if long:
            _lose_the_topic(small, scorer, sent)

        bundles.write(challenger, SlowClassifier(0.5), name="churn-next", version="3.0.0")
        _wait_for_challenger(scorer, "3.0.0")
        _send(small, 10_000, sent, note="x" * 1500)  # 15 MB, and 8 MiB may wait
        small.reader.wait_for(len(sent.records))
        wait_until(lambda: scorer.metric(DROPPED, reason="queue_full") > 0, "its queue is full")
        assert scorer.reasons() == []
        assert scorer.stop() == 0
    assert_exactly_once(sent, small.reader.answers)


def test_a_split_answers_every_event_once_and_each_answer_names_its_model(small: Stage) -> None:
    """The challenger's customers have its predictions in the same transaction; where it raises, or is refused, not."""
    challenger = small.folder / "challenger"
    bundles.write(challenger, PickyClassifier(), name="churn-next", version="2.0.0")
    with _scorer(small, challenger, SCORER_CHALLENGER_MODE="split:40") as scorer:
        scorer.wait_ready()
        _wait_for_challenger(scorer, "2.0.0")
        theirs = {f"c{i}".encode() for i in range(300) if is_challengers(f"c{i}", b"churn-next", 40)}
        sent = _send(small, 300)
        small.reader.wait_for(300)
        for answer in small.reader.answers:
            name, version = ("churn-next", "2.0.0") if answer.key in theirs else ("churn-small", "1.4.0")
            assert json.loads(answer.value)["model"] == {"name": name, "version": version}
            assert dict(answer.headers)["driftline-model-version"] == version.encode()
        assert scorer.metric("driftline_scorer_challenger_predictions_total") == len(theirs)
        assert scorer.metric(FALLBACKS) == 0

        _send(small, 300, sent, monthly_charges=5000.0)
        small.reader.wait_for(600)
        assert {json.loads(a.value)["model"]["name"] for a in small.reader.answers[300:]} == {"churn-small"}
        assert scorer.metric(FALLBACKS, reason="not_scored") == len(theirs)
        assert scorer.metric("driftline_scorer_predictions_total") == 600

        # the champion becomes the challenger: two models of one name and version give no comparison
        bundles.write(small.bundle, PickyClassifier(), name="churn-next", version="2.0.0")
        wait_until(lambda: _challenger(scorer)["state"] == "refused", "refused")
        assert _challenger(scorer)["reason"].startswith("manifest.json: the champion is churn-next 2.0.0, too")
        _send(small, 10, sent)
        small.reader.wait_for(610)
        assert scorer.metric(FALLBACKS, reason="no_model") == 10
        assert scorer.stop() == 0
    assert_exactly_once(sent, small.reader.answers)
