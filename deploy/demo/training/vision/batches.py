"""Endless batches of training pictures, and fixed ones for measuring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deploy.demo.training.vision import dinov2
from deploy.demo.training.vision.drawings import Drawings
from deploy.demo.training.vision.scenes import Scene, Style, make


@dataclass(frozen=True)
class Batch:
    """Pictures of one size.

    Attributes:
        pixels: [batch, 3, side, side], normalised.
        cells: [batch, cells], as in ``Scene.cells``.
        things: numbers of what is in each picture.
    """

    pixels: Tensor
    cells: Tensor
    things: tuple[tuple[int, ...], ...]


def endless(
    artists: list[Drawings],
    sides: tuple[int, ...],
    size: int,
    style: Style,
    seed: int,
    symbols: list[Drawings] | None = None,
) -> Iterator[Batch]:
    """Random batches; each name is drawn equally often, and then each of its drawings.

    Args:
        artists: drawings.
        sides: sides of pictures in pixels, one of which each batch takes.
        size: pictures of a batch.
        style: how freely pictures are made.
        seed: the same one gives the same batches.
        symbols: icons, which stand for a drawing as often as the style says.
    """
    random = np.random.default_rng(seed)
    by_name, marks = _by_name(artists), _by_name(symbols or [])
    names = sorted(by_name)
    while True:
        side = int(random.choice(sides))
        scenes = []
        for _ in range(size):
            count = random.choice([0, 1, 2], p=[style.none, 1 - style.two - style.none, style.two])
            labels = random.choice(names, count, replace=False).tolist()
            things = []
            for label in labels:
                mark = label in marks and random.random() < style.symbol
                shown = (marks if mark else by_name)[label]
                things.append((shown[random.integers(len(shown))], label))
            scenes.append(make(things, side, style, random))
        yield collate(scenes)


def _by_name(artists: list[Drawings]) -> dict[int, list[np.ndarray]]:
    found: dict[int, list[np.ndarray]] = {}
    for artist in artists:
        for drawing, label in zip(artist.pixels, artist.labels.tolist(), strict=True):
            found.setdefault(label, []).append(drawing)
    return found


def of_each(artist: Drawings, side: int, style: Style, seed: int, size: int = 32) -> list[Batch]:
    """One picture of each drawing."""
    random = np.random.default_rng(seed)
    scenes = [
        make([(drawing, label)], side, style, random)
        for drawing, label in zip(artist.pixels, artist.labels.tolist(), strict=True)
    ]
    return [collate(scenes[i : i + size]) for i in range(0, len(scenes), size)]


def collate(scenes: list[Scene]) -> Batch:
    """Pictures of one size as a batch."""
    pixels = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v)[:, None, None] for v in (dinov2.MEAN, dinov2.STD))
    cells = torch.from_numpy(np.stack([scene.cells for scene in scenes]))
    return Batch((pixels / 255 - mean) / std, cells, tuple(scene.things for scene in scenes))
