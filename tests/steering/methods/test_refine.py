"""Refined directions stay unit vectors and make the refusal likelier than they found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from refusal_steering.bundle import Window
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.refine import Refinement, refined
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec

PROMPTS = ["one two three", "four five", "six"]
HOW = Refinement(
    refusal="no never", dose=1.0, spread=(1.0, 1.0), silence=0.0, loyalty=0.0, steps=30
)


def ids(target: CalibrationModel) -> list[list[int]]:
    return [target.encode(prompt) for prompt in PROMPTS]


def start() -> dict[int, Direction]:
    generator = torch.Generator().manual_seed(0)
    units = {at: torch.randn(32, generator=generator) for at in (1, 2)}
    return {at: Direction(unit / unit.norm(), 4.0) for at, unit in units.items()}


def likelihood(target: CalibrationModel, directions: Mapping[int, Direction]) -> float:
    """Log-likelihood in nats of the refusal's first token, by the reference."""
    layers = {at: LayerSteering.static(d.unit, HOW.dose * d.scale) for at, d in directions.items()}
    token = target.tokenizer(HOW.refusal)["input_ids"][0]
    total = 0.0
    for prompt in PROMPTS:
        inputs = {"input_ids": torch.tensor([target.encode(prompt)])}
        total += float(greedy(target.model, inputs, 1, SteeringSpec(layers)).logprobs[0][token])
    return total


def test_refusal_becomes_likelier_along_unit_vectors(target: CalibrationModel) -> None:
    better = refined(target, ids(target), start(), Window(decode_tokens=1), HOW)
    assert likelihood(target, better) > likelihood(target, start()) + 1.0
    for at, direction in better.items():
        assert float(direction.unit.norm()) == pytest.approx(1.0, abs=1e-5)
        assert direction.scale == start()[at].scale and not direction.unit.requires_grad


def test_loyalty_keeps_the_direction_near_its_start(target: CalibrationModel) -> None:
    window = Window(decode_tokens=1)
    free = refined(target, ids(target), start(), window, HOW)
    loyal = refined(target, ids(target), start(), window, replace(HOW, loyalty=1000.0))
    assert loyal[1].unit @ start()[1].unit > free[1].unit @ start()[1].unit
