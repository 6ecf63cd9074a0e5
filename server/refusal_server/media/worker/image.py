"""Images: decoded once, so that the engine never meets a broken one; 16 bits become 8."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from refusal_server.media.worker.kinds import not_read
from refusal_server.media.worker.unusable import Unusable

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")

# Pillow imports its parts when it first needs them, which a sealed process cannot.
Image.preinit()
for part in ("WebPImagePlugin", "MpoImagePlugin", "TiffImagePlugin"):
    importlib.import_module(f"PIL.{part}")


class Picture(NamedTuple):
    """``png`` is what to send instead, or ``None``; ``size`` is width and height as seen."""

    media_type: str
    size: tuple[int, int]
    png: bytes | None


def read_image(raw: bytes, max_pixels: int) -> Picture:
    """Decode one image (of an animation, the first frame); raises :class:`Unusable`."""
    image = _opened(raw, max_pixels)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise not_read(raw, "image") from error
    png = _eight_bits(image) if image.mode in _DEEP else None
    return Picture(f"image/{str(image.format).lower()}", _seen(image), png)


def _opened(raw: bytes, max_pixels: int) -> Image.Image:
    """The image before any pixel of it is decoded."""
    too_many = Unusable(f"has more than {max_pixels} pixels")
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise too_many from error
    except Exception as error:  # Pillow's readers raise what they like on hostile bytes
        raise not_read(raw, "image") from error
    if image.width * image.height > max_pixels:
        raise too_many
    return image


def _seen(image: Image.Image) -> tuple[int, int]:
    """Width and height after the turn that the file asks for."""
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def _eight_bits(image: Image.Image) -> bytes:
    """A grey PNG of the same picture; a plain conversion would clip it to white."""
    deep = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(deep == clear, 0, 255).astype(np.uint8)))
    grey.getexif()[0x0112] = image.getexif().get(0x0112, 1)
    buffer = io.BytesIO()
    ImageOps.exif_transpose(grey).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
