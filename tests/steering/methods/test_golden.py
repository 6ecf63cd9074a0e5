"""Laws of the golden vector: invariances, the independent formula, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.methods.golden import (
    GoldenError,
    Method,
    check_direction,
    golden_layers,
    golden_vector,
    refusal_vectors,
)
from refusal_steering.methods.golden_file import FORMAT, load_golden, save_golden

SIZE = 96
LENGTHS = {"text": 20.0, "image": 14.0, "audio": 11.0, "video": 12.0}


def shared() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(SIZE, generator=generator)
    unit: Tensor = direction / direction.norm()
    return unit


def modalities(noise: float = 0.25) -> dict[str, Tensor]:
    """Rows of several lengths around one direction, each with its own part."""
    generator = torch.Generator().manual_seed(4)
    rows = {}
    for name, length in LENGTHS.items():
        own = torch.randn(SIZE, generator=generator)
        row = shared() + noise * own / own.norm()
        rows[name] = length * row / row.norm()
    return rows


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def test_equals_the_leading_eigenvector_of_the_uncentred_gram_matrix() -> None:
    rows = np.stack([row.double().numpy() for row in modalities().values()])
    values, vectors = np.linalg.eigh(rows.T @ rows)
    expected = vectors[:, -1] * np.sign(vectors[:, -1] @ rows.mean(0))
    found = golden_vector(modalities(), "text")
    length = np.mean([np.linalg.norm(row) for row in rows])
    assert np.allclose(found.vector.numpy(), expected * length, atol=1e-4)
    assert found.facts.first_share == pytest.approx(values[-1] / values.sum(), abs=1e-6)
    assert found.facts.singular_values[0] == pytest.approx(values[-1] ** 0.5)


def test_recovers_direction_and_scale_and_lies_near_the_mean() -> None:
    found = golden_vector(modalities(), "text")
    assert cosine(found.vector, shared()) > 0.98
    assert float(found.vector.norm()) == pytest.approx(np.mean(list(LENGTHS.values())), rel=1e-5)
    assert found.facts.cosine_mean >= 0.99
    assert found.facts.norms == pytest.approx(LENGTHS, rel=1e-5)


def test_a_flipped_row_changes_nothing_but_the_facts() -> None:
    """A direction has no sign of its own; the majority of the rows' lengths decides it."""
    plain = golden_vector(modalities(), "text")
    flipped = golden_vector({**modalities(), "audio": -modalities()["audio"]}, "text")
    assert torch.allclose(flipped.vector, plain.vector, atol=1e-4)


def test_the_sign_of_the_decomposition_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    decompose = torch.linalg.svd

    def negated(rows: Tensor, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]:
        left, singular, right = decompose(rows, full_matrices=full_matrices)
        return -left, singular, -right

    plain = golden_vector(modalities(), "text")
    monkeypatch.setattr(torch.linalg, "svd", negated)
    other = golden_vector(modalities(), "text")
    assert torch.equal(other.vector, plain.vector)
    assert other.facts.flipped is not plain.facts.flipped


@pytest.mark.parametrize("method", ["svd", "mean"])
def test_order_sign_and_scale_of_the_rows(method: Method) -> None:
    rows = modalities()
    plain = golden_vector(rows, "text", method).vector
    backwards = golden_vector(dict(reversed(rows.items())), "text", method).vector
    negative = golden_vector({name: -row for name, row in rows.items()}, "text", method).vector
    tripled = golden_vector({name: 3 * row for name, row in rows.items()}, "text", method).vector
    assert torch.allclose(backwards, plain, atol=1e-4)
    assert torch.allclose(negative, -plain, atol=1e-4)
    assert torch.allclose(tripled, 3 * plain, atol=1e-3)


def test_loud_modalities_weigh_more() -> None:
    rows = modalities()
    loud = golden_vector({**rows, "image": 50 * rows["image"]}, "text").vector
    assert cosine(loud, rows["image"]) > cosine(golden_vector(rows, "text").vector, rows["image"])
    assert cosine(loud, rows["image"]) > 0.999


def test_the_mean_is_the_mean() -> None:
    rows = modalities()
    found = golden_vector(rows, "text", "mean")
    assert cosine(found.vector, torch.stack(list(rows.values())).mean(0)) == pytest.approx(1.0)
    assert not found.facts.flipped


