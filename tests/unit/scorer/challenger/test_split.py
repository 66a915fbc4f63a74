"""A split: the challenger's customers, and one answer to every record, by either model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from support import bundles
from support.events import GOOD, GOOD_FEATURES, NOW_MS, record
from support.slow_model import PickyClassifier

from schemas.prediction import decode_prediction
from schemas.validation import Rules
from scorer.challenger.split import Split, is_challengers
from scorer.model import load
from scorer.pipeline import Pipeline
from scorer.reload import unfit_challenger


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The small champion 1.4.0 and a challenger 2.0.0 that returns 0.75 and rejects payments above 1,000."""
    folder = tmp_path_factory.mktemp("models")
    bundles.write(folder / "one")
    bundles.write(folder / "other", PickyClassifier(), name="churn-next", version="2.0.0", threshold=0.8)
    return load(folder / "one", None), load(folder / "other", None)


def _records(count, **features):
    value = lambda i: json.dumps(  # noqa: E731
        {**GOOD, "event_id": f"e{i}", "customer_id": f"c{i}", "features": {**GOOD_FEATURES, **features}}
    ).encode()
    return [record(value(i), key=f"c{i}".encode(), offset=100 + i, timestamp=NOW_MS) for i in range(count)]


def _answer(models, records, percent=30):
    champion, challenger = models
    pipeline = Pipeline(champion, Rules(), "g", 900_000, Split(challenger, percent, Rules()))
    return pipeline.answer(records, "customer-events", 3, lambda: NOW_MS, lambda: 0.0)


def _challengers(count, percent=30):
    return {i for i in range(count) if is_challengers(f"c{i}", b"churn-next", percent)}


def test_a_customers_side_is_blake2b_keyed_with_the_challengers_name():
    """As anybody can compute it; of N percent some N, each share within the next larger one, other names other ones."""
    digest = hashlib.blake2b(b"7590-VHVEG", key=b"churn-next", digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64 * 100
    assert not is_challengers("7590-VHVEG", b"churn-next", int(share))
    assert is_challengers("7590-VHVEG", b"churn-next", int(share) + 1)
    sides = {p: _challengers(5000, p) for p in (1, 10, 50, 99)}
    assert [round(len(s) / 50) for s in sides.values()] == [1, 10, 50, 99]
    assert sides[1] < sides[10] < sides[50] < sides[99]
    others = {i for i in range(5000) if is_challengers(f"c{i}", b"another", 50)}
    assert 0.2 < len(others & sides[50]) / 5000 < 0.3


def test_every_record_has_one_answer_in_order_and_it_names_its_model(models):
    """Value and headers agree; the champion's are as without a split; labels count at each one's threshold."""
    records = [*_records(200), record(b"no json", offset=300)]
    answer = _answer(models, records)
    alone = Pipeline(models[0], Rules(), "g", 900_000).answer(
        records, "customer-events", 3, lambda: NOW_MS, lambda: 0.0
    )
    theirs = _challengers(200)
    assert len(answer.predictions) == 200
    assert len(answer.dead_letters) == 1
    for i, ((key, value, headers), champions) in enumerate(zip(answer.predictions, alone.predictions, strict=True)):
        prediction = decode_prediction(value)
        if i not in theirs:
            assert (key, value, headers) == champions
            continue
        assert (prediction.model.name, prediction.model.version) == ("churn-next", "2.0.0")
        assert (prediction.probability, prediction.label, prediction.threshold) == (0.75, False, 0.8)
        assert (key, prediction.prediction_id) == (f"c{i}".encode(), f"customer-events-3-{100 + i}")
        assert dict(headers) == {**dict(champions[2]), "driftline-model-version": b"2.0.0"}
    assert (answer.challenged, answer.fallbacks) == (len(theirs), 0)
    assert (alone.challenged, alone.fallbacks) == (None, 0)
    assert answer.scores[sorted(theirs)].tolist() == [0.75] * len(theirs)
    assert answer.labels == int((np.delete(answer.scores, sorted(theirs)) >= 0.5).sum())


def test_where_the_challenger_raises_the_champion_answers(models):
    """Only for the record on which it does."""
    records = _records(100)
    dear = _records(100, monthly_charges=2000.0)
    theirs = sorted(_challengers(100))
    records[theirs[3]] = dear[theirs[3]]
    answer = _answer(models, records)
    assert (answer.challenged, answer.fallbacks) == (len(theirs) - 1, 1)
    names = [decode_prediction(value).model.name for _, value, _ in answer.predictions]
    assert [i for i, name in enumerate(names) if name == "churn-next"] == [i for i in theirs if i != theirs[3]]


def test_fields_that_only_the_champion_knows_are_no_reason_against_the_challenger(models):
    """Also where the champion refuses events with fields that it does not know itself."""
    champion, challenger = models
    fewer = challenger.manifest.features[:-1]
    smaller = replace(challenger, manifest=challenger.manifest.model_copy(update={"features": fewer}))
    assert unfit_challenger(champion.manifest, smaller.manifest) is None
    split = Split(smaller, 50, Rules(reject_unknown_fields=True))
    assert split.score(_records(3), NOW_MS).tolist() == [0.75] * 3


def test_a_challenger_must_be_told_apart_and_ask_for_nothing_new(models):
    """Its name or version differs; what it requires the champion requires, too."""
    champion, challenger = (model.manifest for model in models)
    same = challenger.model_copy(update={"name": champion.name, "version": champion.version})
    assert unfit_challenger(champion, same).startswith("the champion is churn-small 1.4.0, too")
    needs = challenger.model_copy(
        update={"features": tuple(f.model_copy(update={"nullable": False}) for f in challenger.features)}
    )
    assert unfit_challenger(champion, needs).startswith("not in the events of the champion: total_charges is required")
