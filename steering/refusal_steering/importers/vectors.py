"""Checks the vectors of a file and brings them into one shape: float32 [H], by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from refusal_steering.errors import UnusableSourceError
from refusal_steering.methods.golden import GoldenError, check_direction

_LAYER = re.compile(r"(?:layer[._])?(\d+)")


def single_vector(value: object, what: str) -> Tensor:
    """A tensor [H] or [1, H] as float32 [H], finite, not zero and not a basis vector."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise UnusableSourceError(f"{what} is {kind}, expected a tensor of floats")
    shape = tuple(value.shape)
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != 1) or shape[-1] < 2:
        raise UnusableSourceError(f"{what} has shape {shape}, expected [H] or [1, H]")
    vector = value.detach().reshape(-1).to(torch.float32)
    try:
        check_direction(vector, what)
    except GoldenError as error:
        raise UnusableSourceError(str(error)) from error
    return vector


def vectors_by_layer(value: object, what: str) -> dict[int, Tensor]:
    """A mapping of layer numbers (int, "15" or "layer_15") to vectors, in ascending order."""
    if not isinstance(value, Mapping) or not value:
        raise UnusableSourceError(
            f"{what} holds {type(value).__name__}, expected a dictionary of layer to vector"
        )
    found: dict[int, Tensor] = {}
    for key, vector in value.items():
        layer = layer_number(key, what)
        if layer in found:
            raise UnusableSourceError(f"{what} names layer {layer} twice")
        found[layer] = single_vector(vector, f"layer {layer} of {what}")
    sizes = {vector.shape[0] for vector in found.values()}
    if len(sizes) != 1:
        raise UnusableSourceError(
            f"the vectors of {what} have the widths {sorted(sizes)}, expected one hidden size"
        )
    return dict(sorted(found.items()))


def layer_number(key: object, what: str) -> int:
    """The 0-based layer that a key means."""
    if isinstance(key, int) and not isinstance(key, bool) and key >= 0:
        return key
    match = _LAYER.fullmatch(key) if isinstance(key, str) else None
    if match is None:
        raise UnusableSourceError(
            f"{what} has the key {key!r}; expected layer numbers such as 15 or '15'"
        )
    return int(match[1])
