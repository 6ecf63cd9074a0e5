"""The directive: what one request tells the worker about its steering.

It travels as one entry of ``SamplingParams.extra_args`` under :data:`EXTRA_KEY`. Beside it, on
every request, steered or not, :data:`EPOCH_KEY` tells the prefix cache which gates have read what
is in it. Only the API process writes them; whatever a client puts under these keys is stripped
before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from refusal_steering.errors import DirectiveError
from refusal_steering.terms import SteeringTerms

EXTRA_KEY = "refusal_steering"
EPOCH_KEY = "refusal_steering_epoch"
MAX_TOKEN_RISKS = 4096


@dataclass(frozen=True, slots=True)
class Directive(SteeringTerms):
    """One request's terms, and the names that they stand under.

    ``bundle`` is the digest of the loaded bundle. With a ``blend``, the logits of the first
    ``blend_tokens`` generated tokens are blended. With a ``grey_zone`` of two risks the device sets
    the share from what it reads of the prompt in the same step: nothing below the first, ``blend``
    above the second; between them no share is set, and nothing proves such an answer.
    ``token_risks`` asks a gate for the risk along the prompt, in at most so many numbers.
    """

    bundle: str
    policy: str
    policy_version: str
    blend_tokens: int = field(default=0, kw_only=True)
    token_risks: int = field(default=0, kw_only=True)
    grey_zone: tuple[float, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is another class than the one that is written here.
        SteeringTerms.__post_init__(self)
        if not 0 <= self.token_risks <= MAX_TOKEN_RISKS:
            raise DirectiveError(
                f"{self.token_risks} token risks are asked for; expected 0 to {MAX_TOKEN_RISKS}"
            )
        if self.grey_zone is not None:
            self._check_zone(*self.grey_zone)

    def _check_zone(self, low: float, high: float) -> None:
        if not 0.0 <= low <= high <= 1.0:
            raise DirectiveError(
                f"the grey zone is {low} to {high}; expected two risks from 0 to 1 in order"
            )
        if self.blend is None or not self.blend_tokens:
            raise DirectiveError("a grey zone needs a blend, and tokens that are blended")

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
                str(self.media_mix),
                "free" if self.dose_limit is None else self.dose_limit.hex(),
                "turn" if self.count_from is None else str(self.count_from),
            )
        )

    def to_wire(self) -> dict[str, Any]:
        """The form that rides in ``extra_args``."""
        # Every value is immutable; asdict would copy each of them.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Directive:
        """Read the wire form; raises :class:`DirectiveError` for anything else."""
        try:
            zone = value.get("grey_zone")
            pair = None if zone is None else tuple(map(float, zone))
            return cls(**{**value, "media": tuple(value.get("media", ())), "grey_zone": pair})
        except (AttributeError, TypeError, ValueError) as error:
            raise DirectiveError(f"a steering directive is malformed: {error}") from error
