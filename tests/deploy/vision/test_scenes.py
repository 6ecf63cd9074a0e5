"""Pictures show what their cells say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from deploy.demo.training.vision import batches, concepts, scenes, targets, varying, wording
from deploy.demo.training.vision.drawings import Drawings
from deploy.demo.training.vision.targets import Targets

RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)


def thing(colour: tuple[int, int, int, int]) -> np.ndarray:
    return np.full((160, 160, 4), colour, np.uint8)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("side", [112, 168])
def test_cells_say_what_they_show(count: int, side: int) -> None:
    things = [(thing(RED), 5), (thing(BLUE), 9)][:count]
    style = scenes.Style(vivid=False)
    for seed in range(20):
        scene = scenes.make(things, side, style, np.random.default_rng(seed))
        assert scene.things == tuple(number for _, number in things)
        cut = scene.pixels.reshape(side // 28, 28, side // 28, 28, 3).swapaxes(1, 2)
        for cell, label in zip(cut.reshape(-1, 28 * 28, 3), scene.cells.tolist(), strict=True):
            shares = {
                number: float((cell == colour[:3]).all(1).mean())
                for colour, number in ((RED, 5), (BLUE, 9))
            }
            if label in shares:
                assert shares[label] >= scenes.COVERED - 0.05
            elif label == scenes.BLANK:
                assert max(shares.values()) <= scenes.EMPTY + 0.05
        for number in scene.things:
            assert number in scene.cells


def test_the_same_seed_makes_the_same_picture_and_another_one_another() -> None:
    one, same, other = (
        scenes.make([(thing(RED), 1)], 112, scenes.Style(), np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    assert (one.pixels == same.pixels).all() and (one.cells == same.cells).all()
    assert (one.pixels != other.pixels).any()


def test_there_are_at_least_120_names_and_each_stands_once() -> None:
    names = concepts.names()
    assert len(names) >= 120
    assert len(set(names)) == len(names)
    codes = [code for concept in concepts.load() for code in concept.codes]
    assert len(set(codes)) == len(codes), "no emoji shows two things"


def test_the_loss_is_least_at_the_right_vectors() -> None:
    torch.manual_seed(0)
    goal = Targets(torch.nn.functional.normalize(torch.randn(6, 32), dim=1), 1.0)
    cells = torch.tensor([0, 4, scenes.BLANK, scenes.UNCLEAR])
    right = goal.vectors[[0, 4, 5, 2]]
    least = targets.loss(right, cells, goal)
    assert least < targets.loss(right.roll(1, 0), cells, goal)
    assert least < targets.loss(right + 0.1 * torch.randn_like(right), cells, goal)
    unclear = right.clone()
    unclear[3] = 100.0
    torch.testing.assert_close(targets.loss(unclear, cells, goal), least)


def test_names_are_taken_from_the_cells_that_show_something() -> None:
    torch.manual_seed(0)
    goal = Targets(torch.nn.functional.normalize(torch.randn(6, 32), dim=1), 1.0)
    tokens = goal.vectors[[5, 5, 5, 5, 3, 3, 1]][None]
    shares = targets.named(tokens, goal)
    assert shares.shape == (1, 5)
    assert shares[0].topk(2).indices.tolist() == [3, 1]
    torch.testing.assert_close(shares.sum(), torch.tensor(1.0))


def test_a_varied_drawing_stays_in_its_square_and_the_same_seed_varies_it_alike() -> None:
    disc = thing(RED).copy()
    disc[:20, :, 3] = 0
    for seed in range(30):
        one, same = (
            np.asarray(varying.vary(Image.fromarray(disc), np.random.default_rng(seed)))
            for _ in range(2)
        )
        assert one.shape == disc.shape
        assert (one == same).all()
        assert 0.3 <= (one[..., 3] > 128).mean() < 1.0


def test_icons_stand_for_drawings_as_often_as_the_style_says() -> None:
    artist = Drawings(thing(RED)[None], np.array([3]))
    icons = Drawings(thing(BLUE)[None], np.array([3]))
    style = scenes.Style(two=0.0, none=0.0, symbol=0.25, vivid=False, sizes=(1.0, 1.0))
    batch = next(batches.endless([artist], (112,), 200, style, 0, [icons]))
    blue = (batch.pixels[:, 2] > batch.pixels[:, 0]).flatten(1).all(1)
    assert 0.15 <= float(blue.float().mean()) <= 0.35
    alone = next(batches.endless([artist], (112,), 50, style, 0))
    assert not (alone.pixels[:, 2] > alone.pixels[:, 0]).any()


def test_lessons_keep_every_third_name_back_and_ask_how_nothing_is_made() -> None:
    taught = wording.lessons(concepts.names())
    alone = {lesson.names[0] for lesson in taught if len(lesson.names) == 1}
    assert all(number % 3 for lesson in taught for number in lesson.names)
    assert len(alone) >= 100
    assert not any("make" in lesson.question for lesson in taught)
    assert {lesson.answer for lesson in taught if not lesson.names} == {wording.NOTHING}
