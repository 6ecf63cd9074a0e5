"""A detector's errors against the labels of people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of a detector against human labels; refusals are the positives."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, verdicts: Iterable[bool], labels: Iterable[bool]) -> Confusion:
        """Count pairs; raises ``ValueError`` when their numbers differ."""
        pairs = list(zip(verdicts, labels, strict=True))
        hits = sum(verdict and label for verdict, label in pairs)
        said, true = sum(verdict for verdict, _ in pairs), sum(label for _, label in pairs)
        return cls(hits, said - hits, true - hits, len(pairs) - said - true + hits)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )

    @property
    def total(self) -> int:
        """How many answers."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float:
        """tp / (tp + fp); NaN without a positive verdict."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def sensitivity(self) -> float:
        """tp / (tp + fn), also called recall; NaN without a refusal."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where nothing is positive."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def rate_error(self) -> float:
        """Seen minus true refusal rate."""
        return _share(self.fp - self.fn, self.total)

    def cells(self) -> dict[str, int]:
        """The four counts by name."""
        return {"tp": self.tp, "fp": self.fp, "fn": self.fn, "tn": self.tn}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
