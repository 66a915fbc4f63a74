"""Times as text and as milliseconds, one by one and in batches."""

from datetime import datetime, timedelta

import pytest

from schemas.timestamps import EARLIEST_MS, INVALID, parse, parse_batch, render

_MILLISECOND = timedelta(milliseconds=1)
VALID = [
    "2026-11-22T06:00:00Z",
    "2026-11-22 06:00:00.123+00",
    "2026-11-22T06:00:00+0530",
    "2026-11-22T06:00Z",
    "2026-11-22T06:00:00.1Z",
    "2026-11-22T06:00:00.123456789Z",
    "2026-11-22T06:00:00+05:30",
    "2026-11-22T06:00:00.999-23:59",
    "2024-02-29T23:59:59Z",
    "2000-02-29T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
]
WRONG = [
    "2026-11-22T06:00:00",
    "2026-11-22T06Z",
    "2026-11-22_06:00:00Z",
    "2026-11-22T06:00:60Z",
    "2026-11-22T24:00:00Z",
    "2026-13-22T06:00:00Z",
    "2026-00-22T06:00:00Z",
    "2026-11-31T06:00:00Z",
    "2026-11-00T06:00:00Z",
    "2023-02-29T06:00:00Z",
    "1900-02-29T06:00:00Z",
    "2026-11-22T06:00:00.Z",
    "2026-11-22T06:00:00.1234567890Z",
    "2026-11-22T06:00:00+24:00",
    "2026-11-22T06:00:00+05:60",
    "٢026-11-22T06:00:00Z",
    "",
]


@pytest.mark.parametrize("text", VALID)
def test_a_time_is_the_standard_librarys(text):
    """Digits after the millisecond are cut."""
    at = datetime.fromisoformat(text)
    assert parse(text) == (at - datetime.fromisoformat("1970-01-01T00:00:00Z")) // _MILLISECOND
    assert parse_batch([text, text]).tolist() == [parse(text)] * 2


@pytest.mark.parametrize("text", WRONG)
def test_anything_else_is_no_time_alone_or_in_a_batch(text):
    """A neighbour of the same length is not harmed."""
    neighbour = "2026-11-22T06:00:00Z"
    assert parse(text) is None
    assert parse_batch([neighbour, text, neighbour]).tolist() == [parse(neighbour), INVALID, parse(neighbour)]


@pytest.mark.parametrize("end", ["", ".9", ".98", ".987", ".987654321"])
@pytest.mark.parametrize("day", ["2026-11-22", "2024-02-29", "0001-01-01", "9999-12-31", "2023-02-29", "2026-00-10"])
def test_times_of_one_day_are_read_as_each_alone(day, end):
    """The day once, and the clock of each: up to its last moment, and no further."""
    clocks = ["00:00:00", "09:59:59", "23:59:59", "12:34:56"]
    wrong = ["24:00:00", "23:60:00", "23:59:60", "2a:00:00", "99:00:00", "12 34:56", "12:34.56"]
    for times in [clocks, *([*clocks, one] for one in wrong)]:
        texts = [f"{day}T{time}{end}Z" for time in times]
        assert parse_batch(texts).tolist() == [INVALID if (ms := parse(text)) is None else ms for text in texts]


def test_a_missing_end_and_a_surplus_start_do_not_make_two_times():
    """Joined they would read as two valid ones."""
    texts = ["2026-11-22T06:00:00", "Z2026-11-22T06:00:00Z"]
    assert parse_batch(texts).tolist() == [INVALID, INVALID]
    assert parse_batch([]).tolist() == []


@pytest.mark.parametrize("ms", [0, 1, -1, 1_795_327_200_123, EARLIEST_MS])
def test_a_rendered_time_is_read_as_it_was(ms):
    """UTC, with three digits."""
    assert parse(render(ms)) == ms
    assert render(ms).endswith("Z")
