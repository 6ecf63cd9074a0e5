"""Strategy ``promptgate``: golden directions at a constant dose, opened by a gate of the media."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from refusal_steering.coefficient import LayerSteering
from refusal_steering.detection.detector import LEXICAL
from refusal_steering.engine import ServedModel
from refusal_steering.errors import SteeringError
from refusal_steering.pipeline.gate.gating import STRATEGY
from refusal_steering.pipeline.media.gate.dose import Dose, best_dose, places_for_dose
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
    """Strategy ``promptgate``, its push as the text recipe has it, at the best of the plan's doses.

    Groups that are not told apart teach restraint alone. Raises ``SteeringError`` where no layer
    has a direction, for a request that cannot be read, and for a budget that cannot be kept.
    """
    depth = model.facts.identity.num_layers

    def push(dose: float) -> Push:
        layers = _pushed(vectors, plan.pushed_layers(depth), dose)
        return Push(layers, BuildPlan().window, plan.dose_limit)

    best = _best_dose(model, requests, vectors, plan, push, work)
    noise = [group for group in requests.groups if group not in vectors.heard]
    texts = gate_texts(plan.seed, plan.gate.families, plan.texts)
    examples = MediaExamples.of(texts, requests, noise)
    opened = push(plan.gate.dose if best is None else best.value)
    found = taught_gate(model, opened, examples, plan.gate_layers(depth), plan.gate, work)
    return Part(
        STRATEGY,
        opened.behind(found.gate),
        {"gate": {"guarantee": found.guarantee}},
        {
            **found.facts,
            "noise": noise,
            "doses": None if best is None else best.facts,
            "push": vectors.facts.get("push", "golden"),
        },
        (
            *_note(best),
            *(
                f"{STRATEGY} opens for {share:.0%} of the harmful tuning requests of {group}"
                for group, share in found.opened.items()
                if share < _OPENS and group in vectors.heard
            ),
        ),
    )


def _note(best: Dose | None) -> tuple[str, ...]:
    if best is None or best.refuses:
        return ()
    return (
        f"{STRATEGY} is pushed at a dose of {best.value}: of the doses that were tried none made a "
        f"refusal of {best.asked} harmful requests by the words of {LEXICAL}, which is English",
    )


def _best_dose(
    model: ServedModel,
    requests: Requests,
    vectors: Vectors,
    plan: MediaPlan,
    push: Callable[[float], Push],
    work: Work,
) -> Dose | None:
    """The best of the plan's doses; ``None`` where it names none or nothing is told apart."""
    places = places_for_dose(requests, vectors.heard)
    if not plan.doses or not places:
        return None
    return best_dose(model, requests, places, plan.doses, push, work, plan.gate.dose)


def _pushed(vectors: Vectors, layers: Sequence[int], dose: float) -> dict[int, LayerSteering]:
    """Golden directions at a constant ``dose``, at those of ``layers`` that have one."""
    found = {
        layer: LayerSteering.static(
            vectors.golden[layer] / vectors.golden[layer].norm(), dose * vectors.scales[layer]
        )
        for layer in layers
        if layer in vectors.golden
    }
    if not found:
        raise SteeringError(
            f"none of the layers {', '.join(map(str, layers))} has a golden vector that a gate "
            "could open; choose others with --layers"
        )
    return found
