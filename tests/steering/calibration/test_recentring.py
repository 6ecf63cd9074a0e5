"""Media offsets: files come back as they were, and layers read media as if they added nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from refusal_steering.bundle import ModelIdentity, load_bundle, save_bundle
from refusal_steering.calibration.recentring import (
    Offsets,
    check_offsets,
    load_offsets,
    recentre_bundle,
    recentred,
    save_offsets,
)
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError

SIZE, DEPTH, UNITS = 12, 3, 4
MODEL = ModelIdentity(id="test", hidden_size=SIZE, num_layers=DEPTH)


def offsets(depth: int = DEPTH, size: int = SIZE) -> Offsets:
    generator = torch.Generator().manual_seed(5)
    return {
        layer: {
            medium: torch.randn(size, generator=generator) for medium in ("image", "audio", "video")
        }
        for layer in range(depth)
    }


def layers() -> dict[int, LayerSteering]:
    generator = torch.Generator().manual_seed(3)
    direction = torch.nn.functional.normalize(torch.randn(SIZE, generator=generator), dim=0)
    return {
        number: replace(
            LayerSteering.static(direction, 0.0),
            input_weight=torch.randn(UNITS, SIZE, generator=generator),
            input_bias=torch.randn(UNITS, generator=generator),
            output_weight=torch.ones(UNITS),
            ceiling=50.0,
            risk_weight=torch.randn(SIZE, generator=generator),
        )
        for number in (0, 2)
    }


def test_offsets_come_back_as_they_were(tmp_path: Path) -> None:
    written = offsets()
    save_offsets(written, tmp_path / "o.safetensors")
    found = load_offsets(tmp_path / "o.safetensors")
    assert found.keys() == written.keys()
    for layer, media in written.items():
        assert found[layer].keys() == media.keys()
        assert all(torch.equal(found[layer][name], media[name]) for name in media)


def test_a_row_that_media_have_moved_is_read_like_the_row_before() -> None:
    shifts = offsets()
    hidden = torch.randn(5, SIZE)
    for number, layer in recentred(layers(), shifts).items():
        moved = hidden + shifts[number]["image"] + shifts[number]["audio"]
        media = ("image", "audio")
        torch.testing.assert_close(layer.coefficient(moved, media), layer.coefficient(hidden))
        torch.testing.assert_close(layer.risk_logit(moved, media), layer.risk_logit(hidden))
        assert not torch.allclose(layer.coefficient(moved), layer.coefficient(hidden))


def test_a_bundle_is_recentred_and_is_otherwise_the_same(tmp_path: Path) -> None:
    facts = {"name": "b", "strategy": "omnisteer", "model": MODEL, "calibration": {"seed": 1}}
    before = save_bundle(tmp_path / "b", layers(), facts)
    after = recentre_bundle(tmp_path / "b", before, offsets())
    assert load_bundle(tmp_path / "b").digest == after.digest != before.digest
    assert after.manifest.media == ("audio", "image", "video")
    changed = {"media", "weights_sha256"}
    assert before.manifest.model_dump(exclude=changed) == after.manifest.model_dump(exclude=changed)
    hidden = torch.randn(5, SIZE)
    for number, layer in before.layers.items():
        assert torch.equal(after.layers[number].coefficient(hidden), layer.coefficient(hidden))
    assert recentre_bundle(tmp_path / "b", after, offsets()).digest == after.digest


def test_one_medium_measured_again_leaves_the_others_offsets(tmp_path: Path) -> None:
    facts = {"name": "b", "strategy": "omnisteer", "model": MODEL}
    before = save_bundle(tmp_path / "b", recentred(layers(), offsets()), facts)
    again = {layer: {"image": torch.full((SIZE,), 2.0)} for layer in range(DEPTH)}
    after = recentre_bundle(tmp_path / "b", before, again)
    assert after.manifest.media == before.manifest.media
    for number, layer in after.layers.items():
        assert torch.equal(layer.offsets["image"], again[number]["image"])
        for medium in ("audio", "video"):
            assert torch.equal(layer.offsets[medium], before.layers[number].offsets[medium])


def test_layers_that_differ_in_media_are_refused() -> None:
    found = {**offsets(), 1: {"image": torch.ones(SIZE)}}
    with pytest.raises(SteeringError, match="differ in media"):
        check_offsets(found, MODEL)


@pytest.mark.parametrize("wrong", [offsets(depth=DEPTH - 1), offsets(size=SIZE + 1)])
def test_offsets_of_another_model_change_nothing(tmp_path: Path, wrong: Offsets) -> None:
    facts = {"name": "b", "strategy": "omnisteer", "model": MODEL}
    before = save_bundle(tmp_path / "b", layers(), facts)
    with pytest.raises(SteeringError, match="measure offsets on this model"):
        recentre_bundle(tmp_path / "b", before, wrong)
    with pytest.raises(SteeringError, match="measure offsets on this model"):
        check_offsets(wrong, MODEL)
    assert load_bundle(tmp_path / "b").digest == before.digest


@pytest.mark.parametrize(
    "name", ["weights", "offsets.1.smell", "offsets.x.image", "offsets.1.image.more"]
)
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str) -> None:
    save_file({name: torch.zeros(SIZE)}, tmp_path / "o.safetensors")
    with pytest.raises(SteeringError, match=r"offsets\.LAYER\.MEDIUM"):
        load_offsets(tmp_path / "o.safetensors")


def test_a_file_that_is_no_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.safetensors").write_text("no")
    for name in ("o.safetensors", "missing.safetensors"):
        with pytest.raises(SteeringError, match="cannot read"):
            load_offsets(tmp_path / name)
