"""What the tower should keep of DINOv2: its features at some blocks, without the place's part."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from deploy.demo.training.vision import dinov2
from deploy.demo.training.vision.tower import CELL, MERGE


class Teacher:
    """DINOv2's first blocks.

    The tower cannot know where in a picture a patch lies, so what the features of a place have in
    common over pictures is taken out of them.
    """

    def __init__(self, weights: dinov2.Weights, kept: tuple[int, ...]) -> None:
        self.kept = kept
        self._weights = {name: value.bfloat16() for name, value in weights.items()}
        self._places: dict[torch.Size, Tensor] = {}

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised features after each kept block: [kept, batch, cells, 4, width]."""
        features = self._features(pixels)
        place = self._places.get(pixels.shape[-2:])
        return features if place is None else features - place

    @torch.no_grad()
    def learn_places(self, pictures: Iterable[Tensor]) -> None:
        """Learn what features of a place have in common, from batches of one size."""
        sums, count, size = torch.zeros(()), 0, torch.Size()
        for pixels in pictures:
            sums = sums + self._features(pixels).sum(1, keepdim=True)
            count, size = count + len(pixels), pixels.shape[-2:]
        means = sums / count
        self._places[size] = means - means.mean((2, 3), keepdim=True)

    def _features(self, pixels: Tensor) -> Tensor:
        stream = dinov2.embed(self._weights, pixels.bfloat16())
        rows, columns = (side // CELL for side in pixels.shape[-2:])
        found = []
        for number in range(max(self.kept)):
            stream = dinov2.block(self._weights, number, stream)
            if number + 1 in self.kept:
                patches = functional.layer_norm(stream[:, 1:].float(), (dinov2.WIDTH,))
                split = patches.unflatten(1, (rows, MERGE, columns, MERGE))
                found.append(split.transpose(2, 3).flatten(3, 4).flatten(1, 2))
        return torch.stack(found)
