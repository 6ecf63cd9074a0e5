"""How far two runs of the same calls agree when their arithmetic is not the same.

Two correct engines may round differently, and one rounding may flip a near tie of a greedy
choice; from there on they answer different questions. Each pair is therefore compared up to and
including the first token that differs: there both chose their own best, so in a near tie both
log-probabilities are still close. A strength that went wrong shows before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.engine.spec import Answer


@dataclass(frozen=True)
class Tolerance:
    """Largest difference of log-probabilities, and of coefficients relative to their size.

    ``flips`` says whether a near tie may be decided differently.
    """

    logprob: float
    coefficient: float
    flips: bool = False


EXACT = Tolerance(0.0, 0.0)


@dataclass(frozen=True)
class Verdict:
    """One law on one engine: whether it holds, and the figures that say so."""

    holds: bool
    calls: int = 0
    same_tokens: int = 0
    bitwise: int = 0
    logprob: float = 0.0
    coefficient: float = 0.0
    note: str = ""
    law: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON form."""
        return asdict(self)


def agree(left: Sequence[Answer], right: Sequence[Answer], tolerance: Tolerance) -> Verdict:
    """Judge whether ``left`` says the same as ``right``, call by call."""
    pairs = list(zip(left, right, strict=True))
    errors = [answer.error for pair in pairs for answer in pair if answer.error]
    logprob = max((_logprob(a, b) for a, b in pairs), default=0.0)
    coefficient = max((_coefficient(a, b) for a, b in pairs), default=0.0)
    same = sum(a.tokens == b.tokens for a, b in pairs)
    close = logprob <= tolerance.logprob and coefficient <= tolerance.coefficient
    return Verdict(
        holds=not errors and bool(pairs) and close and (tolerance.flips or same == len(pairs)),
        calls=len(pairs),
        same_tokens=same,
        bitwise=sum((a.tokens, a.logprobs) == (b.tokens, b.logprobs) for a, b in pairs),
        logprob=logprob,
        coefficient=coefficient,
        note="; ".join(errors),
    )


def _agreed(a: Answer, b: Answer) -> int:
    """Leading tokens that are equal."""
    pairs = enumerate(zip(a.tokens, b.tokens, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a.tokens), len(b.tokens)))


def _logprob(a: Answer, b: Answer) -> float:
    steps = _agreed(a, b) + 1
    pairs = zip(a.logprobs[:steps], b.logprobs[:steps], strict=False)
    return max((abs(x - y) for x, y in pairs), default=0.0)


def _coefficient(a: Answer, b: Answer) -> float:
    if not a.positions and not b.positions:
        return 0.0
    if not a.positions or not b.positions:
        return float("inf")
    # The row at position p has seen the tokens before it; the first has seen only the prompt.
    last = min(a.positions[0], b.positions[0]) + _agreed(a, b)
    mine = dict(zip(a.positions, a.coefficients, strict=True))
    theirs = dict(zip(b.positions, b.coefficients, strict=True))
    return max(
        (
            abs(x - y) / max(1.0, abs(y))
            for position in mine.keys() & theirs.keys()
            if position <= last
            for x, y in zip(mine[position], theirs[position], strict=True)
        ),
        default=float("inf"),
    )
