"""Media offsets: what neutral media add to each layer, on disk and put into a bundle's layers.

The engine subtracts a request's offsets from what perceptrons and risk probes read, so that text
calibration holds for requests with media (MARS, arXiv 2606.31876). Files hold one tensor [H] for
each layer and medium, named ``offsets.{layer}.{medium}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from refusal_steering.bundle import Medium, ModelIdentity, SteeringBundle, save_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError
from refusal_steering.tensor_file import save_tensors

Offsets = Mapping[int, Mapping[str, Tensor]]

_NAME = re.compile(rf"offsets\.(\d+)\.({'|'.join(get_args(Medium))})")


def save_offsets(offsets: Offsets, path: Path) -> None:
    """Write offsets [H] by layer and medium."""
    save_tensors(
        path,
        {
            f"offsets.{layer}.{medium}": offset.float()
            for layer, media in offsets.items()
            for medium, offset in media.items()
        },
        {},
    )


def load_offsets(path: Path) -> dict[int, dict[str, Tensor]]:
    """Offsets [H] by layer and medium; raises :class:`SteeringError` for any other file."""
    try:
        named = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SteeringError(
            f"cannot read {path}: {error}; expected a file of `refusal-steering offsets`"
        ) from error
    found: dict[int, dict[str, Tensor]] = {}
    for name, offset in named.items():
        match = _NAME.fullmatch(name)
        if match is None or offset.dim() != 1:
            raise SteeringError(
                f"{path} has {name!r} of shape {tuple(offset.shape)}; expected vectors named "
                "offsets.LAYER.MEDIUM, as `refusal-steering offsets` writes them"
            )
        found.setdefault(int(match[1]), {})[match[2]] = offset.float()
    return found


def check_offsets(offsets: Offsets, model: ModelIdentity) -> None:
    """Raise :class:`SteeringError` unless each layer has the same media, of the model's size."""
    missing = [layer for layer in range(model.num_layers) if layer not in offsets]
    sizes = {offset.shape[0] for media in offsets.values() for offset in media.values()}
    media = {frozenset(of_layer) for of_layer in offsets.values()}
    if len(media) > 1:
        raise SteeringError(
            f"the offsets' layers differ in media: {sorted(map(sorted, media))}; expected the same "
            "in each; measure offsets again"
        )
    if missing or sizes != {model.hidden_size}:
        raise SteeringError(
            f"the offsets have {len(offsets)} layers of {sorted(sizes)} numbers, {model.id} has "
            f"{model.num_layers} of {model.hidden_size}; measure offsets on this model"
        )


def recentred(layers: Mapping[int, LayerSteering], offsets: Offsets) -> dict[int, LayerSteering]:
    """The same layers, reading requests with media as if the media had added nothing.

    Media that ``offsets`` says nothing of keep the offsets that the layers have.
    """
    return {
        number: replace(layer, offsets={**layer.offsets, **offsets[number]})
        for number, layer in layers.items()
    }


def recentre_bundle(path: Path, bundle: SteeringBundle, offsets: Offsets) -> SteeringBundle:
    """Write ``bundle`` to ``path`` with ``offsets``; its canary, of text alone, stays true.

    Raises :class:`SteeringError` where they were measured on another model.
    """
    check_offsets(offsets, bundle.manifest.model)
    manifest = bundle.manifest.model_dump(
        mode="json", exclude={"layers", "media", "weights_sha256"}
    )
    layers = recentred(bundle.layers, offsets)
    return save_bundle(path, layers, manifest, bundle.prototypes, bundle.gate)
