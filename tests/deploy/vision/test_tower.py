"""The training's tower computes what the served class computes, and DINOv2 goes into it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from deploy.demo.training.vision import dinov2, fold, tower

SMALL = tower.Shape(depth=2, width=64, heads=2, inner=96, out=48)


def served(shape: tower.Shape) -> torch.nn.Module:
    """Transformers' class, of the same sizes."""
    from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as omni
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import (
        Qwen2_5OmniVisionEncoderConfig,
    )

    config = Qwen2_5OmniVisionEncoderConfig(**tower.describe(shape))
    config._attn_implementation = "sdpa"  # noqa: SLF001
    module: torch.nn.Module = omni.Qwen2_5OmniVisionEncoder(config).eval()
    return module


@pytest.mark.parametrize("size", [(112, 112), (56, 140), (224, 84)])
@torch.no_grad()
def test_it_computes_what_the_served_class_computes(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = tower.Tower(SMALL)
    torch.nn.init.normal_(ours.first)
    theirs = served(SMALL)
    weights, constants = tower.export(ours)
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert set(weights) | set(constants) == set(shapes)
    assert not set(weights) & set(constants)
    filled = {name: torch.full(shapes[name], value) for name, value in constants.items()}
    theirs.load_state_dict(weights | filled)
    pixels = torch.randn(2, 3, *size)
    rows, columns = size[0] // tower.PATCH, size[1] // tower.PATCH
    cut = tower.patches(pixels).unflatten(-1, (3, 1, tower.PATCH, tower.PATCH))
    cut = cut.expand(-1, -1, -1, tower.FRAMES, -1, -1).flatten(0, 1).flatten(1)
    found = theirs(cut, grid_thw=torch.tensor([[1, rows, columns]] * 2)).pooler_output
    _, tokens = ours(pixels)
    torch.testing.assert_close(found.unflatten(0, (2, -1)), tokens, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_turning_a_heads_space_keeps_products_and_puts_the_strongest_at_slow_places() -> None:
    torch.manual_seed(0)
    query, key = ((torch.randn(128, 40), torch.randn(128)) for _ in range(2))
    turned_query, turned_key = fold._slow_first(query, key, 2)  # noqa: SLF001
    inputs = torch.randn(5, 40)

    def product(
        one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        q, k = (functional.linear(inputs, *part).unflatten(-1, (2, 64)) for part in (one, other))
        return torch.einsum("ihd,jhd->hij", q, k)

    torch.testing.assert_close(
        product(query, key), product(turned_query, turned_key), rtol=1e-3, atol=1e-2
    )
    strength = torch.cat([turned_query[0], turned_key[0]], 1)[:64].square().sum(1)
    assert strength[15] + strength[47] > 2 * (strength[0] + strength[32])


def weights_like_dinov2(depth: int) -> dinov2.Weights:
    width, inner = dinov2.WIDTH, 4 * dinov2.WIDTH
    weights = {
        "embeddings.patch_embeddings.projection.weight": torch.randn(width, 3, 14, 14) / 24,
        "embeddings.patch_embeddings.projection.bias": torch.randn(width) / 4,
        "positions": torch.randn(1, width).expand(dinov2.SIDE**2, -1) / 4,
        "embeddings.cls_token": torch.randn(1, 1, width),
        "cls": torch.randn(width),
    }
    for number in range(depth):
        shapes = {
            **{f"attention.attention.{part}": (width, width) for part in ("query", "key", "value")},
            "attention.output.dense": (width, width),
            "mlp.fc1": (inner, width),
            "mlp.fc2": (width, inner),
        }
        for name, shape in shapes.items():
            weights[f"{number}.{name}.weight"] = torch.randn(shape) / shape[1] ** 0.5
            weights[f"{number}.{name}.bias"] = torch.randn(shape[0]) / 4
        for name in ("norm1", "norm2"):
            weights[f"{number}.{name}.weight"] = torch.rand(width) + 0.5
            weights[f"{number}.{name}.bias"] = torch.randn(width) / 4
        for name in ("layer_scale1", "layer_scale2"):
            weights[f"{number}.{name}.lambda1"] = torch.rand(width)
    return weights


@torch.no_grad()
def test_a_folded_tower_sees_a_single_cell_nearly_as_dinov2_without_its_class_token() -> None:
    """One cell lies at places 0 and 1, where turning by place changes little."""
    torch.manual_seed(0)
    weights = weights_like_dinov2(2)
    for number in range(2):
        # Products of queries and keys are what turning changes.
        weights[f"{number}.attention.attention.query.weight"] *= 0.01
        weights[f"{number}.attention.attention.query.bias"] *= 0.01
    pixels = torch.randn(1, 3, 28, 28)
    stream = dinov2.embed(weights, pixels)[:, 1:]
    for number in range(2):
        stream = dinov2.block(weights, number, stream)
    expected = functional.layer_norm(stream, (dinov2.WIDTH,))
    cells, _ = fold.fold(weights, tower.Shape(depth=2))(pixels)
    found = tower.normalise(cells.flatten(1, 2))
    assert float(functional.cosine_similarity(found, expected, dim=-1).min()) > 0.99
