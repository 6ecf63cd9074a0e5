"""How much of benign answers steering leaves unchanged: identical share and chrF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from sacrebleu.metrics.chrf import CHRF

Key = TypeVar("Key")

_CHRF = CHRF()


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Over ``n`` pairs: how many are ``identical`` to the character, and the mean ``chrf``.

    chrF (Popovic 2015) is of each answer against the unsteered one, 0 to 100, with sacrebleu's
    defaults. ``chrf`` is ``None`` without pairs.
    """

    n: int
    identical: int
    chrf: float | None

    @classmethod
    def between(cls, unsteered: Mapping[Key, str], steered: Mapping[Key, str]) -> Fidelity:
        """Compare answers key by key; a key that only one side has is left out."""
        pairs = [(unsteered[key], steered[key]) for key in unsteered if key in steered]
        scores = [similarity(before, after) for before, after in pairs]
        return cls(
            len(pairs),
            sum(before == after for before, after in pairs),
            sum(scores) / len(scores) if scores else None,
        )


def similarity(before: str, after: str) -> float:
    """chrF of ``after`` against ``before``, 0 to 100; the same text is 100, the empty one too."""
    if before == after:
        return 100.0
    return float(_CHRF.sentence_score(after, [before]).score)


def signature() -> str:
    """sacrebleu's description of how chrF is computed."""
    _CHRF.sentence_score("a", ["a"])
    return str(_CHRF.get_signature())
