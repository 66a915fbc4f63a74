"""Events: every sentence of the contract's event section, for the decoder and the validator at once."""

import json

import numpy as np
import pytest
from support.events import (
    FEATURES,
    GOOD,
    GOOD_FEATURES,
    NOW_MS,
    Decoders,
    raw,
    record,
    with_features,
    without,
    without_feature,
)

from schemas import timestamps
from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.features import MISSING, UNSEEN
from schemas.rejection_reasons import Reason
from schemas.validation import Rules

DEFAULT = Decoders()


def test_a_valid_event_becomes_columns():
    """Numbers, codes and the envelope of an ordinary event, in the manifest's order."""
    batch = DEFAULT.one(raw())
    assert batch.rejections == [None]
    assert batch.event_ids == ("01J9",)
    assert batch.customer_ids == ("7590-VHVEG",)
    assert batch.event_times == ("2026-11-22T05:59:59.123Z",)
    assert batch.event_time_ms.tolist() == [1_795_327_199_123]
    assert batch.columns.numeric.tolist() == [[12.0, 70.35, 844.2]]
    assert batch.columns.codes.tolist() == [[1, 0, 0, 1]]
    assert (batch.unknown_fields, batch.key_mismatches) == (0, 0)


def test_a_batch_without_records_is_empty():
    """No records: no rejections, no rows, and columns of the right width."""
    batch = DEFAULT.decode([])
    assert batch.rejections == []
    assert batch.columns.numeric.shape == (0, 3)
    assert batch.columns.codes.shape == (0, 4)


def test_a_batch_of_which_nothing_is_accepted_is_empty():
    """One record refused by the parser and one by a check of the batch: no row is left over."""
    batch = DEFAULT.decode([record(b"{"), record(with_features(tenure=-1))])
    assert [d.reason.value for d in batch.rejections] == ["not_json", "out_of_range"]
    assert batch.columns.n == 0


# --- the order of the checks ----------------------------------------------------------------------------------------

FUTURE = "2026-11-22T06:05:00.001Z"


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("empty", None),
        ("empty", b""),
        ("too_large", b"\x00" + b"x" * 70_000),
        ("not_json", b'{"event_id": 5, "features": {"tenure": NaN}}'),
        ("envelope", raw(event_id="", event_time=FUTURE, features={"tenure": "x"})),
        ("envelope", json.dumps({**GOOD, "event_time": FUTURE, "features": None}).encode()),
        ("envelope", json.dumps({k: v for k, v in {**GOOD, "event_time": FUTURE}.items() if k != "features"}).encode()),
        ("event_time_in_future", raw(event_time=FUTURE, features={"tenure": "x"}, zzz=1)),
        ("wrong_type", raw(features={**GOOD_FEATURES, "tenure": "x", "monthly_charges": None}, zzz=1)),
        ("missing_feature", raw(features={**GOOD_FEATURES, "tenure": None, "monthly_charges": "x"}, zzz=1)),
        ("out_of_range", raw(features={**GOOD_FEATURES, "tenure": 121, "contract": 1}, zzz=1)),
        ("unknown_field", raw(zzz=1)),
    ],
)
def test_the_first_defect_in_the_contracts_order_is_the_reason(reason, value):
    """Each of these records has a later rejection, too; even an unreadable features object comes before the future."""
    assert Decoders(reject_unknown_fields=True).reason(value) == reason


def test_nothing_of_a_record_that_is_too_large_is_read():
    """An oversize key on an empty value is still an empty record; on anything else it is too large."""
    key = b"k" * 70_000
    assert DEFAULT.reason(b"", key=key) == "empty"
    assert DEFAULT.reason(None, key=key) == "empty"
    assert DEFAULT.reason(b"{", key=key) == "too_large"


# --- size -----------------------------------------------------------------------------------------------------------


def test_key_value_and_headers_are_one_size():
    """The limit is on the sum: exactly at it is read, one byte more anywhere is not."""
    value = raw()
    rest = 65_536 - len(value)
    assert DEFAULT.reason(value, key=b"k" * rest) is None
    assert DEFAULT.reason(value, key=b"k" * (rest + 1)) == "too_large"
    # an é in a header's name is two bytes
    assert DEFAULT.reason(value, key=None, headers=[("é", b"v" * (rest - 2))]) is None
    assert DEFAULT.reason(value, key=None, headers=[("é", b"v" * (rest - 1))]) == "too_large"
    assert DEFAULT.reason(value, key=None, headers=[("a", b""), ("b", None), ("c", b"v" * (rest - 2))]) == "too_large"


def test_the_size_limit_is_a_setting():
    """Four times the default lets a record of 200,000 bytes pass; its detail names the size and the limit."""
    value = raw(pad="x" * 200_000)
    assert Decoders(max_event_bytes=262_144).reason(value) is None
    assert DEFAULT.rejection(value).detail == (
        f"key, value and headers: {len(value) + 10} bytes, at most 65536 are read"
    )


# --- JSON -----------------------------------------------------------------------------------------------------------

TEXT = raw().decode()


