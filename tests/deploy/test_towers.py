"""Trained towers: stored small, found whole, and put in place of random ones or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import omni_files
import omni_weights
import towers
from console import SetupError

DESCRIPTION = {"audio_config": omni_files.AUDIO, "hop_length": 320}


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv1.weight": torch.randn(6, 4, 3, generator=generator),
        "proj.weight": torch.randn(5, 7, generator=generator) * torch.logspace(-3, 3, 5)[:, None],
        "proj.bias": torch.randn(5, generator=generator),
    }


def shapes(extra: dict[str, torch.Size] | None = None) -> dict[str, torch.Size]:
    return {f"audio_tower.{name}": part.shape for name, part in weights().items()} | (extra or {})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    towers.save(tmp_path / "speech", DESCRIPTION, weights())
    return tmp_path


def test_a_stored_tower_is_the_tower_to_a_byte_a_weight(home: Path) -> None:
    tower = towers.find("speech", home)
    assert tower is not None
    assert tower.description == DESCRIPTION
    found = tower.weights()
    assert set(found) == set(weights())
    for name, weight in weights().items():
        rows, got = weight.flatten(1) if weight.dim() > 1 else weight[None], found[name]
        assert got.dtype == torch.bfloat16
        step = rows.abs().amax(1, keepdim=True) / 127
        # Half a step of a byte, and bfloat16's rounding of the largest value.
        off = (got.float().view_as(rows) - rows).abs()
        assert bool((off <= step / 2 + rows.abs().amax(1, keepdim=True) / 256).all())


def test_there_is_no_tower_without_a_folder_and_half_a_folder_is_refused(home: Path) -> None:
    assert towers.find("vision", home) is None
    (home / "speech" / towers.WEIGHTS).unlink()
    with pytest.raises(SetupError, match=towers.WEIGHTS):
        towers.find("speech", home)


def test_another_tower_has_another_digest(home: Path, tmp_path: Path) -> None:
    changed = weights() | {"proj.bias": torch.zeros(5)}
    towers.save(tmp_path / "other", DESCRIPTION, changed)
    one, other = towers.find("speech", home), towers.find("other", tmp_path)
    assert one is not None and other is not None
    assert one.digest != other.digest


def test_a_tower_that_fits_takes_its_place_under_the_models_names(home: Path) -> None:
    tower = towers.find("speech", home)
    assert tower is not None
    placed = omni_weights.trained(tower, "audio_tower.", shapes())
    assert set(placed) == {f"thinker.{name}" for name in shapes()}


def test_a_parameter_of_one_value_is_said_and_not_kept(tmp_path: Path) -> None:
    description = {"constants": {"norm.weight": 1.0, "up.bias": 0.5}}
    towers.save(tmp_path / "vision", description, weights())
    tower = towers.find("vision", tmp_path)
    assert tower is not None
    whole = shapes(
        {"audio_tower.norm.weight": torch.Size([4]), "audio_tower.up.bias": torch.Size([2, 3])}
    )
    placed = omni_weights.trained(tower, "audio_tower.", whole)
    assert {name.removeprefix("thinker.") for name in placed} == set(whole)
    assert placed["thinker.audio_tower.norm.weight"].tolist() == [1.0] * 4
    assert placed["thinker.audio_tower.up.bias"].tolist() == [[0.5] * 3] * 2
    with pytest.raises(SetupError, match="does not fit"):
        omni_weights.trained(tower, "audio_tower.", shapes())


@pytest.mark.parametrize(
    "other",
    [
        shapes({"audio_tower.proj.bias": torch.Size([6])}),
        shapes({"audio_tower.ln_post.bias": torch.Size([5])}),
        {name: shape for name, shape in shapes().items() if "conv1" not in name},
    ],
    ids=["another shape", "one is missing", "one is unknown"],
)
def test_a_tower_that_does_not_fit_is_refused(home: Path, other: dict[str, torch.Size]) -> None:
    tower = towers.find("speech", home)
    assert tower is not None
    with pytest.raises(SetupError, match="does not fit"):
        omni_weights.trained(tower, "audio_tower.", other)
