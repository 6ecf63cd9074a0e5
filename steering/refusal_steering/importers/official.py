"""Files of the OmniSteer research code (arXiv 2602.10161): adapters, vectors, modality caches.

Layer numbers there are those of the decoder blocks from 0, and a vector belongs to the residual
stream after its block, as here: nothing is shifted. Two sorts of file are refused because they
steer wrongly without a sign of it: directions of a centred PCA, and the bias of an older design
that was added to input embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.imported import Adapter, Imported
from refusal_steering.importers.safe_load import load_tensors
from refusal_steering.importers.vectors import single_vector, vectors_by_layer
from refusal_steering.methods.golden import GoldenError, check_text_agreement, golden_vector

_ADAPTER_KEY = re.compile(r"(\d+)\.net\.([02])\.(weight|bias)")
_PARTS = ("0.weight", "0.bias", "2.weight", "2.bias")
_CANONICAL = re.compile(r"canonical_refusal_vector_layer_(\d+)\.(?:pt|safetensors)")
_CACHE = re.compile(r"refusal_vectors_layer_(\d+)\.(?:pt|safetensors)")
_PCA_FILES = ("unified_refusal_vectors_pc1", "merged_vectors")
_UNIT_TOLERANCE = 1e-3


def read_official(
    vectors: Path, adapters: Path | None = None, text: Path | None = None, layer: int | None = None
) -> Imported:
    """Vectors (a file or a folder), adapters and text vectors of one model.

    ``text`` names vectors of the text modality against which the others are checked. ``layer``
    is for a file with one bare vector. Raises :class:`UnusableSourceError`.
    """
    reference = read_vectors(text, None) if text else None
    return Imported(
        source=f"OmniSteer {vectors.name}",
        vectors=read_vectors(vectors, layer, reference),
        adapters=read_adapters(adapters) if adapters else {},
    )


def read_adapters(path: Path) -> dict[int, Adapter]:
    """A ``safety_adapter_{step_N,epoch_E}.pt``; sizes are the checkpoint's own."""
    return adapters_of(load_tensors(path), str(path))


def adapters_of(state: object, what: str) -> dict[int, Adapter]:
    """Adapters of a state dictionary with keys such as ``15.net.0.weight``."""
    if not isinstance(state, Mapping) or not state:
        raise UnusableSourceError(f"{what} holds no state dictionary of adapters")
    _refuse_other_designs(state, what)
    parts: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        match = _ADAPTER_KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None or not isinstance(value, Tensor):
            raise UnusableSourceError(
                f"{what} has the entry {key!r}; expected only tensors such as '15.net.0.weight'"
            )
        parts.setdefault(int(match[1]), {})[f"{match[2]}.{match[3]}"] = value.detach().float()
    return {layer: _adapter(parts[layer], f"layer {layer} of {what}") for layer in sorted(parts)}


def read_vectors(
    path: Path, layer: int | None, text: Mapping[int, Tensor] | None = None
) -> dict[int, Tensor]:
    """Vectors [H] by layer from a file or a folder of canonical or cached vectors.

    With ``text`` each vector must have a cosine of at least 0.8 to the text vector of its layer;
    without it, vectors of length 1 and those of a known PCA file are refused.
    """
    found = _read_folder(path) if path.is_dir() else _read_file(path, layer)
    if text is not None:
        _check_text(found, text, path)
    else:
        _refuse_pca(found, path)
    return found