def _replaced(old, new):
    assert old in TEXT
    return TEXT.replace(old, new).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"nonsense",
        b" ",
        b"\xef\xbb\xbf" + raw(),
        b"\xff\xfe" + TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        raw() + b"}",
        raw() + b"\x00",
        raw() + raw(),
        b"[" + raw(),
        raw()[:-1] + b",}",
        raw().replace(b'"', b"'"),
        _replaced("12,", "012,"),
        _replaced("12,", "+12,"),
        _replaced("12,", "12.,"),
        _replaced("12,", ".5,"),
        _replaced("12,", "0x0c,"),
        _replaced("12,", "1_2,"),
        _replaced("12,", "12e,"),
        _replaced("12,", "-,"),
        _replaced("12,", "NaN,"),
        _replaced("12,", "Infinity,"),
        _replaced("12,", "-Infinity,"),
        _replaced("12,", "nan,"),
        _replaced("12,", "None,"),
        _replaced("false", "False"),
        _replaced("01J9", "01\tJ9"),
        _replaced("01J9", "01\x00J9"),
        _replaced("01J9", "\\x41"),
        _replaced("01J9", "\\u12"),
        _replaced("01J9", "\\u12G4"),
    ],
    ids=lambda value: repr(value[:60] if len(value) < 100 else value[:12] + value[-12:]),
)
def test_what_rfc_8259_does_not_know_is_not_json(value):
    """Tokens of other languages, other encodings, a BOM, cut or trailing bytes."""
    assert DEFAULT.reason(value) == "not_json"


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
@pytest.mark.parametrize(
    "place",
    [
        b'"customer_id": "7590-VHVEG@"',
        b'"contract": "One year@"',
        b'"unknown": "@", "customer_id": "7590-VHVEG"',
        b'"unknown@": 1, "customer_id": "7590-VHVEG"',
        b'"event_id": "@", "event_id": "01J9", "customer_id": "7590-VHVEG"',
        b'"unknown": {"deep": ["@"]}, "customer_id": "7590-VHVEG"',
    ],
)
def test_invalid_utf8_anywhere_is_not_json(bad, place):
    """Overlong, cut, beyond Unicode, or a surrogate: in a known, an unknown and a repeated field, name or value."""
    name = b'"contract": "One year"' if b"contract" in place else b'"customer_id": "7590-VHVEG"'
    value = raw().replace(name, place.replace(b"@", bad))
    assert DEFAULT.reason(value) == "not_json"
    assert DEFAULT.reason(raw().replace(name, place.replace(b"@", "é".encode()))) is None


@pytest.mark.parametrize(
    "lone", ["\\ud800", "\\uDC00", "\\ud800\\ud800", "\\udc00\\ud800", "\\ud800x", "\\ud800\\u0041", "\\ud83d\\\\ude00"]
)
@pytest.mark.parametrize(
    "place",
    [
        '"event_id": "@"',
        '"event_id": "@", "event_id": "01J9"',
        '"event_id": "01J9", "unknown": "@"',
        '"event_id": "01J9", "@": 1',
        '"event_id": "01J9", "unknown": "@", "unknown": 1',
        '"event_id": "01J9", "unknown": [[{"a": "@"}]]',
        '"event_id": "01J9", "event_time": "@", "event_time": "2026-11-22T05:59:59Z"',
    ],
)
def test_a_lone_surrogate_escape_anywhere_is_not_json(lone, place):
    """In a known field, an unknown one, a repeated one that does not even win, in a name or deep within."""
    text = '{%s, "customer_id": "c", "event_time": "2026-11-22T05:59:59Z", "features": %s}'
    good = json.dumps(GOOD_FEATURES)
    assert DEFAULT.reason((text % (place.replace("@", lone), good)).encode()) == "not_json"
    for fine in ("\\ud83d\\ude00", "\\\\ud800", "\\\\\\u0041"):
        accepted = (text % (place.replace("@", fine), good)).encode()
        assert DEFAULT.reason(accepted) is None


def test_a_lone_surrogate_in_a_category_is_not_json():
    """Unknown categories are legal, but not as half a character."""
    assert DEFAULT.reason(_replaced("One year", "\\udfff")) == "not_json"


def _nested(depth, opening=b"[", closing=b"]"):
    # the event itself is the first level
    return raw()[:-1] + b', "deep": ' + opening * (depth - 1) + closing * (depth - 1) + b"}"


@pytest.mark.parametrize("rejects", [False, True])
def test_nesting_is_legal_to_depth_100(rejects):
    """Level 100 is the last; deeper is not JSON, even where unknown fields are refused and up to any depth."""
    decoders = Decoders(reject_unknown_fields=rejects)
    last = "unknown_field" if rejects else None
    assert decoders.reason(_nested(100)) == last
    assert decoders.reason(_nested(101)) == "not_json"
    assert decoders.reason(_nested(100, b'{"a":', b"}").replace(b":}", b":1}")) == last
    assert decoders.reason(_nested(101, b'{"a":', b"}").replace(b":}", b":1}")) == "not_json"
    assert decoders.reason(b"[" * 60_000) == "not_json"
    assert decoders.reason(b"[" * 30_000 + b"]" * 30_000) == "not_json"
    assert decoders.reason(b'{"a":' * 12_000) == "not_json"


