"""Small real media for engine tests, always the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

PLACEHOLDERS = {
    "image": "<|vision_bos|><|IMAGE|><|vision_eos|>",
    "image2": "<|vision_bos|><|IMAGE|><|vision_eos|>",
    "audio": "<|audio_bos|><|AUDIO|><|audio_eos|>",
    "video": "<|vision_bos|><|VIDEO|><|vision_eos|>",
}


def chat(text: str, media: tuple[str, ...] = ()) -> str:
    """The tiny model's chat prompt with placeholders for ``media`` before ``text``."""
    parts = "".join(PLACEHOLDERS[kind] for kind in media)
    return (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{parts}{text}<|im_end|>\n<|im_start|>assistant\n"
    )


def build(kinds: tuple[str, ...]) -> dict[str, Any]:
    """vLLM's ``multi_modal_data`` for ``kinds``."""
    makers = {"image": _image, "image2": _other_image, "audio": _audio, "video": _video}
    data: dict[str, list[Any]] = {}
    for kind in kinds:
        data.setdefault(kind.rstrip("2"), []).append(makers[kind]())
    return {kind: items[0] if len(items) == 1 else items for kind, items in data.items()}


def _image(color: tuple[int, int, int] = (200, 40, 40)) -> Image.Image:
    image = Image.new("RGB", (112, 112), color)
    ImageDraw.Draw(image).rectangle((20, 30, 80, 90), fill=(20, 20, 220))
    return image


def _other_image() -> Image.Image:
    return _image((10, 160, 60))


def _audio() -> tuple[np.ndarray, int]:
    seconds = np.arange(16_000) / 16_000
    return (0.4 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32), 16_000


def _video() -> np.ndarray:
    frames = [np.asarray(_image((20 * i, 255 - 20 * i, 90))) for i in range(8)]
    return np.stack(frames)
