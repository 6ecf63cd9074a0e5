"""Make up, block by block, for what folding DINOv2 into the tower loses.

The class token and the position table are gone, and with them what attention took from them. Each
block's two last matrices are solved anew, in closed form, so that the stream comes as near to
DINOv2's as it can on pictures of the training artists. What the features of a place have in common
is left out of the aim, since the tower cannot know a patch's place.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from deploy.demo.training.vision import dinov2
from deploy.demo.training.vision.tower import CELL, MERGE, Tower, normalise, patches, rotation

RIDGE = {"attention": 1e-3, "mlp": 3e-3}
"""Pull towards the folded weights, in units of the mean square of what enters."""
PART = 32


@torch.no_grad()
def fit(tower: Tower, weights: dinov2.Weights, pictures: Iterable[Tensor]) -> list[float]:
    """Solve the tower's blocks in place; return the error of the normalised stream after each.

    Args:
        tower: as folded.
        weights: DINOv2's.
        pictures: batches of one size.
    """
    half = {name: value.bfloat16() for name, value in weights.items()}
    theirs, ours = [], []
    rows = columns = 0
    for pixels in pictures:
        rows, columns = (side // CELL for side in pixels.shape[-2:])
        theirs.append(dinov2.embed(half, pixels.bfloat16()))
        ours.append(tower.patch(patches(pixels)) + tower.first)
    one, other = torch.cat(theirs), torch.cat(ours)
    rotary = rotation(rows, columns, tower.shape.width // tower.shape.heads)
    errors = []
    for number, block in enumerate(tqdm(tower.layers, unit="block", desc="fitting")):
        for step in ("attention", "mlp"):
            run = dinov2.attend if step == "attention" else dinov2.think
            one = torch.cat([run(half, number, part) for part in one.split(PART)])
            aim = placeless(one[:, 1:].float(), rows, columns)
            with torch.autocast("cpu", torch.bfloat16):
                inner = torch.cat(
                    [
                        block.mix(part, rotary) if step == "attention" else block.hidden(part)
                        for part in other.split(PART)
                    ]
                )
            last = block.proj if step == "attention" else block.down
            solve(last, inner, aim - other, RIDGE[step])
            other = other + torch.cat([last(part.float()) for part in inner.split(PART)])
        errors.append(float((normalise(other) - normalise(aim)).square().mean()))
    return errors


def placeless(stream: Tensor, rows: int, columns: int) -> Tensor:
    """A centred stream in the tower's order without what its places have in common."""
    split = stream.unflatten(1, (rows, MERGE, columns, MERGE))
    stream = split.transpose(2, 3).flatten(1, 4)
    stream = stream - stream.mean(-1, keepdim=True)
    return stream - stream.mean(0) + stream.mean((0, 1))


def solve(linear: nn.Linear, inner: Tensor, aim: Tensor, ridge: float) -> None:
    """Change a matrix and its bias so that it makes ``aim`` of ``inner``.

    Args:
        linear: changed in place, as little as ``ridge`` says.
        inner: [pictures, patches, in].
        aim: [pictures, patches, out].
    """
    size = linear.in_features + 1
    square, product = torch.zeros(size, size), torch.zeros(size, linear.out_features)
    for part, wanted in zip(inner.split(PART), aim.split(PART), strict=True):
        rows = torch.cat([part, torch.ones_like(part[..., :1])], -1).flatten(0, 1).float()
        rest = (wanted - linear(part.float())).flatten(0, 1)
        square += rows.T @ rows
        product += rows.T @ rest
    pull: Tensor = square.diagonal().mean() * ridge
    square += pull * torch.eye(size)
    change = torch.linalg.solve(square, product).T
    linear.weight.add_(change[:, :-1])
    linear.bias.add_(change[:, -1])
