"""The directive: what one request tells the worker about its steering.

It travels as one entry of ``SamplingParams.extra_args`` under :data:`EXTRA_KEY`. Only the API
process writes it; whatever a client puts under that key is stripped before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from refusal_steering.errors import DirectiveError

EXTRA_KEY = "refusal_steering"
MAX_STRENGTH = 16.0
# The bits of the media in the worker's tables; the order is part of the bundle's meaning there.
MEDIA = ("image", "audio", "video")


@dataclass(frozen=True, slots=True)
class Directive:
    """One request's steering.

    ``strength`` multiplies the coefficients that the bundle earns (0 adds nothing).
    ``decode_tokens`` is how many decode positions after the last prompt token are steered, ``None``
    for all. ``hold`` keeps the coefficient of the last prompt token for them; else each steered
    token earns its own. ``shadow`` measures everything and adds nothing. ``media`` are those of the
    request, whose offsets re-centre it. ``dose_limit`` bounds what a token gets, strength included,
    as a share of the length of its residual stream where its coefficient is earned. ``blend`` is
    set for strategies that draw the logits of the first ``blend_tokens`` generated tokens towards
    the bundle's refusal prototypes, by that share (RAS); ``None`` leaves logits alone.
    """

    bundle: str
    policy: str
    policy_version: str
    strength: float = 1.0
    decode_tokens: int | None = None
    hold: bool = True
    shadow: bool = False
    media: tuple[str, ...] = ()
    dose_limit: float | None = None
    blend: float | None = None
    blend_tokens: int = 0

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
        if unknown := set(self.media) - set(MEDIA):
            raise DirectiveError(f"media {sorted(unknown)} are unknown; expected some of {MEDIA}")

    @property
    def applied_strength(self) -> float:
        """What the device multiplies by: 0 in shadow mode."""
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
    def media_set(self) -> int:
        """``media`` as a bit set, bit n for the n-th of :data:`MEDIA`."""
        return sum(1 << MEDIA.index(medium) for medium in set(self.media))

    @property
    def writes_cache(self) -> bool:
        """Whether this request's key-value entries can differ from an unsteered request's.

        Blended logits leave no trace in the cache but the tokens that were chosen.
        """
        return self.applied_strength != 0.0

    def cache_key(self, prompt_length: int) -> str:
        """Names every input of steered key-value entries that the token ids do not name."""
        window = "all" if self.decode_tokens is None else str(self.decode_tokens)
        return "/".join(
            (
                self.policy_version,
                self.bundle,
                self.applied_strength.hex(),
                window,
                "hold" if self.hold else "each",
                str(prompt_length),
                str(self.media_set),
                "free" if self.dose_limit is None else self.dose_limit.hex(),
            )
        )

    def to_wire(self) -> dict[str, Any]:
        """The form that rides in ``extra_args``."""
        return asdict(self)

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Directive:
        """Read the wire form; raises :class:`DirectiveError` for anything else."""
        try:
            return cls(**{**value, "media": tuple(value.get("media", ()))})
        except (AttributeError, TypeError) as error:
            raise DirectiveError(f"a steering directive is malformed: {error}") from error
