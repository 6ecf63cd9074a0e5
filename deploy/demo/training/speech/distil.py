"""Train the tower through the frozen backbone: speech should be answered as its text is.

    python -m deploy.demo.training.speech.distil MODEL FOLDER --steps 120

It begins with FOLDER/ctc.pt and goes on from FOLDER/distilled.pt where that is there. Each step
spells other utterances as well, so that the tower forgets no word that the lessons lack.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from deploy.demo.training.speech import ctc, lessons, sound, store, utterances
from deploy.demo.training.speech.backbone import Backbone, Lesson
from deploy.demo.training.speech.targets import Targets
from deploy.demo.training.speech.tower import Tower, mel
from deploy.demo.training.speech.utterances import Utterance

FILE = "distilled.pt"
BATCH = 8
SPELLING = 1.0
ENCODER_RATE, HEAD_RATE = 4e-5, 4e-4


def main() -> None:
    """Train, with a line about every ten steps."""
    arguments = _parse()
    torch.set_num_threads(1)
    backbone, folder = Backbone(arguments.model), arguments.folder
    targets = Targets(backbone.embedding)
    taught = {
        part: _with_lessons(backbone, folder, part, count)
        for part, count in (("train", arguments.sentences), ("development", 24))
    }
    path = folder / FILE
    tower = store.load(path if path.is_file() else folder / ctc.FILE)
    optimiser = torch.optim.AdamW(_groups(tower), weight_decay=0.0)
    done = 0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
    rng, began = random.Random(done), time.monotonic()
    dictation = ctc.batches_of(utterances.load("train", folder), random.Random(done), tower.hop)
    _tell(f"unseen: {_distance(backbone, tower, taught['development']):.3f} nats")
    for step in range(done, arguments.steps):
        ctc.schedule(optimiser, step, arguments.steps, warm_up=8)
        batch = rng.sample(taught["train"], BATCH)
        others = [ctc.floats(each.samples) for each, _ in rng.sample(batch, 3)]
        mels = [
            mel(sound.disturbed(ctc.floats(each.samples), others, rng), tower.hop)
            for each, _ in batch
        ]
        with torch.autocast("cpu", torch.bfloat16):
            heard = tower(mels)
        vectors = heard.vectors.float()
        spelling = ctc.spelling_of(tower, targets, *next(dictation))
        prompts = [
            backbone.sound(row[:length])
            for row, length in zip(vectors, heard.lengths.tolist(), strict=True)
        ]
        loss = backbone.distance(prompts, [lesson for _, lesson in batch])
        optimiser.zero_grad()
        (loss + SPELLING * spelling).backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        if step % 5 == 4:
            seconds = time.monotonic() - began
            _tell(f"step {step + 1}: {loss:.3f} nats, spelling {spelling:.3f}, {seconds:.0f} s")
        if step % 20 == 19 or step + 1 == arguments.steps:
            state = {"tower": tower.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1, "hop": tower.hop}, path)
        if step % 40 == 39 or step + 1 == arguments.steps:
            _tell(f"unseen: {_distance(backbone, tower, taught['development']):.3f} nats")


def _with_lessons(
    backbone: Backbone, folder: Path, part: str, count: int
) -> list[tuple[Utterance, Lesson]]:
    """Utterances of requests with what the backbone answers to their text."""
    heard = [each for each in utterances.load(part, folder) if each.sentence.label != "words"]
    heard = heard[:count]
    file = folder / f"lessons-{part}.pt"
    learnt = lessons.collect(backbone, [each.sentence for each in heard], file)
    return list(zip(heard, learnt, strict=True))


@torch.no_grad()
def _distance(backbone: Backbone, tower: Tower, known: list[tuple[Utterance, Lesson]]) -> float:
    """Mean distance of the answers to speech from those to its text."""
    found = 0.0
    for start in range(0, len(known), BATCH):
        batch = known[start : start + BATCH]
        heard = tower([mel(ctc.floats(each.samples), tower.hop) for each, _ in batch])
        rows: list[Tensor] = [
            row[:length] for row, length in zip(heard.vectors, heard.lengths.tolist(), strict=True)
        ]
        away = backbone.distance([backbone.sound(row) for row in rows], [b for _, b in batch])
        found += float(away) * len(batch)
    return found / len(known)


def _groups(tower: Tower) -> list[dict[str, object]]:
    encoder, head = ctc.groups(tower)
    return [
        {**encoder, "lr": ENCODER_RATE, "full": ENCODER_RATE},
        {**head, "lr": HEAD_RATE, "full": HEAD_RATE},
    ]


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--sentences", type=int, default=384)
    return parser.parse_args()


if __name__ == "__main__":
    main()
