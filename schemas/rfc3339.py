"""RFC 3339 date-times ↔ milliseconds since the epoch, one by one and in batches.

The accepted form is narrower than RFC 3339: upper-case `T` and `Z`, an offset or `Z`, at most 9 fraction digits,
seconds 00-59 (no leap seconds). Digits after the millisecond are cut, not rounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FORM = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTH_DAYS_ARRAY = np.array((0, *_MONTH_DAYS, 0, 0, 0), dtype=np.int64)
_DAY_MS = 86_400_000
# "2026-11-22T06:00:00Z" has 20 characters; a fraction adds a point and 1-9 digits
_BARE = 20
INVALID = np.iinfo(np.int64).min
EARLIEST_MS = -62_135_596_800_000  # 0001-01-01T00:00:00Z


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, days_from_civil)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def parse(text: str) -> int | None:
    """Milliseconds since the epoch, or None if `text` is not in the accepted form.

    >>> parse("1970-01-01T01:00:00.0019+01:00")
    1
    """
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    fraction, sign, offset_hour, offset_minute = match.group(7, 8, 9, 10)
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1] + leap:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    ms = _days(year, month, day) * _DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000
    if fraction:
        ms += int(fraction[:3].ljust(3, "0"))
    if sign:
        if int(offset_hour) > 23 or int(offset_minute) > 59:
            return None
        offset = (int(offset_hour) * 60 + int(offset_minute)) * 60_000
        ms += -offset if sign == "+" else offset
    return ms


def parse_batch(texts: Sequence[str]) -> NDArray[np.int64]:
    """int64 milliseconds per text; INVALID where `parse` gives None.

    Producers write one format, so a batch is nearly always of one length with `Z`: that case is done in arrays.
    """
    n = len(texts)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    joined = "".join(texts)
    length = len(texts[0])
    # every length is checked: one text's missing end and the next one's surplus start would join to two valid ones
    if (length == _BARE or _BARE + 2 <= length <= _BARE + 10) and joined.isascii() and set(map(len, texts)) == {length}:
        table = np.frombuffer(joined.encode(), dtype=np.uint8).reshape(n, length).astype(np.int64)
        parsed = _parse_table(table, length)
        if parsed is not None:
            return parsed
    out = np.empty(n, dtype=np.int64)
    for i, text in enumerate(texts):
        ms = parse(text)
        out[i] = INVALID if ms is None else ms
    return out


def _parse_table(table: NDArray[np.int64], length: int) -> NDArray[np.int64] | None:
    """Rows of character codes, all ending in Z, as milliseconds; None unless every row is in the form."""
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
    """Our own times: UTC, `Z`, exactly three fraction digits.

    >>> render(1)
    '1970-01-01T00:00:00.001Z'
    """
    return str(np.datetime64(ms, "ms")) + "Z"
