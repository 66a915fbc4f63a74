"""Malicious and mistaken records, with the outcome of each.

The features are those of tests/support/events.py. An outcome is `predicted`, or the reason of the dead letter.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass

from support.events import GOOD, GOOD_FEATURES, raw, with_features, without, without_feature

GOOD_KEY = b"7590-VHVEG"
PREDICTED = "predicted"


@dataclass(frozen=True)
class Hostile:
    """One record, and its outcome."""

    name: str
    value: bytes | None
    outcome: str
    key: bytes | None = GOOD_KEY
    headers: tuple[tuple[str, bytes | None], ...] = ()


def _number(token: str) -> bytes:
    """The valid event with this token for a number without bounds."""
    return with_features(monthly_charges="@").replace(b'"@"', token.encode())


def _text(token: bytes) -> bytes:
    """The valid event with this token for its customer's id."""
    return raw(customer_id="@").replace(b'"@"', token)


def _avro(value: bytes) -> bytes:
    """As the serializers of a schema registry frame a value: a zero byte, four of the schema's id."""
    return b"\x00\x00\x00\x00\x07" + value


_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_SPOOFED = tuple(
    (f"driftline-{name}", value)
    for name, value in (
        ("source-topic", b"other"),
        ("source-partition", b"99"),
        ("source-offset", b"-1"),
        ("reason", b"model_error"),
        ("attempt", b"99999999999999999999"),
        ("truncated", b"key,value,headers"),
        ("group", b"\xff"),
        ("never-heard-of", None),
    )
)

