"""A gate taught by what the engine reads, for a push that is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, Window, make_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.engine import ServedModel, Steered, in_batches
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.pipeline.gate.gating import STRATEGY
from refusal_steering.pipeline.media.gate.examples import MediaExamples
from refusal_steering.pipeline.media.gate.fitting import FittedMediaGate, fitted_gate
from refusal_steering.pipeline.media.gate.thresholds import Budgets
from refusal_steering.pipeline.media.gate.token_rows import Turns, stored_tokens
from refusal_steering.pipeline.media.work import Work
from refusal_steering.pipeline.plan import GatePlan
from refusal_steering.spec import SteeringSpec


@dataclass(frozen=True, slots=True)
class Push:
    """What an open gate does: steering by layer, its window, and the limit of its dose."""

    layers: Mapping[int, LayerSteering]
    window: Window
    dose_limit: float | None

    def behind(self, gate: PromptGate) -> SteeringSpec:
        """The push, opened by ``gate``."""
        return SteeringSpec.of_parts(
            self.layers, self.window, dose_limit=self.dose_limit, gate=gate
        )


def taught_gate(
    model: ServedModel,
    push: Push,
    examples: MediaExamples,
    layers: Sequence[int],
    plan: GatePlan,
    work: Work,
) -> FittedMediaGate:
    """Read ``examples`` behind ``layers`` with ``model``, and train a gate for ``push`` on them.

    Raises ``SteeringError`` for a request that cannot be read, and for a budget that cannot be
    kept.
    """
    tokens = stored_tokens(model, examples, layers, work)

    def reread(gate: PromptGate, places: Sequence[int]) -> Tensor:
        spec = push.behind(gate)
        manifest = {
            "name": "draft",
            "strategy": STRATEGY,
            "model": model.facts.identity,
            **spec.manifest_terms,
        }
        draft = make_bundle(spec.layers, manifest, gate=gate)
        return _scores(model, draft, examples, places, Turns.of(model, work))

    budgets = Budgets(plan.budget, plan.budget_of_media)
    return fitted_gate(tokens, examples, plan.recipe, budgets, reread, work)


def _scores(
    model: ServedModel,
    bundle: SteeringBundle,
    examples: MediaExamples,
    places: Sequence[int],
    turns: Turns,
) -> Tensor:
    """What the engine's own gate reads of some examples."""
    model.load(bundle)
    steered = Steered(bundle, SteeringSpec.of(bundle, shadow=True))
    asked = [examples.all[place].messages(systems=turns.systems) for place in places]
    found = [
        answer.score
        for part in in_batches(model, asked, "gate")
        for answer in model.answers(part, 1, steered)
    ]
    if None in found:
        raise SteeringError("the engine has read no gate; it was started without one")
    return torch.tensor(found)
