"""Boot canaries made by the engine that serves, and checked with arithmetic of our own.

The engine says how far a bundle moves the first token of a prompt. That alone would prove nothing:
an engine that steers wrongly would agree with itself. So the very prompt is read again, and what
the bundle must have done to it is computed here: the row behind the first steered layer, or the
blended log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from refusal_steering.bundle import CANARY_BLEND, Canary, SteeringBundle
from refusal_steering.calibration.canary import canary_of, most_moved, surest
from refusal_steering.engine import Messages, ServedModel, Steered
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.spec import SteeringSpec

# What rounding to bfloat16 takes: of a row's length along a direction and off it, and of a change.
_ALONG, _OFF, _RELATIVE = 0.002, 0.01, 0.05
_BLEND_NATS = 0.25


class WrongSteeringError(SteeringError):
    """The engine did something else to a prompt than the bundle says."""

    code: ClassVar[str] = "wrong_steering"


def engine_canary(
    model: ServedModel, draft: SteeringBundle, conversations: Sequence[Messages]
) -> Canary:
    """The canary of ``draft``, a bundle without one, from prompts of text.

    Raises ``NoCanaryError`` where none of them proves anything, and :class:`WrongSteeringError`.
    """
    model.load(draft)
    steered = Steered(draft, SteeringSpec.of(draft).canary)
    plain = model.answers(conversations, 1, logprobs=True)
    moved = model.answers(conversations, 1, steered, logprobs=True)
    canaries = [
        canary_of(before.prompt, most_moved(before.steps[0], after.steps[0]))
        for before, after in zip(plain, moved, strict=True)
    ]
    best = surest(canaries)
    _check(model, steered, conversations[canaries.index(best)], best)
    return best


def _check(model: ServedModel, steered: Steered, asked: Messages, canary: Canary) -> None:
    if steered.bundle.prototypes is not None:
        _check_blend(model, steered.bundle, asked, canary)
        return
    name = steered.bundle.manifest.name
    before, after = model.rows([asked])[0], model.rows([asked], steered)[0]
    opening = _opening(model, steered.bundle.gate, asked)
    for at, layer in sorted(steered.bundle.layers.items()):
        length, limit = float(before[at].norm()), steered.spec.max_dose
        bound = limit * length
        coefficient = float((opening * layer.coefficient(before[at])).clamp(-bound, bound))
        change = after[at] - before[at]
        along = abs(float(change @ layer.direction) - coefficient)
        off = float((change - coefficient * layer.direction).norm())
        slack = _RELATIVE * abs(coefficient)
        if along > _ALONG * length + slack or off > _OFF * length + slack:
            raise WrongSteeringError(
                f"layer {at} of bundle {name!r} should move a row of length {length:.3g} by "
                f"{coefficient:.3g} along its direction; the engine's row is {off:.3g} "
                "away from that. This model cannot be steered by this engine"
            )
        # Later layers read what this one has moved.
        if abs(coefficient) > _ALONG * length:
            return
    raise WrongSteeringError(
        f"bundle {name!r} adds nothing to its canary, and the engine's answer moved all the same. "
        "This model cannot be steered by this engine"
    )


def _opening(model: ServedModel, gate: PromptGate | None, asked: Messages) -> float:
    """How far a gate opens, 0 to 1, computed here from the unsteered rows of every token."""
    if gate is None:
        return 1.0
    (prompt,) = model.prompt_rows([asked], gate.layers)
    return gate.opening(gate.score(prompt.layers, gate.count_from(prompt.ids)).score)


def _check_blend(
    model: ServedModel, bundle: SteeringBundle, asked: Messages, canary: Canary
) -> None:
    assert bundle.prototypes is not None
    own = model.output_logits(model.states([asked], 1)[:, 0])[0]
    towards = model.output_logits(bundle.prototypes.states[:1])[0]
    blended = (1.0 - CANARY_BLEND) * own + CANARY_BLEND * towards
    moved = torch.log_softmax(blended, -1) - torch.log_softmax(own, -1)
    off = max(abs(float(moved[int(token)]) - shift) for token, shift in canary.shift.items())
    if off > _BLEND_NATS:
        raise WrongSteeringError(
            f"bundle {bundle.manifest.name!r} should blend the logits of its canary otherwise: a "
            f"log-probability is {off:.3g} nats away. This model cannot be steered by this engine"
        )
