"""Times as text or as numbers since the epoch ↔ milliseconds since the epoch, one by one and in batches.

The accepted text is RFC 3339 with at most 9 fraction digits and no leap second, and what Java, Jackson and PostgreSQL
write: a space for `T`, lower-case `t` and `z`, no seconds, `+0100` and `+01`. Digits after the millisecond are cut, not
rounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

_FORM = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})([Tt ])([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(?:(Z)|z|([+-])([0-9]{2})(?:(:?)([0-9]{2}))?)?"
)
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTH_DAYS_ARRAY = np.array((0, *_MONTH_DAYS, 0, 0, 0), dtype=np.int64)
_DAY_MS = 86_400_000
# "2026-11-22T06:00:00Z" has 20 characters; a fraction adds a point and 1-9 digits
_BARE = 20
# Of times on one day: where "2026-11-22T" ends, and where the digits of "06:00:00.123" are, with what each is worth.
_DAY = 11
_CLOCK = np.array((11, 12, 14, 15, 17, 18, 20, 21, 22))
_CLOCK_MS = np.array((36_000_000, 3_600_000, 600_000, 60_000, 10_000, 1_000, 100, 10, 1))
INVALID = np.iinfo(np.int64).min
EARLIEST_MS = -62_135_596_800_000  # 0001-01-01T00:00:00Z
LATEST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
# How many of a unit are a second, and how many digits of a fraction of a second it has, at least our own three.
_UNITS = {"s": (1, 3), "ms": (1000, 3), "us": (1_000_000, 6), "ns": (1_000_000_000, 9)}
_DIGITS = re.compile("-?[0-9]{1,30}")
# Beyond it no unit is a time, and int64 still holds ten of them.
_MOST = 9 * 10**17 * 1000


def _days(year: int, month: int, day: int) -> int:
    """Return days from 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, days_from_civil)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def parse(text: str) -> int | None:
    """Return milliseconds since the epoch, or None if `text` is not in the accepted form.

    >>> parse("1970-01-01T01:00:00.0019+01:00"), parse("1970-01-01 00:00+00")
    (1, 0)
    """
    found = _read(text, None)
    return None if found is None else found[0]


def _read(text: str, zone: tzinfo | None) -> tuple[int, str] | None:
    """Return milliseconds, and the text itself if it is RFC 3339 as we write it (any offset), else the time in UTC."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute = (int(part) for part in match.group(1, 2, 3, 5, 6))
    between, second, fraction, upper, sign, offset_hour, colon, offset_minute = match.group(4, 7, 8, 9, 10, 11, 12, 13)
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1] + leap:
        return None
    if hour > 23 or minute > 59 or int(second or 0) > 59:
        return None
    seconds = _days(year, month, day) * 86_400 + (hour * 60 + minute) * 60 + int(second or 0)
    if sign:
        if int(offset_hour) > 23 or int(offset_minute or 0) > 59:
            return None
        offset = (int(offset_hour) * 60 + int(offset_minute or 0)) * 60
        seconds += -offset if sign == "+" else offset
    elif text[-1] not in "Zz":
        if zone is None or year == 0:
            return None
        # of a time that happens twice, the first
        local = datetime(year, month, day, hour, minute, int(second or 0), tzinfo=zone)
        seconds -= round((local.utcoffset() or timedelta()).total_seconds())
    digits = fraction or ""
    ms = seconds * 1000 + int(digits[:3].ljust(3, "0"))
    if between == "T" and second and (upper or colon):
        return ms, text
    if not EARLIEST_MS <= ms <= LATEST_MS:
        return None  # we could not write it
    return ms, render(ms)[:-4] + digits.ljust(3, "0") + "Z"


def known_zone(name: str) -> bool:
    """Return whether this is the IANA name of a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


