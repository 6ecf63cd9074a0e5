"""What becomes of requests under policies, as values of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from refusal_steering.evaluation.scoring.rate import Rate
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.values import STRICT, Count, Length, Line, Sample, Share, subsample

Outcome = Literal["refused", "changed", "touched", "answered"]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Coefficients that requests of a form and label earned; a sample of ``items`` of them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    label: Label
    items: Count
    values: Sample

    @classmethod
    def sampled(cls, form: str, label: Label, values: Sequence[float]) -> Coefficients:
        """From all values, of which at most 400 are kept."""
        return cls(form, label, len(values), subsample(tuple(values)))


@dataclass(frozen=True, slots=True)
class TradeOffPoint:
    """At one strength: share of harmful requests refused, of harmless answered, of ``n``."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    strength: Length
    rsr: Share
    bar: Share
    n: Count


@dataclass(frozen=True, slots=True)
class TradeOff:
    """A policy or strategy as its strength moves."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    policy: Line
    points: Annotated[tuple[TradeOffPoint, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Refused:
    """Share of ``n`` requests of a form that were refused, and the ends of its interval.

    Other outcomes than refusals are counted the same way.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    share: Share
    n: Count
    low: Share
    high: Share

    @classmethod
    def counted(cls, form: str, count: int, n: int) -> Refused:
        """``count`` of ``n`` requests, with Wilson's interval at 95 %."""
        rate = Rate(count, n)
        low, high = rate.interval or (0.0, 1.0)
        return cls(form, rate.value or 0.0, n, low, high)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What becomes of the requests of one label under one policy: which share is refused.

    Another ``outcome`` than refusals: answers that are not the unsteered ones, requests that the
    bundle touches, answers that are neither refusals nor broken.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    policy: Line
    label: Label
    forms: tuple[Refused, ...]
    outcome: Outcome = "refused"
