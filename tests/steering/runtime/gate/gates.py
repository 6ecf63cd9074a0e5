"""Random gates, and residual rows that depend on the whole prefix as a decoder's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, save_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.gate.prompt_gate import Pooling, PromptGate, PromptScore, TokenProbe

SIZE, NUM_LAYERS, STEERED = 8, 5, 3
COEFFICIENT = 2.0


def probe(seed: int, size: int = SIZE) -> TokenProbe:
    """A probe whose five parts all matter."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(3, size, generator=generator)
    return TokenProbe(rows[0], 0.3, rows[1], rows[2], -0.2)


def gate(
    seed: int = 0,
    layers: tuple[int, ...] = (1, 2, 3),
    pooling: Pooling = "both",
    user_turn: tuple[int, ...] = (),
    media_thresholds: Mapping[str, float] | None = None,
) -> PromptGate:
    """A random gate, half open at about its median score where no media say otherwise."""
    probes = {index: probe(10 * seed + index) for index in layers}
    of_media = media_thresholds or {}
    return PromptGate(probes, pooling, 0.0, 8.0, user_turn=user_turn, media_thresholds=of_media)


def gated_bundle(folder: Path, name: str, prompt_gate: PromptGate | None) -> SteeringBundle:
    """A static bundle whose coefficient the gate opens."""
    direction = torch.zeros(SIZE)
    direction[0] = 1.0
    model = {"id": "m", "hidden_size": SIZE, "num_layers": NUM_LAYERS}
    manifest = {"name": name, "strategy": "static", "model": model}
    layers = {STEERED: LayerSteering.static(direction, COEFFICIENT)}
    return save_bundle(folder / name, layers, manifest, gate=prompt_gate)


def rows(layer: int, tokens: Sequence[int], first: int = 0) -> Tensor:
    """Residual rows [T, H] behind ``layer`` of the tokens from position ``first`` on."""
    return torch.stack([_row(layer, tokens[: end + 1]) for end in range(first, len(tokens))])


def _row(layer: int, prefix: Sequence[int]) -> Tensor:
    seed = crc32(repr((layer, list(prefix))).encode())
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))


def expected(
    prompt_gate: PromptGate, prompt: Sequence[int], count_from: int | None = None
) -> PromptScore:
    """The score of a prompt in one pass over all of it."""
    start = prompt_gate.count_from(list(prompt)) if count_from is None else count_from
    read = {index: rows(index, prompt) for index in prompt_gate.layers}
    return prompt_gate.score(read, start)
