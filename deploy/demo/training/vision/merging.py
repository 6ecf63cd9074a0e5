"""Teach the tower's merger alone: the stream of many pictures is kept, and read many times."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from deploy.demo.training.vision import targets
from deploy.demo.training.vision.batches import Batch
from deploy.demo.training.vision.tower import Tower, normalise

STEPS, BATCH = 1500, 48
RATE, DECAY, DROP = 1e-3, 0.1, 0.1
CLIP = 1.0


def learn(tower: Tower, pictures: Iterator[Batch], count: int, goal: targets.Targets) -> None:
    """Train the merger in place on so many pictures of one size."""
    streams, cells = _keep(tower, pictures, count)
    optimiser = torch.optim.AdamW(tower.merge.parameters(), weight_decay=DECAY, betas=(0.9, 0.98))
    bar = tqdm(range(STEPS), unit="step", desc="merger", mininterval=10)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = (
                RATE * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            )
        chosen = torch.randint(0, len(streams), (BATCH,))
        entering = torch.dropout(streams[chosen].float(), DROP, train=True)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = tower.merge(entering)
        loss = targets.loss(tokens.float().flatten(0, 1), cells[chosen].flatten(), goal)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.merge.parameters(), CLIP)
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)


@torch.no_grad()
def _keep(tower: Tower, pictures: Iterator[Batch], count: int) -> tuple[Tensor, Tensor]:
    streams, cells, seen = [], [], 0
    bar = tqdm(total=count, unit="picture", desc="streams", mininterval=10)
    while seen < count:
        batch = next(pictures)
        with torch.autocast("cpu", torch.bfloat16):
            stream = tower.streams(batch.pixels)[-1]
        streams.append(normalise(stream.float()).flatten(2).bfloat16())
        cells.append(batch.cells)
        seen += len(batch.cells)
        bar.update(len(batch.cells))
    return torch.cat(streams), torch.cat(cells)
