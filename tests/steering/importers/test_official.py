"""OmniSteer's research files: imports compute the paper's formula, the rest is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.draft import Limit, imported_bundle
from refusal_steering.importers.official import (
    adapters_of,
    read_adapters,
    read_modality_cache,
    read_official,
    read_vectors,
)
from refusal_steering.methods.golden import golden_vector
from tests.steering.importers.checkpoints import (
    SIZE,
    adapter_state,
    model,
    vectors,
)

LAYERS = (15, 16, 17)


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def canonical_folder(folder: Path, found: dict[int, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for layer, vector in found.items():
        saved(folder / f"canonical_refusal_vector_layer_{layer}.pt", vector)
    return folder


def published_coefficient(state: dict[str, Tensor], layer: int, hidden: Tensor) -> np.ndarray:
    """W2 relu(W1 h + b1) + b2 in numpy and double precision."""
    part = {key: value.double().numpy() for key, value in state.items()}
    first = hidden.double().numpy() @ part[f"{layer}.net.0.weight"].T + part[f"{layer}.net.0.bias"]
    last = np.maximum(first, 0.0) @ part[f"{layer}.net.2.weight"].T + part[f"{layer}.net.2.bias"]
    return np.asarray(last[:, 0])


@pytest.mark.parametrize(("layers", "size"), [(LAYERS, SIZE), ((16,), 3584)])
def test_an_imported_checkpoint_computes_the_published_formula(
    layers: tuple[int, ...], size: int, tmp_path: Path
) -> None:
    state, found = adapter_state(layers, size), vectors(layers, size)
    imported = read_official(
        canonical_folder(tmp_path / "v", found),
        saved(tmp_path / "safety_adapter_step_300.pt", state),
    )
    hidden = torch.randn(40, size) * 3.0
    signed = imported_bundle(imported, model(size), limit=Limit(1e4, signed=True))
    clamped = imported_bundle(imported, model(size), limit=Limit(0.4))
    assert signed.strategy == clamped.strategy == "omnisteer"
    assert tuple(signed.layers) == layers
    for layer in layers:
        expected = published_coefficient(state, layer, hidden)
        assert (expected < 0).any() and (expected > 0.4).any()
        assert np.allclose(signed.layers[layer].coefficient(hidden).numpy(), expected, atol=1e-4)
        limited = clamped.layers[layer].coefficient(hidden).numpy()
        assert np.allclose(limited, expected.clip(0.0, 0.4), atol=1e-4)
        unit = found[layer] / (found[layer].norm() + 1e-6)
        assert torch.allclose(signed.layers[layer].direction, unit, atol=1e-6)


def test_an_imported_bundle_steers_every_generated_token_by_its_own_state(tmp_path: Path) -> None:
    imported = read_official(
        canonical_folder(tmp_path / "v", vectors(LAYERS)),
        saved(tmp_path / "a.pt", adapter_state(LAYERS)),
    )
    draft = imported_bundle(imported, model(), limit=Limit(5.0))
    assert (draft.window.decode_tokens, draft.window.hold) == (None, False)
    bundle = draft.save(tmp_path / "bundle", "official", None)
    hidden = torch.randn(9, SIZE)
    for layer in LAYERS:
        one, other = draft.layers[layer], bundle.layers[layer]
        assert torch.equal(one.coefficient(hidden), other.coefficient(hidden))
        assert not other.risk_weight.any() and other.risk_bias == 0.0


def test_adapters_may_use_fewer_layers_than_there_are_vectors(tmp_path: Path) -> None:
    path = saved(tmp_path / "svd_vector.pt", vectors(tuple(range(15, 25))))
    adapters = saved(tmp_path / "a.pt", adapter_state(LAYERS))
    draft = imported_bundle(read_official(path, adapters), model(), limit=Limit(5.0))
    assert tuple(draft.layers) == LAYERS
    short = saved(tmp_path / "short.pt", vectors((15, 16)))
    with pytest.raises(UnusableSourceError, match=r"layers \[17\]"):
        read_official(short, adapters)


@pytest.mark.parametrize(
    "value",
    [
        vectors(LAYERS),
        {str(layer): vector for layer, vector in vectors(LAYERS).items()},
        {layer: vector.unsqueeze(0) for layer, vector in reversed(vectors(LAYERS).items())},
        {layer: vector.double() for layer, vector in vectors(LAYERS).items()},
    ],
)
def test_every_layout_of_vectors_gives_the_same(value: object, tmp_path: Path) -> None:
    found = read_vectors(saved(tmp_path / "v.pt", value), None)
    assert list(found) == list(LAYERS)
    for layer, vector in vectors(LAYERS).items():
        assert found[layer].dtype == torch.float32
        assert torch.allclose(found[layer], vector)


def test_a_bare_vector_needs_a_layer(tmp_path: Path) -> None:
    vector = vectors((20,))[20]
    path = saved(tmp_path / "refusal_vector_qwen.pt", (vector / vector.norm()).bfloat16()[None])
    with pytest.raises(UnusableSourceError, match="which layer"):
        read_vectors(path, None)
    assert list(read_vectors(path, 20)) == [20]
    named = saved(tmp_path / "canonical_refusal_vector_layer_20.pt", vector)
    assert list(read_vectors(named, None)) == [20]


def test_cached_modality_vectors_become_golden_ones(tmp_path: Path) -> None:
    base = vectors((15, 16))
    rows = {
        layer: {
            "text": 1.5 * vector + 0.1 * torch.randn(SIZE),
            "audio": vector + 0.1 * torch.randn(SIZE),
        }
        for layer, vector in base.items()
    }
    for layer, cached in rows.items():
        saved(tmp_path / f"refusal_vectors_layer_{layer}.pt", cached)
    found = read_vectors(tmp_path, None)
    assert list(found) == [15, 16]
    for layer, cached in rows.items():
        assert torch.equal(found[layer], golden_vector(cached, "text").vector)
    assert read_modality_cache(tmp_path)[15].keys() == {"text", "audio"}


def test_a_cache_with_text_alone_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "refusal_vectors_layer_15.pt", {"text": vectors((15,))[15]})
    with pytest.raises(UnusableSourceError, match="at least two"):
        read_vectors(tmp_path, None)


def test_principal_components_are_refused_by_name_and_by_length(tmp_path: Path) -> None:
    unit = {layer: vector / vector.norm() for layer, vector in vectors(LAYERS).items()}
    for name, value in (
        ("unified_refusal_vectors_pc1.pt", vectors(LAYERS)),
        ("merged_vectors.pt", vectors(LAYERS)),
        ("innocent.pt", unit),
    ):
        with pytest.raises(UnusableSourceError, match="centred PCA"):
            read_vectors(saved(tmp_path / name, value), None)


def test_text_vectors_decide_what_a_direction_is(tmp_path: Path) -> None:
    text = vectors(LAYERS)
    unit = {layer: vector / vector.norm() for layer, vector in text.items()}
    assert list(read_vectors(saved(tmp_path / "u.pt", unit), None, text)) == list(LAYERS)
    flipped = saved(tmp_path / "f.pt", {**unit, 16: -unit[16]})
    with pytest.raises(UnusableSourceError, match=r"layer 16 .* cosine -1\.000"):
        read_vectors(flipped, None, text)
    with pytest.raises(UnusableSourceError, match="no text vector"):
        read_vectors(flipped, None, {15: text[15]})
    reference = saved(tmp_path / "text.pt", text)
    with pytest.raises(UnusableSourceError, match="layer 16"):
        read_official(flipped, text=reference)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({15: torch.full((SIZE,), torch.nan)}, "NaN"),
        ({15: torch.zeros(SIZE)}, "length 0"),
        ({15: torch.eye(SIZE)[0]}, "component 0 alone"),
        ({15: torch.ones(2, SIZE)}, "shape"),
        ({15: torch.ones(1, 1, SIZE)}, "shape"),
        ({15: torch.ones(SIZE, dtype=torch.int64)}, "floats"),
        ({15: torch.ones(SIZE), 16: torch.ones(SIZE + 1)}, "widths"),
        ({15: torch.ones(SIZE), "15": torch.ones(SIZE)}, "twice"),
        ({"mean": torch.ones(SIZE)}, "'mean'"),
        ({-1: torch.ones(SIZE)}, "-1"),
        ({15: "vector"}, "str"),
        ({}, "dictionary"),
        ([torch.ones(SIZE)], "which layer"),
        ({"bias": torch.ones(1, 1, SIZE)}, "older adapter"),
    ],
)
def test_vectors_that_make_no_sense_are_refused(value: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableSourceError, match=words):
        read_vectors(saved(tmp_path / "v.pt", value), None)


def without(part: str) -> dict[str, Tensor]:
    return {key: value for key, value in adapter_state(LAYERS).items() if key != part}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (without("16.net.2.bias"), r"layer 16 .* lacks \['2\.bias'\]"),
        ({**adapter_state(LAYERS), "16.net.2.bias": torch.zeros(2)}, "shapes"),
        ({**adapter_state(LAYERS), "16.net.2.weight": torch.zeros(128)}, "shapes"),
        ({**adapter_state(LAYERS), "16.net.0.weight": torch.zeros(64)}, "shapes"),
        ({**adapter_state(LAYERS), "16.net.0.bias": torch.full((128,), torch.inf)}, "NaN"),
        ({**adapter_state(LAYERS), "16.net.3.weight": torch.zeros(1)}, "'16.net.3.weight'"),
        ({"bias": torch.zeros(1, 1, SIZE)}, "older adapter"),
        ({"fc1.weight": torch.zeros(512, SIZE)}, "classifier"),
        (torch.zeros(3), "state dictionary"),
        ({}, "state dictionary"),
    ],
)
def test_adapters_that_are_no_adapters_are_refused(state: object, words: str) -> None:
    with pytest.raises(UnusableSourceError, match=words):
        adapters_of(state, "a.pt")


def test_pickled_objects_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableSourceError, match="Python objects"):
        read_adapters(saved(tmp_path / "object.pt", torch.nn.Linear(2, 2)))
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UnusableSourceError, match=r"damaged\.pt"):
        read_adapters(tmp_path / "damaged.pt")
    with pytest.raises(UnusableSourceError, match="cannot read"):
        read_adapters(tmp_path / "missing.pt")
    with pytest.raises(UnusableSourceError, match="holds neither"):
        read_vectors(tmp_path, None)


def test_vectors_and_adapters_of_different_models_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "v.pt", vectors(LAYERS, SIZE + 1))
    with pytest.raises(UnusableSourceError, match="widths"):
        read_official(path, saved(tmp_path / "a.pt", adapter_state(LAYERS)))