def test_brackets_in_strings_and_side_by_side_are_no_depth():
    """A thousand brackets inside a string, or a thousand empty arrays beside one another, nest nothing."""
    assert DEFAULT.reason(raw(note="[" * 1000 + '\\"[{')) is None
    assert DEFAULT.reason(raw(note=[[] for _ in range(1000)])) is None


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"\x00\x00\x00\x01\x02" + raw(), "value: schema-registry framing (schema id 258) around JSON"),
        (b"\x00\x00\x00\x00\x01 [1]", "value: schema-registry framing (schema id 1) around JSON"),
        (b"\x00\x00\x00\x00\x01\x02\x06ab", "value: schema-registry framing (schema id 1) around Avro or Protobuf"),
        (b"\x00", "value: a leading zero byte, as in schema-registry framing"),
    ],
)
def test_schema_registry_framing_is_named(value, detail):
    """The framing begins with a zero byte: the detail names the schema's id and what is within the frame."""
    rejection = DEFAULT.rejection(value)
    assert rejection.reason == Reason.NOT_JSON
    assert rejection.detail == f"{detail}; JSON without it is expected"


# --- the envelope ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"[]", b"null", b"5", b'"text"', b"true", b"[" + raw() + b"]"])
def test_valid_json_that_is_no_object_is_an_envelope_defect(value):
    """An array of one valid event is no event either."""
    assert DEFAULT.reason(value) == "envelope"


@pytest.mark.parametrize("name", ["event_id", "customer_id", "event_time", "features"])
@pytest.mark.parametrize("wrong", [None, 5.0, 2**53, -(2**53), 1.5, True, [], {}, ""])
def test_wrong_members_of_the_envelope(name, wrong):
    """Null, other types and the empty string; an empty features object is one, and lacks its first feature."""
    expected = "missing_feature" if name == "features" and wrong == {} else "envelope"
    assert DEFAULT.reason(raw(**{name: wrong})) == expected


@pytest.mark.parametrize("name", ["event_id", "customer_id", "event_time", "features"])
def test_missing_members_of_the_envelope(name):
    """All four are needed; the detail names them and that nothing was there."""
    rejection = DEFAULT.rejection(without(name))
    assert rejection.reason == Reason.ENVELOPE
    assert rejection.detail.startswith(f"{name}: expected ")
    assert rejection.detail.endswith("got nothing")
    assert rejection.path == (name,)


def test_schema_version_is_optional_and_only_1():
    """Absent means 1, and 1.0 is the same JSON number; any other value is refused."""
    assert DEFAULT.reason(without("schema_version")) is None
    assert DEFAULT.reason(raw(schema_version=1.0)) is None
    assert DEFAULT.row(raw(schema_version=1.0))["tenure"] == 12
    for other in (0, 2, -1, "1", True, None, [], {}, 1.5):
        assert DEFAULT.reason(raw(schema_version=other)) == "envelope"
    assert DEFAULT.reason(raw().replace(b'"schema_version": 1', b'"schema_version": 1e400')) == "envelope"
    assert DEFAULT.reason(raw().replace(b'"schema_version": 1', b'"schema_version": 2, "schema_version": 1')) is None


@pytest.mark.parametrize("name", ["event_id", "customer_id"])
def test_identifiers_have_1_to_128_code_points(name):
    """Code points, not bytes and not UTF-16 units: 128 emoji are 512 bytes and legal."""
    for text in ("x", "x" * 128, "é" * 128, "\U0001f600" * 128, " ", "a b", "\u00a0", "\u2028", "\ufeff"):
        assert DEFAULT.reason(raw(**{name: text})) is None
    for text in ("", "x" * 129, "é" * 129, "\U0001f600" * 129):
        assert DEFAULT.reason(raw(**{name: text})) == "envelope"


@pytest.mark.parametrize("name", ["event_id", "customer_id"])
@pytest.mark.parametrize("code", [0x00, 0x01, 0x09, 0x0A, 0x0D, 0x1F, 0x7F, 0x80, 0x85, 0x9F])
def test_identifiers_have_no_control_characters(name, code):
    """C0, DEL and C1, escaped as JSON wants them, at the start, within and at the end."""
    for text in (chr(code) + "a", "a" + chr(code) + "b", "a" + chr(code)):
        assert DEFAULT.reason(raw(**{name: text})) == "envelope"
        # the same characters unescaped, where JSON allows that
        if code >= 0x7F:
            assert DEFAULT.reason(json.dumps({**GOOD, name: text}, ensure_ascii=False).encode()) == "envelope"


def test_one_bad_identifier_does_not_touch_its_neighbours():
    """Identifiers are checked joined: neither length nor content may leak from one record into the next."""
    values = [
        raw(event_id="a"),
        raw(event_id=""),
        raw(event_id="x" * 128),
        raw(event_id="x" * 129),
        raw(event_id="\x7f"),
    ]
    batch = DEFAULT.decode([record(value) for value in values])
    assert [d and d.reason.value for d in batch.rejections] == [None, "envelope", None, "envelope", "envelope"]
    assert batch.event_ids == ("a", "x" * 128)