def test_centring_would_give_another_direction() -> None:
    """Why centred PCA is not offered: it finds how the rows differ."""
    rows = torch.stack([row / row.norm() for row in modalities().values()])
    centred = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][0]
    assert abs(cosine(centred, golden_vector(modalities(), "text").vector)) < 0.5


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ({"text": modalities()["text"]}, "at least two"),
        ({"image": modalities()["image"], "audio": modalities()["audio"]}, "text modality"),
        ({name: torch.zeros(SIZE) for name in LENGTHS}, "first singular value"),
        ({"text": modalities()["text"], "image": -modalities()["text"]}, "cancel"),
        ({**modalities(), "audio": torch.full((SIZE,), torch.nan)}, "NaN"),
        ({**modalities(), "audio": torch.ones(SIZE - 1)}, "shape"),
        ({**modalities(), "text": torch.randn(SIZE)}, "cosine"),
        ({**modalities(), "text": -modalities()["text"]}, "cosine -"),
        ({name: torch.eye(SIZE)[0] for name in LENGTHS}, "component 0 alone"),
    ],
)
def test_degenerate_input_is_refused(vectors: dict[str, Tensor], words: str) -> None:
    with pytest.raises(GoldenError, match=words):
        golden_vector(vectors, "text")


def test_one_row_centred_is_a_basis_vector_and_is_refused() -> None:
    """What the research code's fallback does with text alone."""
    row = modalities()["text"].unsqueeze(0)
    direction = torch.linalg.svd(row - row.mean(0), full_matrices=False)[2][0]
    with pytest.raises(GoldenError, match="alone"):
        check_direction(direction, "the fallback")


def activations() -> ActivationFile:
    """Rows of two modalities; the held-out rows are shifted far away from the others."""
    generator = torch.Generator().manual_seed(5)
    count = 240
    hidden = torch.randn(count, SIZE, generator=generator) + 3.0
    harmful = torch.arange(count) % 2 == 0
    groups = tuple("text" if at % 4 < 2 else "audio" for at in range(count))
    splits = tuple("held" if at >= 200 else "train" for at in range(count))
    hidden[harmful] += 10.0 * shared()
    hidden[200:][harmful[200:]] -= 500.0 * shared()
    model = ModelIdentity(id="tiny", hidden_size=SIZE, num_layers=4)
    return ActivationFile({2: hidden}, harmful, groups, splits, model, "0" * 64)


def test_refusal_vectors_are_differences_of_means_in_float32() -> None:
    file = activations()
    rows = file.layer(2).bfloat16()
    found = refusal_vectors(rows, file.harmful, file.groups, ["audio"])["audio"]
    audio = np.array(file.groups) == "audio"
    exact, bad = rows.double().numpy(), file.harmful.numpy()
    expected = exact[audio & bad].mean(0) - exact[audio & ~bad].mean(0)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_layers_come_from_training_rows_only() -> None:
    found = golden_layers(activations(), "text")[2]
    assert cosine(found.vector, shared()) > 0.95
    assert set(found.facts.norms) == {"text", "audio"}


def test_a_file_that_cannot_give_a_vector_is_refused() -> None:
    file = activations()
    with pytest.raises(GoldenError, match="at least two"):
        golden_layers(file, "text", ["text"])
    with pytest.raises(GoldenError, match="'video' has 0 harmful"):
        golden_layers(file, "text", ["text", "video"])
    with pytest.raises(GoldenError, match="train split"):
        golden_layers(replace(file, splits=("held",) * len(file.splits)), "text")


def test_one_bad_layer_is_left_out_and_the_others_stay() -> None:
    file = activations()
    opposed = file.layer(2).clone()
    audio = torch.tensor([group == "audio" for group in file.groups])
    opposed[audio & file.harmful] -= 40.0 * shared()
    both = replace(file, rows={1: opposed, 2: file.layer(2)})
    assert set(golden_layers(both, "text")) == {2}
    with pytest.raises(GoldenError, match="no layer has a golden vector; layer 1"):
        golden_layers(replace(file, rows={1: opposed}), "text")


def test_saved_vectors_are_read_again(tmp_path: Path) -> None:
    file, path = activations(), tmp_path / "golden.safetensors"
    found = golden_layers(file, "text")
    save_golden(path, found, file.model)
    again = load_golden(path)
    assert again.model == file.model and torch.equal(again.vectors[2], found[2].vector)
    assert again.facts["2"]["cosine_text"] == pytest.approx(found[2].facts.cosine_text)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"golden.2": torch.eye(SIZE)[0]}, "alone"),
        ({"golden.2": torch.ones(SIZE - 1)}, "does not fit"),
        ({"other": torch.ones(SIZE)}, "'other'"),
        ({"golden.1": torch.ones(SIZE)}, "other layers"),
    ],
)
def test_damaged_vector_files_are_refused(
    tensors: dict[str, Tensor], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "golden.safetensors"
    metadata = {
        "format": FORMAT,
        "model": activations().model.model_dump_json(),
        "facts": '{"2": {}}',
    }
    save_file(tensors, path, metadata)
    with pytest.raises(GoldenError, match=words):
        load_golden(path)
    save_file(tensors, path)
    with pytest.raises(GoldenError, match="format"):
        load_golden(path)
