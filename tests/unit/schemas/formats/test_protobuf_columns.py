"""Batches of Protobuf in arrays: equal to the reading of each record, whatever the schema and the bytes are."""

import random

import pytest
from support.avro_events import Known, framed
from support.events import FEATURES, NOW_MS, record
from support.protobuf_events import EVENT, SCHEMA, WIDE, WIDE_EVENT, body, message_class, registered

from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.formats.protobuf import Protobuf
from schemas.formats.protobuf_columns import time
from schemas.rejection_reasons import RejectedError

MAPPING = EventMapping(format="protobuf")
MANY = 40
KINDS = {schema: message_class(schema) for schema in (SCHEMA, WIDE)}


@pytest.mark.parametrize(
    ("seconds", "nanos", "unit", "expected"),
    [
        (0, 0, None, "1970-01-01T00:00:00.000Z"),
        (-1, 1000, None, "1969-12-31T23:59:59.000001Z"),
        (253_402_300_799, 999_999_999, None, "9999-12-31T23:59:59.999999999Z"),
        (253_402_300_800, 0, None, 253_402_300_800),
        (5, -1, None, 5),
        (5, 1_500_000, 1, 5),
        (5, 1_500_000, 10**6, 5_001_500),
        (2**62, 0, 10**9, 2**62 * 10**9),
    ],
)
def test_a_timestamp_is_text_or_a_number_of_the_specs_unit(seconds, nanos, unit, expected):
    """As many digits as it has; what is none, or of no year that can be written, stays a number."""
    assert time(seconds, nanos, unit) == expected


def _event(chance, schema):
    def maybe(name, value):
        return {} if chance.random() < 0.3 else {name: value}

    features = {
        **maybe("tenure", chance.choice([12, 120, 121, -(2**31)])),
        **maybe("monthly_charges", chance.choice([70.35, -0.0, float("nan"), 1e300])),
        **maybe("total_charges", {"value": chance.choice([844.2, float("inf"), 0.0])}),
        **maybe("contract", chance.choice([0, 1, 1, 7] if schema == SCHEMA else [0, 1])),
        **maybe("payment", chance.choice(["Mail", "日本", "", "a" * 300])),
        **maybe("senior", chance.random() < 0.5),
        **maybe("partner", chance.random() < 0.5),
    }
    seconds = NOW_MS // 1000 - chance.choice([5, 77])
    return {
        "event_id": chance.choice(["e1", "é" * 3, "", "x" * 200]),
        "customer_id": chance.choice([0, 17, -(2**40), 2**62]),
        **maybe("event_time", {"seconds": seconds, "nanos": chance.choice([0, 123_000_000, 1, -1])}),
        **maybe("features", features),
        **(_unread(chance) if schema == WIDE else {}),
    }


def _unread(chance):
    """Return some of the fields that no spec reads; an enum may have a number that its schema does not."""
    found = {name: WIDE_EVENT[name] for name in set(WIDE_EVENT) - set(EVENT) if chance.random() < 0.4}
    return found | ({"tags": ["a"] * chance.choice([1, 49, 51, 60])} if chance.random() < 0.2 else {})


def _damaged(raw, chance):
    choice = chance.random()
    if choice < 0.7:
        return raw
    if choice < 0.8:
        return raw[: chance.randrange(len(raw))]
    out = bytearray(raw)
    out[chance.randrange(len(out))] = chance.randrange(256)
    return bytes(out) + (b"\xa0\x06\x01" if choice > 0.95 else b"")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("schema", [SCHEMA, WIDE], ids=["all read", "much unread"])
def test_a_batch_has_the_verdicts_of_its_records_one_by_one(schema, seed):
    """Rejections, ids, times, columns and unknown fields; damaged records, and neighbours of damaged records."""
    chance = random.Random(seed)
    features = FEATURES if seed % 2 else FEATURES[:-2]  # two unknown fields
    decoder = EventDecoder(features, MAPPING, None, Known({7: registered(schema)}))
    values = [framed(_damaged(body(_event(chance, schema), kind=KINDS[schema]), chance)) for _ in range(MANY)]
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


