"""The framing in front of a registry's records."""

import pytest

from schemas.formats.registered import schema_id, schema_ids, unframed
from schemas.rejection_reasons import RejectedError


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\1", b"{}", b"\1\0\0\0\1x"])
def test_a_value_without_framing_has_no_schema_id(value):
    """Too short, or another first byte."""
    assert schema_id(value) is None


def test_the_ids_of_a_batch_are_found_once_each():
    """Whatever is not framed has none."""
    values = [b"\0\0\0\0\7x", b"\0\0\0\0\7y", b"\0\0\0\1\0", b"{}", None]
    assert schema_ids(values) == {7, 256}


def test_the_record_is_behind_the_id_and_what_is_not_framed_is_named():
    """The detail has the first bytes."""
    assert unframed(b"\0\0\0\0\7abc") == (7, b"abc")
    with pytest.raises(RejectedError) as raised:
        unframed(b'{"a":1}')
    assert raised.value.rejection.reason.value == "not_decodable"
    assert "7b 22 61 22 3a" in raised.value.rejection.detail