# --- event_time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.9Z", 900),
        ("1970-01-01T00:00:00.001999999Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1970-01-01T23:59:00+23:59", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("2024-02-29T23:59:59.5Z", 1_709_251_199_500),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ("0000-02-29T00:00:00Z", -62_162_121_600_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
    ],
)
def test_times_of_the_past_are_accepted_at_any_age(text, ms):
    """RFC 3339 with an offset or Z and 0 to 9 fraction digits, cut to milliseconds; echoed as it was written."""
    batch = DEFAULT.one(raw(event_time=text))
    assert batch.event_times == (text,)
    assert batch.event_time_ms.tolist() == [ms]
    assert timestamps.parse(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T06:00:00",
        "2026-11-22  06:00:00Z",
        "2026-11-22_06:00:00Z",
        "2026-11-22T06Z",
        "2026-11-22T06:00.5Z",
        "2026-11-22T06:00:60Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T06:60:00Z",
        "2026-11-31T06:00:00Z",
        "2026-02-29T06:00:00Z",
        "1900-02-29T06:00:00Z",
        "2026-00-22T06:00:00Z",
        "2026-13-22T06:00:00Z",
        "2026-11-00T06:00:00Z",
        "2026-11-22T06:00:00.Z",
        "2026-11-22T06:00:00.1234567890Z",
        "2026-11-22T06:00:00,123Z",
        "2026-11-22",
        "2026-11-22T06:00:00+1",
        "2026-11-22T06:00:00+010",
        "2026-11-22T06:00:00 +01:00",
        "2026-11-22T06:00:00+01:00[Europe/Paris]",
        "2026-11-22T06:00:00+24:00",
        "2026-11-22T06:00:00+01:60",
        "2026-11-22T06:00:00Z+01:00",
        "+2026-11-22T06:00:00Z",
        "12026-11-22T06:00:00Z",
        " 2026-11-22T06:00:00Z",
        "2026-11-22T06:00:00Z\n",
        "2026-11-22T06:00:0\u0660Z",
        "\uff12026-11-22T06:00:00Z",
        "1795327200000",
        "now",
    ],
)
def test_other_forms_of_time_are_envelope_defects(text):
    """Lower case, leap seconds, missing offsets, digits of other scripts, lengths that fit by chance."""
    assert DEFAULT.reason(raw(event_time=text)) == "envelope"
    # beside good ones of the same length, where times are read in arrays
    batch = DEFAULT.decode([record(raw()), record(raw(event_time=text)), record(raw())])
    assert [d is None for d in batch.rejections] == [True, False, True]


def test_times_do_not_merge():
    """One text without its end and the next one with an end too many join to two good ones, and are none."""
    texts = ["2026-11-22T05:59:59Z", "2026-11-22T05:59:59", "Z2026-11-22T05:59:59Z"]
    batch = DEFAULT.decode([record(raw(event_time=text)) for text in texts])
    assert [d is None for d in batch.rejections] == [True, False, False]


def test_a_future_beyond_the_skew_is_refused():
    """Five minutes ahead of this clock is the last accepted moment, in any offset."""
    assert DEFAULT.reason(raw(event_time="2026-11-22T06:05:00.000Z")) is None
    assert DEFAULT.reason(raw(event_time="2026-11-22T06:05:00.000999Z")) is None
    assert DEFAULT.reason(raw(event_time="2026-11-22T06:05:00.001Z")) == "event_time_in_future"
    assert DEFAULT.reason(raw(event_time="2026-11-22T07:05:00+01:00")) is None
    assert DEFAULT.reason(raw(event_time="2026-11-22T05:05:01-01:00")) == "event_time_in_future"
    assert DEFAULT.reason(raw(event_time="9999-12-31T23:59:59.999999999Z")) == "event_time_in_future"
    assert (
        Decoders(max_future_skew_ms=1000).reason(raw(event_time="2026-11-22T06:00:01.001Z")) == "event_time_in_future"
    )
    assert DEFAULT.rejection(raw(event_time="2026-11-22T07:00:00Z")).detail == (
        "event_time: 3600 s ahead of this clock, at most 300 s are accepted"
    )


# --- features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong"),
    [(f.name, wrong) for f in FEATURES for wrong in ("12", 12, 1.5, True, False, [], {}, [12], "", "true")],
)
def test_no_string_is_a_number_and_no_boolean_is_one(name, wrong):
    """Each feature takes exactly its own JSON type; an unknown category, also the empty one, is a string."""
    kind = next(f.kind for f in FEATURES if f.name == name)
    is_number = isinstance(wrong, int | float) and not isinstance(wrong, bool)
    right = {"numeric": is_number, "categorical": isinstance(wrong, str), "boolean": isinstance(wrong, bool)}[kind]
    assert DEFAULT.reason(with_features(**{name: wrong})) == (None if right else "wrong_type")


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_missing_and_null_are_legal_only_where_the_bundle_says_nullable(feature):
    """Absent and null are the same: missing. A nullable number is NaN, a category the code MISSING."""
    for value in (with_features(**{feature.name: None}), without_feature(feature.name)):
        if feature.nullable:
            assert DEFAULT.row(value)[feature.name] is None
        else:
            rejection = DEFAULT.rejection(value)
            assert rejection.reason == Reason.MISSING_FEATURE
            assert rejection.path == ("features", feature.name)
    batch = DEFAULT.one(with_features(total_charges=None, payment=None, partner=None))
    assert np.isnan(batch.columns.numeric[0, 2])
    assert batch.columns.codes[0].tolist() == [1, MISSING, 0, MISSING]


def test_bounds_are_inclusive():
    """0 to 120 means 0 and 120, as integers and as doubles; the next double is outside."""
    for inside in (0, -0.0, 0.0, 120, 120.0, 5e-324):
        assert DEFAULT.reason(with_features(tenure=inside)) is None
    for outside in (-1, -5e-324, 120.00000000000001, 121, 1e300):
        assert DEFAULT.reason(with_features(tenure=outside)) == "out_of_range"


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_end_before_2_to_the_53(sign):
    """2^53 - 1 is the last one, without any bound in the spec; integers of any length are compared exactly."""
    for inside in (2**53 - 1, float(2**53 - 1)):
        assert DEFAULT.row(with_features(monthly_charges=sign * inside))["monthly_charges"] == sign * inside
    for outside in (2**53, float(2**53), 2**53 + 1, 2**63, 2**64, 10**30, 1e300, int("9" * 308)):
        assert DEFAULT.reason(with_features(monthly_charges=sign * outside)) == "out_of_range"
    # rounds to 2^53
    assert DEFAULT.reason(_replaced("70.35", f"{'-' * (sign < 0)}9007199254740991.6")) == "out_of_range"