def read_modality_cache(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Modality vectors [H] by layer and modality from ``refusal_vectors_layer_{l}.pt`` files."""
    return {
        layer: _modalities(load_tensors(path), path)
        for layer, path in _numbered(folder, _CACHE).items()
    }


def _read_folder(folder: Path) -> dict[int, Tensor]:
    canonical = _numbered(folder, _CANONICAL)
    if canonical:
        loaded = {layer: load_tensors(path) for layer, path in canonical.items()}
        return vectors_by_layer(loaded, str(folder))
    cached = read_modality_cache(folder)
    if not cached:
        raise UnusableSourceError(
            f"{folder} holds neither canonical_refusal_vector_layer_N.pt nor "
            "refusal_vectors_layer_N.pt files"
        )
    try:
        return {at: golden_vector(cached[at], text="text").vector for at in sorted(cached)}
    except GoldenError as error:
        raise UnusableSourceError(f"the modality vectors of {folder}: {error}") from error


def _read_file(path: Path, layer: int | None) -> dict[int, Tensor]:
    value = load_tensors(path)
    if isinstance(value, Mapping):
        _refuse_other_designs(value, str(path))
        return vectors_by_layer(value, str(path))
    named = _CANONICAL.fullmatch(path.name)
    at = layer if layer is not None else int(named[1]) if named else None
    if at is None:
        raise UnusableSourceError(
            f"{path} holds one vector and does not say for which layer; name the layer"
        )
    return {at: single_vector(value, str(path))}


def _modalities(value: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UnusableSourceError(f"{path} holds no dictionary of modality to vector")
    return {key: single_vector(vector, f"{key} of {path}") for key, vector in value.items()}


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if match and int(match[1]) in found:
            raise UnusableSourceError(f"{folder} has two files for layer {int(match[1])}")
        if match:
            found[int(match[1])] = path
    return found


def _adapter(parts: Mapping[str, Tensor], what: str) -> Adapter:
    missing = [part for part in _PARTS if part not in parts]
    if missing:
        raise UnusableSourceError(f"the adapter of {what} lacks {missing}")
    first, first_bias, last, last_bias = (parts[part] for part in _PARTS)
    width = first.shape[0]
    fits = (
        first.dim() == 2
        and tuple(first_bias.shape) == (width,)
        and tuple(last.shape) == (1, width)
        and tuple(last_bias.shape) == (1,)
    )
    if not fits:
        shapes = [tuple(parts[part].shape) for part in _PARTS]
        raise UnusableSourceError(
            f"the adapter of {what} has shapes {shapes}, expected [D, H], [D], [1, D] and [1]"
        )
    if not all(torch.isfinite(parts[part]).all() for part in _PARTS):
        raise UnusableSourceError(f"the adapter of {what} holds NaN or infinite values")
    return Adapter(first, first_bias, last[0], float(last_bias))


def _refuse_other_designs(state: Mapping[object, object], what: str) -> None:
    if "bias" in state:
        raise UnusableSourceError(
            f"{what} is the older adapter: one bias for input embeddings, unrelated to refusal "
            "vectors. Import a safety_adapter_step_N.pt or safety_adapter_epoch_E.pt instead"
        )
    if any(isinstance(key, str) and key.startswith("fc") for key in state):
        raise UnusableSourceError(
            f"{what} is a classifier (layers fc1, fc2, ...), not a steering adapter"
        )


def _refuse_pca(vectors: Mapping[int, Tensor], path: Path) -> None:
    named = any(name in path.name for name in _PCA_FILES)
    unit = len(vectors) > 1 and all(
        abs(float(vector.norm()) - 1.0) < _UNIT_TOLERANCE for vector in vectors.values()
    )
    if named or unit:
        why = "its name is that of" if named else "all its vectors have length 1, as in"
        raise UnusableSourceError(
            f"{path} is probably a centred PCA ({why} the research code's PCA files), which is "
            "another direction than the golden vector and may have the wrong sign. Import "
            "canonical or SVD vectors, or give the text vectors to check it against"
        )


def _check_text(vectors: Mapping[int, Tensor], text: Mapping[int, Tensor], path: Path) -> None:
    for layer, vector in vectors.items():
        if layer not in text or text[layer].shape != vector.shape:
            raise UnusableSourceError(
                f"no text vector of the same width for layer {layer} of {path}; text vectors "
                f"exist for layers {sorted(text)}"
            )
        cosine = float(torch.nn.functional.cosine_similarity(vector, text[layer], dim=0))
        try:
            check_text_agreement(cosine, f"layer {layer} of {path}")
        except GoldenError as error:
            raise UnusableSourceError(str(error)) from error
