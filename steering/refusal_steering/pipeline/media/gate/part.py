"""Strategy ``promptgate``: golden directions at a constant dose, opened by a gate of the media."""

from __future__ import annotations

from refusal_steering.coefficient import LayerSteering
from refusal_steering.engine import ServedModel
from refusal_steering.errors import SteeringError
from refusal_steering.pipeline.gating import STRATEGY
from refusal_steering.pipeline.media.gate.examples import MediaExamples, gate_texts
from refusal_steering.pipeline.media.gate.teaching import Push, taught_gate
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.media.vectors import Vectors
from refusal_steering.pipeline.media.work import Work
from refusal_steering.pipeline.parts import Part
from refusal_steering.pipeline.plan import BuildPlan

# A gate that opens for fewer harmful tuning requests of a group than this is worth a note.
_OPENS = 0.5


def promptgate_part(
    model: ServedModel, requests: Requests, vectors: Vectors, plan: MediaPlan, work: Work
) -> Part:
    """Strategy ``promptgate``, its push as the text recipe has it.

    Groups that are not told apart teach restraint alone. Raises ``SteeringError`` where no layer
    has a direction, for a request that cannot be read, and for a budget that cannot be kept.
    """
    depth = model.facts.identity.num_layers
    push = Push(_pushed(vectors, plan, depth), BuildPlan().window, plan.dose_limit)
    noise = [group for group in requests.groups if group not in vectors.heard]
    texts = gate_texts(plan.seed, plan.gate.families, plan.texts)
    examples = MediaExamples.of(texts, requests, noise)
    found = taught_gate(model, push, examples, plan.gate_layers(depth), plan.gate, work)
    return Part(
        STRATEGY,
        push.behind(found.gate),
        {"gate": {"guarantee": found.guarantee}},
        {**found.facts, "noise": noise},
        tuple(
            f"{STRATEGY} opens for {share:.0%} of the harmful tuning requests of {group}"
            for group, share in found.opened.items()
            if share < _OPENS and group in vectors.heard
        ),
    )


def _pushed(vectors: Vectors, plan: MediaPlan, depth: int) -> dict[int, LayerSteering]:
    """Golden directions at the gate's dose, at the layers of the plan that have one."""
    wanted = plan.pushed_layers(depth)
    found = {
        layer: LayerSteering.static(
            vectors.golden[layer] / vectors.golden[layer].norm(),
            plan.gate.dose * vectors.scales[layer],
        )
        for layer in wanted
        if layer in vectors.golden
    }
    if not found:
        raise SteeringError(
            f"none of the layers {', '.join(map(str, wanted))} has a golden vector that a gate "
            "could open; choose others with --layers"
        )
    return found
