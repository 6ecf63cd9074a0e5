"""All drawings as arrays, rendered once and kept in the cache."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deploy.demo.training.vision import concepts, icons, pictures, sources

SIDE = 160
"""Pixels of a drawing's side, at which it is kept."""


@dataclass(frozen=True)
class Drawings:
    """One artist's drawings.

    Attributes:
        pixels: [count, SIDE, SIDE, 4] uint8, red, green, blue and opacity.
        labels: [count] int64, the number of the concept.
    """

    pixels: np.ndarray
    labels: np.ndarray


def load(cache: Path, artist: str) -> Drawings:
    """The drawings of a set of emoji or icons by its name, of ``clipart``, or of ``stamps``."""
    file = cache / "rendered" / f"{artist}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels, labels = _render(cache, artist)
        np.savez(file, pixels=pixels, labels=labels)
    with np.load(file) as stored:
        return Drawings(stored["pixels"], stored["labels"])


def _render(cache: Path, artist: str) -> tuple[np.ndarray, np.ndarray]:
    found = _pictures(cache, artist) if artist in sources.DEBIAN else _emoji(cache, artist)
    pixels = np.stack([image for image, _ in found])
    return pixels, np.array([label for _, label in found], np.int64)


def _emoji(cache: Path, artist: str) -> list[tuple[np.ndarray, int]]:
    drawn = icons.Icons(cache / artist, icons.load_labels(cache / "labels"))
    by_name = artist in {symbols.name for symbols in sources.SYMBOLS}
    wrong = sources.WRONG | sources.WRONG_IN.get(artist, set())
    return [
        (_fit(_rasterise(svg)), number)
        for number, concept in enumerate(concepts.load())
        if not (by_name and concept.name in wrong)
        for svg in (drawn.symbols(concept) if by_name else drawn.drawings(concept))
    ]


def _pictures(cache: Path, artist: str) -> list[tuple[np.ndarray, int]]:
    names = concepts.names()
    find = pictures.clipart if artist == "clipart" else pictures.stamps
    found = find(cache / artist / sources.FOLDERS[artist], names)
    return [
        (_fit(Image.open(path).convert("RGBA")), number)
        for number, name in enumerate(names)
        for path in found.get(name, ())
    ]


def _rasterise(svg: str) -> Image.Image:
    import resvg_py

    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIDE))))


def _fit(image: Image.Image) -> np.ndarray:
    """Cut off the empty border and centre the rest in a square."""
    image = image.convert("RGBA")
    opacity = image.getchannel("A").point(lambda a: 255 * (a > 16))
    image = image.crop(opacity.getbbox() or (0, 0, *image.size))
    scale = SIDE / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    square.paste(image, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(square)