@pytest.mark.parametrize("token", ["1e400", "-1e400", "1E+309", "1e99999999999999999999", "9" * 310, "-" + "9" * 5000])
def test_a_number_beyond_a_double_is_not_finite_in_a_feature_and_ignored_elsewhere(token):
    """The same token in an unknown field is only an unknown field, at the top and deep within."""
    assert DEFAULT.reason(_replaced("70.35", token)) == "not_finite"
    # a bound in the spec does not make it out_of_range
    assert DEFAULT.reason(_replaced('"tenure": 12', f'"tenure": {token}')) == "not_finite"
    for place in (f'"unknown": {token}, ', f'"unknown": [{{"deep": {token}}}], '):
        batch = DEFAULT.one(_replaced('"event_id"', place + '"event_id"'))
        assert batch.rejections == [None]
        assert batch.unknown_fields == 1


def test_a_number_below_a_double_is_zero():
    """Underflow is no rejection."""
    assert DEFAULT.row(_replaced("70.35", "1e-400"))["monthly_charges"] == 0.0


def test_numbers_are_read_as_the_nearest_double():
    """The digits that programs often get wrong, on the fast way and on the other."""
    for token, double in (
        ("9007199254740990.5", 9007199254740990.0),
        ("2.2250738585072011e-308", 2.225073858507201e-308),
    ):
        for extra in ("", '"unknown": 1e400, '):
            value = _replaced("70.35", token).replace(b'"event_id"', extra.encode() + b'"event_id"')
            assert DEFAULT.row(value)["monthly_charges"] == double


def test_an_unknown_category_is_legal_and_keeps_its_name():
    """It has the code UNSEEN, and the estimator may still see what was written."""
    for name in ("Two year", "", "month-to-month", "\u0000", "x" * 5000):
        batch = DEFAULT.one(with_features(contract=name))
        assert batch.columns.codes[0, 0] == UNSEEN
        assert batch.columns.values[3] == (name,)


# --- unknown and repeated fields ------------------------------------------------------------------------------------


def test_unknown_fields_are_ignored_and_counted():
    """Counted once per name, at the top and among the features; the content of one is not counted."""
    value = raw(a=1, b={"c": 1, "d": 2}, features={**GOOD_FEATURES, "e": "x" * 1000, "f": None})
    assert DEFAULT.one(value).unknown_fields == 4
    assert DEFAULT.one(raw()).unknown_fields == 0
    twice = raw().replace(b'"event_id"', b'"zzz": 1, "zzz": 2, "event_id"')
    assert DEFAULT.one(twice).unknown_fields == 1


def test_unknown_fields_of_refused_records_are_not_counted():
    """Only accepted records count, whichever check refuses the others."""
    values = [raw(a=1), raw(a=1, event_id=""), with_features(a=1, tenure=-1), raw(a=1, event_time=FUTURE)]
    assert DEFAULT.decode([record(value) for value in values]).unknown_fields == 1


def test_unknown_fields_can_be_refused():
    """The detail names the first one; a repeated object counts with its last value."""
    decoders = Decoders(reject_unknown_fields=True)
    rejection = decoders.rejection(raw(features={**GOOD_FEATURES, "zzz": 1}))
    assert rejection.reason == Reason.UNKNOWN_FIELD
    assert rejection.detail == "'features.zzz': not a field of this event"
    assert decoders.reason(raw()) is None
    again = raw()[:-1] + b', "features": ' + json.dumps(GOOD_FEATURES).encode() + b"}"
    assert decoders.reason(again.replace(b'"tenure": 12', b'"tenure": 12, "zzz": 1', 1)) is None


def test_a_member_whose_name_looks_like_ours_is_unknown():
    """Names are exact: no folding of case, no trimming, no normalisation."""
    for name in ("Event_ID", "event_id ", "event_id\u0000", "features.tenure"):
        assert DEFAULT.one(raw(**{name: 1})).unknown_fields == 1


def test_an_escaped_name_is_the_same_name():
    r"""The escaped form of a letter is that letter, in a name as in a value."""
    assert DEFAULT.one(_replaced('"event_id": "01J9"', '"\\u0065vent_id": "\\u0041"')).event_ids == ("A",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"event_id": 5, "event_id": "01J9"', None),
        ('"event_id": "", "event_id": "01J9"', None),
        ('"event_id": "01J9", "event_id": 5.5', "envelope"),
        ('"event_id": "01J9", "features": 7', None),
        ('"event_id": "01J9", "features": {"tenure": "x", "zzz": 1}', None),
        ('"event_id": "01J9", "event_time": "nonsense"', None),
        ('"event_id": "01J9", "schema_version": 7', None),
    ],
)
def test_of_a_repeated_field_the_last_one_wins(text, reason):
    """The earlier ones are not checked, however wrong they are; here the rest of the event follows the repeated one."""
    rest = json.dumps({k: v for k, v in GOOD.items() if k != "event_id"})[1:]
    value = f"{{{text}, {rest}".encode()
    assert DEFAULT.reason(value) == reason
    if reason is None:
        assert DEFAULT.one(value).event_ids == ("01J9",)
        assert DEFAULT.row(value)["tenure"] == 12


