"""Pictures made of drawings: one or two things on a background, and what each cell shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from deploy.demo.training.vision import varying
from deploy.demo.training.vision.tower import CELL

BLANK, UNCLEAR = -1, -100
COVERED, EMPTY = 0.35, 0.08
"""A cell shows a thing from that share of its area on, and nothing up to the other."""


@dataclass(frozen=True)
class Style:
    """How freely pictures are made.

    Attributes:
        sizes: least and greatest side of a single thing, as parts of the picture's.
        two: share of pictures of two things.
        none: share of pictures of nothing.
        symbol: share of things that are shown by an icon.
        vivid: whether colours, angles and sharpness vary.
    """

    sizes: tuple[float, float] = (0.45, 1.0)
    two: float = 0.2
    none: float = 0.03
    symbol: float = 0.2
    vivid: bool = True


@dataclass(frozen=True)
class Scene:
    """A picture.

    Attributes:
        pixels: [side, side, 3] uint8.
        cells: [cells] int64, number of the thing that a cell shows, ``BLANK`` or ``UNCLEAR``.
        things: numbers of the things in it.
    """

    pixels: np.ndarray
    cells: np.ndarray
    things: tuple[int, ...]


def make(
    things: list[tuple[np.ndarray, int]], side: int, style: Style, random: np.random.Generator
) -> Scene:
    """A picture of none, one or two things.

    Args:
        things: drawings [side, side, 4] uint8 with their numbers.
        side: of the picture in pixels, a multiple of ``CELL``.
        style: how freely it is made.
        random: decides the rest.
    """
    canvas = background(side, random, vivid=style.vivid)
    share = np.zeros((len(things), side // CELL, side // CELL))
    boxes = _boxes(len(things), side, style, random)
    for number, ((drawing, _), (size, x, y)) in enumerate(zip(things, boxes, strict=True)):
        image = Image.fromarray(drawing)
        if style.vivid:
            image = varying.vary(image, random)
        image = image.resize((size, size), Image.Resampling.BILINEAR)
        canvas.paste(image, (x, y), image)
        opacity = Image.new("L", (side, side))
        opacity.paste(image.getchannel("A"), (x, y))
        share[number] = _by_cell(np.asarray(opacity))
    if style.vivid and random.random() < 0.15:
        canvas = canvas.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    labels = np.array([label for _, label in things])
    cells = _label(share, labels) if things else np.full((side // CELL) ** 2, BLANK)
    return Scene(np.asarray(canvas), cells.reshape(-1), tuple(labels.tolist()))


def background(side: int, random: np.random.Generator, *, vivid: bool) -> Image.Image:
    """White, one colour, a gradient, two fields, or noise."""
    kind = random.integers(5) if vivid else random.integers(2)
    one, other = random.integers(0, 256, (2, 3))
    if kind == 0:
        one = np.full(3, 255)
    if kind < 2:
        return Image.new("RGB", (side, side), tuple(int(part) for part in one))
    ramp = np.linspace(0, 1, side)
    along = ramp[:, None] * random.normal() + ramp[None] * random.normal()
    along = (along - along.min()) / max(np.ptp(along), 1e-6)
    if kind == 3:
        along = (along > random.uniform(0.2, 0.8)).astype(float)
    pixels = one + along[..., None] * (other - one)
    if kind == 4:
        small = random.normal(0, random.uniform(5, 40), (side // 7, side // 7, 3))
        pixels = pixels + np.kron(small, np.ones((7, 7, 1)))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _boxes(
    count: int, side: int, style: Style, random: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Size and corner of each thing; two lie beside or above one another."""
    if count < 2:
        size = int(side * random.uniform(*style.sizes))
        return [(size, *random.integers(0, side - size + 1, 2).tolist())][:count]
    across = bool(random.integers(2))
    boxes = []
    for number in range(2):
        size = int(side * random.uniform(0.4, 0.5))
        first = number * side // 2 + int(random.integers(0, side // 2 - size + 1))
        second = int(random.integers(0, side - size + 1))
        boxes.append((size, first, second) if across else (size, second, first))
    return boxes


def _by_cell(opacity: np.ndarray) -> np.ndarray:
    rows, columns = (side // CELL for side in opacity.shape)
    blocks = opacity.reshape(rows, CELL, columns, CELL)
    return np.asarray(blocks.mean((1, 3)) / 255)


def _label(share: np.ndarray, labels: np.ndarray) -> np.ndarray:
    most = share.max(0)
    cells = np.where(most >= COVERED, labels[share.argmax(0)], UNCLEAR)
    return np.where(most <= EMPTY, BLANK, cells)