CORPUS = [
    # what is no JSON
    Hostile("null value", None, "empty"),
    Hostile("no bytes", b"", "empty"),
    Hostile("white space only", b" \t\r\n", "not_json"),
    Hostile("NUL", b"\x00", "not_json"),
    Hostile("NULs", b"\x00" * 1000, "not_json"),
    Hostile("a byte order mark before it", b"\xef\xbb\xbf" + raw(), "not_json"),
    Hostile("UTF-16", raw().decode().encode("utf-16"), "not_json"),
    Hostile("UTF-16 without a mark", raw().decode().encode("utf-16-le"), "not_json"),
    Hostile("UTF-32", raw().decode().encode("utf-32-be"), "not_json"),
    Hostile("Latin-1", raw(customer_id="@").replace(b"@", b"\xe9"), "not_json"),
    Hostile("overlong UTF-8", _text(b'"\xc0\x80"'), "not_json"),
    Hostile("a surrogate in UTF-8", _text(b'"\xed\xa0\x80"'), "not_json"),
    Hostile("beyond Unicode", _text(b'"\xf4\x90\x80\x80"'), "not_json"),
    Hostile("cut in mid-character", _text('"é"'.encode())[:-1].replace("é".encode(), b"\xc3"), "not_json"),
    Hostile("truncated", raw()[:-1], "not_json"),
    Hostile("two documents", raw() + raw(), "not_json"),
    Hostile("JSON lines", raw() + b"\n" + raw(), "not_json"),
    Hostile("a comma too many", raw()[:-1] + b",}", "not_json"),
    Hostile("single quotes", raw().replace(b'"', b"'"), "not_json"),
    Hostile("a comment", b"/* */" + raw(), "not_json"),
    Hostile("a raw NUL in a string", _text(b'"a\x00b"'), "not_json"),
    Hostile("a raw line feed in a string", _text(b'"a\nb"'), "not_json"),
    Hostile("an unknown escape", _text(b'"\\x41"'), "not_json"),
    Hostile("a lone high surrogate", _text(b'"\\ud800"'), "not_json"),
    Hostile("a lone low surrogate", _text(b'"\\udc00"'), "not_json"),
    Hostile("surrogates the wrong way round", _text(b'"\\udc00\\ud800"'), "not_json"),
    Hostile("a lone surrogate in a name", raw()[:-1] + b',"\\ud800":1}', "not_json"),
    Hostile("a lone surrogate in a field that is not ours", raw()[:-1] + b',"x":{"y":["\\udfff"]}}', "not_json"),
    # other people's formats
    Hostile("Avro behind a schema registry", _avro(b"\x0801J9\x147590-VHVEG"), "not_json"),
    Hostile("JSON behind a schema registry", _avro(raw()), "not_json"),
    Hostile("Protobuf", b"\x0a\x0401J9\x12\x0a7590-VHVEG", "not_json"),
    Hostile("msgpack", b"\x82\xa8event_id\xa401J9\xabcustomer_id\xa17", "not_json"),
    Hostile("CBOR", b"\xa1\x68event_id\x6401J9", "not_json"),
    Hostile("BSON", b"\x17\x00\x00\x00\x02event_id\x00\x05\x00\x00\x0001J9\x00\x00", "not_json"),
    Hostile(
        "a pickle", b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93.", "not_json"
    ),
    Hostile("XML with entities", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "not_json"),
    Hostile("YAML", b"event_id: 01J9\ncustomer_id: 7590-VHVEG\n", "not_json"),
    Hostile("CSV", b"tenure,monthly_charges\n12,70.35\n", "not_json"),
    Hostile(
        "a CloudEvent", json.dumps({"specversion": "1.0", "id": "1", "type": "t", "data": GOOD}).encode(), "envelope"
    ),
    Hostile("Debezium", json.dumps({"schema": {}, "payload": {"before": None, "after": GOOD}}).encode(), "envelope"),
    Hostile("JSON in a JSON string", json.dumps(raw().decode()).encode(), "envelope"),
    Hostile("base64", b"eyJldmVudF9pZCI6IjAxSjkifQ==", "not_json"),
    # compressed where no reader decompresses, and bombs
    Hostile("gzip", gzip.compress(raw(), mtime=0), "not_json"),
    Hostile("a gzip bomb of 30 MB", gzip.compress(b"0" * 30_000_000, mtime=0), "not_json"),
    Hostile("a zlib bomb in a string", raw(x=zlib.compress(b"0" * 3_000_000).hex()), PREDICTED),
    # deep, long, large
    Hostile("100 deep", raw()[:-1] + b',"x":' + b"[" * 99 + b"]" * 99 + b"}", PREDICTED),
    Hostile("101 deep", raw()[:-1] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}", "not_json"),
    Hostile("30,000 deep", b"[" * 30_000 + b"]" * 30_000, "not_json"),
    Hostile("30,000 deep and not closed", b'{"a":' * 10_000, "not_json"),
    Hostile("brackets in a string", raw(x="[" * 30_000), PREDICTED),
    Hostile("4,000 fields", raw(x={str(i): i for i in range(4000)}), PREDICTED),
    Hostile("fields whose hashes are alike", raw(x={str(i * (2**61 - 1)): 0 for i in range(1500)}), PREDICTED),
    Hostile("a value that is too large", raw(x="v" * 70_000), "too_large"),
    Hostile("a key that is too large", raw(), "too_large", key=b"k" * 70_000),
    Hostile("a header that is too large", raw(), "too_large", headers=(("h", b"h" * 70_000),)),
    Hostile("1,000 headers", raw(), PREDICTED, headers=tuple((f"h{i}", b"v") for i in range(1000))),
    Hostile("a header's name of 60,000 bytes", raw(), PREDICTED, headers=(("n" * 60_000, b""),)),
    # numbers
    Hostile("1e400", _number("1e400"), "not_finite"),
    Hostile("-1e400", _number("-1e400"), "not_finite"),
    Hostile("1e-400", _number("1e-400"), PREDICTED),
    Hostile("NaN", _number("NaN"), "not_json"),
    Hostile("Infinity", _number("-Infinity"), "not_json"),
    Hostile("400 digits", _number("9" * 400), "not_finite"),
    Hostile("5,000 digits", _number("9" * 5000), "not_finite"),
    Hostile("5,000 digits behind the point", _number("0." + "9" * 5000), PREDICTED),
    Hostile("an exponent of 5,000 digits", _number("1e" + "9" * 5000), "not_finite"),
    Hostile("2^53", _number("9007199254740992"), "out_of_range"),
    Hostile("2^64", _number("18446744073709551616"), "out_of_range"),
    Hostile("minus zero", _number("-0.0"), PREDICTED),
    Hostile("a leading zero", _number("070"), "not_json"),
    Hostile("a plus sign", _number("+70"), "not_json"),
    Hostile("hexadecimal", _number("0x46"), "not_json"),
    Hostile("5,000 digits in a field that is not ours", raw()[:-1] + b',"x":' + b"9" * 5000 + b"}", PREDICTED),
    Hostile("below its bound", with_features(tenure=-1), "out_of_range"),
    Hostile(
        "above its bound by the least",
        _number("70").replace(b'"tenure": 12', b'"tenure": 120.00000000000002'),
        "out_of_range",
    ),
    # fields twice, absent, of another type
    Hostile("the same field twice, the last good", b'{"event_id":7,' + raw()[1:], PREDICTED),
    Hostile("the same field twice, the last bad", raw()[:-1] + b',"event_id":7.5}', "envelope"),
    Hostile("the features twice", raw()[:-1] + b',"features":{}}', "missing_feature"),
    Hostile("the same name in escapes", raw()[:-1] + b',"\\u0065vent_id":7.5}', "envelope"),
    Hostile("an array", json.dumps([GOOD]).encode(), "envelope"),
    Hostile("null", b"null", "envelope"),
    Hostile("a number", b"12", "envelope"),
    Hostile("an empty object", b"{}", "envelope"),
    Hostile("no event id", without("event_id"), "envelope"),
    Hostile("an event id that is an integer", raw(event_id=7), PREDICTED),
    Hostile("an event id that is a number", raw(event_id=7.0), "envelope"),
    Hostile("an event id of 300 digits", raw(event_id=10**300), "envelope"),
    Hostile("an event id that is true", raw(event_id=True), "envelope"),
    Hostile("a time of 5,000 digits", raw(event_time="9" * 5000), "envelope"),
    Hostile("a time with a space and no colon", raw(event_time="2026-11-22 05:59:59.5+0000"), PREDICTED),
    Hostile("an empty customer id", raw(customer_id=""), "envelope"),
    Hostile("a customer id of 128", raw(customer_id="é" * 128), PREDICTED),
    Hostile("a customer id of 129", raw(customer_id="x" * 129), "envelope"),
    Hostile("a NUL in a customer id", raw(customer_id="a\x00b"), "envelope"),
    Hostile("a control character in a customer id", raw(customer_id="a\x85b"), "envelope"),
    Hostile("right-to-left in a customer id", raw(customer_id="a\u202eb"), PREDICTED),
    Hostile("a log line in a customer id", raw(customer_id="a\n2026-11-22 [error] x"), "envelope"),
    Hostile("schema version true", raw(schema_version=True), "envelope"),
    Hostile("schema version 2", raw(schema_version=2), "envelope"),
    Hostile("the features in an array", raw(features=[GOOD_FEATURES]), "envelope"),
    Hostile("features null", raw(features=None), "envelope"),
    Hostile("a feature missing", without_feature("tenure"), "missing_feature"),
    Hostile("a feature null", with_features(tenure=None), "missing_feature"),
    Hostile("a number in a string", with_features(tenure="12"), "wrong_type"),
    Hostile("a boolean for a number", with_features(tenure=True), "wrong_type"),
    Hostile("a number for a boolean", with_features(senior=0), "wrong_type"),
    Hostile("an object for a string", with_features(contract={"$ne": None}), "wrong_type"),
    Hostile("an array for a number", with_features(tenure=[12]), "wrong_type"),
    Hostile("an unknown category of 60,000 characters", with_features(contract="x" * 60_000), PREDICTED),
    Hostile("an empty category", with_features(contract=""), PREDICTED),
    Hostile("a category with markup", with_features(contract="<script>alert(1)</script>"), PREDICTED),
    Hostile("__proto__", raw(__proto__={"features": GOOD_FEATURES}), PREDICTED),
    # times
    Hostile("a time without an offset", raw(event_time="2026-11-22T05:59:59"), "envelope"),
    Hostile("a time in seconds", raw(event_time=1_795_327_199), "envelope"),
    Hostile("a leap second", raw(event_time="2016-12-31T23:59:60Z"), "envelope"),
    Hostile("Arabic digits in a time", raw(event_time="٢٠٢٦-11-22T05:59:59Z"), "envelope"),
    Hostile("the year 1", raw(event_time="0001-01-01T00:00:00Z"), PREDICTED),
    Hostile("the year 9999", raw(event_time="9999-12-31T23:59:59Z"), "event_time_in_future"),
    # keys and headers
    Hostile("no key", raw(), PREDICTED, key=None),
    Hostile("an empty key", raw(), PREDICTED, key=b""),
    Hostile("a key that is not UTF-8", raw(), PREDICTED, key=b"\xff\xfe\x00"),
    Hostile("somebody else's key", raw(), PREDICTED, key=b"somebody else"),
    Hostile("our headers, spoofed", raw(), PREDICTED, headers=_SPOOFED),
    Hostile("our headers, spoofed, on a bad record", b"{", "not_json", headers=_SPOOFED),
    Hostile(
        "a trace of zeros", raw(), PREDICTED, headers=(("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00"),)
    ),
    Hostile("two traces", raw(), PREDICTED, headers=(("traceparent", b"\xff"), ("traceparent", _TRACE.encode()))),
    Hostile("a header without a name", b"{", "not_json", headers=(("", b""),)),
    Hostile("a header that is null", b"{", "not_json", headers=(("h", None),)),
]
