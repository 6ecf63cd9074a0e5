"""Bundles of random weights for engine tests: strong enough to change what the model says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from refusal_steering.bundle import SteeringBundle, Window, save_bundle
from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.gate.prompt_gate import Pooling, PromptGate, TokenProbe
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.spec import SteeringSpec
from tests.models import tiny_omni

SIZES: dict[str, Any] = {"hidden_size": tiny_omni.HIDDEN, "num_layers": tiny_omni.TEXT_LAYERS}
# Strategy and seed of the bundles for the tiny omni model, with what differs from the usual: of a
# gate its layers, pooling and threshold, so that it is half open for the calls of the laws.
EVERYDAY: dict[str, tuple[str, int, dict[str, Any]]] = {
    "static": ("static", 1, {}),
    "omni": ("omnisteer", 2, {}),
    "mars": ("mars", 6, {"layers": (2,)}),
    "ball": ("mars", 11, {"layers": (2,), "ball": 7.0}),
    "ras": ("ras", 7, {"layers": (1,), "scale": 1.0}),
    "gated": ("promptgate", 8, {"layers": (2,), "gate": ((0, 1, 2), "both", 2.0)}),
    "shallow": ("static", 9, {"gate": ((0, 1), "max", 2.0)}),
    "late": ("omnisteer", 3, {}),
    "late-gate": ("static", 10, {"layers": (2,), "gate": ((1, 2), "attention", -4.0)}),
    "foreign": ("static", 4, {"hidden_size": 64}),
    "deeper": ("static", 5, {"layers": (3,)}),
}


def everyday_bundles(folder: Path, model: Path) -> dict[str, Path]:
    """Write all of :data:`EVERYDAY` below ``folder``, for the tiny ``model``."""
    turn = _user_turn(model)
    for name, (strategy, seed, changes) in EVERYDAY.items():
        settings = {**SIZES, "layers": (1, 2), "scale": 8.0, **changes}
        if "gate" in changes:
            layers, pooling, threshold = changes["gate"]
            settings["gate"] = random_gate(
                SIZES["hidden_size"], layers, pooling, threshold, 12.0, turn, seed
            )
        random_bundle(folder / name, strategy=strategy, seed=seed, **settings)
    return {name: folder / name for name in EVERYDAY}


def _user_turn(model: Path) -> tuple[int, ...]:
    # Loads transformers, which the engine's driver does without.
    from transformers import AutoTokenizer

    return tuple(AutoTokenizer.from_pretrained(model).encode("<|im_start|>user\n"))


def random_gate(
    hidden_size: int,
    layers: tuple[int, ...],
    pooling: Pooling,
    threshold: float,
    width: float,
    user_turn: tuple[int, ...] = (),
    seed: int = 0,
) -> PromptGate:
    """A gate whose probes answer in numbers of the size of the stream's own."""
    generator = torch.Generator().manual_seed(seed)

    def probe() -> TokenProbe:
        weight, query, value = torch.randn(3, hidden_size, generator=generator) / hidden_size**0.5
        if pooling == "max":
            return TokenProbe.maximum(weight, 0.5)
        return TokenProbe(weight, 0.5, query, value, -0.25)

    probes = {index: probe() for index in layers}
    return PromptGate(probes, pooling, threshold, width, user_turn=user_turn)


def limited_bundles(folder: Path, model: Path) -> dict[str, Path]:
    """Two bundles whose dose limit binds; the canary of ``mismeasured`` knows nothing of it."""
    # Loads transformers, which the engine's driver does without.
    from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration

    from refusal_steering.calibration.canary import choose_canary
    from refusal_steering.calibration.model import CalibrationModel

    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    target = CalibrationModel(thinker.eval(), AutoTokenizer.from_pretrained(model))
    generator = torch.Generator().manual_seed(1)
    layers = {at: _layer("static", tiny_omni.HIDDEN, 40.0, 0, generator) for at in (1, 2)}
    limited, free = (
        SteeringSpec.of_parts(layers, Window(), dose_limit=limit) for limit in (0.3, None)
    )
    for name, measured in (("limited", limited), ("mismeasured", free)):
        manifest = {
            "name": name,
            "strategy": "static",
            "model": {"id": "random", **SIZES},
            "canary": choose_canary(target, CANARY_PROMPTS, measured),
        }
        save_bundle(folder / name, layers, {**manifest, **limited.manifest_terms})
    return {name: folder / name for name in ("limited", "mismeasured")}


CANARY_PROMPTS = ("Say something.", "Tell me a story.", "One two three.")


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
    gate: PromptGate | None = None,
    ball: float | None = None,
) -> SteeringBundle:
    """Write a bundle; ``scale`` is the size of its coefficients in residual-stream units.

    ``ball`` is the radius of a trust region around the middle.
    """
    generator = torch.Generator().manual_seed(seed)
    steering = {index: _layer(strategy, hidden_size, scale, units, generator) for index in layers}
    if ball is not None:
        region = Ball(torch.zeros(hidden_size), ball)
        steering = {at: replace(layer, ball=region) for at, layer in steering.items()}
    manifest: dict[str, Any] = {
        "name": f"random-{strategy}-{seed}",
        "strategy": strategy,
        "model": {"id": "random", "hidden_size": hidden_size, "num_layers": num_layers},
    }
    if strategy != "ras":
        return save_bundle(path, steering, manifest, gate=gate)
    manifest["window"] = {"decode_tokens": PROTOTYPES - 1}
    manifest["risk_pass"] = {
        "context_prompt": "What is in it?",
        "risk_prompt": "{question}",
        "base": 0.5,
        "slope": 10.0,
    }
    states = scale * torch.randn(PROTOTYPES, hidden_size, generator=generator)
    return save_bundle(path, steering, manifest, RefusalPrototypes(states, *_NOTHING_LIKELY))


PROTOTYPES = 3
# What the engine does not need: the API process reads it.
_NOTHING_LIKELY = (torch.zeros(1, dtype=torch.int64), torch.zeros(1), 0.0)


def _layer(
    strategy: str, size: int, scale: float, units: int, generator: torch.Generator
) -> LayerSteering:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    direction = normal(size)
    direction /= direction.norm()
    if strategy in ("static", "ras"):
        return LayerSteering.static(direction, scale if strategy == "static" else 0.0)
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
        offsets={"image": normal(3, size), "video": normal(size)} if strategy == "mars" else {},
    )
