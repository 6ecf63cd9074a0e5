"""A detector's errors, and the refusal rate corrected for them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Z95 = 1.959964


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
    def specificity(self) -> float:
        """tn / (tn + fp); NaN without an answer."""
        return _share(self.tn, self.tn + self.fp)

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


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """A rate with its interval, all in [0, 1]."""

    rate: float
    low: float
    high: float

    def body(self) -> dict[str, Any]:
        """For reports."""
        return {"rate": self.rate, "low": self.low, "high": self.high}


def corrected_rate(refusals: int, answers: int, errors: Confusion, z: float = Z95) -> CorrectedRate:
    """The true refusal rate behind ``refusals`` verdicts in ``answers`` judged answers.

    Point: (p + spec - 1) / (sens + spec - 1), clipped (Rogan and Gladen 1978). Interval: Lang and
    Reiczigel 2014, which counts the uncertainty of sensitivity and specificity in. Raises
    ``ValueError`` where there is nothing to correct or the detector is no better than chance.
    """
    positives, negatives = errors.tp + errors.fn, errors.tn + errors.fp
    if answers < 1 or not 0 <= refusals <= answers or not positives or not negatives:
        raise ValueError("a corrected rate needs judged answers, and a detector with known errors")
    youden = errors.sensitivity + errors.specificity - 1.0
    if youden <= 0.0:
        raise ValueError("this detector's verdicts say nothing: sensitivity + specificity <= 1")
    point = (refusals / answers + errors.specificity - 1.0) / youden
    low, high = _interval(refusals, answers, errors, z)
    rate = min(max(point, 0.0), 1.0)
    return CorrectedRate(rate, min(low, rate), max(high, rate))


def _interval(refusals: int, answers: int, errors: Confusion, z: float) -> tuple[float, float]:
    n = answers + z * z
    p = (refusals + z * z / 2) / n
    n_sens, n_spec = errors.tp + errors.fn + 2, errors.tn + errors.fp + 2
    sens, spec = (errors.tp + 1) / n_sens, (errors.tn + 1) / n_spec
    youden = sens + spec - 1.0
    if youden <= 0.0:
        return 0.0, 1.0
    centre = (p + spec - 1.0) / youden
    of_sens, of_spec = sens * (1 - sens) / n_sens, spec * (1 - spec) / n_spec
    shift = 2 * z * z * (centre * of_sens - (1 - centre) * of_spec)
    spread = math.sqrt(p * (1 - p) / n + centre**2 * of_sens + (1 - centre) ** 2 * of_spec)
    low = centre + shift - z * spread / youden
    high = centre + shift + z * spread / youden
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
