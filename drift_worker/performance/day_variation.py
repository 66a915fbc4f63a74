"""How much a metric varies from day to day, beyond what its customers explain. Pure.

A metric's standard error counts customers. Households that decide together, or branches, are alike beyond that, and no
field names them. So successive days are compared: d² = (x - y)²/(e² + f²), of two days with the errors e and f, is 1 on
average if the errors are right. φ is its mean. Differences of neighbours leave out what lasts: a drop and a slow trend
are no variation. (J. von Neumann 1941, "Distribution of the ratio of the mean square successive difference to the
variance".)

k differences overlap and carry the information of 2k/3 independent ones: Var(Σd²) is 3k instead of 2k. So Σd²/φ is
about χ² with 2k/3 degrees of freedom. Where φ is above 1 beyond doubt (1 %), errors are √φ as large, and the normal
distribution's quantile becomes Student's.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from scipy.special import chdtrc, ndtr, stdtrit

# Differences of days until the variation counts as known.
LEARNT = 8
VARIES = 0.01
# Differences that are kept; then the sums are halved.
MOST = 120

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Variation(msgspec.Struct):
    """The day-to-day variation of one metric. Times have no part in it: days without a verdict are left out."""

    #: Differences that were learnt.
    differences: _Count = 0
    #: Σd² of them.
    total: float = 0.0
    #: The last day's value, and its standard error; None without such a day.
    value: float | None = None
    error: float | None = None
    #: d² of the last day, which is learnt with the next one; None without it.
    waiting: float | None = None

    @property
    def known(self) -> bool:
        """Return whether enough days were compared."""
        return self.differences >= LEARNT

    def errors(self, normal: float) -> float:
        """Return how many standard errors of customers are as rare as `normal` standard deviations, at least those.

        Until enough days were compared, that is `normal` itself.
        """
        if not self.known:
            return normal
        phi, df = self.total / self.differences, 2.0 * self.differences / 3.0
        if phi <= 1.0 or float(chdtrc(df, df * phi)) >= VARIES:
            return normal
        return max(normal, math.sqrt(phi) * -float(stdtrit(df, float(ndtr(-normal)))))

    def learn(self, value: float, error: float, *, moved: bool) -> None:
        """Take in a day. moved: it is worse than it should be, so the day before it may be where a change began."""
        if self.waiting is not None and not moved:
            self.differences += 1
            self.total += self.waiting
            if self.differences >= MOST:
                self.differences //= 2
                self.total /= 2.0
        self.waiting = None
        if self.value is not None and self.error is not None:
            self.waiting = (value - self.value) ** 2 / (error**2 + self.error**2)
        self.value, self.error = value, error

    def forget_last(self) -> None:
        """Compare the next day with none: it is of another model version, and what varies is the stream."""
        self.value = self.error = self.waiting = None

    @property
    def valid(self) -> bool:
        """Return whether every number is one that `learn` may have left."""
        numbers = [self.total, self.waiting or 0.0, abs(self.value or 0.0), self.error or 0.0]
        return all(math.isfinite(number) and number >= 0.0 for number in numbers)
