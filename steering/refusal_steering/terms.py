"""The terms of one request's steering: every choice that decides it, without tensors and names.

Directives carry them to the worker, and specs carry them to the reference and the offline tools,
so that what is measured and what is served follow the same terms.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations

from refusal_steering.errors import DirectiveError

MAX_STRENGTH = 16.0
# The digits of the media in the worker's tables; the order is part of the bundle's meaning there.
MEDIA = ("image", "audio", "video")
# Items of a medium that are told apart; more of them are re-centred as this many.
MOST_COUNTED = 4


def media_set(media: Collection[str]) -> str:
    """The kinds among ``media`` as one name, such as ``image+audio``; ``text`` for none."""
    return "+".join(kind for kind in MEDIA if kind in media) or "text"


MEDIA_SETS = tuple(
    media_set(kinds) for count in range(len(MEDIA) + 1) for kinds in combinations(MEDIA, count)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringTerms:
    """How one request is steered; raises :class:`DirectiveError` for terms without a meaning.

    ``strength`` multiplies the coefficients that the bundle earns (0 adds nothing).
    ``decode_tokens`` is how many decode positions after the last prompt token are steered, ``None``
    for all. ``hold`` keeps the coefficient of the last prompt token for them; else each steered
    token earns its own. ``shadow`` measures everything and adds nothing. ``media`` are those of the
    request, one for each item, whose offsets re-centre it. ``dose_limit`` bounds what a token gets,
    strength included, as a share of the length of its residual stream where its coefficient is
    earned. ``blend`` is set for strategies that draw the logits of the first generated tokens
    towards the bundle's refusal prototypes, by that share (RAS); ``None`` leaves logits alone.
    ``count_from`` is the position of the first token that the bundle's gate reads; ``None`` leaves
    it to the gate, which finds the first user turn.
    """

    strength: float = 1.0
    decode_tokens: int | None = None
    hold: bool = True
    shadow: bool = False
    media: tuple[str, ...] = ()
    dose_limit: float | None = None
    blend: float | None = None
    count_from: int | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength) or not 0.0 <= self.strength <= MAX_STRENGTH:
            raise DirectiveError(
                f"the strength is {self.strength}; expected a number from 0 to {MAX_STRENGTH:g}"
            )
        if self.decode_tokens is not None and self.decode_tokens < 0:
            raise DirectiveError(
                f"steering window is {self.decode_tokens} decode tokens; expected 0 or more"
            )
        if self.dose_limit is not None and not 0.0 < self.dose_limit < math.inf:
            raise DirectiveError(
                f"the dose limit is {self.dose_limit}; expected a positive share of the residual "
                "stream's length"
            )
        if self.blend is not None and not 0.0 <= self.blend < 1.0:
            raise DirectiveError(f"the blend is {self.blend}; expected a share from 0 to below 1")
        if self.count_from is not None and self.count_from < 0:
            raise DirectiveError(f"the gate reads from token {self.count_from}; expected 0 or more")
        if unknown := set(self.media) - set(MEDIA):
            raise DirectiveError(f"media {sorted(unknown)} are unknown; expected some of {MEDIA}")

    @property
    def applied_strength(self) -> float:
        """What coefficients are multiplied by: 0 in shadow mode."""
        return 0.0 if self.shadow else self.strength

    @property
    def applied_blend(self) -> float:
        """The share by which logits are really blended: 0 in shadow mode."""
        return 0.0 if self.shadow or self.blend is None else self.blend

    @property
    def max_dose(self) -> float:
        """The largest coefficient, before the strength, as a share of the stream's length."""
        if self.dose_limit is None or self.strength == 0.0:
            return math.inf
        return self.dose_limit / self.strength

    @property
    def media_mix(self) -> int:
        """``media`` as a number: the counts of :data:`MEDIA` are its digits, the first the lowest.

        The digits are those of a number system to the base :data:`MOST_COUNTED` + 1.
        """
        counts = (min(self.media.count(medium), MOST_COUNTED) for medium in MEDIA)
        return sum(count * (MOST_COUNTED + 1) ** place for place, count in enumerate(counts))

    def steered_rows(self, decoded: int) -> int:
        """How many rows are steered once ``decoded`` tokens after the prompt were processed.

        They are consecutive: the last prompt token comes first.
        """
        window = self.decode_tokens
        return 1 + (decoded if window is None else min(decoded, window))
