"""Golden vectors on disk: a safetensors file with ``golden.{layer}`` and their facts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.methods.golden import Golden, GoldenError, check_direction
from refusal_steering.tensor_file import save_tensors

FORMAT = "refusal-steering-golden-1"
_NAME = re.compile(r"golden\.(\d+)")


@dataclass(frozen=True, slots=True)
class GoldenFile:
    """Vectors [H] by layer with their lengths, the model they are for, and facts by layer."""

    vectors: dict[int, Tensor]
    model: ModelIdentity
    facts: dict[str, Any]


def save_golden(path: Path, found: Mapping[int, Golden], model: ModelIdentity) -> None:
    """Write the vectors of all layers, replacing a file that exists."""
    facts = {str(layer): asdict(golden.facts) for layer, golden in found.items()}
    save_tensors(
        path,
        {f"golden.{layer}": golden.vector for layer, golden in found.items()},
        {"format": FORMAT, "model": model.model_dump_json(), "facts": json.dumps(facts)},
    )


def load_golden(path: Path) -> GoldenFile:
    """Read and check what :func:`save_golden` wrote; raises :class:`GoldenError`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
        if metadata.get("format") != FORMAT:
            raise GoldenError(
                f"{path} has format {metadata.get('format')!r}, expected {FORMAT!r}; write it with "
                "the golden command, or use the import command for vectors of other tools"
            )
        model = ModelIdentity.model_validate_json(metadata["model"])
        facts = json.loads(metadata["facts"])
    except (OSError, SafetensorError, KeyError, ValueError, ValidationError) as error:
        raise GoldenError(f"cannot read golden vectors from {path}: {error}") from error
    vectors = {_layer_of(name, path): tensor for name, tensor in tensors.items()}
    if not vectors or set(facts) != set(map(str, vectors)):
        raise GoldenError(f"{path} has facts for other layers than it has vectors for")
    for layer, vector in vectors.items():
        if tuple(vector.shape) != (model.hidden_size,) or layer >= model.num_layers:
            raise GoldenError(
                f"{path} holds layer {layer} with shape {tuple(vector.shape)}, which does not fit "
                f"{model.id} ({model.num_layers} layers, hidden size {model.hidden_size})"
            )
        check_direction(vector, f"layer {layer} of {path}")
    return GoldenFile(dict(sorted(vectors.items())), model, facts)


def _layer_of(name: str, path: Path) -> int:
    found = _NAME.fullmatch(name)
    if not found:
        raise GoldenError(f"{path} holds a tensor {name!r}; expected names such as 'golden.15'")
    return int(found[1])
