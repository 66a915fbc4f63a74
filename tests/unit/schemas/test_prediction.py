"""Predictions: field by field as the contract has them, and read back."""

import json
import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.prediction import (
    ModelRef,
    OtherTaskError,
    PlainDecoder,
    PredictionEncoder,
    decode_prediction,
    decode_value,
    decoder_of,
    encoder_of,
)
from schemas.task import Binary, Interval, Multiclass, Regression

ENCODER = PredictionEncoder(ModelRef("churn-telco", "1.4.0"), 0.5)


def _one(
    probability=0.8123, event_id="01J9", customer_id="7590-VHVEG", event_time="2026-11-22T06:00:00.123456789+01:00"
):
    (value,) = ENCODER.encode(
        ["customer-events-3-1042"], [event_id], [customer_id], [event_time], "2026-11-22T06:00:00.137Z", [probability]
    )
    return value


def test_a_prediction_has_exactly_the_contracts_members():
    """In the contract's order; the event's time is as it was written."""
    assert json.loads(_one()) == {
        "schema_version": 1,
        "prediction_id": "customer-events-3-1042",
        "event_id": "01J9",
        "customer_id": "7590-VHVEG",
        "event_time": "2026-11-22T06:00:00.123456789+01:00",
        "scored_at": "2026-11-22T06:00:00.137Z",
        "probability": 0.8123,
        "label": True,
        "threshold": 0.5,
        "model": {"name": "churn-telco", "version": "1.4.0"},
    }
    assert list(json.loads(_one())) == [
        *("schema_version", "prediction_id", "event_id", "customer_id", "event_time", "scored_at"),
        *("probability", "label", "threshold", "model"),
    ]


@pytest.mark.parametrize(
    ("probability", "label"), [(0.5, True), (0.49999999999999994, False), (0.0, False), (1.0, True), (5e-324, False)]
)
def test_the_label_is_probability_at_least_threshold(probability, label):
    """The threshold itself is positive."""
    assert json.loads(_one(probability))["label"] is label


@settings(max_examples=300, deadline=None)
@given(st.floats(0.0, 1.0))
def test_a_probability_survives_bit_for_bit_in_its_shortest_form(probability):
    """As Python itself would write it: no digit more than it takes to read the same double again."""
    text = _one(probability).split(b'"probability":')[1].split(b",")[0]
    assert struct.pack("<d", json.loads(text)) == struct.pack("<d", probability)
    assert Decimal(text.decode()).normalize().as_tuple() == Decimal(repr(probability)).normalize().as_tuple()
    assert decode_prediction(_one(probability)).probability == probability


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=130))
def test_identifiers_of_any_characters_survive(text):
    """Quotes, backslashes, separators of lines and scripts: JSON in UTF-8."""
    value = _one(event_id=text, customer_id=text)
    assert json.loads(value.decode())["event_id"] == text
    assert decode_prediction(value).customer_id == text


def test_one_document_per_row_in_order():
    """Rows are not mixed, and lists of different lengths are a mistake of the caller."""
    values = ENCODER.encode(["p1", "p2"], ["e1", "e2"], ["c1", "c2"], ["t1", "t2"], "now", [0.25, 0.75])
    seen = [
        (p.prediction_id, p.event_id, p.customer_id, p.event_time, p.probability, p.label)
        for p in map(decode_prediction, values)
    ]
    assert seen == [("p1", "e1", "c1", "t1", 0.25, False), ("p2", "e2", "c2", "t2", 0.75, True)]
    with pytest.raises(ValueError, match="zip"):
        ENCODER.encode(["p1"], ["e1", "e2"], ["c1"], ["t1"], "now", [0.25])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"probability": 0.5}',
        _one()[:-1],
        _one().replace(b"0.8123", b'"0.8123"'),
        b"[" * 9999,
        b'{"x": ' + b"[" * 99_999,
    ],
)
def test_what_is_no_prediction_is_a_value_error(raw):
    """A reader of the topic has one error to handle."""
    with pytest.raises(ValueError, match="not a prediction"):
        decode_prediction(raw)


def test_members_of_later_versions_are_skipped():
    """Today's readers read predictions with more members."""
    assert decode_prediction(_one()[:-1] + b', "explanation": [1, 2]}').event_id == "01J9"


CHARGES = ModelRef("charges-telco", "1.0.0")


def _value(value=64.25, interval=None):
    (raw,) = encoder_of(CHARGES, Regression(interval=interval)).encode(
        ["customer-events-3-1042"], ["01J9"], ["c1"], ["2026-11-22T06:00:00.123Z"], "2026-11-22T06:00:00.137Z", [value]
    )
    return raw


def test_a_prediction_of_a_value_has_exactly_the_contracts_members():
    """In the contract's order; an interval only if the model has one."""
    members = ["schema_version", "prediction_id", "event_id", "customer_id", "event_time", "scored_at", "value"]
    assert list(json.loads(_value())) == [*members, "model"]
    found = json.loads(_value(interval=Interval(-1.75, 1.75, 0.9)))
    assert list(found) == [*members, "interval", "model"]
    assert (found["value"], found["interval"]) == (64.25, {"low": 62.5, "high": 66.0, "level": 0.9})


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_survives_bit_for_bit(value):
    """Of any size and sign."""
    assert struct.pack("<d", decode_value(_value(value)).value) == struct.pack("<d", value)


