"""The manifest of a steering bundle: what the tensors are for, and where they come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Strategy = Literal["static", "omnisteer"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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


class Manifest(_Frozen):
    """Everything about a bundle except its tensors."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    strategy: Strategy
    model: ModelIdentity
    layers: tuple[int, ...] = Field(min_length=1)
    window: Window = Window()
    canary: Canary | None = None
    calibration: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: Sha256

    @model_validator(mode="after")
    def _layers_exist_once_in_order(self) -> Self:
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers {self.layers} must be ascending and without repeats")
        if self.layers[0] < 0 or self.layers[-1] >= self.model.num_layers:
            raise ValueError(
                f"layers {self.layers} must lie in 0..{self.model.num_layers - 1}, the layers of "
                f"{self.model.id}"
            )
        return self
