"""Bundles of random weights for engine tests: strong enough to change what the model says."""

from __future__ import annotations

from pathlib import Path

import torch

from refusal_steering.bundle import SteeringBundle, save_bundle
from refusal_steering.coefficient import LayerSteering


def random_bundle(
    path: Path,
    *,
    strategy: str,
    hidden_size: int,
    num_layers: int,
    layers: tuple[int, ...],
    scale: float,
    units: int = 24,
    seed: int = 0,
) -> SteeringBundle:
    """Write a bundle; ``scale`` is the size of its coefficients in residual-stream units."""
    generator = torch.Generator().manual_seed(seed)
    steering = {index: _layer(strategy, hidden_size, scale, units, generator) for index in layers}
    return save_bundle(
        path,
        steering,
        {
            "name": f"random-{strategy}-{seed}",
            "strategy": strategy,
            "model": {"id": "random", "hidden_size": hidden_size, "num_layers": num_layers},
        },
    )


def _layer(
    strategy: str, size: int, scale: float, units: int, generator: torch.Generator
) -> LayerSteering:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    direction = normal(size)
    direction /= direction.norm()
    if strategy == "static":
        return LayerSteering.static(direction, scale)
    return LayerSteering(
        direction=direction,
        input_weight=normal(units, size) / size**0.5,
        input_bias=0.1 * normal(units),
        output_weight=scale * normal(units).abs() / units,
        output_bias=0.0,
        floor=0.0,
        ceiling=4.0 * scale,
        risk_weight=normal(size) / size**0.5,
        risk_bias=0.0,
    )
