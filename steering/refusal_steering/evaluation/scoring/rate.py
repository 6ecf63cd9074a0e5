"""Shares with intervals, and the paired comparison of two arms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from scipy.stats import binomtest, norm

CONFIDENCE = 0.95

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Rate:
    """``hits`` of ``n`` answered cases; ``errors`` more were not answered, and count in neither."""

    hits: int
    n: int
    errors: int = 0

    @property
    def value(self) -> float | None:
        """The share, ``None`` of nothing."""
        return self.hits / self.n if self.n else None

    @property
    def floor(self) -> float | None:
        """The share if every error had been a miss: no error can raise it."""
        total = self.n + self.errors
        return self.hits / total if total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's score interval (1927) at 95 %."""
        if not self.n:
            return None
        bounds = binomtest(self.hits, self.n).proportion_ci(CONFIDENCE, method="wilson")
        return float(bounds.low), float(bounds.high)

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "hits": self.hits,
            "n": self.n,
            "errors": self.errors,
            "value": self.value,
            "wilson95": self.interval,
            "floor": self.floor,
        }


@dataclass(frozen=True, slots=True)
class Paired:
    """Two arms on the same cases: ``gained`` only the new arm gets right, ``lost`` only the old."""

    n: int
    gained: int
    lost: int

    @classmethod
    def between(cls, old: Mapping[Key, bool], new: Mapping[Key, bool]) -> Paired:
        """Compare case by case; a case that one arm has no answer to is left out."""
        both = [(old[key], new[key]) for key in old if key in new]
        return cls(
            len(both),
            sum(after and not before for before, after in both),
            sum(before and not after for before, after in both),
        )

    @property
    def difference(self) -> float | None:
        """Share of the new arm less that of the old."""
        return (self.gained - self.lost) / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Adjusted Wald interval of the difference at 95 % (Bonett and Price 2012)."""
        if not self.n:
            return None
        up, down = (self.gained + 1) / (self.n + 2), (self.lost + 1) / (self.n + 2)
        z = float(norm.ppf((1 + CONFIDENCE) / 2))
        half = z * math.sqrt((up + down - (up - down) ** 2) / (self.n + 2))
        return max(-1.0, up - down - half), min(1.0, up - down + half)

    @property
    def p_value(self) -> float:
        """McNemar's exact test that gains and losses are equally likely."""
        changed = self.gained + self.lost
        return float(binomtest(self.gained, changed).pvalue) if changed else 1.0

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "n": self.n,
            "gained": self.gained,
            "lost": self.lost,
            "difference": self.difference,
            "interval95": self.interval,
            "mcnemar_p": self.p_value,
        }
