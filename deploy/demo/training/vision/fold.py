"""Write DINOv2's weights into the tower: equal but for what its class lacks.

LayerNorm becomes RMSNorm on a stream whose mean is zero, GELU becomes SiLU(1.702 x) / 1.702,
layer scales and norms go into the matrices. What is lost is the class token, the position table
but for its mean, and the exact product of queries and keys, since the tower turns them by place:
each head's strongest directions are put where they turn slowest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deploy.demo.training.vision import dinov2
from deploy.demo.training.vision.tower import Block, Shape, Tower

GELU = 1.702


@torch.no_grad()
def fold(weights: dinov2.Weights, shape: Shape) -> Tower:
    """A tower of the first blocks of DINOv2; its merger is random."""
    tower = Tower(shape)
    centre = torch.eye(shape.width) - 1 / shape.width
    kernel = weights["embeddings.patch_embeddings.projection.weight"].flatten(1)
    tower.patch.weight.copy_(centre @ kernel)
    constant = weights["embeddings.patch_embeddings.projection.bias"] + weights["positions"].mean(0)
    tower.first.copy_(centre @ constant)
    for number, block in enumerate(tower.layers):
        own = {
            name.removeprefix(f"{number}."): value
            for name, value in weights.items()
            if name.startswith(f"{number}.")
        }
        _fold_block(own, centre, block)
    return tower


def _fold_block(weights: dinov2.Weights, centre: Tensor, block: Block) -> None:
    query, key, value = (
        _after_norm(weights, f"attention.attention.{part}", "norm1")
        for part in ("query", "key", "value")
    )
    query, key = _slow_first(query, key, block.heads)
    for linear, (matrix, bias) in ((block.q, query), (block.k, key), (block.v, value)):
        linear.weight.copy_(matrix)
        linear.bias.copy_(bias)
    matrix, bias = _after_norm(weights, "mlp.fc1", "norm2")
    block.gate.weight.copy_(GELU * matrix)
    block.gate.bias.copy_(GELU * bias)
    for linear, name, scale, gain in (
        (block.proj, "attention.output.dense", "layer_scale1", 1.0),
        (block.down, "mlp.fc2", "layer_scale2", 1 / GELU),
    ):
        rows = weights[f"{scale}.lambda1"]
        linear.weight.copy_(centre @ (rows[:, None] * weights[f"{name}.weight"]) * gain)
        linear.bias.copy_(centre @ (rows * weights[f"{name}.bias"]))


def _after_norm(weights: dinov2.Weights, name: str, norm: str) -> tuple[Tensor, Tensor]:
    """A matrix and its bias with the norm's before it in them."""
    matrix, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return matrix * weights[f"{norm}.weight"], bias + matrix @ weights[f"{norm}.bias"]


def _slow_first(
    query: tuple[Tensor, Tensor], key: tuple[Tensor, Tensor], heads: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Turn each head's space, which keeps products, so that little lies where places turn fast."""
    width = len(query[1]) // heads
    quarter = width // 4
    # Pairs of dimensions (i, i + width / 2) turn by row, then by column, the fastest first.
    slow = [half * quarter + speed for speed in reversed(range(quarter)) for half in (0, 1)]
    places = torch.tensor([place for pair in slow for place in (pair, pair + width // 2)])
    parts = [torch.cat([matrix, bias[:, None]], 1).unflatten(0, (heads, width))
             for matrix, bias in (query, key)]  # fmt: skip
    turned = [[], []]  # type: list[list[Tensor]]
    for head in range(heads):
        both = torch.cat([part[head] for part in parts], 1)
        basis = torch.linalg.svd(both, full_matrices=False).U
        for part, out in zip(parts, turned, strict=True):
            placed = torch.empty(width, part.shape[-1])
            placed[places] = basis.T @ part[head]
            out.append(placed)
    one, other = (torch.cat(out) for out in turned)
    return (one[:, :-1], one[:, -1]), (other[:, :-1], other[:, -1])
