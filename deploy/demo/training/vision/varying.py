"""Drawings made to look as if other artists had drawn them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

GREY = 12
"""Mean difference of the colour channels up to which a drawing counts as one of a single colour."""


def vary(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turn, stretch, colour, shade and outline a drawing with opacity at random."""
    image = _bend(image, random)
    colours, opacity = image.convert("RGB"), image.getchannel("A")
    if random.random() < 0.7 and _is_grey(image):
        colours = _tint(colours, random)
    colours = ImageEnhance.Color(colours).enhance(
        random.choice([0.0, 1.0, random.uniform(0.3, 1.6)], p=[0.12, 0.38, 0.5])
    )
    colours = ImageEnhance.Brightness(colours).enhance(random.uniform(0.7, 1.3))
    colours = ImageEnhance.Contrast(colours).enhance(random.uniform(0.6, 1.3))
    if random.random() < 0.3:
        colours = _turn_hue(colours, int(random.integers(-30, 31)))
    if random.random() < 0.3:
        colours = _shade(colours, random)
    colours.putalpha(opacity)
    return _outline(colours, random) if random.random() < 0.15 else colours


def _bend(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Mirror, turn, and stretch or shear."""
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.5:
        image = image.rotate(random.uniform(-25, 25), Image.Resampling.BILINEAR)
    if random.random() < 0.4:
        # Of at least the drawing's size, so that nothing falls out of the square.
        across, down = random.uniform(1.0, 1.35, 2)
        shear = random.uniform(-0.15, 0.15)
        half = image.width / 2
        matrix = (across, shear, half * (1 - across - shear), 0.0, down, half * (1 - down))
        image = image.transform(
            image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
    return image


def _is_grey(image: Image.Image) -> bool:
    small = np.asarray(image.resize((20, 20)), np.int16)
    seen = small[small[..., 3] > 128][:, :3]
    return bool(len(seen) and np.ptp(seen, axis=1).mean() <= GREY)


def _tint(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Black becomes one colour, white another."""
    dark = random.integers(0, 256, 3)
    light = np.full(3, 255) if random.random() < 0.6 else random.integers(0, 256, 3)
    part = np.asarray(image.convert("L"), np.float32)[..., None] / 255
    return Image.fromarray((dark + part * (light - dark)).astype(np.uint8))


def _turn_hue(image: Image.Image, by: int) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda h: (h + by) % 256), saturation, value)).convert(
        "RGB"
    )


def _shade(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Light from one side, as on a drawing with depth."""
    ramp = np.linspace(-1, 1, image.width, dtype=np.float32)
    angle = random.uniform(0, 2 * np.pi)
    light = np.cos(angle) * ramp[None] + np.sin(angle) * ramp[:, None]
    by = 1 + random.uniform(0.1, 0.4) * light[..., None]
    return Image.fromarray((np.asarray(image) * by).clip(0, 255).astype(np.uint8))


def _outline(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A dark, light or coloured line around the drawing."""
    wide = image.getchannel("A").filter(ImageFilter.MaxFilter(int(random.choice([3, 5, 7]))))
    colour = ((20, 20, 20), (255, 255, 255), tuple(random.integers(0, 256, 3).tolist()))
    under = Image.new("RGB", image.size, colour[random.integers(3)])
    under.putalpha(wide)
    return Image.alpha_composite(under, image)
