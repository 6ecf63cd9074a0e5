"""What the engine sees of images of every kind."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vllm.multimodal.media.image import ImageMediaIO

from refusal_server.media.worker.image import read_image
from refusal_server.media.worker.unusable import Unusable
from tests.server.fixtures.media import gif, huge_png, png, wav
from tests.server.fixtures.odd_media import endless_jpeg, picture, saved

PIXELS = 16_000_000
GREY = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
COLOUR = Image.fromarray(picture(64, 48))


def seen(raw: bytes) -> np.ndarray[Any, Any]:
    """The pixels that vLLM makes of what is sent on."""
    sent = read_image(raw, PIXELS).png or raw
    return np.asarray(ImageMediaIO().load_bytes(sent).media).astype(int)


def far(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> int:
    return int(np.abs(one - other).max())


@pytest.mark.parametrize("factor", [1, 16, 256, 257])
def test_sixteen_bits_of_grey_are_scaled(factor: int) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * np.uint16(factor))
    expected = np.rint(GREY.astype(float) * factor / 257).astype(int)
    assert far(seen(saved(deep, "PNG")), np.stack([expected] * 3, axis=-1)) == 0


def deep_png(channels: np.ndarray[Any, Any], colour: int, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel, as scanners write it; of these, Pillow writes grey only."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    height, width = channels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels.reshape(height, -1))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + extra + data


DEEP = GREY.astype(np.uint16) * np.uint16(257)
FULL = np.full_like(DEEP, 65535)
TWELVE_BITS = b"\0\0\0\x01sBIT\x0c" + struct.pack(">I", zlib.crc32(b"sBIT\x0c"))


@pytest.mark.parametrize(
    "raw",
    [
        deep_png(DEEP[..., None], 0),
        deep_png(DEEP[..., None], 0, TWELVE_BITS),
        deep_png(np.stack([DEEP, FULL], -1), 4),
        deep_png(np.stack([DEEP] * 3, -1), 2),
        deep_png(np.stack([DEEP, DEEP, DEEP, FULL], -1), 6),
        saved(Image.fromarray(DEEP), "PNG", save_all=True, append_images=[Image.fromarray(DEEP)]),
    ],
    ids=["grey", "twelve bits", "grey with alpha", "colour", "colour with alpha", "animation"],
)
def test_sixteen_bits_look_like_the_same_picture_in_eight(raw: bytes) -> None:
    assert far(seen(raw), np.stack([GREY.astype(int)] * 3, axis=-1)) == 0


def test_all_levels_of_sixteen_bits_keep_their_order() -> None:
    deep = Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))
    grey = seen(saved(deep, "PNG"))[..., 0].ravel()
    assert (grey[0], grey[-1]) == (0, 255)
    assert (np.diff(grey) >= 0).all()
    assert set(grey) == set(range(256))


def test_the_clear_level_of_a_sixteen_bit_picture_is_white_on_paper() -> None:
    deep = np.full((4, 4), 30000, np.uint16)
    deep[0, 0] = 1000
    pixels = seen(saved(Image.fromarray(deep), "PNG", transparency=1000))
    assert list(pixels[0, 0]) == [255] * 3
    assert list(pixels[1, 1]) == [117] * 3


def test_sixteen_bits_are_turned_as_their_file_says() -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * np.uint16(257))
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = saved(deep, "PNG", exif=exif)
    assert read_image(raw, PIXELS).size == (48, 64)
    assert far(seen(raw)[..., 0], np.rot90(GREY, -1).astype(int)) == 0


def clear(image: Image.Image) -> Image.Image:
    image.putalpha(Image.fromarray(np.where(GREY > 100, 255, 0).astype(np.uint8)))
    return image


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (saved(COLOUR, "PNG"), COLOUR),
        (saved(COLOUR, "BMP"), COLOUR),
        (saved(COLOUR, "WEBP", lossless=True), COLOUR),
        (saved(COLOUR.convert("L"), "PNG"), COLOUR.convert("L")),
        (saved(COLOUR.convert("1"), "PNG"), COLOUR.convert("1")),
        (saved(COLOUR.convert("P"), "PNG"), COLOUR.convert("P")),
        (saved(COLOUR.convert("P"), "GIF"), COLOUR.convert("P")),
        (saved(COLOUR.convert("L"), "PNG", bits=4), None),
        (saved(COLOUR.convert("CMYK"), "JPEG", quality=100), None),
        (saved(COLOUR, "JPEG", quality=100, progressive=True), COLOUR),
    ],
)
def test_other_modes_stay_as_they_are(raw: bytes, expected: Image.Image | None) -> None:
    assert read_image(raw, PIXELS).png is None
    wanted = COLOUR if expected is None else expected
    difference = np.abs(seen(raw) - np.asarray(wanted.convert("RGB")).astype(int)).mean()
    assert difference < (2 if expected is not None else 140)


@pytest.mark.parametrize(
    "image",
    [
        clear(COLOUR.copy()),
        clear(COLOUR.convert("L")),
        clear(COLOUR.copy()).quantize(64),
        clear(COLOUR.copy()).convert("RGBa").convert("RGBA"),
    ],
    ids=["rgba", "la", "palette", "premultiplied"],
)
def test_what_is_clear_is_seen_as_white(image: Image.Image) -> None:
    raw = saved(image, "PNG")
    assert read_image(raw, PIXELS).png is None
    pixels = seen(raw)
    assert list(pixels[0, 0]) == [255] * 3
    assert far(pixels[40, 60], np.asarray(image.convert("RGB"))[40, 60].astype(int)) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_left_to_the_engine(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = saved(COLOUR, "JPEG", exif=exif)
    found = read_image(raw, PIXELS)
    assert found.png is None
    assert found.size == ((48, 64) if orientation > 4 else (64, 48))
    assert seen(raw).shape[:2] == found.size[::-1]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (4000, 4000)])
def test_any_shape_of_few_enough_pixels_is_read(size: tuple[int, int]) -> None:
    assert read_image(png(*size), PIXELS).size == size


@pytest.mark.parametrize("frames", [1, 50])
def test_of_an_animation_the_first_frame_is_read(frames: int) -> None:
    assert read_image(gif(frames), PIXELS).media_type == "image/gif"


@pytest.mark.parametrize("size", [(13_000, 13_000), (20_000, 20_000), (65_000, 65_000)])
def test_pixels_are_counted_before_any_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(Unusable, match="has more than 16000000 pixels"):
        read_image(huge_png(*size), PIXELS)


def heic() -> bytes:
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"not an image", "is not an image that can be read; send PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG image, not an image that can"),
        (b"<?xml version='1.0'?>\n<svg/>", "is an SVG image"),
        (saved(COLOUR, "TIFF"), "is a TIFF image, not an image that can be read; send PNG"),
        (saved(COLOUR, "AVIF"), "is an AVIF image"),
        (heic(), "is a HEIC image"),
        (saved(COLOUR, "JPEG2000"), "is a JPEG 2000 image"),
        (b"%PDF-1.7", "is a PDF document"),
        (wav(), "is a WAV file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "is not an image"),
        (b"\x89PNG\r\n\x1a\n", "is a PNG image that is broken or cut off"),
        (png()[:20], "is a PNG image that is broken or cut off"),
        (png(500, 500)[:-200], "is a PNG image that is broken or cut off"),
        (saved(COLOUR, "JPEG")[:-300], "is a JPEG image that is broken or cut off"),
        (saved(COLOUR, "WEBP")[:-100], "is a WebP image that is broken or cut off"),
        (saved(COLOUR, "BMP")[:-100], "is a BMP image that is broken or cut off"),
    ],
)
def test_what_is_no_image_is_named(raw: bytes, message: str) -> None:
    with pytest.raises(Unusable) as caught:
        read_image(raw, PIXELS)
    assert message in str(caught.value)


def test_many_scans_are_still_an_image() -> None:
    assert read_image(endless_jpeg(64, 64, 5), PIXELS).media_type == "image/jpeg"


def test_what_is_sent_instead_is_always_the_same() -> None:
    raw = saved(Image.fromarray(GREY.astype(np.uint16) * np.uint16(257)), "PNG")
    assert read_image(raw, PIXELS).png == read_image(raw, PIXELS).png
    sent = read_image(raw, PIXELS).png
    assert sent is not None
    assert Image.open(io.BytesIO(sent)).mode == "L"
