"""States, reasons and numbers in words. An unknown value is never shown as a number."""

from __future__ import annotations

from datetime import UTC, datetime

# state → (the word on the page, a mark that does not depend on colour, the meaning)
STATES = {
    "critical": ("critical", "▲", "moved beyond the critical limit, confirmed"),
    "warning": ("warning", "△", "moved beyond the warning limit, confirmed"),
    "pending": ("pending", "◔", "exceeded a limit lately; not confirmed yet"),
    "inactive": ("quiet", "✓", "no confirmed movement"),
    "not_enough_data": ("not enough data", "?", "no window length had enough events lately"),
}
REASONS = {
    "not_enough_data": "too few independent events in this window",
    "reference_too_small": "the reference has too few values",
    "all_missing": "every value is missing",
    "pending": "this window of the predictions has not closed yet",
    "counted_in_part": "an earlier version counted some of these events, and counts no relations",
    "reference_changed": "the reference changed while the window was open",
}
UNKNOWN = "–"


def state(name: str) -> tuple[str, str, str]:
    """Return word, mark and meaning of a state; an unknown state is shown as it is."""
    return STATES.get(name, (name.replace("_", " "), "?", "a state that is unknown to this version"))


def reason(name: str | None) -> str:
    """Return the reason why a number is unknown."""
    return REASONS.get(name or "", (name or "not measured").replace("_", " "))


def number(value: float | None, digits: int = 3) -> str:
    """Return a statistic as text; small ones do not become 0.

    >>> number(0.3449), number(0.00004), number(0.0), number(None)
    ('0.345', '4e-05', '0', '–')
    """
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    return f"{value:.{digits}f}" if abs(value) >= 10**-digits else f"{value:.0e}"


def share(value: float | None) -> str:
    """Return a share in per cent.

    >>> share(0.1234), share(0.0), share(0.0004), share(None)
    ('12.3 %', '0 %', '0.04 %', '–')
    """
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0 %"
    return f"{value:.1%}".replace("%", " %") if abs(value) >= 0.001 else f"{value * 100:.1g} %"


def count(value: float | None) -> str:
    """Return a whole number with separators."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def probability(log10_p: float | None) -> str:
    """Return a p-value from its decimal logarithm, which does not underflow."""
    if log10_p is None:
        return UNKNOWN
    return f"{10**log10_p:.3f}" if log10_p > -3 else f"10^{log10_p:.0f}"


def edges(values: list[float]) -> list[str]:
    """Return bin edges in the fewest digits that distinguish them.

    >>> edges([18.25, 102.6, 8684.8]), edges([1000001.0, 1000002.0])
    (['18.2', '103', '8.68k'], ['1.000001M', '1.000002M'])
    """
    for digits in range(3, 8):
        texts = [_short(value, digits) for value in values]
        if len(set(texts)) == len(set(values)):
            return texts
    return [f"{value:.17g}" for value in values]


def _short(value: float, digits: int) -> str:
    if abs(value) < 1e4 and value % 1 == 0:
        return f"{value:.0f}"
    rounded = float(f"{value:.{digits}g}")
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= abs(rounded) < unit * 1000:
            return f"{rounded / unit:.{digits}g}{letter}"
    return f"{rounded:.{digits}g}"


def moment(ms: int) -> str:
    """Return a time in UTC, to the second where it has seconds."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}" if at.second else f"{at:%Y-%m-%d %H:%M}"


def axis_times(start_ms: int, end_ms: int) -> tuple[str, str, str]:
    """Return labels for the begin, the middle and the end of a time axis."""
    span = end_ms - start_ms
    form = "%H:%M:%S" if span < 10 * 60_000 else "%H:%M" if span < 20 * 3_600_000 else "%d %b %H:%M"
    times = (start_ms, (start_ms + end_ms) // 2, end_ms)
    begin, middle, end = (datetime.fromtimestamp(ms / 1000, UTC).strftime(form) for ms in times)
    return begin, middle, end
