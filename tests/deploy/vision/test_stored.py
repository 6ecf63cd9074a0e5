"""The stored vision tower is whole and has the names of the served class."""

from __future__ import annotations

from pathlib import Path

import torch

import omni_files
import omni_weights
import towers
from deploy.demo.training.vision import concepts, dinov2, shipped, store, tower
from deploy.demo.training.vision.targets import Targets

SMALL = tower.Shape(depth=2, width=64, heads=2, inner=96, out=48)


def thinker(vision: dict[str, object]) -> dict[str, object]:
    audio = {**omni_files.AUDIO, "output_dim": vision["out_hidden_size"]}
    return {"vision_config": vision, "audio_config": audio}


def test_what_is_stored_fills_the_served_class_and_computes_nearly_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = tower.Tower(SMALL)
    weights, constants = tower.export(ours)
    towers.save(tmp_path / "vision", {"constants": constants}, weights)
    kept = towers.find("vision", tmp_path)
    assert kept is not None
    shapes = omni_weights.tower_shapes(thinker(dict(tower.describe(SMALL))))
    placed = omni_weights.trained(kept, "visual.", shapes)
    assert set(placed) == {f"thinker.{n}" for n in shapes if n.startswith("visual.")}
    for name, weight in weights.items():
        found = placed[f"thinker.visual.{name}"].float()
        assert float((found - weight).norm()) <= 0.02 * float(weight.norm()) + 1e-6


def test_the_shipped_tower_fits_and_says_what_it_was_trained_on() -> None:
    shipped = towers.find("vision")
    assert shipped is not None
    vision = dict(shipped.description["vision_config"])
    shapes = omni_weights.tower_shapes(thinker(vision))
    omni_weights.trained(shipped, "visual.", shapes)
    assert shipped.description["names"].split() == list(concepts.names())
    assert omni_files.PIXELS["image_mean"] == list(dinov2.MEAN)
    assert omni_files.PIXELS["image_std"] == list(dinov2.STD)
    size = sum(file.stat().st_size for file in shipped.folder.iterdir())
    assert size <= 30_000_000


def test_tokens_are_scaled_to_the_size_of_text_embeddings() -> None:
    torch.manual_seed(0)
    ours = tower.Tower(SMALL)
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        before = ours(pixels)[1]
        store.scale_up(ours, 0.25)
        torch.testing.assert_close(ours(pixels)[1], 0.25 * before)


def test_a_stored_tower_and_its_targets_are_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours, goal = tower.Tower(SMALL), Targets(torch.randn(7, SMALL.out), 0.25)
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        before = ours(pixels)[1]
        store.scale_up(ours, goal.scale)
    weights, constants = tower.export(ours)
    towers.save(tmp_path / "vision", {"constants": constants}, weights)
    shipped.save_goal(goal, tmp_path / "vision")
    kept = shipped.goal(tmp_path / "vision")
    assert kept.scale == goal.scale
    torch.testing.assert_close(kept.vectors, goal.vectors, rtol=0, atol=0.02)
    with torch.no_grad():
        after = shipped.load(SMALL, kept.scale, towers.find("vision", tmp_path))(pixels)[1]
    assert float((after - before).norm()) <= 0.03 * float(before.norm())
