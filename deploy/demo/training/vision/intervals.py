"""Shares with their 95 % intervals, for tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959964


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    hits: int
    count: int

    def __str__(self) -> str:
        if not self.count:
            return "none"
        low, high = self.interval
        return f"{self.hits / self.count:.3f} [{low:.3f}, {high:.3f}], n {self.count}"

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval."""
        share, n = self.hits / self.count, self.count
        middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
        return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
