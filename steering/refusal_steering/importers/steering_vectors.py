"""Vectors of the steering-vectors library: its ``layer_activations`` as plain tensors.

The library numbers decoder blocks from 0 and adds to their output, as here. It has no file format
of its own; pickled ``SteeringVector`` objects are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.imported import Imported
from refusal_steering.importers.safe_load import load_tensors
from refusal_steering.importers.vectors import vectors_by_layer

_BLOCK = "decoder_block"


def read_steering_vectors(path: Path) -> Imported:
    """A .pt or .safetensors file of ``{layer: tensor}``; raises :class:`UnusableSourceError`.

    ``{"layer_activations": {...}, "layer_type": "decoder_block"}`` is read too; other layer types
    are not the residual stream.
    """
    value = load_tensors(path)
    if isinstance(value, Mapping) and "layer_activations" in value:
        kind = value.get("layer_type", _BLOCK)
        if kind != _BLOCK:
            raise UnusableSourceError(
                f"{path} has vectors for {kind!r}, expected {_BLOCK!r}: only the residual stream "
                "after a block can be steered"
            )
        value = value["layer_activations"]
    return Imported(
        "steering-vectors",
        vectors_by_layer(value, str(path)),
        notes=("the library adds to every token; here it starts at the last prompt token",),
    )
