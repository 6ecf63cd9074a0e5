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
MAX_GAIN = 16.0


@dataclass(frozen=True, slots=True)
class Directive:
    """One request's steering.

    ``gain`` multiplies the coefficients that the bundle earns (0 adds nothing). ``decode_tokens``
    is how many decode positions after the last prompt token are steered, ``None`` for all.
    ``hold`` keeps the coefficient of the last prompt token for them; else each steered token
    earns its own. ``shadow`` measures everything and adds nothing.
    """

    bundle: str
    policy: str
    policy_version: str
    gain: float = 1.0
    decode_tokens: int | None = None
    hold: bool = True
    shadow: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain) or not 0.0 <= self.gain <= MAX_GAIN:
            raise DirectiveError(
                f"steering strength is {self.gain}; expected a number from 0 to {MAX_GAIN:g}"
            )
        if self.decode_tokens is not None and self.decode_tokens < 0:
            raise DirectiveError(
                f"steering window is {self.decode_tokens} decode tokens; expected 0 or more"
            )

    @property
    def applied_gain(self) -> float:
        """What the device multiplies by: 0 in shadow mode."""
        return 0.0 if self.shadow else self.gain

    @property
    def writes_cache(self) -> bool:
        """Whether this request's key-value entries can differ from an unsteered request's."""
        return self.applied_gain != 0.0

    def cache_key(self, prompt_length: int) -> str:
        """Names every input of steered key-value entries that the token ids do not name."""
        window = "all" if self.decode_tokens is None else str(self.decode_tokens)
        return "/".join(
            (
                self.policy_version,
                self.bundle,
                self.applied_gain.hex(),
                window,
                "hold" if self.hold else "each",
                str(prompt_length),
            )
        )

    def to_wire(self) -> dict[str, Any]:
        """The form that rides in ``extra_args``."""
        return asdict(self)

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Directive:
        """Read the wire form; raises :class:`DirectiveError` for anything else."""
        try:
            return cls(**value)
        except TypeError as error:
            raise DirectiveError(f"a steering directive is malformed: {error}") from error
