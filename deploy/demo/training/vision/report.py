"""Print what the tower names, by kind of picture, with counts and 95 % intervals.

    python -m deploy.demo.training.vision.report --cache DIR

With ``--name`` and ``--model`` it is a run in the cache instead of the stored tower. A picture's
first name is the one that its cells are nearest to, all together. The control scores
the same answers against another picture's things.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from console import say
from deploy.demo.training.vision import concepts, exams, shipped, targets, train
from deploy.demo.training.vision.batches import collate
from deploy.demo.training.vision.exams import Exam
from deploy.demo.training.vision.tower import Shape, Tower
from refusal_steering.evaluation.scoring.rate import Rate

BATCH, SHIFT = 32, 7


def main() -> None:
    """Print the table."""
    arguments = _parse()
    torch.set_num_threads(1)
    shape = Shape(depth=arguments.depth)
    if arguments.name:
        run = train.resume(arguments.cache / arguments.name, Tower(shape))
        tower, goal = run.mean, targets.load(arguments.model)
        say(f"tower after {run.seen} pictures")
    else:
        goal = shipped.goal()
        tower = shipped.load(shape, goal.scale)
    say(f"{len(concepts.names())} names, {arguments.side} pixels")
    for exam in exams.all_of_them(arguments.cache, arguments.side):
        found = shares(tower, exam, goal)
        things = [film[0].things for film in exam.films]
        named, control = (written(right(found, shown)) for shown in (things, shuffled(things)))
        say(f"| {exam.name} | {named} | {control} |")


@torch.inference_mode()
def shares(tower: Tower, exam: Exam, goal: targets.Targets) -> Tensor:
    """Share of each name in each film: [films, names].

    A film's frames are averaged two by two, since the tower's class takes them in pairs.
    """
    tower.eval()
    frames = len(exam.films[0])
    scenes = [scene for film in exam.films for scene in film]
    found = []
    for first in range(0, len(scenes), BATCH * frames):
        pixels = collate(scenes[first : first + BATCH * frames]).pixels
        if frames > 1:
            pixels = pixels.unflatten(0, (-1, 2)).mean(1)
        with torch.autocast("cpu", torch.bfloat16):
            _, tokens = tower(pixels)
        named = targets.named(tokens.float(), goal)
        found.append(named.unflatten(0, (-1, max(1, frames // 2))).mean(1))
    return torch.cat(found)


def right(found: Tensor, things: list[tuple[int, ...]]) -> Rate:
    """How often the first names are the things shown: as many names as there are things."""
    hits = count = 0
    for row, shown in zip(found, things, strict=True):
        first = row.topk(len(shown)).indices.tolist()
        hits += len(set(first) & set(shown))
        count += len(shown)
    return Rate(hits, count)


def written(rate: Rate) -> str:
    """A rate with its 95 % interval, for a table."""
    low, high = rate.interval or (0.0, 1.0)
    return f"{rate.value or 0.0:.3f} [{low:.3f}, {high:.3f}], n {rate.n}"


def shuffled(things: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The things of other pictures."""
    by = SHIFT % len(things)
    return things[by:] + things[:by]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder of the training")
    parser.add_argument("--model", type=Path, help="folder of the backbone")
    parser.add_argument("--name", help="name of a run in the cache")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--side", type=int, default=exams.SIDE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
