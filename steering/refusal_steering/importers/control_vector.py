"""GGUF control vectors, as llama.cpp and repeng write them.

Tensors are ``direction.N``. llama.cpp adds ``direction.N`` to the residual stream after block N,
counted from 0 (its loader stores N at place N - 1 and its graph reads block ``il`` from place
``il - 1``), so N is our layer number; block 0 cannot be steered there. Its own generator
``llama-cvector-generator`` however measures ``direction.N`` after block N - 1. The default follows
where vectors are applied; ``shift=-1`` puts generated ones back where they were measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.imported import Imported
from refusal_steering.importers.vectors import vectors_by_layer

_ARCHITECTURE = "controlvector"
_NAME = re.compile(r"direction\.(\d+)")
_FLOATS = {"F32", "F16"}


@dataclass(frozen=True, slots=True)
class ControlVector:
    """Directions [H] by their number in the file, and the model type the file names."""

    directions: dict[int, Tensor]
    model_hint: str | None


def read_control_vector(path: Path, shift: int = 0) -> Imported:
    """A control vector in llama.cpp's numbering; raises :class:`UnusableSourceError`.

    ``shift`` is added to the numbers.
    """
    vector = load_gguf(path)
    if 0 in vector.directions:
        raise UnusableSourceError(
            f"{path} has a direction.0, which llama.cpp refuses: its numbers start at 1. If repeng "
            "wrote the file, import it as repeng"
        )
    moved = {number + shift: direction for number, direction in vector.directions.items()}
    return Imported("GGUF control vector", vectors_by_layer(moved, str(path)), notes=hints(vector))


def hints(vector: ControlVector) -> tuple[str, ...]:
    """Remarks on what the numbers and lengths of a control vector mean."""
    return (
        f"made for model type {vector.model_hint or 'unknown'}; whether that is this model "
        "cannot be checked beyond its hidden size",
        "control vectors of generators have length 1: there, both units of a coefficient agree",
        "llama.cpp and repeng add to every token; here it starts at the last prompt token",
    )


def load_gguf(path: Path) -> ControlVector:
    """The directions of a GGUF file as they are numbered there."""
    reader = _reader(path)
    architecture = _text(reader, "general.architecture")
    if architecture != _ARCHITECTURE:
        raise UnusableSourceError(
            f"{path} is a GGUF file of architecture {architecture!r}, expected {_ARCHITECTURE!r}; "
            "it is not a control vector"
        )
    directions = {}
    for tensor in reader.tensors:
        match = _NAME.fullmatch(tensor.name)
        if match is None:
            raise UnusableSourceError(
                f"{path} has a tensor {tensor.name!r}; expected only names such as 'direction.15'"
            )
        if tensor.tensor_type.name not in _FLOATS:
            raise UnusableSourceError(
                f"{tensor.name} of {path} has type {tensor.tensor_type.name}, expected F32 or F16"
            )
        directions[int(match[1])] = torch.tensor(tensor.data, dtype=torch.float32)
    return ControlVector(directions, _text(reader, f"{_ARCHITECTURE}.model_hint"))


def _reader(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise UnusableSourceError(
            "GGUF files need the package gguf; install refusal-steering with the extra that has it"
        ) from error
    try:
        return GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise UnusableSourceError(f"cannot read {path} as a GGUF file: {error}") from error


def _text(reader: Any, key: str) -> str | None:
    field = reader.get_field(key)
    return None if field is None else str(field.contents())
