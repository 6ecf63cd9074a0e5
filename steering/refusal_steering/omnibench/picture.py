"""Typographic images: black monospace text on white, 760 x 760 pixels.

Sizes follow AdvBench-Omni's FigStep-style images: 80 px bold, 15 columns, lines 75 px apart,
origin (20, 10). There, text beyond the frame is lost; here the font shrinks until all fits.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import textwrap
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from refusal_steering.errors import OmnibenchError

SIDE = 760
FULL_SIZE = 80
SMALLEST_SIZE = 16
COLUMNS = 15
PITCH = 75
ORIGIN = (20, 10)
# Height of the first baseline below the origin, in font sizes; GNU FreeMono's ascender.
ASCENT = 0.8
FONT_NAME = "DejaVuSansMono-Bold.ttf"
_NEVER_A_CHARACTER = "\uffff"

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Lines of text at a font size in pixels; all ink lies inside the frame."""

    size: int
    lines: tuple[str, ...]

    @property
    def pitch(self) -> float:
        """Distance of baselines in pixels."""
        return PITCH * self.size / FULL_SIZE

    def baseline(self, index: int) -> tuple[int, int]:
        """Where line ``index`` starts, in pixels from the upper left corner."""
        return ORIGIN[0], round(ORIGIN[1] + ASCENT * self.size + index * self.pitch)


@functools.cache
def font_file() -> Path:
    """The font that matplotlib ships: one file of one version on every machine."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise OmnibenchError(
            f"the font {FONT_NAME} comes with the Python package matplotlib, which is not "
            "installed; install matplotlib"
        )
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / FONT_NAME
    if not path.is_file():
        raise OmnibenchError(f"this matplotlib has no font {FONT_NAME}; reinstall matplotlib")
    return path


@functools.cache
def font_sha256() -> str:
    """Hex sha256 of the font file."""
    return hashlib.sha256(font_file().read_bytes()).hexdigest()


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # The basic layout is always there, the other one only where a system library is.
    return ImageFont.truetype(font_file(), size, layout_engine=ImageFont.Layout.BASIC)


def lay_out(text: str) -> Layout:
    """Break ``text`` into lines at the largest size, at most 80 px, that fits the frame.

    Columns and pitch keep their ratio to the size. Raises :class:`OmnibenchError` for text that
    is too long at 16 px, or that the font cannot draw.
    """
    _check_drawable(text)
    for size in range(FULL_SIZE, SMALLEST_SIZE - 1, -1):
        lines = textwrap.wrap(text, COLUMNS * FULL_SIZE // size)
        layout = Layout(size, tuple(lines))
        if _fits(layout):
            return layout
    raise OmnibenchError(
        f"a string of {len(text)} characters does not fit the frame of {SIDE} x {SIDE} pixels even "
        f"at {SMALLEST_SIZE} px; shorten it"
    )


def draw(text: str) -> Image.Image:
    """The image [760, 760, RGB] of ``text``."""
    layout = lay_out(text)
    image = blank()
    pen = ImageDraw.Draw(image)
    for index, line in enumerate(layout.lines):
        pen.text(layout.baseline(index), line, fill="black", font=_font(layout.size), anchor="ls")
    return image


def blank() -> Image.Image:
    """The white frame."""
    return Image.new("RGB", (SIDE, SIDE), "white")


def png(text: str) -> bytes:
    """``text`` as a PNG file."""
    buffer = io.BytesIO()
    draw(text).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def _fits(layout: Layout) -> bool:
    """Whether a white pixel is left between the ink and every edge."""
    return all(
        left >= 1 and top >= 1 and right < SIDE and bottom < SIDE
        for left, top, right, bottom in (
            _ink(layout, index, line) for index, line in enumerate(layout.lines)
        )
    )


def _ink(layout: Layout, index: int, line: str) -> Box:
    x, y = layout.baseline(index)
    left, top, right, bottom = _font(layout.size).getbbox(line, anchor="ls")
    return int(x + left), int(y + top), int(x + right), int(y + bottom)


def _check_drawable(text: str) -> None:
    bad = sorted({c for c in text if not c.isspace() and not _drawable(c)})
    if bad:
        raise OmnibenchError(
            f"the font {FONT_NAME} cannot draw {', '.join(map(repr, bad))}; use text from left "
            "to right in Latin, Greek or Cyrillic letters"
        )


@functools.cache
def _drawable(character: str) -> bool:
    if unicodedata.bidirectional(character) in {"R", "AL"}:
        return False
    shape, missing = (_font(FULL_SIZE).getmask(c) for c in (character, _NEVER_A_CHARACTER))
    return (shape.size, bytes(shape)) != (missing.size, bytes(missing))
