"""Columns of texts: names, dates, or sentences that no classifier here reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DATE = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{4}/\d{1,2}/\d{1,2}"
)
# Free text: most customers have different words. Names of plans, towns or products repeat.
OWN_SHARE = 0.5
WORDS = 3.0


def looks_like_dates(texts: Sequence[str]) -> bool:
    """Return whether every text is a date or a date with a time.

    >>> looks_like_dates(["2026-01-31", "2026-02-01T10:00:00Z"]), looks_like_dates(["2026-01-31", "gold"])
    (True, False)
    """
    return bool(texts) and all(_DATE.fullmatch(text.strip()) for text in texts)


def looks_like_free_text(texts: Sequence[str]) -> bool:
    """Return whether more than half of at least 20 texts are different, with three words and more on average.

    >>> looks_like_free_text([f"complained about the bill {i} times" for i in range(20)])
    True
    """
    if len(texts) < 20 or len(set(texts)) <= OWN_SHARE * len(texts):
        return False
    return sum(len(text.split()) for text in texts) >= WORDS * len(texts)
