"""Batches of Avro in arrays: equal to the reading of each record, whatever the schema and the bytes are."""

import random
from decimal import Decimal

import pytest
from support.avro_events import EVENT, SCHEMA, Known, body, framed, registered
from support.events import FEATURES, NOW_MS, record

from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.formats.avro import Avro

MAPPING = EventMapping(format="avro")
MANY = 40


def _value(chance):
    def maybe(value):
        return None if chance.random() < 0.3 else value

    return {
        "event_id": chance.choice(["e1", "é" * 3, "", "x" * 200]),
        "customer_id": chance.choice([0, 17, -(2**40), 2**62]),
        "event_time": chance.choice([NOW_MS - 77, -1, 10**17, 0]),
        "features": {
            "tenure": chance.choice([0, 12, 120, 121, -(2**31)]),
            "monthly_charges": chance.choice([Decimal("70.35"), Decimal("-0.01"), Decimal(0)]),
            "total_charges": maybe(chance.choice([844.2, float("nan"), float("inf"), -0.0, 1e300])),
            "contract": chance.choice(["MONTHLY", "YEARLY", "OTHER"]),
            "payment": maybe(chance.choice(["Mail", "日本", "\ud7ff", "a" * 300])),
            "senior": chance.random() < 0.5,
            "partner": maybe(chance.random() < 0.5),
        },
    }


def _damaged(raw, chance):
    choice = chance.random()
    if choice < 0.7:
        return raw
    if choice < 0.8:
        return raw[: chance.randrange(len(raw))]
    out = bytearray(raw)
    out[chance.randrange(len(out))] = chance.randrange(256)
    return bytes(out) + (b"\1" if choice > 0.95 else b"")


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_has_the_verdicts_of_its_records_one_by_one(seed):
    """Rejections, ids, times, columns and unknown fields; damaged records, and neighbours of damaged records."""
    chance = random.Random(seed)
    features = FEATURES if seed % 2 else FEATURES[:-2]  # two unknown fields
    decoder = EventDecoder(features, MAPPING, None, Known({7: registered()}))
    values = [framed(_damaged(body(SCHEMA, _value(chance)), chance)) for _ in range(MANY)]
    batch = decoder.decode([record(value, offset=i) for i, value in enumerate(values)], NOW_MS)
    single = [decoder.decode([record(value, offset=i)], NOW_MS) for i, value in enumerate(values)]
    assert batch.rejections == [one.rejections[0] for one in single]
    kept = [one for one in single if one.columns.n]
    assert len(kept) == batch.columns.n
    for name in ("event_ids", "customer_ids", "event_times"):
        assert list(getattr(batch, name)) == [getattr(one, name)[0] for one in kept]
    assert batch.event_time_ms.tolist() == [one.event_time_ms[0] for one in kept]
    assert repr(batch.columns.numeric.tolist()) == repr([one.columns.numeric[0].tolist() for one in kept])
    assert batch.columns.codes.tolist() == [one.columns.codes[0].tolist() for one in kept]
    assert batch.unknown_fields == sum(one.unknown_fields for one in single)


def test_good_records_are_read_in_arrays():
    """Else the comparison above would compare the one reading with itself."""
    chance = random.Random(1)
    bodies = [body(SCHEMA, _value(chance)) for _ in range(MANY)]
    rows, unknown = Avro(registered(), FEATURES, MAPPING).rows(bodies)
    assert sum(row is not None for row in rows) > MANY / 3
    assert set(unknown) == {0}


NESTED = {
    "type": "record",
    "name": "Change",
    "fields": [
        {"name": "op", "type": "string"},
        {"name": "ts", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "source", "type": {"type": "record", "name": "S", "fields": [
            {"name": "lsn", "type": ["null", "long"]},
            {"name": "fixed", "type": {"type": "fixed", "name": "F", "size": 3}},
            {"name": "f", "type": "float"}, {"name": "raw", "type": "bytes"}]}},
        {"name": "before", "type": ["null", {"type": "record", "name": "Row", "fields": [
            {"name": "id", "type": "int"}, {"name": "tenure", "type": ["int", "null"]},
            {"name": "since", "type": {"type": "int", "logicalType": "date"}}]}]},
        {"name": "after", "type": ["null", "Row"]},
    ],
}  # fmt: skip


def test_nested_records_that_may_be_null_are_read_in_arrays_too():
    """A change of a table: the row before is skipped, the row after is read, and a delete has none."""
    mapping = EventMapping(
        format="avro", preset="debezium", customer_id="payload.after.id", event_time="payload.ts", time_unit="us"
    )
    features = (
        Feature(name="tenure", kind="numeric", nullable=True),
        Feature(name="since", kind="categorical", categories=("2026-11-22",)),
    )
    row = {"id": 5, "tenure": 3, "since": 20_779}
    source = {"lsn": 1, "fixed": b"abc", "f": 0.5, "raw": b"\0\xff"}
    whole = {"op": "c", "ts": 1_795_327_199_123_456, "source": source, "before": None, "after": row}
    changes = [
        {},
        {"op": "u", "before": row},
        {"op": "d", "before": row, "after": None},
        {"after": {**row, "tenure": None}},
    ]
    changes += [{"ts": None}, {"op": "r", "source": {**source, "lsn": None}}]
    records = [record(framed(body(NESTED, {**whole, **change})), offset=i) for i, change in enumerate(changes)]
    decoder = EventDecoder(features, mapping, None, Known({7: registered(NESTED)}))
    batch = decoder.decode(records, NOW_MS)
    assert [r and r.reason.value for r in batch.rejections] == [None, None, None, None, "envelope", None]
    assert batch.ignored == {2: "only"}
    assert batch.accepted.tolist() == [0, 1, 3, 5]
    assert list(batch.customer_ids) == ["5"] * 4
    assert batch.event_times[0] == "2026-11-22T05:59:59.123456Z"
    assert batch.columns.codes.ravel().tolist() == [0] * 4
    assert repr(batch.columns.numeric.ravel().tolist()) == "[3.0, 3.0, nan, 3.0]"
    assert batch.unknown_fields == 0
    rows, _ = Avro(registered(NESTED), features, mapping.forms()[1]).rows([one.value[5:] for one in records])
    assert [row is not None for row in rows] == [True, True, False, True, True, True]


def test_the_last_record_of_a_batch_may_be_cut_anywhere():
    """What is missing at its end is not read as zeros, although nothing comes after it."""
    raw, avro = body(SCHEMA, EVENT), Avro(registered(), FEATURES, MAPPING)
    for end in range(len(raw)):
        rows, _ = avro.rows([raw] * 4 + [raw[:end]])
        assert [row is None for row in rows] == [False] * 4 + [True], end
