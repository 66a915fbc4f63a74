"""One record of Avro → the JSON value that it is."""

import pytest
from support.avro_events import EVENT, SCHEMA, body, registered
from support.events import FEATURES

from schemas.bundle.inputs import EventMapping
from schemas.formats.avro import Avro, decimal, json_value, time
from schemas.formats.avro_schema import Node, parse
from schemas.rejection_reasons import RejectedError


def _avro(**changes):
    return Avro(registered(), FEATURES, EventMapping(format="avro", **changes))


def test_logical_types_are_what_they_mean():
    """The time is RFC 3339, a decimal a number, an enum its symbol."""
    event = _avro().event(body(SCHEMA, EVENT))
    features = {**EVENT["features"], "monthly_charges": 70.35}
    assert event == {**EVENT, "event_time": "2026-11-22T05:59:59.123Z", "features": features}


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("s", 1_795_327_199), ("ms", 1_795_327_199_123), ("us", 1_795_327_199_123_000), ("ns", 1_795_327_199_123_000_000)],
)
def test_a_timestamp_is_in_the_unit_that_the_spec_has(unit, expected):
    """So that a spec for numbers is right for a timestamp, whatever that one's unit is."""
    assert _avro(time_unit=unit).event(body(SCHEMA, EVENT))["event_time"] == expected


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda _: b"", lambda _: b"\xff" * 40]
)
def test_bytes_that_are_no_record_are_rejected(damage):
    """Too few, too many, none, and nonsense."""
    with pytest.raises(RejectedError) as raised:
        _avro().event(damage(body(SCHEMA, EVENT)))
    assert raised.value.rejection.reason.value == "not_decodable"


@pytest.mark.parametrize(
    ("raw", "scale", "expected"),
    [(b"\x1b\x7b", 2, 70.35), (b"\xff", 0, -1.0), (b"", 2, 0.0), (b"\x7f" * 300, 0, float("inf"))],
)
def test_a_decimal_is_the_nearest_double(raw, scale, expected):
    """Big-endian, two's complement; beyond the double range an infinity, which is then rejected."""
    assert decimal(raw, scale) == expected


def test_a_time_that_cannot_be_written_stays_a_number():
    """Of a year after 9999; the check of the time then names it."""
    assert time(10**18, Node("long", "timestamp-millis", ticks=1000, as_text=True)) == 10**18


def test_a_value_of_a_union_is_of_the_branch_that_has_its_type():
    """Of a string and a decimal, bytes are the decimal; a record is the one with its fields."""
    kind = ["null", "string", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}]
    root, _, _ = parse(registered(kind))
    assert [json_value(root, value) for value in (None, "a", b"\x0f")] == [None, "a", 1.5]
