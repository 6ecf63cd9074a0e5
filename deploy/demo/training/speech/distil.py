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
from deploy.demo.training.speech.backbone import Backbone, Distances, Lesson
from deploy.demo.training.speech.targets import Targets
from deploy.demo.training.speech.tower import Heard, Tower, mel
from deploy.demo.training.speech.utterances import Utterance

FILE = "distilled.pt"
BATCH = 8
SPELLING, STATES = 1.0, 1.0
ENCODER_RATE, HEAD_RATE = 4e-5, 4e-4


def main() -> None:
    """Train, with a line about every ten steps."""
    arguments = _parse()
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
    _tell(f"unseen: {_said(_distances(backbone, targets, tower, taught['development']))}")
    for step in range(done, arguments.steps):
        ctc.schedule(optimiser, step, arguments.steps, warm_up=8)
        batch = rng.sample(taught["train"], BATCH)
        others = [ctc.floats(each.samples) for each, _ in rng.sample(batch, 3)]
        mels = [
            mel(sound.disturbed(ctc.floats(each.samples), others, rng), tower.hop)
            for each, _ in batch
        ]
        with ctc.autocast():
            heard = tower(mels)
        spelling = ctc.spelling_of(tower, targets, *next(dictation))
        prompts, words = _prompts(backbone, targets, heard, batch)
        away = backbone.distances(prompts, [lesson for _, lesson in batch], words)
        optimiser.zero_grad()
        (away.answers + STATES * away.states + SPELLING * spelling).backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        if step % 5 == 4:
            seconds = time.monotonic() - began
            _tell(f"step {step + 1}: {_said(away)}, spelling {spelling:.3f}, {seconds:.0f} s")
        if step % 20 == 19 or step + 1 == arguments.steps:
            state = {"tower": tower.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1, "hop": tower.hop}, path)
        if step % 40 == 39 or step + 1 == arguments.steps:
            _tell(f"unseen: {_said(_distances(backbone, targets, tower, taught['development']))}")


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
def _distances(
    backbone: Backbone, targets: Targets, tower: Tower, known: list[tuple[Utterance, Lesson]]
) -> Distances:
    """Mean distances of the model after speech from what it is after its text."""
    found = []
    for start in range(0, len(known), BATCH):
        batch = known[start : start + BATCH]
        heard = tower([mel(ctc.floats(each.samples), tower.hop) for each, _ in batch])
        prompts, words = _prompts(backbone, targets, heard, batch)
        found.append(backbone.distances(prompts, [lesson for _, lesson in batch], words))
    return Distances(
        torch.stack([away.answers for away in found]).mean(),
        torch.stack([away.states for away in found]).mean(),
    )


def _prompts(
    backbone: Backbone, targets: Targets, heard: Heard, batch: list[tuple[Utterance, Lesson]]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The requests in sound, and the places of their words where every word was heard."""
    prompts, places = [], []
    for vectors, length, (each, _) in zip(
        heard.vectors.float(), heard.lengths.tolist(), batch, strict=True
    ):
        prompts.append(backbone.sound(vectors[:length]))
        found = targets.places(vectors[:length].detach(), each.sentence.words)
        places.append(None if found is None else found + backbone.before_sound)
    return prompts, places


def _said(away: Distances) -> str:
    return f"{away.answers:.3f} nats, stream {away.states:.3f}"


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