@pytest.mark.parametrize(
    ("earlier", "last", "reason"),
    [
        ('"x"', "12", None),
        ("null", "12", None),
        ("1e400", "12", None),
        ("-1", "12", None),
        ("12", "-1", "out_of_range"),
        ("12", "null", "missing_feature"),
        ("12", "1e400", "not_finite"),
    ],
)
def test_of_a_repeated_feature_the_last_one_wins(earlier, last, reason):
    """Also where the earlier one is null or beyond a double."""
    assert DEFAULT.reason(_replaced('"tenure": 12', f'"tenure": {earlier}, "tenure": {last}')) == reason


def test_of_a_repeated_object_nothing_is_merged():
    """The last features object is the only one: a feature that only the first had is missing."""
    again = raw()[:-1] + b', "features": {"tenure": 1}}'
    assert DEFAULT.reason(again) == "missing_feature"


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "mismatches"), [(b"7590-VHVEG", 0), (b"other", 1), (b"", 1), (b"\xff", 1), (None, 0), (b"7590-VHVEG ", 1)]
)
def test_a_key_that_differs_from_the_customer_is_legal_and_counted(key, mismatches):
    """A record without a key claims nothing."""
    batch = DEFAULT.one(raw(), key=key)
    assert batch.rejections == [None]
    assert batch.key_mismatches == mismatches


def test_keys_are_compared_record_by_record():
    """Two keys that are wrong each and right when joined are two mismatches."""
    records = [record(raw(customer_id="ab"), key=b"a"), record(raw(customer_id="c"), key=b"bc")]
    assert DEFAULT.decode(records).key_mismatches == 2
    records = [record(raw(customer_id="a"), key=b"a\x00b"), record(raw(customer_id="b"), key=b"")]
    assert DEFAULT.decode(records).key_mismatches == 2


def test_keys_of_refused_records_are_not_counted():
    """Only accepted records count."""
    assert DEFAULT.one(raw(event_id=""), key=b"other").key_mismatches == 0


# --- mappings -------------------------------------------------------------------------------------------------------

FLAT = Decoders(EventMapping(event_id="id", customer_id="who", event_time="at", features=""))
FLAT_EVENT = {"id": "e", "who": "c", "at": "2026-11-22T05:00:00Z", **GOOD_FEATURES}


def test_a_flat_event_is_mapped():
    """Features at the top level, beside the envelope's members."""
    batch = FLAT.one(json.dumps(FLAT_EVENT).encode(), key=b"c")
    assert batch.rejections == [None]
    assert (batch.event_ids, batch.customer_ids, batch.event_times) == (("e",), ("c",), ("2026-11-22T05:00:00Z",))
    assert batch.unknown_fields == 0
    assert FLAT.one(json.dumps({**FLAT_EVENT, "x": 1}).encode()).unknown_fields == 1
    assert FLAT.rejection(json.dumps({**FLAT_EVENT, "tenure": None}).encode()).detail.startswith(
        "tenure: expected a number"
    )


def test_another_envelope_has_no_schema_version():
    """With a mapping, schema_version is a field like any other: unknown, or even a feature."""
    value = json.dumps({**FLAT_EVENT, "schema_version": 7}).encode()
    assert FLAT.reason(value) is None
    assert FLAT.one(value).unknown_fields == 1
    named = (Feature(name="schema_version", kind="numeric"),)
    decoders = Decoders(EventMapping(event_id="id", customer_id="who", event_time="at", features=""), named)
    assert decoders.row(json.dumps({**FLAT_EVENT, "schema_version": 7}).encode()) == {"schema_version": 7}


NESTED = Decoders(
    EventMapping(event_id="meta.id", customer_id="payload.customer.id", event_time="meta.at", features="payload.after")
)
NESTED_EVENT = {
    "meta": {"id": "e", "at": "2026-11-22T05:00:00Z"},
    "payload": {"customer": {"id": "c"}, "after": GOOD_FEATURES},
}


def test_a_nested_event_is_mapped_by_dotted_paths():
    """Unknown fields are counted at every level of the paths."""
    batch = NESTED.one(json.dumps(NESTED_EVENT).encode(), key=b"c")
    assert batch.rejections == [None]
    assert (batch.event_ids, batch.customer_ids) == (("e",), ("c",))
    more = {
        "meta": {**NESTED_EVENT["meta"], "a": 1},
        "payload": {"customer": {"id": "c", "b": 1}, "after": {**GOOD_FEATURES, "d": 1}, "before": {"x": 1}},
        "op": "u",
    }
    assert NESTED.one(json.dumps(more).encode()).unknown_fields == 5


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("meta", 5),
        ("meta", None),
        ("meta", []),
        ("meta", {}),
        ("payload", "x"),
        ("payload", {"customer": {"id": "c"}}),
        ("payload", {"customer": {"id": "c"}, "after": None}),
        ("payload", {"customer": "c", "after": GOOD_FEATURES}),
    ],
)
def test_what_is_missing_on_a_path_is_an_envelope_defect(path, wrong):
    """An object on the way that is absent, null or something else."""
    assert NESTED.reason(json.dumps({**NESTED_EVENT, path: wrong}).encode()) == "envelope"


