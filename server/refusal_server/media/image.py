"""Images: the header is read, the pixels are not."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from refusal_server.media.data_url import invalid_media

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def check_image(raw: bytes, max_pixels: int, where: str) -> None:
    """Raise a 400 unless ``raw`` is an image of at most ``max_pixels``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                pixels = image.width * image.height
    except Image.DecompressionBombError as error:
        raise _too_many(max_pixels, where) from error
    except Exception as error:  # Pillow's readers raise what they like on hostile bytes
        known = ", ".join(FORMATS)
        raise invalid_media(f"is not an image that can be read; send {known}", where) from error
    if pixels > max_pixels:
        raise _too_many(max_pixels, where)


def _too_many(max_pixels: int, where: str) -> Exception:
    return invalid_media(f"has more than {max_pixels} pixels", where)
