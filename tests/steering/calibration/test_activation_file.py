"""Activation files: what is written is read, and what contradicts itself is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import (
    FORMAT,
    ActivationFile,
    ActivationFileError,
)

SIZE, COUNT = 8, 6
MODEL = ModelIdentity(id="tiny", hidden_size=SIZE, num_layers=4)


def activations(**changes: Any) -> ActivationFile:
    generator = torch.Generator().manual_seed(0)
    file = ActivationFile(
        rows={at: torch.randn(COUNT, SIZE, generator=generator) for at in (1, 3)},
        harmful=torch.arange(COUNT) % 2 == 0,
        groups=("text", "text", "text", "audio", "audio", "audio"),
        splits=("train", "train", "tune", "train", "train", "held"),
        model=MODEL,
        prompts_sha256="0" * 64,
    )
    return replace(file, **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_written_and_read_are_equal(dtype: torch.dtype, tmp_path: Path) -> None:
    file = activations(rows={at: rows.to(dtype) for at, rows in activations().rows.items()})
    file.save(tmp_path / "new" / "a.safetensors")
    again = ActivationFile.load(tmp_path / "new" / "a.safetensors")
    assert again.rows.keys() == file.rows.keys()
    for at, rows in file.rows.items():
        assert again.rows[at].dtype == dtype and torch.equal(again.rows[at], rows)
        assert again.layer(at).dtype == torch.float32
    assert torch.equal(again.harmful, file.harmful)
    assert (again.groups, again.splits, again.model) == (file.groups, file.splits, file.model)
    assert again.prompts_sha256 == file.prompts_sha256


def test_masks_name_the_rows() -> None:
    file = activations()
    assert file.in_split("train").tolist() == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": {}}, "no rows"),
        ({"rows": {4: torch.zeros(COUNT, SIZE)}}, "does not exist"),
        ({"rows": {1: torch.zeros(COUNT, SIZE + 1)}}, "shape"),
        ({"rows": {1: torch.zeros(COUNT - 1, SIZE)}}, "shape"),
        ({"rows": {1: torch.full((COUNT, SIZE), torch.nan)}}, "NaN"),
        ({"rows": {1: torch.zeros(COUNT, SIZE, dtype=torch.float16)}}, "float32"),
        ({"groups": ("text",)}, "one of each per row"),
        ({"splits": ("test",) * COUNT}, "unknown split"),
        ({"harmful": torch.zeros(COUNT)}, "bool"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ActivationFileError, match=words):
        activations(**changes)


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(ActivationFileError, match="cannot read"):
        ActivationFile.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ActivationFileError, match="cannot read"):
        ActivationFile.load(path)
    save_file({"rows.1": torch.zeros(COUNT, SIZE)}, path)
    with pytest.raises(ActivationFileError, match="not one of activations"):
        ActivationFile.load(path)
    save_file({"rows.1": torch.zeros(COUNT, SIZE)}, path, {"format": FORMAT, "header": "{}"})
    with pytest.raises(ActivationFileError, match="header"):
        ActivationFile.load(path)


def test_a_strange_label_and_a_strange_tensor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    activations().save(path)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, {**metadata, "header": metadata["header"].replace("harmless", "ok")})
    with pytest.raises(ActivationFileError, match="label 'ok'"):
        ActivationFile.load(path)
    save_file({**tensors, "notes": torch.zeros(1)}, path, metadata)
    with pytest.raises(ActivationFileError, match="'notes'"):
        ActivationFile.load(path)


def test_a_layer_that_was_not_collected_is_named() -> None:
    with pytest.raises(ActivationFileError, match=r"layers \[1, 3\]"):
        activations().layer(2)
