"""The definition of a valid event, part by part; test_event.py has every sentence of the contract."""

import pytest

from schemas.bundle.inputs import EventMapping, Feature
from schemas.rejection_reasons import RejectedError
from schemas.validation import (
    customer_id_from_key,
    identifier,
    leaves_of,
    parse_json,
    read_json,
    shape_of,
    valid_identifier,
)


@pytest.mark.parametrize(
    ("raw", "parsed"), [(b"{}", {}), (b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}), (b'"\\u00e9"', "é")]
)
def test_json_is_read(raw, parsed):
    """As the standard library reads it."""
    assert parse_json(raw) == parsed


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"\xef\xbb\xbf{}", b'"\\ud800"', b"[" * 101 + b"]" * 101]
)
def test_what_is_not_strict_json_has_a_reason(raw):
    """No constants, no byte order mark, no lone surrogates, no depth that a reader cannot take."""
    _, rejection = read_json(raw)
    assert rejection is not None
    assert rejection.detail.isascii()
    with pytest.raises(RejectedError):
        parse_json(raw)


@pytest.mark.parametrize(
    ("text", "valid"), [("7590-VHVEG", True), ("é", True), ("", False), ("x" * 129, False), ("a\nb", False)]
)
def test_an_identifier_is_short_and_has_no_control_characters(text, valid):
    """It is in keys, headers and logs."""
    assert valid_identifier(text) is valid


@pytest.mark.parametrize(("key", "customer"), [(b"ann", "ann"), (None, None), (b"\xff", None), (b"", "")])
def test_a_key_that_is_no_customer_id_is_none(key, customer):
    """Producers may use any key."""
    assert customer_id_from_key(key) == customer


@pytest.mark.parametrize(
    ("value", "text"), [("ann", "ann"), (17, "17"), (-1, "-1"), (17.0, None), (True, None), (2**53, None), ("", None)]
)
def test_an_id_may_be_an_integer(value, text):
    """As its decimal text."""
    assert identifier(value) == text


def test_every_path_of_a_mapping_is_a_leaf():
    """With its steps; what is not in the value is none."""
    mapping = EventMapping(
        customer_id="$key", event_time="at", features="data|json", only={"op": [1], "$header.x": [1]}
    )
    features = (Feature(name="a.b", kind="numeric"), Feature(name="c", kind="numeric", **{"from": "c.0"}))
    assert leaves_of(features, mapping) == {
        "event_id": ("event_id",),
        "at": ("at",),
        "data|json.a.b": ("data", "|json", "a.b"),
        "data|json.c.0": ("data", "|json", "c", "0"),
        "op": ("op",),
    }
    assert shape_of(features, mapping).objects["data"].objects["|json"].leaves == {"a.b"}
