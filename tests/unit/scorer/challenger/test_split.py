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

from schemas.bundle.manifest import Residuals
from schemas.prediction import ValueInterval, decode_class, decode_prediction, decode_value
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


def _of_task(model, predict, **changes):
    """The model with another task, and with a function in place of its estimator."""
    members = {"positive_class": None, "threshold": None, **changes}
    return replace(model, manifest=model.manifest.model_copy(update=members), predict=predict)


def _dear(columns):
    """Which customers pay more than 1,000."""
    return columns.numeric[:, 1] > 1000.0


def _regressions(models):
    """A champion that returns the charges, and a challenger that returns their double and no number for dear ones."""
    champion = _of_task(models[0], lambda columns: columns.numeric[:, 1].copy(), task="regression")
    doubled = lambda columns: np.where(_dear(columns), np.inf, 2.0 * columns.numeric[:, 1])  # noqa: E731
    return champion, _of_task(
        models[1], doubled, task="regression", residuals=Residuals(low=-1.0, high=2.0, level=0.9, rows=60)
    )


def _classifiers(models):
    """A champion of three classes; a challenger that also has one more, and no distribution for dear customers."""
    first = lambda columns: np.tile([0.5, 0.3, 0.2], (columns.n, 1))  # noqa: E731
    last = lambda columns: np.where(_dear(columns)[:, None], 0.9, np.tile([0.1, 0.1, 0.1, 0.7], (columns.n, 1)))  # noqa: E731
    return (
        _of_task(models[0], first, task="multiclass", classes=("a", "b", "c")),
        _of_task(models[1], last, task="multiclass", classes=("a", "b", "c", "d")),
    )


def test_a_regression_answers_its_customers_with_values(models):
    """With its own interval; where it has no number, the champion's value is there."""
    records, theirs = _records(100), sorted(_challengers(100))
    dear = _records(100, monthly_charges=2000.0)
    records[theirs[3]] = dear[theirs[3]]
    answer = _answer(_regressions(models), records)
    assert (answer.challenged, answer.fallbacks, answer.labels, answer.classes) == (len(theirs) - 1, 1, None, None)
    charges = GOOD_FEATURES["monthly_charges"]
    for i, (_, value, headers) in enumerate(answer.predictions):
        one, own = decode_value(value), i in theirs and i != theirs[3]
        assert one.value == (2000.0 if i == theirs[3] else 2.0 * charges if own else charges) == answer.scores[i]
        assert one.interval == (ValueInterval(one.value - 1.0, one.value + 2.0, 0.9) if own else None)
        assert dict(headers)["driftline-model-version"] == (b"2.0.0" if own else b"1.4.0")


def test_several_classes_are_answered_by_models_with_classes_of_their_own(models):
    """Each prediction has its model's classes, and each is counted under its class once."""
    records, theirs = _records(100), sorted(_challengers(100))
    dear = _records(100, monthly_charges=2000.0)
    records[theirs[3]] = dear[theirs[3]]
    answer = _answer(_classifiers(models), records)
    own = len(theirs) - 1
    assert (answer.challenged, answer.fallbacks, answer.labels) == (own, 1, None)
    assert answer.classes == {"a": 100 - own, "b": 0, "c": 0, "d": own}
    for i, (_, value, _headers) in enumerate(answer.predictions):
        one = decode_class(value)
        challenged = i in theirs and i != theirs[3]
        assert (one.label, one.probability) == (("d", 0.7) if challenged else ("a", 0.5))
        assert list(one.probabilities) == list("abcd" if challenged else "abc")
        assert one.probability == answer.scores[i]
    nobody = Split(_classifiers(models)[1], 30, Rules())
    assert nobody.score([], NOW_MS).shape == (0, 4)


def test_a_challenger_of_another_task_does_not_fit(models):
    """Consumers read other members."""
    regression, classifier = _regressions(models)[0].manifest, _classifiers(models)[1].manifest
    line = unfit_challenger(regression, classifier)
    assert line == "task of churn-next 2.0.0 is multiclass, and the champion's is regression"
    assert unfit_challenger(_classifiers(models)[0].manifest, classifier) is None
