"""Reading of .pt and .safetensors files without running code from them."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from refusal_steering.errors import UnusableSourceError


def load_tensors(path: Path) -> object:
    """The content of a file: tensors and containers of them, on the CPU.

    Raises :class:`UnusableSourceError` for files that need code to be read, or are damaged.
    """
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnusableSourceError(
            f"{path} holds Python objects, and reading those can run any code. Where you trust "
            "the file, open it in the tool that wrote it and save plain tensors instead: "
            "safetensors.torch.save_file({str(layer): vector, ...}, 'vectors.safetensors')"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UnusableSourceError(f"cannot read {path}: {error}") from error


def _load_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UnusableSourceError(f"cannot read {path}: {error}") from error
