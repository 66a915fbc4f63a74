"""Events of any bytes: nothing raises, the fast way and the exact one agree, and a batch is the sum of its records."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from support.events import FEATURES, GOOD, GOOD_FEATURES, NOW_MS, Decoders, raw, record

from schemas import timestamps
from schemas.bundle.inputs import EventMapping
from schemas.rejection_reasons import Reason

# The same features, as other teams write them.
WIDE = [
    f.model_copy(
        update={
            "numeric": {"parse": "number"},
            "categorical": {"integers": True},
            "boolean": {"true": (True, 12), "false": (False, "x")},
        }[f.kind]
    )
    for f in FEATURES
]
DECODERS = (
    Decoders(),
    Decoders(reject_unknown_fields=True),
    Decoders(EventMapping(event_id="meta.id", customer_id="", event_time="", features="")),
    Decoders(EventMapping(event_id="", customer_id="c.id", event_time="c.at", features="c.features")),
    Decoders(features=[f.model_copy(update={"from_": f"{'at' if f.nullable else 'c.id'}.{f.name}"}) for f in FEATURES]),
    Decoders(EventMapping(time_unit="ms", only={"op": ["c", 12]}, tombstones="ignore"), WIDE),
    Decoders(EventMapping(event_id="", customer_id="$key", event_time="ids.1", features="data|json"), WIDE),
    Decoders(EventMapping(preset="debezium", customer_id="c.id", event_time="c.at", features="c.features"), WIDE),
    Decoders(EventMapping(preset="cloudevents", customer_id="$key", event_time="$header.at", features="c.features")),
)

# --- what records may hold ------------------------------------------------------------------------------------------

TOKENS = st.sampled_from(
    [
        *("null", "true", "false", "[]", "{}", "[[]]", '{"a":1}', '[1,2,{"a":[null]}]', "[" * 120 + "]" * 120),
        *("0", "-0", "12", "-1", "2", "120", "121", "1.5", "1.0", "9007199254740991", "9007199254740992"),
        *("1e400", "-1e400", "1e-400", "9" * 400, "01", "1.", ".5", "NaN", "Infinity", "-Infinity", "nul"),
        *('""', '"x"', '"12"', '"true"', '"One year"', '"7590-VHVEG"', '"' + "x" * 130 + '"', '"\x7f"', '"é"'),
        *('"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\u0085"', "\ufeff1", '"\ufeff"'),
        *(
            '"2026-11-22T05:00:00Z"',
            '"2999-01-01T00:00:00Z"',
            '"2026-11-22 05:00+01"',
            "1795327199123",
            '"1795327199123"',
        ),
        *('"12.50"', '"-1e400"', '" 1"', '"1,2"', "[0, 1]", '"{}"'),
    ]
)
NAMES = st.sampled_from(
    [*GOOD, *GOOD_FEATURES, "meta", "id", "c", "at", "unknown", "Event_id", "\\u0065vent_id", "\\ud800", "é", ""]
)


@st.composite
def documents(draw):
    """Text that is nearly JSON: members in any order, repeated, missing, with tokens that may be none."""

    def members(names, good):
        out = []
        for name in draw(st.permutations(list(good))):
            if draw(st.integers(0, 19)) > 0:
                token = draw(TOKENS) if draw(st.integers(0, 9)) == 0 else good[name]
                out.append(f'"{name}": {token}')
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
            out.insert(draw(st.integers(0, len(out))), f'"{draw(names)}": {draw(TOKENS)}')
        return "{" + ", ".join(out) + "}"

    values = {name: json.dumps(value) for name, value in GOOD_FEATURES.items()}
    envelope = {name: json.dumps(value) for name, value in GOOD.items() if name != "features"}
    at = '"2026-11-22T05:00:00Z"'
    shape = draw(st.sampled_from(["default", "default", "bare", "nested", "deep", "wide", "text", "payload"]))
    if shape == "deep":
        free = {f.name: values.pop(f.name) for f in FEATURES if f.nullable}
        objects = {"c": members(NAMES, {"id": members(NAMES, values)}), "at": members(NAMES, free)}
        return members(NAMES, {**envelope, "features": members(NAMES, objects)})
    features = members(NAMES, values)
    if shape == "bare":
        return members(NAMES, {"meta": '{"id": "e"}', **values})
    if shape == "wide":
        envelope |= {"event_time": draw(st.sampled_from(["1795327199123", '"1795327199123"', "12.5"])), "op": '"c"'}
    if shape == "text":
        return members(NAMES, {"ids": f"[0, {at}]", "data": json.dumps(features)})
    if shape == "payload":
        inner = members(NAMES, {"id": "17", "at": "1795327199123", "features": features})
        payload = members(NAMES, {"op": '"c"', "c": inner})
        return members(NAMES, {"schema": "{}", "payload": payload}) if draw(st.booleans()) else payload
    if shape == "nested":
        return members(NAMES, {"c": members(NAMES, {"id": '"c"', "at": at, "features": features})})
    return members(NAMES, {**envelope, "features": features})


@st.composite
def mutated(draw):
    """A document's bytes with a few of them changed, removed or doubled."""
    value = bytearray(draw(documents()).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at, end = sorted((draw(st.integers(0, len(value))), draw(st.integers(0, len(value)))))
        match draw(st.integers(0, 3)):
            case 0:
                value[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del value[at : at + 1]
            case 2:
                value[at:at] = draw(st.sampled_from([b'"', b"\\", b"{", b"]", b",", b"\x00", b"\xff", b" ", b"1e"]))
            case _:
                value[at:at] = value[at:end]
    return bytes(value)


VALUES = st.one_of(mutated(), mutated(), st.binary(max_size=60), st.none(), documents().map(str.encode))
RECORDS = st.builds(
    record,
    VALUES,
    key=st.one_of(st.just(b"7590-VHVEG"), st.none(), st.binary(max_size=6)),
    headers=st.lists(
        st.one_of(
            st.tuples(st.text(max_size=3), st.one_of(st.none(), st.binary(max_size=3))),
            st.sampled_from([("at", b"2026-11-22T05:00:00Z"), ("ce_specversion", b"1.0"), ("ce_id", b"7")]),
        ),
        max_size=3,
    ),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.one_of(st.just(NOW_MS), st.integers(-1, 2**53), st.just(NOW_MS + 300_001)),
)


def _rows(batch):
    """One tuple per accepted record, with all results about it."""
    columns = batch.columns
    return list(
        zip(
            batch.event_ids,
            batch.customer_ids,
            batch.event_times,
            batch.event_time_ms.tolist(),
            columns.numeric.tolist(),
            columns.codes.tolist(),
            *columns.values,
            strict=True,
        )
    )


def _same(a, b):
    # NaN is a missing number
    return repr(a) == repr(b)


@pytest.mark.parametrize(
    "decoders", DECODERS, ids=["default", "reject", "bare", "nested", "deep", "wide", "text", "debezium", "cloudevents"]
)
@settings(max_examples=120, deadline=None)
@given(records=st.lists(RECORDS, max_size=6))
def test_no_bytes_raise_and_a_batch_is_the_sum_of_its_records(decoders, records):
    """The decoder agrees with the validator on every record, and a record's neighbours change nothing about it."""
    batch = decoders.decode(records)  # compares rejections and counts with the validator's
    singles = [decoders.decoder.decode([r], NOW_MS) for r in records]
    assert [single.rejections[0] for single in singles] == batch.rejections
    assert _same([row for single in singles for row in _rows(single)], _rows(batch))
    assert sum(single.unknown_fields for single in singles) == batch.unknown_fields
    assert sum(single.key_mismatches for single in singles) == batch.key_mismatches


@settings(max_examples=250, deadline=None)
@given(value=VALUES)
def test_accepted_values_are_the_documents_own(value):
    """What is accepted has in its columns what Python's own JSON reader finds in the document."""
    batch = DECODERS[0].one(value)
    if batch.rejections != [None]:
        return
    event = json.loads(value)
    features = event["features"]
    assert batch.event_ids == (event["event_id"],)
    assert batch.event_times == (event["event_time"],)
    numbers = [features.get(f.name) for f in FEATURES if f.kind == "numeric"]
    expected = np.array([math.nan if number is None else float(number) for number in numbers])
    np.testing.assert_array_equal(batch.columns.numeric[0], expected)
    assert [column[0] for column in batch.columns.values] == [features.get(f.name) for f in FEATURES]


# --- a pydantic model of the default envelope -----------------------------------------------------------------------


def _is_time(text):
    return timestamps.parse(text) is not None and timestamps.parse(text) <= NOW_MS + 300_000


Identifier = (
    Annotated[str, StringConstraints(pattern=r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$")]
    | Annotated[int, Field(gt=-(2**53), lt=2**53)]
)
Bounded = Annotated[float, Field(strict=True, gt=-(2.0**53), lt=2.0**53, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Features(_Model):
    """The features of tests/support/events.py, in pydantic's words."""

    tenure: Annotated[float, Field(ge=0, le=120, allow_inf_nan=False)]
    monthly_charges: Bounded
    total_charges: Bounded | None = None
    contract: str
    payment: str | None = None
    senior: bool
    partner: bool | None = None


class _Event(_Model):
    """The default envelope, in pydantic's words."""

    schema_version: Annotated[float, Field(ge=1, le=1)] = 1  # pydantic takes true for Literal[1]
    event_id: Identifier
    customer_id: Identifier
    event_time: str
    features: _Features


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**54), 2**54),
    st.integers(-3, 125),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.sampled_from(["x" * 128, "x" * 129, "\u0085", "2026-11-22T05:00:00.5+01:00", "2027-01-01T00:00:00Z", [], {}, 1]),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=500, deadline=None)
@given(
    envelope=st.dictionaries(st.sampled_from([*GOOD, "unknown"]), ANY, max_size=2),
    features=st.dictionaries(st.sampled_from([*GOOD_FEATURES, "unknown"]), ANY, max_size=2),
    gone=st.sets(st.sampled_from([*GOOD, *GOOD_FEATURES]), max_size=1),
)
def test_a_pydantic_model_of_the_event_accepts_the_same(envelope, features, gone):
    """An oracle that shares no code with the decoder agrees on what is accepted."""
    inner = {name: value for name, value in {**GOOD_FEATURES, **features}.items() if name not in gone}
    event = {**GOOD, "features": inner, **envelope}
    event = {name: value for name, value in event.items() if name not in gone}
    value = json.dumps(event).encode()
    reason = DECODERS[0].reason(value)
    try:
        ok = _is_time(_Event.model_validate_json(value).event_time)
    except ValidationError:
        ok = False
    assert (reason is None) == ok, reason


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from([f.name for f in FEATURES]), number=st.floats(allow_nan=False, allow_infinity=False))
def test_any_double_survives_as_itself(name, number):
    """A number within bounds reaches the column bit for bit, in its shortest form and in a long one."""
    if name != "monthly_charges":
        number = abs(math.fmod(number, 120.0))
        name = "tenure"
    for token in (repr(number), f"{number:.25e}"):
        value = raw(features={**GOOD_FEATURES, name: "@"}).replace(b'"@"', token.encode())
        batch = DECODERS[0].one(value)
        if abs(number) < 2**53:
            assert batch.columns.numeric[0, 0 if name == "tenure" else 1] == number
        else:
            assert batch.rejections[0].reason == Reason.OUT_OF_RANGE


# --- RFC 3339 -------------------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OFFSETS = st.one_of(st.none(), st.integers(-(24 * 60 - 1), 24 * 60 - 1))


@st.composite
def times(draw):
    """A date-time in the contract's form, and the milliseconds that datetime finds in it."""
    moment = draw(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001
    minutes = draw(OFFSETS)
    zone = UTC if minutes is None else timezone(timedelta(minutes=minutes))
    digits = draw(st.text("0123456789", max_size=9))
    moment = moment.replace(microsecond=0, tzinfo=zone)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + (f".{digits}" if digits else "")
    text += "Z" if minutes is None else f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    ms = (moment - EPOCH) // timedelta(milliseconds=1) + int(digits[:3].ljust(3, "0"))
    return text, ms


@settings(max_examples=250, deadline=None)
@given(st.lists(times(), max_size=5))
def test_times_are_datetimes(moments):
    """One by one and in batches, any length of fraction and any offset: the milliseconds of datetime."""
    texts = [text for text, _ in moments]
    expected = [ms for _, ms in moments]
    assert [timestamps.parse(text) for text in texts] == expected
    assert timestamps.parse_batch(texts).tolist() == expected


@settings(max_examples=300, deadline=None)
@given(
    text=st.sampled_from(["2026-11-22T05:59:59Z", "2024-02-29T23:59:59.999Z"]),
    damage=st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from([*"0123456789-:.TtZz+ ", "٣", ""])), min_size=0, max_size=2
    ),
    shifts=st.lists(st.sampled_from([0, 0, 0, -1, 1, -2]), min_size=4, max_size=4),
)
def test_a_batch_of_damaged_times_is_read_as_each_alone(text, damage, shifts):
    """Characters changed or removed, ends that belong to the neighbour: parse_batch is parse of every text."""
    joined = text * 5
    for at, new in damage:
        joined = joined[: at % len(joined)] + new + joined[at % len(joined) + 1 :]
    cuts = [0, *(len(text) * (i + 1) + shift for i, shift in enumerate(shifts)), len(joined)]
    texts = [joined[start:end] for start, end in pairwise(cuts)]
    expected = [timestamps.parse(text) for text in texts]
    assert [None if ms == timestamps.INVALID else ms for ms in timestamps.parse_batch(texts).tolist()] == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_our_own_times_are_read_back(ms):
    """UTC, Z, exactly three fraction digits; of the years 1 to 9999."""
    text = timestamps.render(ms)
    assert timestamps.parse(text) == ms
    assert text == f"{(EPOCH + timedelta(milliseconds=ms)).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
