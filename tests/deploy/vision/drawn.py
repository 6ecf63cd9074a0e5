"""Things drawn by code, which no training saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw

SIDE = 160
RED, YELLOW, BROWN, GREY, DARK = (
    (221, 46, 68),
    (255, 190, 60),
    (190, 120, 60),
    (225, 232, 237),
    (40, 40, 40),
)
Pen = ImageDraw.ImageDraw


def heart(pen: Pen) -> None:
    """Draw one."""
    turn = np.linspace(0, 2 * math.pi, 100)
    right = 16 * np.sin(turn) ** 3
    up = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    pen.polygon(list(zip(80 + 4.8 * right, 76 - 4.8 * up, strict=True)), fill=RED)


def star(pen: Pen) -> None:
    """Draw one of five points."""
    pen.polygon(_around([(n / 10, 32 if n % 2 else 78) for n in range(10)]), fill=YELLOW)


def sun(pen: Pen) -> None:
    """Draw one of eight rays."""
    for ray in range(8):
        pen.polygon(
            _around([(ray / 8, 78), (ray / 8 + 0.04, 46), (ray / 8 - 0.04, 46)]), fill=YELLOW
        )
    pen.ellipse((40, 40, 120, 120), fill=(255, 204, 77))


def envelope(pen: Pen) -> None:
    """Draw a closed one."""
    pen.rectangle((6, 30, 154, 130), fill=GREY, outline=DARK, width=5)
    pen.line([(6, 32), (80, 90), (154, 32)], fill=DARK, width=6)


def ladder(pen: Pen) -> None:
    """Draw one of six rungs."""
    for x in (40, 110):
        pen.rectangle((x, 4, x + 11, 156), fill=BROWN)
    for y in range(18, 156, 26):
        pen.rectangle((40, y, 121, y + 9), fill=BROWN)


def clock(pen: Pen) -> None:
    """Draw one that says three."""
    pen.ellipse((6, 6, 154, 154), fill=GREY, outline=DARK, width=10)
    pen.line([(80, 30), (80, 80), (112, 80)], fill=DARK, width=8)
    for x, y in _around([(hour / 12, 58) for hour in range(12)]):
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=DARK)


THINGS: dict[str, Callable[[Pen], None]] = {
    draw.__name__: draw for draw in (heart, star, sun, envelope, ladder, clock)
}


def drawing(name: str) -> np.ndarray:
    """A thing on nothing: [SIDE, SIDE, 4] uint8."""
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    THINGS[name](ImageDraw.Draw(image))
    return np.asarray(image)


def _around(places: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points from turns and distances."""
    turns = ((2 * math.pi * turn, far) for turn, far in places)
    return [(80 + far * math.sin(turn), 80 - far * math.cos(turn)) for turn, far in turns]