def test_each_task_reads_its_own_predictions():
    """The other's is none; a binary reader is given the reason."""
    for task, raw, score, positive in (
        (Binary(1), _one(0.75), 0.75, True),
        (Regression(), _value(-3.5, Interval(-1.0, 1.0, 0.9)), -3.5, False),
    ):
        one = decoder_of(task)(raw)
        assert (one.score, one.positive, one.valid) == (score, positive, True)
    with pytest.raises(OtherTaskError, match=r"task of charges-telco 1\.0\.0 is regression"):
        decode_prediction(_value())
    with pytest.raises(ValueError, match="not a prediction of a number"):
        decode_value(_one())
    with pytest.raises(ValueError, match="not a prediction") as caught:
        decode_prediction(b"{}")
    assert not isinstance(caught.value, OtherTaskError)


OURS = ModelRef("churn-telco", "1.4.0")
TASKS = (Binary(positive_class=1), Regression("EUR"), Multiclass(("basic", "plus", "none")))
PIECES = st.sampled_from(
    [
        *("", "x", "null", "true", "0", "1", "-0.0", "1.5", "-1", "1e400", '""', '"plus"', '"other"', "{}", "[]"),
        *('"' + "c" * 128 + '"', '"' + "c" * 129 + '"', '"\\ud800"', '"é"', '"churn-telco"', '"1.4.0"', "," * 2),
        *('"churn\\u002dtelco"', "}", "{", '"', ":", '{"basic":0.5,"plus":0.5,"none":0.0}', "0.5", "NaN"),
    ]
)


def _scored(task, number):
    scores = {"binary": [0.25], "regression": [12.5], "multiclass": [[0.25, 0.5, 0.25]]}[task.name]
    (value,) = encoder_of(OURS, task).encode([f"t-0-{number}"], ["e"], [f"c{number}"], ["now"], "then", scores)
    return value


def _examined(task, value):
    """What a reader of one prediction after the other accepts."""
    try:
        found = decoder_of(task)(value)
    except ValueError:
        return None
    known = found.valid and 1 <= len(found.customer_id) <= 128 and found.model == OURS
    return found if known and (task.name != "multiclass" or found.label in task.classes) else None


@settings(max_examples=300, deadline=None)
@given(
    task=st.sampled_from(TASKS),
    damage=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.integers(0, 30), PIECES), max_size=4),
    members=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), PIECES), max_size=3),
)
def test_a_batch_of_predictions_is_read_as_each_alone(task, damage, members):
    """Bytes replaced anywhere, and whole members: plain ones are what one after the other finds, in their order."""
    values = [_scored(task, number) for number in range(4)]
    for which, member, piece in members:
        names = list(json.loads(_scored(task, which)))
        name = names[member % len(names)]
        whole = {n: json.dumps(v) for n, v in json.loads(_scored(task, which)).items()} | {name: piece}
        values[which] = ("{" + ",".join(f'"{n}":{v}' for n, v in whole.items()) + "}").encode()
    for which, at, length, piece in damage:
        values[which] = values[which][:at] + piece.encode() + values[which][at + length :]
    decoder, asked = PlainDecoder(task, OURS), []
    plain = decoder.decode(values, asked.append)
    expected = [_examined(task, value) for value in values]
    kept = [one for index, one in enumerate(expected) if index not in asked]
    assert None not in kept
    assert [(p.customer_id, p.event_time) for p in plain] == [(p.customer_id, p.event_time) for p in kept]
    assert decoder.scores(plain) == [p.score for p in kept]
    assert [getattr(p, "label", None) for p in plain] == [getattr(p, "label", None) for p in kept]
    assert len(asked) + len(plain) == len(values)
    found = decoder.decode(values, lambda index: expected[index])
    assert [p.customer_id for p in found] == [p.customer_id for p in expected if p is not None]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_the_encoder_wrote_is_plain(task):
    """Or every prediction would be looked at twice."""
    values = [_scored(task, number) for number in range(3)]
    assert [p.customer_id for p in PlainDecoder(task, OURS).decode(values, pytest.fail)] == ["c0", "c1", "c2"]


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        ({"customer_id": "é" * 128}, True),
        ({"customer_id": "c" * 129}, False),
        ({"customer_id": ""}, False),
        ({"probability": 1}, True),
        ({"probability": 1.0000000000000002}, False),
        ({"probability": -5e-324}, False),
        ({"model": {"name": "churn-telco", "version": "1.4.1"}}, False),
        ({"model": {"name": "churn", "version": "1.4.0"}}, False),
        ({"explanation": [1, 2]}, True),
        ({"prediction_id": 7}, False),
        ({"scored_at": None}, False),
    ],
)
def test_a_prediction_at_a_limit_is_plain_and_one_beyond_is_not(change, plain):
    """As `decoder_of` and the checks behind it have it."""
    value = json.dumps(json.loads(_scored(TASKS[0], 0)) | change).encode()
    assert (_examined(TASKS[0], value) is not None) == plain
    assert len(PlainDecoder(TASKS[0], OURS).decode([value], lambda _: None)) == plain