class TimeForm:
    """How the times of events are written: as text, or as numbers of a unit since the epoch."""

    def __init__(self, unit: str = "rfc3339", zone: str | None = None) -> None:
        self._unit = _UNITS.get(unit)
        self._zone = None if zone is None else ZoneInfo(zone)
        if self._unit is None:
            offset = "an offset or Z" if zone is None else f"or without an offset, in {zone}"
            self.expected = f"an RFC 3339 date-time with {offset}"
            if zone is not None:
                self.expected = f"an RFC 3339 date-time, {offset.removeprefix('or ')} or with one"
        else:
            self.expected = f"a number of {unit} since the epoch, or a string of its digits"

    def read(self, value: object) -> tuple[int, str] | None:
        """Return milliseconds since the epoch, and RFC 3339 text; None if the value is not in this form.

        >>> TimeForm("us").read("1001"), TimeForm("s").read(1.5)
        ((1, '1970-01-01T00:00:00.001001Z'), (1500, '1970-01-01T00:00:01.500Z'))
        """
        if self._unit is None:
            return _read(value, self._zone) if isinstance(value, str) else None
        if isinstance(value, str):
            if not _DIGITS.fullmatch(value):
                return None
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_MOST < value < _MOST:
            return None
        per_second, digits = self._unit
        # the digits of the number, not those of the double: 1.001 s is 1001 ms
        ticks = math.floor(Decimal(repr(value)) * 10**digits / per_second)
        ms = ticks // 10 ** (digits - 3)
        if ms > LATEST_MS:
            return min(ms, 2**62), ""  # in the future, and of no year that can be written
        if ms < EARLIEST_MS:
            return None
        return ms, f"{render(ms)[:-4]}{ticks % 10**digits:0{digits}d}Z"

    def read_batch(self, values: Sequence[Any]) -> tuple[NDArray[np.int64], Sequence[str]]:
        """Return the same of many: int64 milliseconds, INVALID where `read` gives None, and the texts."""
        if self._unit is not None:
            found = self._read_numbers(values)
            if found is not None:
                return found
        elif (times := _parse_uniform(values)) is not None:
            return times, values
        out = np.empty(len(values), dtype=np.int64)
        texts: list[str] = []
        for i, value in enumerate(values):
            ms, text = self.read(value) or (INVALID, "")
            out[i] = ms
            texts.append(text)
        return out, tuple(texts)

    def _read_numbers(self, values: Sequence[Any]) -> tuple[NDArray[np.int64], Sequence[str]] | None:
        """Return the same in arrays if all values are integers, or all are their digits; else None."""
        assert self._unit is not None, "a number has a unit"  # noqa: S101
        kinds = set(map(type, values))
        if kinds == {str}:
            # 18 digits are an int64, and a sign is not a digit
            if not "".join(values).isdecimal() or not set(map(len, values)) <= _SHORT or not "".join(values).isascii():
                return None
            values = list(map(int, values))
        elif kinds != {int}:
            return None
        per_second, digits = self._unit
        try:
            ticks = np.array(values, dtype=np.int64)
        except OverflowError:
            return None
        ms = ticks * 1000 if per_second == 1 else ticks // (per_second // 1000)
        if (abs(ticks) > _MOST // 1000).any() or (ms < EARLIEST_MS).any() or (ms > LATEST_MS).any():
            return None
        shown = ticks if per_second > 1 else ms
        return ms, render_batch(shown, {3: "ms", 6: "us", 9: "ns"}[digits])


_SHORT = frozenset(range(1, 19))


def parse_batch(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return milliseconds per text, int64; INVALID where `parse` gives None.

    Producers write one format, so nearly every batch has one length with `Z`: that case is parsed in arrays.
    """
    parsed = _parse_uniform(texts)
    if parsed is not None:
        return parsed
    out = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        ms = parse(text)
        out[i] = INVALID if ms is None else ms
    return out


def _parse_uniform(texts: Sequence[Any]) -> NDArray[np.int64] | None:
    """Return the milliseconds of times that all have one length, upper-case `T` and `Z`, and seconds; else None."""
    n = len(texts)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    try:
        joined = "".join(texts)
    except TypeError:
        return None
    length = len(texts[0])
    # every length is checked: one text's missing end and the next one's surplus start would join to two valid ones
    if (length == _BARE or _BARE + 2 <= length <= _BARE + 10) and joined.isascii() and set(map(len, texts)) == {length}:
        table = np.frombuffer(joined.encode(), dtype=np.uint8).reshape(n, length)
        if joined.count(texts[0][:_DAY]) == n:
            one_day = _parse_day(table, texts[0])
            if one_day is not None:
                return one_day
        return _parse_table(table.astype(np.int64), length)
    return None


def _parse_day(table: NDArray[np.uint8], first: str) -> NDArray[np.int64] | None:
    """Return rows of characters, all of the length of `first`, as milliseconds; None unless all are of its day.

    A stream's batch is of seconds, so that as a rule only the clock has to be read.
    """
    day_ms, length = parse(f"{first[:_DAY]}00:00:00Z"), len(first)
    if day_ms is None or first[_DAY - 1] != "T":
        return None
    bare = length == _BARE
    places = [*range(_DAY), 13, 16, length - 1, *([] if bare else [19])]
    expected = np.frombuffer(f"{first[:_DAY]}::Z{'' if bare else '.'}".encode(), dtype=np.uint8)
    if (table[:, places] != expected).any():
        return None
    # what is no digit wraps round to more than nine
    digits = table[:, _DAY : length - 1] - np.uint8(ord("0"))
    clock = digits[:, _CLOCK[: min(9, 6 + max(0, length - _BARE - 1))] - _DAY]
    rest = digits[:, 9:]
    if (clock > 9).any() or (rest > 9).any():
        return None
    high = clock[:, :6:2] * np.uint8(10) + clock[:, 1:6:2]
    if (high > (23, 59, 59)).any():
        return None
    ms: NDArray[np.int64] = day_ms + clock @ _CLOCK_MS[: clock.shape[1]]
    return ms


def _parse_table(table: NDArray[np.int64], length: int) -> NDArray[np.int64] | None:
    """Return rows of character codes, all ending in Z, as milliseconds; None unless every row is in the form."""
    separators = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", length - 1: "Z"}
    if length > _BARE:
        separators[19] = "."
    for column, expected in separators.items():
        if (table[:, column] != ord(expected)).any():
            return None
    digits = np.delete(table, list(separators), axis=1) - ord("0")
    if ((digits < 0) | (digits > 9)).any():
        return None
    year = digits[:, 0] * 1000 + digits[:, 1] * 100 + digits[:, 2] * 10 + digits[:, 3]
    month, day, hour, minute, second = (digits[:, i] * 10 + digits[:, i + 1] for i in range(4, 14, 2))
    leap = (month == 2) & (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59)
    month = np.where(month > 12, 0, month)
    if not (valid & (day <= _MONTH_DAYS_ARRAY[month] + leap)).all():
        return None
    of_era_year = year - (month <= 2)
    era, of_era = of_era_year // 400, of_era_year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    ms: NDArray[np.int64] = days * _DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000
    for column, weight in zip(range(14, min(17, digits.shape[1])), (100, 10, 1), strict=False):
        ms = ms + digits[:, column] * weight
    return ms


def render(ms: int) -> str:
    """Return a time as Driftline writes it: UTC, `Z`, exactly three fraction digits.

    >>> render(1)
    '1970-01-01T00:00:00.001Z'
    """
    return str(np.datetime64(ms, "ms")) + "Z"


def render_batch(times: NDArray[np.int64], unit: str = "ms") -> list[str]:
    """Return times in UTC with all fraction digits of their unit, `ms`, `us` or `ns`.

    >>> render_batch(np.array([1, -1]))
    ['1970-01-01T00:00:00.001Z', '1969-12-31T23:59:59.999Z']
    """
    texts: list[str] = np.datetime_as_string(times.astype(f"datetime64[{unit}]"), timezone="UTC").tolist()
    return texts
