"""Train the demo model's vision tower.

    python -m deploy.demo.training.vision.train --cache DIR --model FOLDER --images 100000

DINOv2 is folded into the tower (fold.py), and what that loses is made up for in closed form
(fit.py). The merger then learns to name what the tower's features show; last, the whole tower
learns both to keep DINOv2's features and to name. ``--shipped`` starts from the stored tower
instead. What counts is a running mean of the weights. An interrupted run goes on where its last
checkpoint stands. The folder of the cache holds drawings, weights and
checkpoints; ``python -m deploy.demo.training.vision.store`` makes the stored tower of it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from deploy.demo.training.vision import (
    batches,
    dinov2,
    drawings,
    fit,
    fold,
    merging,
    shipped,
    sources,
    targets,
)
from deploy.demo.training.vision.batches import Batch
from deploy.demo.training.vision.scenes import Style
from deploy.demo.training.vision.teacher import Teacher
from deploy.demo.training.vision.tower import Shape, Tower, normalise

BATCH = 8
PLACE_BATCHES = 32
FIT_BATCHES, FIT_BATCH = 64, 32
EVERY = 2_000
"""Pictures between two checkpoints."""
WARM = 100
MERGER_RATE, TOWER_RATE = 3e-4, 2e-3
"""The second is a part of each matrix's size: DINOv2's layer scales make some of them tiny."""
DECAY = 0.05
MEAN_EVERY, MEAN_DECAY = 4, 0.996
"""Steps between two weights that enter the running mean, and what the mean keeps of itself."""
KEEP = 2.0
"""Weight of keeping DINOv2's features."""


@dataclass
class Run:
    """State of a training.

    Attributes:
        tower: what learns.
        optimiser: over all of it, in two groups: merger, rest.
        average: running mean of its weights.
        seen: pictures so far.
        seconds: spent on learning so far.
    """

    tower: Tower
    optimiser: torch.optim.Optimizer
    average: AveragedModel
    seen: int = 0
    seconds: float = 0.0

    @property
    def mean(self) -> Tower:
        """The tower of the mean weights, which is the one that counts."""
        return cast("Tower", self.average.module)

    def done(self, images: int, minutes: float) -> float:
        """The part of the training that lies behind, by pictures or by time."""
        return max(self.seen / images, self.seconds / 60 / minutes)


def main() -> None:
    """Train or go on training."""
    arguments = _parse()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    cache: Path = arguments.cache
    sources.fetch(cache)
    weights = dinov2.load(dinov2.fetch(cache))
    goal = targets.load(arguments.model)
    artists = [drawings.load(cache, name) for name in training_artists()]
    sides = tuple(arguments.sides)
    symbols = [drawings.load(cache, icons.name) for icons in sources.SYMBOLS]
    shape = Shape(depth=arguments.depth)
    first = shipped.load(shape, goal.scale) if arguments.shipped else fold.fold(weights, shape)
    run = resume(cache / arguments.name, first, arguments.rate)
    if not run.seen and not arguments.shipped:
        still = batches.endless(artists, sides[:1], FIT_BATCH, Style(), seed=2)
        fit.fit(run.tower, weights, (next(still).pixels for _ in range(FIT_BATCHES)))
        merging.learn(run.tower, still, arguments.head, goal)
    endless = batches.endless(artists, sides, BATCH, Style(), run.seen, symbols)
    develop = batches.of_each(
        drawings.load(cache, "fxemoji"), sides[0], Style(vivid=False, sizes=(0.6, 0.95)), 0
    )
    teacher = Teacher(weights, tuple(range(2, arguments.depth + 1, 2)))
    for side in sides:
        still = batches.endless(artists, (side,), BATCH, Style(), seed=1)
        teacher.learn_places(next(still).pixels for _ in range(PLACE_BATCHES))
    bar = tqdm(total=arguments.images, initial=run.seen, unit="picture", mininterval=30)
    while run.done(arguments.images, arguments.minutes) < 1:
        part = min(EVERY, arguments.images - run.seen)
        losses = learn(run, endless, part, arguments, teacher, goal)
        bar.update(part)
        save(cache / arguments.name, run)
        right = measure(run.mean, develop, goal)
        bar.write(f"{run.seen} pictures: {losses}; development artist {right:.3f}")
    bar.close()


def training_artists() -> list[str]:
    """Names of what trains."""
    return [emoji.name for emoji in sources.EMOJI if emoji.role == "train"] + ["clipart"]


