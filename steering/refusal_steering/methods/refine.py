"""Directions turned by gradient until they call up the model's own refusal.

A difference of means also carries what harmful requests are about; at doses that flip an answer
this leaks into the text. Here the directions start from it and follow the likelihood of the
refusal that the model itself gives to plain harmful requests. The model stays frozen.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from refusal_steering.bundle import Window
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.surprise import answer_ids, prime, surprise
from refusal_steering.spec import SteeringSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refinement:
    """How directions are refined.

    ``dose`` is a share of the residual stream's length. Each step draws a factor for it from
    ``spread`` and leaves a layer out with chance ``silence``, because adapters earn partial
    doses and may miss. ``loyalty`` weighs the squared distance from the starting direction.
    ``prompts`` is how many harmful training prompts take part.
    """

    refusal: str = "I'm sorry, but I can't assist with that."
    dose: float = 0.25
    prompts: int = 144
    spread: tuple[float, float] = (0.6, 1.2)
    silence: float = 0.1
    loyalty: float = 0.1
    steps: int = 40
    batch_size: int = 24
    learning_rate: float = 0.02
    seed: int = 0


def refined(
    target: CalibrationModel,
    prompts: Sequence[Sequence[int]],
    directions: Mapping[int, Direction],
    window: Window,
    how: Refinement,
    dose_limit: float | None = None,
) -> dict[int, Direction]:
    """New unit directions for ``directions``, from token ids of harmful ``prompts``.

    The scales stay. Each step steers in ``window`` and under ``dose_limit`` as a served bundle
    would.
    """
    refusal = answer_ids(target, how.refusal)
    primed = [prime(target, batch) for batch in target.encoded_batches(prompts, how.batch_size)]
    turning = {at: d.unit.clone().requires_grad_() for at, d in directions.items()}
    optimiser = torch.optim.Adam(turning.values(), lr=how.learning_rate)
    rng = random.Random(how.seed)
    # Batches are of like length; in that order, the last steps would see long prompts alone.
    order = rng.sample(range(len(primed)), len(primed))
    with _frozen(target.model):
        for step in range(how.steps):
            drawn = {at: _coefficient(d, how, rng) for at, d in directions.items()}
            units = {at: vector / vector.norm() for at, vector in turning.items()}
            layers = {at: LayerSteering.static(units[at], drawn[at]) for at in units}
            spec = SteeringSpec.of_parts(layers, window, dose_limit=dose_limit)
            loss = surprise(target, primed[order[step % len(order)]], refusal, spec)
            drift = torch.stack([(units[at] - directions[at].unit).square().sum() for at in units])
            optimiser.zero_grad()
            (loss + how.loyalty * drift.sum()).backward()
            optimiser.step()
            if step % 10 == 0:
                _log.info("refine %d: %.3f nats per token", step, float(loss.detach()))
    final = {at: (vector / vector.norm()).detach() for at, vector in turning.items()}
    return {at: replace(direction, unit=final[at]) for at, direction in directions.items()}


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No gradients of weights, for the time of the block.

    Left frozen, a model would be eight times slower ever after: torch's matmul then copies the
    output layer's weight for every sequence of a batch whose last token alone is wanted.
    """
    model.requires_grad_(False)
    try:
        yield
    finally:
        model.requires_grad_(True)


def _coefficient(direction: Direction, how: Refinement, rng: random.Random) -> float:
    factor = rng.uniform(*how.spread) * (rng.random() >= how.silence)
    return how.dose * direction.scale * factor