def test_good_records_are_read_in_batches():
    """Else the comparison above would compare the one reading with itself."""
    rows, unknown = Protobuf(registered(), FEATURES, MAPPING).rows([body(EVENT)] * MANY)
    features = (12, 70.35, 844.2, "YEARLY", "Überweisung", True, False)
    assert rows == [("e1", "17", "2026-11-22T05:59:59.123Z", *features, None)] * MANY
    assert set(unknown) == {0}


def test_records_with_much_that_is_unread_are_read_in_batches():
    """Repeated fields, maps, messages and bytes are skipped, and Google's reader looks at what is in them."""
    kind = KINDS[WIDE]
    plain = {name: value for name, value in WIDE_EVENT.items() if name not in {"former", "all"}}
    raw = body(plain, kind=kind)
    protobuf = Protobuf(registered(WIDE), FEATURES, MAPPING)
    rows, unknown = protobuf.rows([raw] * 4)
    assert rows[0] is not None
    assert rows == [rows[0]] * 4
    assert set(unknown) == {8}
    damaged = body({**plain, "others": [{"more": [{}]}]}, kind=kind).replace(b"\x3a\x02\x0a\x00", b"\x3a\x02\x0a\x05")
    rows, _ = protobuf.rows([raw] * 4 + [damaged])
    assert rows[4] is None


def test_the_last_record_of_a_batch_may_be_cut_anywhere():
    """What is missing at its end is not read from what comes after the batch."""
    raw, protobuf = body(EVENT), Protobuf(registered(), FEATURES, MAPPING)
    for end in range(1, len(raw)):
        rows, _ = protobuf.rows([raw] * 4 + [raw[:end]])
        assert [row is None for row in rows] == [False] * 4 + [True], end


def _numbers(kind, values):
    """Return what one value of a type is in a batch, for each of these values."""
    schema = f'syntax = "proto3"; message M {{ {kind} x = 3000; }}'
    features = (Feature(name="x", kind="numeric"),)
    mapping = EventMapping(format="protobuf", event_id="", customer_id="", event_time="", features="")
    written = [body({"x": value}, kind=message_class(schema, "M")) for value in values]
    return [row and row[0] for row in Protobuf(registered(schema), features, mapping).rows(written)[0]]


@pytest.mark.parametrize("bits", [32, 64])
def test_integers_of_every_type_are_exact(bits):
    """At the ends of their ranges."""
    values = [-(2 ** (bits - 1)), -1, 0, 1, 127, 128, 2 ** (bits - 1) - 1]
    for kind in (f"int{bits}", f"sint{bits}", f"sfixed{bits}"):
        assert _numbers(kind, values) == values
    for kind in (f"uint{bits}", f"fixed{bits}"):
        assert _numbers(kind, [0, 1, 2**bits - 1, 128]) == [0, 1, 2**bits - 1, 128]


def test_numbers_that_are_none_are_left_to_the_definition():
    """Doubles and floats; what a batch may have beside them."""
    assert _numbers("double", [1.5, float("nan"), float("-inf"), -0.0]) == [1.5, None, None, -0.0]
    assert _numbers("float", [1.5, float("nan"), 0.0, 2.0**-149]) == [1.5, None, 0.0, 2.0**-149]


def test_what_googles_reader_cuts_off_is_left_to_it():
    """An integer beyond its type's range, and an enum's number that proto2 makes an unknown field."""
    features = (Feature(name="x", kind="numeric"),)
    mapping = EventMapping(format="protobuf", event_id="", customer_id="", event_time="", features="")
    written = body({"x": 2**32 + 5}, kind=message_class('syntax = "proto3"; message M { int64 x = 1; }', "M"))
    for kind, expected in (("int32", 5), ("uint32", 5), ("sint32", -3), ("bool", True)):
        protobuf = Protobuf(registered(f'syntax = "proto3"; message M {{ {kind} x = 1; }}'), features, mapping)
        assert protobuf.event(written) == {"x": expected}
        if kind != "bool":  # which is no number for this spec
            assert protobuf.rows([written] * 4)[0] == [None] * 4
    raw = body(EVENT, kind=KINDS[WIDE])
    protobuf = Protobuf(registered(WIDE), FEATURES, MAPPING)
    one, other = raw + b"\x40\x01", raw + b"\x40\x07"  # `former`, which no spec reads
    assert protobuf.rows([raw, one, other, raw])[0][1:3] == [None, None]
    protobuf.event(one)
    with pytest.raises(RejectedError, match="not_decodable"):
        protobuf.event(other)
