"""The spec of one request's steering: its terms, and the tensors of the bundle they apply to.

Everything that steers outside the server takes one: the reference, the offline batches, the choice
of a canary, refinement and trials. Directives are made from one too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from refusal_steering.bundle import CANARY_BLEND, SteeringBundle, Window
from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.terms import SteeringTerms


@dataclass(frozen=True, slots=True)
class SteeringSpec(SteeringTerms):
    """The tensors of a bundle, under one request's terms.

    They are the steered ``layers`` by index, the refusal ``prototypes``, and the ``gate`` that
    reads the prompt.
    """

    layers: Mapping[int, LayerSteering]
    prototypes: RefusalPrototypes | None = None
    gate: PromptGate | None = None

    @classmethod
    def of(
        cls,
        bundle: SteeringBundle,
        *,
        strength: float = 1.0,
        window: Window | None = None,
        shadow: bool = False,
        media: tuple[str, ...] = (),
        dose_limit: float | None = None,
        blend: float | None = None,
        count_from: int | None = None,
    ) -> SteeringSpec:
        """A request under ``bundle``, whose own window holds unless ``window`` is given.

        The smaller of ``dose_limit`` and the bundle's own limit holds. The layers of a bundle that
        blends logits only measure, so they get no strength.
        """
        window = window or bundle.manifest.window
        limits = [x for x in (dose_limit, bundle.manifest.dose_limit) if x is not None]
        return cls(
            bundle.layers,
            bundle.prototypes,
            bundle.gate,
            strength=strength if bundle.prototypes is None else 0.0,
            decode_tokens=window.decode_tokens,
            hold=window.hold,
            shadow=shadow,
            media=media,
            dose_limit=min(limits, default=None),
            blend=blend,
            count_from=count_from,
        )

    @classmethod
    def of_parts(
        cls,
        layers: Mapping[int, LayerSteering],
        window: Window,
        *,
        dose_limit: float | None = None,
        prototypes: RefusalPrototypes | None = None,
        gate: PromptGate | None = None,
    ) -> SteeringSpec:
        """A request under a bundle that is not saved yet, at the terms its manifest will have."""
        return cls(
            layers,
            prototypes,
            gate,
            strength=1.0 if prototypes is None else 0.0,
            decode_tokens=window.decode_tokens,
            hold=window.hold,
            dose_limit=dose_limit,
        )

    @property
    def window(self) -> Window:
        """Which tokens are steered after the last prompt token, in the manifest's form."""
        return Window(decode_tokens=self.decode_tokens, hold=self.hold)

    @property
    def manifest_terms(self) -> dict[str, Any]:
        """The fields of a bundle's manifest that hold these terms."""
        return {"window": self.window, "dose_limit": self.dose_limit}

    @property
    def canary(self) -> SteeringSpec:
        """The terms of the boot canary: text alone at full strength, in the same window and limit.

        The offline tools measure the expectation under it, and the server repeats it.
        """
        blends = self.prototypes is not None
        return replace(
            self,
            strength=0.0 if blends else 1.0,
            shadow=False,
            media=(),
            count_from=None,
            blend=CANARY_BLEND if blends else None,
        )

    @property
    def silent(self) -> SteeringSpec:
        """The same request at strength 0, which must answer as an unsteered one does."""
        return replace(self, strength=0.0, blend=None if self.blend is None else 0.0)

    def directive(self, bundle: str, policy: str, policy_version: str) -> Directive:
        """What the worker is told; ``bundle`` is the digest of the bundle with these tensors."""
        return Directive(
            bundle,
            policy,
            policy_version,
            strength=self.strength,
            decode_tokens=self.decode_tokens,
            hold=self.hold,
            shadow=self.shadow,
            media=self.media,
            dose_limit=self.dose_limit,
            blend=self.blend,
            count_from=self.count_from,
            blend_tokens=0 if self.prototypes is None else self.prototypes.count,
        )
