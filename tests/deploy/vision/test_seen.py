"""What the shipped tower names is what a picture shows, on drawings that no training saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deploy.demo.training.vision import batches, concepts, scenes, shipped, targets
from deploy.demo.training.vision.tower import Shape, Tower
from tests.deploy.vision import drawn

NAMES = concepts.names()
PLAIN = scenes.Style(sizes=(0.6, 0.95), vivid=False)


@pytest.fixture(scope="module")
def goal() -> targets.Targets:
    return shipped.goal()


@pytest.fixture(scope="module")
def tower(goal: targets.Targets) -> Tower:
    return shipped.load(Shape(), goal.scale).eval()


def picture(name: str, seed: int) -> scenes.Scene:
    """A thing at a size, in a place and before a colour that the seed says."""
    thing = (drawn.drawing(name), NAMES.index(name))
    return scenes.make([thing], 112, PLAIN, np.random.default_rng(seed))


@torch.inference_mode()
def shares(tower: Tower, shown: list[scenes.Scene], goal: targets.Targets) -> torch.Tensor:
    """Share of each name: [pictures, names]."""
    return targets.named(tower(batches.collate(shown).pixels)[1], goal)


def test_each_thing_is_named_wherever_it_stands(tower: Tower, goal: targets.Targets) -> None:
    shown = [picture(name, seed) for name in drawn.THINGS for seed in range(4)]
    found = shares(tower, shown, goal).argmax(-1).tolist()
    right = sum(name in scene.things for name, scene in zip(found, shown, strict=True))
    assert right >= 0.8 * len(shown), [NAMES[name] for name in found]


def test_a_swapped_thing_is_named_in_the_others_stead(tower: Tower, goal: targets.Targets) -> None:
    """Place, size and background stay as they are; only the thing is another."""
    for seed in range(4):
        shown = [picture(name, seed) for name in drawn.THINGS]
        things = [scene.things[0] for scene in shown]
        table = shares(tower, shown, goal)[:, things]
        of_another = table - table.diagonal()[:, None]
        assert int((of_another.argmax(-1) == torch.arange(len(things))).sum()) >= 5


def test_a_picture_of_nothing_is_told_from_one_of_a_thing(
    tower: Tower, goal: targets.Targets
) -> None:
    empty = scenes.make([], 112, PLAIN, np.random.default_rng(0))
    batch = batches.collate([empty, picture("heart", 0)])
    with torch.inference_mode():
        nearest = targets.scores(tower(batch.pixels)[1], goal).argmax(-1)
    blank = len(NAMES)
    assert bool((nearest[0] == blank).all())
    assert int((nearest[1] == NAMES.index("heart")).sum()) >= 3
