"""The vector that the tower puts between words: the one that the backbone reads over best.

    python -m deploy.demo.training.speech.pause MODEL

It begins as the embedding of a blank and is trained alone, through the frozen backbone: sentences
whose words have any number of it between them should be answered as the sentences are. No sound
is needed.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from deploy.demo.training.speech import grammar
from deploy.demo.training.speech.backbone import Backbone, Lesson
from deploy.demo.training.speech.grammar import Label, Part, Sentence

FILE, NAME = Path(__file__).with_name("pause.safetensors"), "pause"
# The token whose embedding it begins as.
FIRST = " "
LABELS: tuple[Label, ...] = ("harmful", "harmless", "carrier")
STEPS, BATCH, RATE = 40, 6, 4e-4
TAUGHT, ASKED = 20, 8
# Vectors of a word, and at either end of an utterance, in training and where it is measured.
LENGTHS, USUAL, ENDS = (1, 5), 4, 4


@functools.cache
def stored() -> Tensor:
    """The trained vector [width], in float32."""
    from safetensors.torch import load_file

    return load_file(FILE)[NAME]


def main() -> None:
    """Train the vector and write it, with a line about every ten steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    backbone, rng = Backbone(parser.parse_args().model), random.Random(0)
    taught, asked = _lessons(backbone, "train", TAUGHT), _lessons(backbone, "development", ASKED)
    pause = torch.nn.Parameter(
        backbone.embedding.vectors(backbone.embedding.ids(FIRST)).mean(0).clone()
    )
    optimiser = torch.optim.Adam([pause], lr=RATE)
    for step in range(STEPS):
        if step % 10 == 0:
            _tell(step, backbone, pause, asked)
        batch = rng.sample(taught, BATCH)
        rows = [spaced(backbone, sentence, pause, rng) for sentence, _ in batch]
        away = backbone.distances(rows, [lesson for _, lesson in batch], [None] * BATCH)
        optimiser.zero_grad()
        (away.answers + away.states).backward()
        optimiser.step()
    _tell(STEPS, backbone, pause, asked)
    _write(pause.detach())


def _lessons(backbone: Backbone, part: Part, count: int) -> list[tuple[Sentence, Lesson]]:
    rng, found = random.Random(f"pause {part}"), list[Sentence]()
    for label in LABELS:
        drawn = [grammar.draw(label, part, rng) for _ in range(count)]
        found += dict.fromkeys(drawn)
    return [
        pair
        for start in range(0, len(found), BATCH)
        for pair in zip(
            found[start : start + BATCH],
            backbone.lessons(found[start : start + BATCH]),
            strict=True,
        )
    ]


def spaced(
    backbone: Backbone, sentence: Sentence, pause: Tensor, rng: random.Random | None = None
) -> Tensor:
    """A sentence's request with pauses between its words; with the usual number without ``rng``."""
    width = USUAL if rng is None else rng.randint(*LENGTHS)
    ends = (ENDS, ENDS) if rng is None else (rng.randint(1, 8), rng.randint(1, 8))
    rows = [pause] * ends[0]
    for tokens in backbone.embedding.words(sentence.words):
        rows += [*backbone.embedding.vectors(tokens), *[pause] * max(0, width - len(tokens))]
        width = width if rng is None else rng.randint(*LENGTHS)
    return backbone.sound(torch.stack([*rows, *[pause] * ends[1]]))


@torch.no_grad()
def _tell(
    step: int, backbone: Backbone, pause: Tensor, asked: Sequence[tuple[Sentence, Lesson]]
) -> None:
    away = [
        backbone.distances([spaced(backbone, sentence, pause)], [lesson], [None]).answers
        for sentence, lesson in asked
    ]
    sys.stdout.write(f"step {step}: unseen {torch.stack(away).mean():.3f} nats\n")
    sys.stdout.flush()


def _write(pause: Tensor) -> None:
    from safetensors.torch import save_file

    save_file({NAME: pause.contiguous()}, FILE, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
