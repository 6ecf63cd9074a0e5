"""Qwen2.5-Omni's vision tower, batched for training: every block attends to the whole picture.

It computes what Transformers' and vLLM's class compute from the weights of ``export``. Left out is
what stays constant: the norms' weights, and SwiGLU's second factor, which is 1 everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH, MERGE, FRAMES = 14, 2, 2
CELL = PATCH * MERGE
"""Pixels on a side of what becomes one token."""
THETA, EPSILON = 10_000.0, 1e-6


@dataclass(frozen=True)
class Shape:
    """Sizes of a tower.

    Attributes:
        depth: blocks that compute something; one before them only adds a constant.
        width: of the stream.
        heads: of attention.
        inner: width inside a block's MLP.
        out: width of the language model.
    """

    depth: int = 8
    width: int = 384
    heads: int = 6
    inner: int = 1536
    out: int = 896


class Tower(nn.Module):
    """From pixels to the language model's input vectors."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.patch = nn.Linear(3 * PATCH * PATCH, shape.width, bias=False)
        self.first = nn.Parameter(torch.zeros(shape.width))
        self.layers = [Block(shape) for _ in range(shape.depth)]
        self.blocks = nn.ModuleList(self.layers)
        merged = MERGE * MERGE * shape.width
        self.merge = nn.Sequential(
            nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, shape.out)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The stream after the last block and the tokens.

        Args:
            pixels: [batch, 3, height, width], normalised, sides multiples of ``CELL``.

        Returns:
            [batch, cells, 4, width] and [batch, cells, out], cells in reading order.
        """
        stream = self.streams(pixels)[-1]
        return stream, self.tokens(stream)

    def streams(self, pixels: Tensor) -> list[Tensor]:
        """The stream after each block: [batch, cells, 4, width] each."""
        rows, columns = pixels.shape[-2] // CELL, pixels.shape[-1] // CELL
        rotary = rotation(rows, columns, self.shape.width // self.shape.heads)
        stream = self.patch(patches(pixels)) + self.first
        streams = []
        for block in self.layers:
            stream = block(stream, rotary)
            streams.append(stream.unflatten(1, (rows * columns, MERGE * MERGE)))
        return streams

    def tokens(self, stream: Tensor) -> Tensor:
        """Tokens [batch, cells, out] from a stream [batch, cells, 4, width]."""
        tokens: Tensor = self.merge(normalise(stream).flatten(2))
        return tokens


class Block(nn.Module):
    """Attention and MLP."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q, self.k, self.v, self.proj = (nn.Linear(shape.width, shape.width) for _ in range(4))
        self.gate = nn.Linear(shape.width, shape.inner)
        self.down = nn.Linear(shape.inner, shape.width)

    def forward(self, stream: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """The stream behind the block: [batch, patches, width]."""
        stream = stream + self.proj(self.mix(stream, rotary))
        mlp: Tensor = self.down(self.hidden(stream))
        return stream + mlp

    def mix(self, stream: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """What attention brings to each patch, before its last matrix."""
        inner = normalise(stream)
        query, key, value = (
            linear(inner).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.q, self.k, self.v)
        )
        query, key = rotate(query, rotary).to(value.dtype), rotate(key, rotary).to(value.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(2)

    def hidden(self, stream: Tensor) -> Tensor:
        """The MLP's inner values, before its last matrix."""
        return functional.silu(self.gate(normalise(stream)))


def normalise(stream: Tensor) -> Tensor:
    """RMSNorm without weights."""
    return functional.rms_norm(stream, stream.shape[-1:], eps=EPSILON)


def patches(pixels: Tensor) -> Tensor:
    """[batch, patches, 3 x PATCH x PATCH]: a cell's four patches after one another."""
    batch, _, height, width = pixels.shape
    split = pixels.reshape(batch, 3, height // CELL, MERGE, PATCH, width // CELL, MERGE, PATCH)
    return split.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(batch, -1, 3 * PATCH * PATCH)


def rotation(rows: int, columns: int, head: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines by patch, in the order of ``patches``: [patches, head] each."""
    speeds = THETA ** -(torch.arange(0, head // 2, 2) / (head // 2))
    grid = torch.meshgrid(torch.arange(rows * MERGE), torch.arange(columns * MERGE), indexing="ij")
    angles = torch.cat([place.flatten()[:, None] * speeds for place in grid], 1)
    angles = angles.reshape(rows, MERGE, columns, MERGE, -1).transpose(1, 2).flatten(0, 3)
    angles = torch.cat([angles, angles], 1)
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys by their patch's place."""
    cosine, sine = rotary
    one, other = vectors.chunk(2, -1)
    return vectors * cosine + torch.cat([-other, one], -1) * sine


def export(tower: Tower) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weights and constants by the names of Qwen2.5-Omni's vision tower, without ``visual.``."""
    shape = tower.shape
    kernel = tower.patch.weight.detach().reshape(shape.width, 3, 1, PATCH, PATCH) / FRAMES
    weights = {"patch_embed.proj.weight": kernel.expand(-1, -1, FRAMES, -1, -1).contiguous()}
    weights["blocks.0.attn.proj.bias"] = tower.first.detach()
    constants = {"merger.ln_q.weight": 1.0} | {f"blocks.0.{n}": v for n, v in IDLE.items()}
    for number, block in enumerate(tower.layers, 1):
        constants |= {f"blocks.{number}.{name}": value for name, value in CONSTANT.items()}
        weights |= {
            f"blocks.{number}.{'mlp' if name[:4] in ('gate', 'down') else 'attn'}."
            f"{name.replace('gate', 'gate_proj').replace('down', 'down_proj')}": value.detach()
            for name, value in block.named_parameters()
        }
    weights |= {f"merger.mlp.{n}": value.detach() for n, value in tower.merge.named_parameters()}
    return weights, constants


def describe(shape: Shape) -> dict[str, int | list[int]]:
    """The tower's configuration, by the names of Qwen2.5-Omni's."""
    depth = shape.depth + 1
    return {
        "depth": depth,
        "hidden_size": shape.width,
        "num_heads": shape.heads,
        "intermediate_size": shape.inner,
        "in_channels": 3,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": FRAMES,
        "window_size": 4 * CELL,
        "fullatt_block_indexes": list(range(depth)),
        "out_hidden_size": shape.out,
        "tokens_per_second": 25,
    }


CONSTANT = {
    "norm1.weight": 1.0,
    "norm2.weight": 1.0,
    "mlp.up_proj.weight": 0.0,
    "mlp.up_proj.bias": 1.0,
}
IDLE = {
    "norm1.weight": 1.0,
    "norm2.weight": 1.0,
    "attn.proj.weight": 0.0,
    **{f"attn.{part}.{kind}": 0.0 for part in "qkv" for kind in ("weight", "bias")},
    **{
        f"mlp.{part}_proj.{kind}": 0.0
        for part in ("gate", "up", "down")
        for kind in ("weight", "bias")
    },
}
"""The block before the others, which adds only the bias of its attention's projection."""
