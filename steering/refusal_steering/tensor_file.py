"""Tensors in a safetensors file that is replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from refusal_steering.atomic_file import replacing


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write named tensors with ``facts`` in the header; raises ``OSError``."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as draft:
        try:
            save_file(contiguous, draft, dict(facts))
        except SafetensorError as error:
            # The library's form of a full disk.
            raise OSError(None, str(error)) from error