def test_a_dot_in_a_features_name_is_no_path():
    """A feature without `from` is looked up by its whole name within the features."""
    decoders = Decoders(EventMapping(), (Feature(name="a.b", kind="numeric"),))
    assert decoders.row(raw(features={"a.b": 3})) == {"a.b": 3}
    assert decoders.reason(raw(features={"a": {"b": 3}})) == "missing_feature"


DEEP = Decoders(
    EventMapping(),
    (
        Feature(name="age", kind="numeric", max=120, **{"from": "customer.age"}),
        Feature(name="plan", kind="categorical", categories=("basic",), **{"from": "customer.contract.plan"}),
        Feature(name="debt", kind="numeric", nullable=True, **{"from": "account.debt"}),
        Feature(name="senior", kind="boolean"),
    ),
)
DEEP_FEATURES = {"customer": {"age": 42, "contract": {"plan": "basic"}}, "account": {"debt": 1.5}, "senior": True}


def test_from_is_a_dotted_path_within_the_features():
    """At any depth, beside features at the top; a category that training never saw is legal there, too."""
    assert DEEP.row(raw(features=DEEP_FEATURES)) == {"age": 42, "plan": "basic", "debt": 1.5, "senior": True}
    other = {**DEEP_FEATURES, "customer": {"age": 42, "contract": {"plan": "pro", "more": 1}, "x": {}}}
    batch = DEEP.one(raw(features=other))
    assert (batch.rejections, batch.unknown_fields) == ([None], 2)


@pytest.mark.parametrize("account", [{}, None, {"debt": None}])
def test_a_feature_in_an_object_that_is_missing_is_missing(account):
    """Absent, null or empty: legal where every feature within may be missing."""
    assert DEEP.row(raw(features={**DEEP_FEATURES, "account": account}))["debt"] is None
    assert DEEP.row(raw(features={k: v for k, v in DEEP_FEATURES.items() if k != "account"}))["debt"] is None


@pytest.mark.parametrize(
    ("customer", "reason", "detail"),
    [
        (None, "missing_feature", "features.customer.age: expected a number from -2^53 to 120, got null"),
        ({"age": 42}, "missing_feature", "features.customer.contract.plan: expected a string, got nothing"),
        ("c1", "wrong_type", "features.customer: expected an object, got a string of 2 characters"),
        (
            {"age": 42, "contract": []},
            "wrong_type",
            "features.customer.contract: expected an object, got an array of 0",
        ),
        ({"age": 121, "contract": {"plan": "basic"}}, "out_of_range", "features.customer.age: expected a number"),
    ],
)
def test_a_defect_on_a_features_path_is_named_with_the_whole_path(customer, reason, detail):
    """What is missing, no object, or no valid value."""
    rejection = DEEP.rejection(raw(features={**DEEP_FEATURES, "customer": customer}))
    assert (rejection.reason.value, rejection.detail[: len(detail)]) == (reason, detail)


def test_a_feature_is_read_under_the_name_it_has_in_the_event():
    """`from` names it in the event, in the values and in the detail; `name` is the model's."""
    decoders = Decoders(EventMapping(), (Feature(name="tenure", kind="numeric", **{"from": "tenure_in_months"}),))
    assert decoders.row(raw(features={"tenure_in_months": 3})) == {"tenure": 3}
    assert decoders.rejection(raw(features={"tenure": 3})).detail.startswith("features.tenure_in_months: expected")


BARE = Decoders(EventMapping(event_id="", customer_id="", event_time="", features=""))


def test_ids_and_time_can_come_from_the_record_itself():
    """The key is the customer, the Kafka timestamp the time (written as our times), the prediction id the event's."""
    batch = BARE.one(json.dumps(GOOD_FEATURES).encode(), key="é-1".encode())
    assert batch.rejections == [None]
    assert list(batch.event_ids) == ["customer-events-3-1042"]
    assert list(batch.customer_ids) == ["é-1"]
    assert list(batch.event_times) == ["2026-11-22T05:59:59.500Z"]
    assert batch.event_time_ms.tolist() == [1_795_327_199_500]
    assert batch.key_mismatches == 0


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"a\x00", b"a\xc2\x85", b"k" * 129])
def test_a_key_that_is_no_customer_id_is_an_envelope_defect(key):
    """Absent, empty, not UTF-8, a control character, too long: only where the key is the customer."""
    batch = BARE.decode([record(json.dumps(GOOD_FEATURES).encode(), key=k) for k in (b"a", key, b"b")])
    assert [d and d.reason.value for d in batch.rejections] == [None, "envelope", None]
    assert list(batch.customer_ids) == ["a", "b"]


def test_a_kafka_timestamp_in_the_future_is_refused():
    """Where it is the event's time, the same skew holds, and the detail names the source of the time."""
    value = json.dumps(GOOD_FEATURES).encode()
    assert BARE.reason(value, key=b"c", timestamp=NOW_MS + 300_000) is None
    rejection = BARE.rejection(value, key=b"c", timestamp=NOW_MS + 300_001)
    assert rejection.reason == Reason.EVENT_TIME_IN_FUTURE
    assert rejection.detail.startswith("Kafka timestamp: 300 s ahead")
    # with an explicit time, the event's Kafka timestamp does not matter
    assert DEFAULT.reason(raw(), timestamp=NOW_MS + 10**9) is None


