"""A share that was counted, and how sure it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True)
class Share:
    """`hits` of n trials; n is not 0.

    >>> str(Share(190, 200))
    '190 of 200 = 95.0 % (91.0 to 97.3)'
    """

    hits: int
    n: int

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (1927), for trials that are independent of each other."""
        p, n, z2 = self.value, self.n, _Z * _Z
        middle, spread = p + z2 / (2 * n), _Z * ((p * (1 - p) + z2 / (4 * n)) / n) ** 0.5
        # without hits the lower end is 0 but for rounding
        return max(0.0, (middle - spread) / (1 + z2 / n)), min(1.0, (middle + spread) / (1 + z2 / n))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits:,} of {self.n:,} = {percent(self.value)} % ({percent(low)} to {percent(high)})"


def percent(share: float) -> str:
    """With one digit behind the point, and two below a hundredth, so that 0.03 % is not 0.0 %."""
    return f"{100 * share:.1f}" if share >= 0.01 or share == 0 else f"{100 * share:.2f}"
