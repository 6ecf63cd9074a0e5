"""Synthetic files in the layouts of other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from torch import Tensor

from refusal_steering.bundle import ModelIdentity

SIZE, WIDTH = 64, 128


def model(size: int = SIZE, layers: int = 28) -> ModelIdentity:
    return ModelIdentity(id="tiny", hidden_size=size, num_layers=layers)


def vectors(layers: tuple[int, ...], size: int = SIZE) -> dict[int, Tensor]:
    """Random vectors of the lengths 10, 11, ... in ascending order of the layers."""
    generator = torch.Generator().manual_seed(7)
    found = {}
    for step, layer in enumerate(layers):
        vector = torch.randn(size, generator=generator)
        found[layer] = (10.0 + step) * vector / vector.norm()
    return found


def adapter_state(
    layers: tuple[int, ...], size: int = SIZE, width: int = WIDTH
) -> dict[str, Tensor]:
    """A state dictionary as an ``nn.ModuleDict`` of adapters with a ``net`` gives it."""
    generator = torch.Generator().manual_seed(8)
    shapes = {
        "0.weight": (width, size),
        "0.bias": (width,),
        "2.weight": (1, width),
        "2.bias": (1,),
    }
    return {
        f"{layer}.net.{part}": torch.randn(shape, generator=generator) * 0.1
        for layer in layers
        for part, shape in shapes.items()
    }


def control_vector(
    path: Path,
    directions: dict[str, np.ndarray],
    architecture: str = "controlvector",
    hint: str | None = "qwen2",
) -> Path:
    """A GGUF file with tensors by name."""
    writer = GGUFWriter(path, architecture)
    if hint is not None:
        writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(directions))
    for name, direction in directions.items():
        writer.add_tensor(name, direction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def directions(layers: tuple[int, ...], size: int = SIZE) -> dict[str, np.ndarray]:
    return {f"direction.{at}": one.numpy() for at, one in vectors(layers, size).items()}
