"""The gate's section of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from refusal_steering.gate.prompt_gate import Pooling
from refusal_steering.terms import MEDIA_SETS


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Guarantee(_Frozen):
    """What a gate's threshold promises, by split conformal prediction.

    A harmless prompt like the ``rows`` that set the threshold scores above it with probability at
    most ``share``. With 95 % confidence over such sets, this one's true share is at most
    ``worst_share``.
    """

    share: float = Field(gt=0, lt=1)
    rows: int = Field(gt=0)
    worst_share: float = Field(gt=0, le=1)


class Gate(_Frozen):
    """How a prompt's tokens are read and what their pooled score does (``docs/design``).

    ``threshold`` is the score up to which the gate stays shut, ``threshold + width`` where it is
    open. ``user_turn`` are the token ids that open a user turn in the model's chat template; tokens
    before the first one are not read. ``opens`` says that the gate multiplies the coefficients of
    the bundle's layers; else its score is only reported. ``media_thresholds`` stand in the place of
    ``threshold`` for prompts that bring just these media.
    """

    layers: tuple[int, ...] = Field(min_length=1)
    pooling: Pooling
    threshold: FiniteFloat
    width: FiniteFloat = Field(gt=0)
    opens: bool = True
    user_turn: tuple[int, ...] = ()
    guarantee: Guarantee | None = None
    media_thresholds: dict[str, FiniteFloat] = Field(default_factory=dict)

    @field_validator("media_thresholds")
    @classmethod
    def _sets_are_known(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if unknown := sorted(set(value) - set(MEDIA_SETS)):
            raise ValueError(f"thresholds of {unknown}; expected sets among {MEDIA_SETS}")
        return value

    @model_serializer(mode="wrap")
    def _as_before_without_any(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Servers from before these thresholds read every bundle that has none.
        told: dict[str, Any] = handler(self)
        if not self.media_thresholds:
            told.pop("media_thresholds", None)
        return told

    @property
    def summary(self) -> str:
        """One line for people."""
        layers = ", ".join(map(str, self.layers))
        does = "opens" if self.opens else "only reports"
        promise = self.guarantee
        share = f", at most {promise.share:.1%} of harmless prompts" if promise else ""
        of_media = "".join(
            f", {media} {threshold:.3g}" for media, threshold in self.media_thresholds.items()
        )
        above = f"{self.threshold:.3g}{of_media}"
        return f"{does} above {above}, layers {layers}, {self.pooling}{share}"


def check_gate(gate: Gate | None, strategy: str, first_steered: int, *, blends: bool) -> None:
    """Raise ``ValueError`` unless ``gate`` is one of ``strategy`` and read before it opens.

    ``first_steered`` is the first steered layer, ``blends`` says that the strategy acts on logits.
    """
    opens = gate is not None and gate.opens
    if strategy == "promptgate" and not opens:
        raise ValueError("strategy 'promptgate' needs a gate that opens its coefficients")
    if opens and strategy == "omnisteer":
        raise ValueError(
            "strategy 'omnisteer' is published without a gate; call it 'promptgate', or have the "
            "gate only report (opens: false)"
        )
    if opens and blends:
        raise ValueError(
            f"strategy {strategy!r} blends logits and has no coefficients that a gate could open; "
            "have the gate only report (opens: false)"
        )
    if gate is not None and gate.layers[-1] > first_steered:
        raise ValueError(
            f"the gate reads layer {gate.layers[-1]}, behind the first steered layer "
            f"{first_steered}; its score would come too late"
        )
