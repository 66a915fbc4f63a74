"""Records of closed windows."""

import json

import pytest
from msgspec.structs import replace

from schemas.measurement import FeatureMeasurement, Measurement, Sample, Window, as_json, decode_measurement, is_window

MEASUREMENT = Measurement(
    model="churn",
    model_version="1.4.0",
    reference_sha256="ab" * 32,
    window=Window("15m", "2026-11-22T05:00:00.000Z", "2026-11-22T05:15:00.000Z"),
    complete=True,
    sample=Sample(1500, 3, 0),
    features={"tenure": FeatureMeasurement(kind="numeric", events=1500, reason="reference_too_small")},
    offsets={"customer-events": {"0": (10, 20)}},
)


def test_a_measurement_is_read_as_it_was_written():
    """Unknown numbers are null, never 0."""
    assert decode_measurement(MEASUREMENT.encode()) == MEASUREMENT
    feature = json.loads(MEASUREMENT.encode())["features"]["tenure"]
    assert (feature["psi"], feature["effect"], feature["reason"]) == (None, None, "reference_too_small")
    assert as_json(MEASUREMENT)["offsets"] == {"customer-events": {"0": (10, 20)}}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not a measurement"),
        (b"{}", "not a measurement"),
        (b"[" * 100_000, "not a measurement"),
        (replace(MEASUREMENT, version=2).encode(), "measurement: version 2 is not known, only 1"),
    ],
)
def test_other_bytes_are_an_error(raw, message):
    """A reader counts them and goes on."""
    with pytest.raises(ValueError, match=message):
        decode_measurement(raw)


@pytest.mark.parametrize(
    ("key", "window"),
    [(MEASUREMENT.key(), True), (None, True), (b"churn/15m/counts", False), (b"churn/performance", False)],
)
def test_a_window_is_told_from_the_other_records_of_its_topic_by_its_key(key, window):
    """Counts for a restart and cohorts are there, too."""
    assert is_window(key) is window
