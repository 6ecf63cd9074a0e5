"""GGUF control vectors, repeng exports and steering-vectors files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.control_vector import read_control_vector
from refusal_steering.importers.repeng import read_repeng
from refusal_steering.importers.steering_vectors import read_steering_vectors
from tests.steering.importers.checkpoints import (
    SIZE,
    control_vector,
    directions,
    vectors,
)

LAYERS = (3, 4, 5)


def test_a_control_vector_keeps_its_numbers_and_values(tmp_path: Path) -> None:
    path = control_vector(tmp_path / "c.gguf", directions(LAYERS))
    for imported in (read_control_vector(path), read_repeng(path)):
        assert list(imported.vectors) == list(LAYERS)
        for layer, vector in vectors(LAYERS).items():
            assert torch.equal(imported.vectors[layer], vector)
        assert "qwen2" in imported.notes[0] and not imported.adapters


def test_half_precision_is_read(tmp_path: Path) -> None:
    half = {name: one.astype(np.float16) for name, one in directions(LAYERS).items()}
    found = read_control_vector(control_vector(tmp_path / "c.gguf", half)).vectors
    assert torch.allclose(found[3], vectors(LAYERS)[3], rtol=1e-3)


def test_a_shift_moves_every_layer(tmp_path: Path) -> None:
    path = control_vector(tmp_path / "c.gguf", directions((1, 2)))
    moved = read_control_vector(path, shift=-1).vectors
    assert list(moved) == [0, 1] and torch.equal(moved[0], vectors((1, 2))[1])
    with pytest.raises(UnusableSourceError, match="-1"):
        read_control_vector(path, shift=-2)


def test_block_zero_exists_for_repeng_only(tmp_path: Path) -> None:
    path = control_vector(tmp_path / "c.gguf", directions((0, 1)))
    with pytest.raises(UnusableSourceError, match=r"direction\.0"):
        read_control_vector(path)
    assert list(read_repeng(path).vectors) == [0, 1]


def test_other_gguf_files_are_refused(tmp_path: Path) -> None:
    model = control_vector(tmp_path / "m.gguf", directions(LAYERS), architecture="llama")
    with pytest.raises(UnusableSourceError, match="architecture 'llama'"):
        read_control_vector(model)
    named = control_vector(tmp_path / "n.gguf", {"blk.0.attn": np.ones(SIZE, np.float32)})
    with pytest.raises(UnusableSourceError, match=r"blk\.0\.attn"):
        read_control_vector(named)
    doubles = {"direction.3": np.ones(SIZE, np.float64)}
    with pytest.raises(UnusableSourceError, match="type F64"):
        read_control_vector(control_vector(tmp_path / "d.gguf", doubles))
    broken = {"direction.3": np.full(SIZE, np.nan, np.float32)}
    with pytest.raises(UnusableSourceError, match="NaN"):
        read_control_vector(control_vector(tmp_path / "b.gguf", broken))
    with pytest.raises(UnusableSourceError, match="dictionary"):
        read_control_vector(control_vector(tmp_path / "e.gguf", {}))


@pytest.mark.parametrize("keep", [0, 3, 20, 100])
def test_files_that_are_cut_short_are_refused(keep: int, tmp_path: Path) -> None:
    whole = control_vector(tmp_path / "c.gguf", directions(LAYERS)).read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[:keep])
    with pytest.raises(UnusableSourceError, match="cannot read"):
        read_control_vector(cut)


def test_repeng_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UnusableSourceError, match="export_gguf"):
        read_repeng(tmp_path / "vector.pkl")


def test_steering_vectors_are_read_from_plain_tensors(tmp_path: Path) -> None:
    expected = vectors(LAYERS)
    torch.save(expected, tmp_path / "a.pt")
    torch.save({"layer_activations": expected, "layer_type": "decoder_block"}, tmp_path / "b.pt")
    save_file({str(layer): one for layer, one in expected.items()}, tmp_path / "c.safetensors")
    save_file({f"layer_{at}": one for at, one in expected.items()}, tmp_path / "d.safetensors")
    for name in ("a.pt", "b.pt", "c.safetensors", "d.safetensors"):
        found = read_steering_vectors(tmp_path / name).vectors
        assert list(found) == list(LAYERS)
        assert all(torch.equal(found[layer], expected[layer]) for layer in LAYERS)


class SteeringVector:
    """Stands for the library's class: any class of Python."""

    layer_activations = 1


def test_pickled_steering_vectors_and_other_sites_are_refused(tmp_path: Path) -> None:
    torch.save(SteeringVector(), tmp_path / "object.pt")
    with pytest.raises(UnusableSourceError, match="save_file"):
        read_steering_vectors(tmp_path / "object.pt")
    torch.save({"layer_activations": vectors(LAYERS), "layer_type": "mlp"}, tmp_path / "mlp.pt")
    with pytest.raises(UnusableSourceError, match="'mlp'"):
        read_steering_vectors(tmp_path / "mlp.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(UnusableSourceError, match="cannot read"):
        read_steering_vectors(tmp_path / "bad.safetensors")
