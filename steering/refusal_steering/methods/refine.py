"""Directions turned by gradient until they call up the model's own refusal.

A difference of means also carries what harmful requests are about; at doses that flip an answer
this leaks into the text. Here the directions start from it and follow the likelihood of the
refusal that the model itself gives to plain harmful requests. The model stays frozen.
"""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from refusal_steering.bundle import Window
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.model import Batch, CalibrationModel

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
    prompts: Sequence[str],
    directions: Mapping[int, Direction],
    window: Window,
    how: Refinement,
) -> dict[int, Direction]:
    """New unit directions for ``directions``, from harmful ``prompts``; the scales stay."""
    refusal = _refusal_ids(target, how.refusal)
    primed = [_prime(target, batch) for batch in target.batches(prompts, how.batch_size)]
    turning = {at: d.unit.clone().requires_grad_() for at, d in directions.items()}
    optimiser = torch.optim.Adam(turning.values(), lr=how.learning_rate)
    rng = random.Random(how.seed)
    with _frozen(target.model):
        for step in range(how.steps):
            doses = {at: _dose(direction, how, rng) for at, direction in directions.items()}
            units = {at: vector / vector.norm() for at, vector in turning.items()}
            with _pushed(target, {at: doses[at] * units[at] for at in units}, window):
                loss = _surprise(target, primed[step % len(primed)], refusal)
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


def _dose(direction: Direction, how: Refinement, rng: random.Random) -> float:
    factor = rng.uniform(*how.spread) * (rng.random() >= how.silence)
    return how.dose * direction.scale * factor


@dataclass(frozen=True, slots=True)
class _Primed:
    """A batch whose prompt is cached but for its last token: all that steering leaves alone."""

    batch: Batch
    cache: Any


@torch.no_grad()
def _prime(target: CalibrationModel, batch: Batch) -> _Primed:
    output = target.model(
        input_ids=batch.input_ids[:, :-1],
        attention_mask=batch.attention_mask[:, :-1],
        position_ids=batch.positions[:, :-1],
        past_key_values=batch.take_prefix(),
        use_cache=True,
        logits_to_keep=1,
    )
    return _Primed(batch, output.past_key_values)


def _surprise(target: CalibrationModel, primed: _Primed, refusal: Tensor) -> Tensor:
    """Mean negative log-likelihood per token of the refusal after each prompt."""
    batch, length = primed.batch, refusal.shape[0]
    answer = refusal.expand(len(batch.rows), -1)
    feed = torch.cat([batch.input_ids[:, -1:], answer[:, :-1]], dim=1)
    logits = target.model(
        input_ids=feed,
        attention_mask=torch.cat([batch.attention_mask[:, :-1], torch.ones_like(feed)], dim=1),
        position_ids=batch.positions[:, -1:] + torch.arange(length),
        past_key_values=copy.deepcopy(primed.cache),
        use_cache=True,
    ).logits
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), answer.flatten())


@contextmanager
def _pushed(
    target: CalibrationModel, pushes: Mapping[int, Tensor], window: Window
) -> Iterator[None]:
    rows = None if window.decode_tokens is None else window.decode_tokens + 1

    def hook_for(push: Tensor) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            head = hidden[:, :rows] + push.to(hidden.dtype)
            moved = torch.cat([head, hidden[:, head.shape[1] :]], dim=1)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return hook

    layers = target.decoder_layers
    handles = [layers[at].register_forward_hook(hook_for(push)) for at, push in pushes.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _refusal_ids(target: CalibrationModel, refusal: str) -> Tensor:
    ids = target.tokenizer(refusal, add_special_tokens=False)["input_ids"]
    return torch.tensor([*ids, target.tokenizer.eos_token_id])