def learn(
    run: Run,
    endless: Iterator[Batch],
    pictures: int,
    arguments: argparse.Namespace,
    teacher: Teacher,
    goal: targets.Targets,
) -> str:
    """Learn from so many pictures; return the mean losses as text."""
    run.tower.train()
    sums = torch.zeros(2)
    steps = math.ceil(pictures / BATCH)
    for step in range(steps):
        begun = time.monotonic()
        batch = next(endless)
        set_rates(run, arguments)
        with torch.autocast("cpu", torch.bfloat16):
            streams = run.tower.streams(batch.pixels)
            tokens = run.tower.tokens(streams[-1])
        found = torch.stack([normalise(streams[n - 1].float()) for n in teacher.kept])
        kept = (found - teacher(batch.pixels)).square().mean()
        naming = targets.loss(tokens.float().flatten(0, 1), batch.cells.flatten(), goal)
        run.optimiser.zero_grad()
        (naming + KEEP * kept).backward()
        nn.utils.clip_grad_norm_(run.tower.parameters(), 1.0)
        run.optimiser.step()
        if step % MEAN_EVERY == 0:
            run.average.update_parameters(run.tower)
        run.seen += BATCH
        run.seconds += time.monotonic() - begun
        sums += torch.tensor([naming.item(), kept.item()])
    naming_mean, kept_mean = (sums / steps).tolist()
    return f"naming {naming_mean:.3f}, features {kept_mean:.3f}"


def set_rates(run: Run, arguments: argparse.Namespace) -> None:
    """Warm up, then fall along a cosine."""
    done = run.done(arguments.images, arguments.minutes)
    fall = 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.01
    warm = min(1.0, run.seen / BATCH / WARM)
    for group in run.optimiser.param_groups:
        group["lr"] = group["unit"] * fall * warm


@torch.inference_mode()
def measure(tower: Tower, develop: list[Batch], goal: targets.Targets) -> float:
    """Share of pictures whose first thing is named first."""
    tower.eval()
    right = total = 0
    for batch in develop:
        with torch.autocast("cpu", torch.bfloat16):
            _, tokens = tower(batch.pixels)
        found = targets.named(tokens.float(), goal).argmax(-1).tolist()
        right += sum(f == things[0] for f, things in zip(found, batch.things, strict=True))
        total += len(found)
    return right / total


def resume(folder: Path, tower: Tower, rate: float = TOWER_RATE) -> Run:
    """The last checkpoint's state, or a new one."""
    groups = [
        {
            "params": [parameter],
            "unit": MERGER_RATE if name.startswith("merge.") else size(parameter) * rate,
        }
        for name, parameter in tower.named_parameters()
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=DECAY, betas=(0.9, 0.98))
    mean = AveragedModel(tower, multi_avg_fn=get_ema_multi_avg_fn(MEAN_DECAY))
    run = Run(tower, optimiser, mean)
    file = folder / "checkpoint.pt"
    if file.is_file():
        state: dict[str, Any] = torch.load(file, weights_only=True)
        tower.load_state_dict(state["tower"])
        optimiser.load_state_dict(state["optimiser"])
        run.average.load_state_dict(state["average"])
        run.seen, run.seconds = state["seen"], state["seconds"]
    return run


def size(parameter: torch.Tensor) -> float:
    """Root mean square."""
    return float(parameter.detach().square().mean().sqrt())


def save(folder: Path, run: Run) -> None:
    """Write a checkpoint, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "tower": run.tower.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "average": run.average.state_dict(),
        "seen": run.seen,
        "seconds": run.seconds,
    }
    torch.save(state, folder / "checkpoint.pt.new")
    (folder / "checkpoint.pt.new").replace(folder / "checkpoint.pt")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--model", type=Path, required=True, help="folder of the backbone")
    parser.add_argument("--name", default="tower", help="name of this run in the cache")
    parser.add_argument("--images", type=int, default=100_000, help="pictures to learn from")
    parser.add_argument("--minutes", type=float, default=math.inf, help="time to learn for")
    parser.add_argument("--shipped", action="store_true", help="start from the stored tower")
    parser.add_argument("--head", type=int, default=8_000, help="pictures for the merger alone")
    parser.add_argument("--depth", type=int, default=8, help="blocks of DINOv2 to take")
    parser.add_argument(
        "--rate", type=float, default=TOWER_RATE, help="learning rate of blocks, relative"
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[112], help="pixels of a side")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
