"""A batch of records: exactly one outcome each, in order, with the original's key and our headers."""

import json
from collections import Counter
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, RegressorMixin
from support import bundles
from support.events import GOOD_FEATURES, NOW_MS, raw, record, with_features, without

from schemas.rejection_reasons import Reason
from schemas.validation import Rules
from scorer.model import load
from scorer.pipeline import Pipeline

TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model, loaded from its bundle as the scorer loads it."""
    directory = tmp_path_factory.mktemp("bundle")
    bundles.write(directory)
    return load(directory, None)


def _pipeline(model, **rules):
    return Pipeline(model, Rules(**rules), "driftline-scorer", 900_000)


def _answer(pipeline, records):
    ticks = count()
    return pipeline.answer(records, "customer-events", 3, lambda: NOW_MS, lambda: float(next(ticks)))


def _source(output):
    return int(dict(output[2])["driftline-source-offset"])


def test_a_prediction_answers_its_record(model):
    """The value as the contract has it, the key byte for byte, our headers, and the trace that came with the record."""
    answer = _answer(_pipeline(model), [record(raw(), key=b"\xff", offset=1042, headers=[("a", b"1"), TRACE])])
    ((key, value, headers),) = answer.predictions
    assert answer.dead_letters == []
    assert key == b"\xff"
    row = bundles.LAYOUT.columns([[GOOD_FEATURES[name]] for name in bundles.LAYOUT.names])
    (probability,) = model.predict(row).tolist()
    assert json.loads(value) == {
        "schema_version": 1,
        "prediction_id": "customer-events-3-1042",
        "event_id": "01J9",
        "customer_id": "7590-VHVEG",
        "event_time": "2026-11-22T05:59:59.123Z",
        "scored_at": "2026-11-22T06:00:00.000Z",
        "probability": probability,
        "label": probability >= 0.5,
        "threshold": 0.5,
        "model": {"name": "churn-small", "version": "1.4.0"},
    }
    assert headers == [
        ("driftline-source-topic", b"customer-events"),
        ("driftline-source-partition", b"3"),
        ("driftline-source-offset", b"1042"),
        ("driftline-source-timestamp", b"1795327199500"),
        ("driftline-source-timestamp-type", b"create"),
        ("driftline-model-version", b"1.4.0"),
        ("driftline-group", b"driftline-scorer"),
        ("content-type", b"application/json"),
        TRACE,
    ]


def test_a_trace_stays_with_its_record(model):
    """One record's trace context is not its neighbour's."""
    records = [
        record(raw(), offset=0, headers=[TRACE]),
        record(raw(), offset=1),
        record(raw(), offset=2, headers=[TRACE]),
    ]
    names = [[name for name, _ in headers] for _, _, headers in _answer(_pipeline(model), records).predictions]
    assert ["traceparent" in n for n in names] == [True, False, True]


MIX = [
    (raw(event_id="a"), None),
    (None, "empty"),
    (b"{", "not_json"),
    (raw(event_id="b"), None),
    (b"x" * 70_000, "too_large"),
    (without("event_id"), "envelope"),
    (raw(event_time="2026-11-22T07:00:00Z"), "event_time_in_future"),
    (raw(event_id="c"), None),
    (with_features(tenure=None), "missing_feature"),
    (with_features(tenure="1"), "wrong_type"),
    (with_features(tenure=-1), "out_of_range"),
    (with_features(tenure=1).replace(b'"tenure": 1', b'"tenure": 1e400'), "not_finite"),
    (raw(event_id="d"), None),
]


def test_every_record_has_one_outcome_in_order(model):
    """Good and bad ones mixed: predictions and dead letters each in offset order, and together every offset once."""
    records = [record(value, offset=100 + i, key=None if i % 2 else b"k") for i, (value, _) in enumerate(MIX)]
    answer = _answer(_pipeline(model), records)
    assert [_source(output) for output in answer.predictions] == [100, 103, 107, 112]
    assert [json.loads(value)["event_id"] for _, value, _ in answer.predictions] == ["a", "b", "c", "d"]
    letters = [(_source(o), dict(o[2])["driftline-reason"].decode()) for o in answer.dead_letters]
    assert letters == [(100 + i, reason) for i, (_, reason) in enumerate(MIX) if reason]
    for key, value, headers in answer.dead_letters:
        original = records[_source((key, value, headers)) - 100]
        assert (key, value) == (original.key, original.value)
        assert dict(headers)["driftline-model-version"] == b"1.4.0"
        assert "content-type" not in dict(headers)
    assert answer.reasons == Counter({reason: 1 for _, reason in MIX if reason})


def test_what_is_counted_is_what_is_answered(model):
    """Labels, probabilities, event times, unknown fields, unseen categories, wrong keys, forged headers."""
    forged = [("driftline-source-offset", b"1"), ("driftline-attempt", b"1"), ("other", b"x")]
    records = [
        record(raw(x=1), key=b"wrong", headers=forged, offset=1),
        record(with_features(contract="Two year", payment="Cash"), offset=2),
        record(with_features(contract="Two year", payment=None), offset=3),
        record(b"{", headers=forged, offset=4),
        record(with_features(contract="Two year", tenure=-1), key=b"wrong", offset=5),
    ]
    answer = _answer(_pipeline(model), records)
    assert answer.unseen == {"contract": 2, "payment": 1}
    assert (answer.unknown_fields, answer.key_mismatches, answer.spoofed_headers) == (1, 1, 2)
    assert answer.event_time_ms.tolist() == [1_795_327_199_123] * 3
    values = [json.loads(value) for _, value, _ in answer.predictions]
    assert answer.scores.tolist() == [value["probability"] for value in values]
    assert answer.labels == sum(value["label"] for value in values)
    assert answer.seconds == {"decode": 1.0, "columns": 1.0, "predict": 1.0, "encode": 1.0}


def _failing(model, poison):
    """The same model with rows that it fails on: tenure in `poison` raises, tenure 77 gives NaN."""

    def predict(columns):
        if poison & set(columns.numeric[:, 0].tolist()):
            raise ZeroDivisionError("secret of the customer")
        return np.where(columns.numeric[:, 0] == 77, np.nan, model.predict(columns))

    return replace(model, predict=predict)


def test_rows_that_the_model_fails_on_are_dead_letters_alone(model):
    """Raised or NaN: `model_error` with the kind of the error and none of its words; the neighbours are predicted."""
    records = [record(with_features(tenure=i), offset=i) for i in (70, 71, 72, 77, 80, 90)]
    records.insert(2, record(b"{", offset=79))
    answer = _answer(_pipeline(_failing(model, {71.0, 90.0})), records)
    assert [_source(o) for o in answer.predictions] == [70, 72, 80]
    assert [(_source(o), dict(o[2])["driftline-reason"]) for o in answer.dead_letters] == [
        (71, b"model_error"),
        (79, b"not_json"),
        (77, b"model_error"),
        (90, b"model_error"),
    ]
    details = [dict(o[2])["driftline-detail"] for o in answer.dead_letters]
    assert details[0] == b"the model failed on this record: ZeroDivisionError"
    assert details[2] == b"the model failed on this record: a result that is not a probability"
    assert answer.reasons == {Reason.MODEL_ERROR: 3, Reason.NOT_JSON: 1}
    expected = [
        model.predict(bundles.LAYOUT.columns([[{**GOOD_FEATURES, "tenure": t}[n]] for n in bundles.LAYOUT.names]))[0]
        for t in (70, 72, 80)
    ]
    assert answer.scores.tolist() == [json.loads(v)["probability"] for _, v, _ in answer.predictions]
    np.testing.assert_allclose(answer.scores, expected, rtol=0, atol=1e-12)
    assert len(answer.event_time_ms) == 3


def test_a_batch_may_be_refused_as_a_whole(model):
    """All bad, or a model that fails on everything: nothing is predicted and nothing is lost."""
    answer = _answer(_pipeline(model), [record(b"{", offset=i) for i in range(3)])
    assert (len(answer.predictions), len(answer.dead_letters), answer.labels) == (0, 3, 0)
    answer = _answer(_pipeline(_failing(model, {12.0})), [record(raw(), offset=i) for i in range(3)])
    assert answer.reasons == {Reason.MODEL_ERROR: 3}
    assert answer.scores.shape == answer.event_time_ms.shape == (0,)


def test_the_threshold_of_the_label_is_the_manifests(model):
    """The number counted as positive is that in the predictions."""
    low = replace(model, manifest=model.manifest.model_copy(update={"threshold": 0.0}))
    answer = _answer(_pipeline(low), [record(raw(), offset=i) for i in range(3)])
    assert answer.labels == 3
    assert all(json.loads(value)["label"] for _, value, _ in answer.predictions)
    assert json.loads(answer.predictions[0][1])["threshold"] == 0.0
    exact = replace(model, predict=lambda columns: np.full(columns.n, 0.5))
    answer = _answer(_pipeline(exact), [record(raw())])
    assert answer.labels == 1
    assert json.loads(answer.predictions[0][1])["label"]


def test_the_rules_are_the_operators(model):
    """Unknown fields refused, sizes and skew as they are set, dead letters cut at their own limit."""
    assert _answer(_pipeline(model, reject_unknown_fields=True), [record(raw(x=1))]).reasons == {
        Reason.UNKNOWN_FIELD: 1
    }
    assert _answer(_pipeline(model, max_event_bytes=100), [record(raw())]).reasons == {Reason.TOO_LARGE: 1}
    small = Pipeline(model, Rules(), "driftline-scorer", 8192)
    ((_, value, headers),) = _answer(small, [record(b"x" * 10_000)]).dead_letters
    assert value == b"x" * 1024
    assert dict(headers)["driftline-size"] == b"10000"


KINDS = st.sampled_from([*(value for value, _ in MIX), with_features(tenure=71), with_features(tenure=77)])


@settings(max_examples=100, deadline=None)
@given(values=st.lists(KINDS, min_size=1, max_size=30))
def test_no_mixture_loses_or_doubles_a_record(model, values):
    """In any neighbourhood: each offset is answered once, and as it is answered alone."""
    pipeline = _pipeline(_failing(model, {71.0}))
    records = [record(value, offset=i) for i, value in enumerate(values)]
    answer = _answer(pipeline, records)
    predicted, refused = [_source(o) for o in answer.predictions], [_source(o) for o in answer.dead_letters]
    assert predicted == sorted(predicted)
    assert refused == sorted(refused)
    assert sorted(predicted + refused) == list(range(len(values)))
    assert sum(answer.reasons.values()) == len(refused)
    for output in [*answer.predictions, *answer.dead_letters]:
        alone = _answer(pipeline, [records[_source(output)]])
        assert [output] == alone.predictions + alone.dead_letters


class _Wild(BaseEstimator, RegressorMixin):
    """A regressor that fails for good: the value is NaN, infinite or a number by the customer's tenure."""

    def fit(self, *_):
        return self

    def predict(self, frame):
        tenure = frame["tenure"].to_numpy()
        return np.select([tenure == 1, tenure == 2], [np.nan, np.inf], 10.0 * tenure)


def test_a_regression_answers_with_its_value_and_interval(tmp_path):
    """A value that is not finite is a dead letter, and its neighbours have their predictions."""
    bundles.write_regression(tmp_path, _Wild().fit())
    model = load(tmp_path, None)
    records = [record(with_features(tenure=t), offset=i) for i, t in enumerate([5, 1, 7, 2])]
    answer = _answer(_pipeline(model), records)
    values = [json.loads(value) for _, value, _ in answer.predictions]
    assert [(v["value"], v["interval"]) for v in values] == [
        (50.0, {"low": 48.5, "high": 52.0, "level": 0.9}),
        (70.0, {"low": 68.5, "high": 72.0, "level": 0.9}),
    ]
    assert {"probability", "label", "threshold"} & set(values[0]) == set()
    assert answer.reasons == Counter({Reason.MODEL_ERROR: 2})
    assert b"a result that is not a finite number" in dict(answer.dead_letters[0][2])["driftline-detail"]
    assert (answer.labels, answer.scores.tolist()) == (None, [50.0, 70.0])
