"""The manifest of a steering bundle: what the tensors are for, and where they come from."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from refusal_steering.bundle.gate_section import Gate, check_gate
from refusal_steering.errors import BundleError
from refusal_steering.prototypes import risk_of

Strategy = Literal["static", "omnisteer", "promptgate", "mars", "ras", "cascade"]
Medium = Literal["image", "audio", "video"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
# The canary of a bundle that blends logits is blended by this share.
CANARY_BLEND = 0.5


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelIdentity(_Frozen):
    """The model that a bundle was calibrated on; sizes must match, names are for people."""

    id: str
    revision: str | None = None
    hidden_size: int = Field(gt=0)
    num_layers: int = Field(gt=0)


class Window(_Frozen):
    """Which tokens are steered after the last prompt token, and with whose coefficient."""

    decode_tokens: int | None = Field(default=None, ge=0)
    hold: bool = True


class Canary(_Frozen):
    """A prompt whose first-token log-probabilities the bundle is known to move.

    ``shift`` maps token ids (as strings, JSON has no other keys) to steered minus unsteered
    log-probability in nats, measured by an independent reference when the bundle was built.
    ``tolerance`` is the largest accepted difference per token, in nats.
    """

    token_ids: tuple[int, ...] = Field(min_length=1)
    shift: dict[str, FiniteFloat] = Field(min_length=1)
    tolerance: float = Field(gt=0)


class RiskPass(_Frozen):
    """How RAS asks the served model for a request's risk (arXiv 2510.13698, section 3).

    ``context_prompt`` goes beside each image or video and asks for a sentence of at most
    ``context_tokens`` tokens about what is dangerous in it. ``risk_prompt`` must hold
    ``{question}`` and may hold ``{context}``; the first tokens that the model would answer it
    with are compared with the bundle's refusal prototypes, later ones discounted by ``discount``;
    ``tokens`` of them, or as many as there are prototypes. Fewer cost less time before the answer.
    The risk is sigmoid(``slope`` * (similarity - ``base``)); below ``quiet`` it counts as 0 and
    above ``cap`` as ``cap``.
    """

    context_prompt: str = Field(min_length=1)
    context_tokens: int = Field(default=40, gt=0, le=200)
    risk_prompt: str = Field(pattern=r"\{question\}")
    discount: float = Field(default=0.3, gt=0, le=1)
    tokens: int | None = Field(default=None, ge=1, le=64)
    base: FiniteFloat
    slope: float = Field(gt=0)
    quiet: float = Field(default=0.01, ge=0, lt=1)
    cap: float = Field(default=0.99, gt=0, lt=1)

    def risk(self, similarity: float) -> float:
        """The risk r of a similarity to the prototypes: 0 where quiet, never above the cap."""
        risk = risk_of(similarity, self.base, self.slope)
        return 0.0 if risk < self.quiet else min(risk, self.cap)

    def compared(self, prototypes: int) -> int:
        """How many tokens of the risk pass are asked for and compared with so many prototypes."""
        return prototypes if self.tokens is None else min(self.tokens, prototypes)

    def share(self, risk: float, strength: float) -> float:
        """The share of the prototypes that is blended in, never above the cap."""
        return min(self.cap, risk * strength)


class GreyZone(_Frozen):
    """Which risks of the forward pass send a request through the risk pass (``cascade``).

    Below ``low`` a request is answered as it is; above ``high`` it gets the full blend; the risk
    pass decides between them.
    """

    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"the grey zone begins at {self.low} and ends at {self.high}")
        return self


class RefusedShare(_Frozen):
    """How many harmful held-out requests a trial of the bundle has refused, at one strength.

    ``requests_sha256`` names the requests, ``detector`` who called an answer a refusal, and
    ``answer_tokens`` bounds the answers. Two shares compare only where all three are the same.
    """

    strength: float = Field(ge=0)
    refused: int = Field(ge=0)
    requests: int = Field(gt=0)
    requests_sha256: Sha256
    detector: str = Field(min_length=1)
    answer_tokens: int = Field(gt=0)

    @model_validator(mode="after")
    def _is_a_share(self) -> Self:
        if self.refused > self.requests:
            raise ValueError(f"{self.refused} of {self.requests} requests cannot be refused")
        return self

    @property
    def share(self) -> float:
        """Refused requests by all, 0 to 1."""
        return self.refused / self.requests

    @property
    def terms(self) -> tuple[str, str, int, int]:
        """What two shares must have in common to be compared."""
        return self.requests_sha256, self.detector, self.answer_tokens, self.requests


class Manifest(_Frozen):
    """Everything about a bundle except its tensors.

    The risk of a request is the sigmoid of the SUM of its layers' risk logits; bundles of ours
    put their whole probe on the first steered layer, before anything is added. ``media`` names
    those that have re-centring offsets. ``dose_limit`` bounds the change of a token as a share of
    the residual stream's length. ``gate`` reads the whole prompt, in layers up to the first steered
    one; strategy ``promptgate`` is adapters as in ``omnisteer`` or constants, opened by a gate.
    ``measured`` is what trials have found, one strength each; a bundle without it is comparable
    with no other.
    """

    format_version: Literal[2] = 2
    name: str = Field(pattern=_NAME)
    strategy: Strategy
    model: ModelIdentity
    layers: tuple[int, ...] = Field(min_length=1)
    window: Window = Window()
    media: tuple[Medium, ...] = ()
    dose_limit: float | None = Field(default=None, gt=0)
    risk_pass: RiskPass | None = None
    grey_zone: GreyZone | None = None
    gate: Gate | None = None
    canary: Canary | None = None
    measured: tuple[RefusedShare, ...] = ()
    calibration: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: Sha256

    @field_validator("format_version", mode="before")
    @classmethod
    def _is_read(cls, value: object) -> object:
        if value != 2:
            raise ValueError(f"version {value} is not read, expected 2; rebuild the bundle")
        return value

    @model_validator(mode="after")
    def _layers_exist_once_in_order(self) -> Self:
        for layers in (self.layers, self.gate.layers if self.gate else ()):
            if list(layers) != sorted(set(layers)):
                raise ValueError(f"layers {layers} must be ascending and without repeats")
            if layers and (layers[0] < 0 or layers[-1] >= self.model.num_layers):
                raise ValueError(
                    f"layers {layers} must lie in 0..{self.model.num_layers - 1}, the layers of "
                    f"{self.model.id}"
                )
        return self

    @model_validator(mode="after")
    def _gate_fits(self) -> Self:
        check_gate(self.gate, self.strategy, self.layers[0], blends=self.blends)
        return self

    @model_validator(mode="after")
    def _strategy_has_its_parameters(self) -> Self:
        needs = {"ras": (True, False), "cascade": (True, True)}.get(self.strategy, (False, False))
        if (self.risk_pass is not None, self.grey_zone is not None) != needs:
            raise ValueError(
                f"strategy {self.strategy!r} needs "
                + ("a risk_pass" if needs[0] else "no risk_pass")
                + (" and a grey_zone" if needs[1] else " and no grey_zone")
            )
        return self

    @model_validator(mode="after")
    def _strengths_are_measured_once(self) -> Self:
        strengths = [found.strength for found in self.measured]
        if len(set(strengths)) < len(strengths):
            raise ValueError(f"measured has a strength twice: {strengths}")
        return self

    def measured_at(self, strength: float) -> RefusedShare | None:
        """What a trial at this very ``strength`` has found; ``None`` where there was none."""
        return next((found for found in self.measured if found.strength == strength), None)

    @classmethod
    def parse(cls, content: bytes, source: str) -> Manifest:
        """Read JSON, which errors call the manifest of ``source``; raises :class:`BundleError`."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "document"
            raise BundleError(
                f"the manifest of {source} is invalid at {where}: {first['msg']}"
            ) from error

    @property
    def blends(self) -> bool:
        """Whether the strategy acts on logits, by a risk that is known before the answer."""
        return self.risk_pass is not None


def check_bundle_name(name: str) -> str:
    """``name``, if a bundle may have it; raises :class:`BundleError`."""
    if re.fullmatch(_NAME, name) is None:
        raise BundleError(
            f"a bundle cannot be called {name!r}; expected 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "the first a letter or digit"
        )
    return name


def bundle_name(model: str, strategy: str) -> str:
    """The name of a bundle of ``strategy`` for the model that people call ``model``."""
    tail = model.rsplit("/", 1)[-1].lower()
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in tail)
    return f"{kept.strip('._-')[:40].strip('._-') or 'model'}-{strategy}"