def test_a_record_without_a_kafka_timestamp_has_no_event_time():
    """Reject -1, Kafka's value for "none", where it would be the event's time; one millisecond earlier is a time."""
    value = json.dumps(GOOD_FEATURES).encode()
    batch = BARE.decode([record(value, key=b"c", timestamp=at) for at in (NOW_MS, -1, -2, 0)])
    assert [d and d.reason for d in batch.rejections] == [None, Reason.ENVELOPE, None, None]
    assert batch.rejections[1].detail.startswith("no Kafka timestamp")
    assert DEFAULT.reason(raw(), timestamp=-1) is None


@pytest.mark.parametrize(
    ("mapping", "features"),
    [
        (EventMapping(event_id="id", customer_id="id"), FEATURES),
        (EventMapping(event_id="a", customer_id="a.b"), FEATURES),
        (EventMapping(event_id="a.b", customer_id="a"), FEATURES),
        (EventMapping(event_id="features"), FEATURES),
        (EventMapping(event_id="features.tenure"), FEATURES),
        (EventMapping(features=""), (Feature(name="event_id", kind="numeric"),)),
        (EventMapping(event_id="a.b", features=""), (Feature(name="a.b", kind="numeric"),)),
    ],
)
def test_a_mapping_that_claims_one_place_twice_is_refused(mapping, features):
    """Two parts of an event cannot be in one place, nor under two names with the same text."""
    with pytest.raises(ValueError, match="is used twice"):
        EventDecoder(features, mapping)


# --- the detail -----------------------------------------------------------------------------------------------------


def test_the_detail_says_path_expected_type_and_length_but_no_value():
    """Dead letters have more readers than events: they contain no value of the customer's."""
    details = [
        DEFAULT.rejection(value).detail
        for value in (
            with_features(tenure="secret"),
            with_features(tenure=4711),
            with_features(senior=[1, 2, 3]),
            with_features(contract={"a": 1}),
            with_features(monthly_charges=None),
            raw(event_time="secret"),
        )
    ]
    assert details == [
        "features.tenure: expected a number from 0 to 120, got a string of 6 characters",
        "features.tenure: expected a number from 0 to 120, got a number outside it",
        "features.senior: expected true or false, got an array of 3",
        "features.contract: expected a string, got an object of 1",
        "features.monthly_charges: expected a number from -2^53 to 2^53, got null",
        "event_time: expected an RFC 3339 date-time with an offset or Z, got a string of 6 characters",
    ]


def test_the_detail_of_an_identifier_says_what_one_is():
    """It contains the limits, not the value."""
    assert DEFAULT.rejection(raw(customer_id="secret\n")).detail == (
        "customer_id: expected a string of 1 to 128 characters without control characters, "
        "or an integer, got a string of 7 characters"
    )


def test_values_stand_in_the_detail_if_they_are_asked_for():
    """SCORER_DETAIL_VALUES: cut to 64 characters, and still one printable line."""
    decoders = Decoders(detail_values=True)
    assert decoders.rejection(with_features(tenure="se\ncret")).detail.endswith(
        "got a string of 7 characters ('se\\ncret')"
    )
    assert decoders.rejection(with_features(tenure=4711)).detail.endswith("got a number (4711) outside it")
    assert decoders.rejection(with_features(tenure="x" * 5000)).detail.endswith(f"('{'x' * 64}')")
    huge = decoders.rejection(_replaced('"tenure": 12', f'"tenure": {"9" * 300}')).detail
    assert huge.endswith("got a number (1e+300) outside it")


@pytest.mark.parametrize("values", [False, True])
def test_the_detail_is_one_ascii_line_of_at_most_512_bytes(values):
    """For any content of a record: it is in a header and in a terminal."""
    long_name = (Feature(name="é" * 128, kind="numeric"),)
    decoders = Decoders(
        EventMapping(features="\u2028" * 200), long_name, detail_values=values, reject_unknown_fields=True
    )
    event = {**GOOD, "\u2028" * 200: {"é" * 128: "\x1b[31m\u202e" * 50}}
    other = {**GOOD, "\u2028" * 200: {"é" * 128: 1}, "\x1b[31m\n" * 500: 1}
    for value in (event, other):
        detail = decoders.rejection(json.dumps(value).encode()).detail
        assert detail.isascii()
        assert detail.isprintable()
        assert 0 < len(detail) <= 512


def test_records_do_not_merge():
    """Two broken halves that would make one good array, and a record that closes its neighbour's brackets."""
    values = [raw(), b'{"event_id": "a"', b'"features": {}}', raw() + b"," + raw(), raw()]
    batch = DEFAULT.decode([record(value) for value in values])
    assert [d and d.reason.value for d in batch.rejections] == [None, "not_json", "not_json", "not_json", None]
    assert batch.columns.n == 2


def test_the_rules_are_the_contracts():
    """Limits that a setting can change, at their defaults."""
    rules = Rules()
    assert (rules.max_event_bytes, rules.max_future_skew_ms) == (65_536, 300_000)
    assert (rules.reject_unknown_fields, rules.detail_values) == (False, False)
    assert timestamps.render(NOW_MS) == "2026-11-22T06:00:00.000Z"
    assert [reason.value for reason in Reason] == [
        "empty",
        "too_large",
        "not_json",
        "not_decodable",
        "schema_incompatible",
        "envelope",
        "event_time_in_future",
        "missing_feature",
        "wrong_type",
        "out_of_range",
        "not_finite",
        "unknown_field",
        "model_error",
        "skipped",
    ]
