"""Write the trained tower where the demo model's set-up finds it.

python -m deploy.demo.training.vision.store --cache DIR --model FOLDER deploy/demo/towers/vision
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import towers
from deploy.demo.training.vision import concepts, dinov2, shipped, sources, targets, train
from deploy.demo.training.vision.tower import Shape, Tower, describe, export


def main() -> None:
    """Store a run's tower."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the training")
    parser.add_argument("--model", type=Path, required=True, help="folder of the backbone")
    parser.add_argument("--name", default="tower", help="name of the run in the cache")
    parser.add_argument("--depth", type=int, default=8)
    arguments = parser.parse_args()
    run = train.resume(arguments.cache / arguments.name, Tower(Shape(depth=arguments.depth)))
    tower, goal = run.mean, targets.load(arguments.model)
    scale_up(tower, goal.scale)
    weights, constants = export(tower)
    description = {
        "vision_config": describe(tower.shape),
        "image_mean": dinov2.MEAN,
        "image_std": dinov2.STD,
        "names": " ".join(concepts.names()),
        "drawings": {
            f"@iconify-json/{emoji.name} {emoji.version}": f"{emoji.author}, {emoji.licence}"
            for emoji in (*sources.EMOJI, *sources.SYMBOLS)
            if emoji.role == "train"
        },
        "constants": constants,
    }
    towers.save(arguments.folder, description, weights)
    shipped.save_goal(goal, arguments.folder)


@torch.no_grad()
def scale_up(tower: Tower, scale: float) -> None:
    """Let tokens have the size of text embeddings instead of about one."""
    last = tower.merge[2]
    for parameter in last.parameters():
        parameter.mul_(scale)


if __name__ == "__main__":
    main()
