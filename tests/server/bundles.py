"""A small random bundle for the tiny model, with a canary that any moved model passes."""

from __future__ import annotations

from pathlib import Path

import torch

from refusal_steering.bundle import SteeringBundle, save_bundle
from refusal_steering.coefficient import LayerSteering

HIDDEN = 128
LAYERS = 4


def write_bundle(
    path: Path, *, strategy: str = "static", scale: float = 4.0, hidden: int = HIDDEN, seed: int = 0
) -> SteeringBundle:
    """Random directions on two layers; ``scale`` is in units of the residual stream."""
    generator = torch.Generator().manual_seed(seed)
    layers = {index: _layer(strategy, hidden, scale, generator) for index in (1, 2)}
    return save_bundle(
        path,
        layers,
        {
            "name": f"test-{strategy}-{seed}",
            "strategy": strategy,
            "model": {"id": "tiny-omni", "hidden_size": hidden, "num_layers": LAYERS},
            "canary": {
                "token_ids": list(range(40, 60)),
                "shift": {str(token): 0.0 for token in range(356)},
                "tolerance": 1e6,
            },
        },
    )


def _layer(strategy: str, size: int, scale: float, generator: torch.Generator) -> LayerSteering:
    direction = torch.randn(size, generator=generator)
    direction /= direction.norm()
    if strategy == "static":
        return LayerSteering.static(direction, scale)
    units = 8
    return LayerSteering(
        direction=direction,
        input_weight=torch.randn(units, size, generator=generator) / size**0.5,
        input_bias=torch.zeros(units),
        output_weight=scale * torch.rand(units, generator=generator) / units,
        output_bias=scale / 4,
        floor=0.0,
        ceiling=4.0 * scale,
        risk_weight=torch.randn(size, generator=generator) / size**0.5,
        risk_bias=0.0,
    )
