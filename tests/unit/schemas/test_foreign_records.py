"""Foreign records on Driftline's topics: readers have one error to handle, for any bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.alert import decode_alert
from schemas.measurement import decode_measurement
from schemas.prediction import decode_prediction

DECODERS = [decode_alert, decode_measurement, decode_prediction]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"null", b"\xff", b'{"version": 2}', b'"\xff"', b"[" * 9999, b'{"x": ' + b"[" * 99_999]
)
def test_what_is_no_record_of_ours_is_a_value_error(decode, raw):
    """Also nesting without end, which msgspec answers with an error of another kind."""
    with pytest.raises(ValueError, match=r"^not an? (alert|measurement|prediction): "):
        decode(raw)


@pytest.mark.parametrize("decode", DECODERS)
@settings(max_examples=200, deadline=None)
@given(raw=st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
def test_no_bytes_are_anything_else(decode, raw):
    """No short string is a record by chance, and none raises anything else."""
    with pytest.raises(ValueError, match=r"^not an? "):
        decode(raw)
