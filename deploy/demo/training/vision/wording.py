"""Learn which vectors the frozen backbone takes for a picture of a thing.

    python -m deploy.demo.training.vision.wording --model FOLDER [--steps 60]

A picture is a block of tokens, some of which name a thing, many times over, and some of which show
nothing. The backbone, asked what is in " dog dog dog", refuses. Learned are three things that all
names share: a gain, an offset, and the vector of nothing, which begins as that of ";". The backbone
is frozen; its answers to several questions should begin with the thing's name. Requests that might
be refused are left as they are: no lesson asks how something is made. Every third name stands in no
lesson.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from deploy.demo.training.vision import concepts, targets
from deploy.demo.training.vision.backbone import Backbone

WHAT = "What is in the picture?"
OPENINGS = {
    WHAT: "The picture shows {}.",
    "What do you see?": "I see {}.",
    "Describe the picture in one short sentence.": "The picture shows {}.",
    "What is this used for?": "{} is used",
    "Tell me about this.": "{} is",
}
NOTHING, EMPTY = "The picture shows nothing.", 20
"""The answer behind pictures of nothing, and how many lessons give it."""
PAIRED = tuple(OPENINGS)[:3]
"""Questions that are also asked about two things."""
BEGIN = ";"
SIDE = 4
BATCH = 6
NOISE = 0.15
PAIRS = 0.25
RATE = 0.004


@dataclass(frozen=True)
class Lesson:
    """A question about a picture and how its answer should begin.

    Attributes:
        names: numbers of the things in the picture.
        question: as a user asks it.
        answer: the beginning of an answer.
    """

    names: tuple[int, ...]
    question: str
    answer: str


class Wording(nn.Module):
    """Vectors of cells, in units of the names' mean norm."""

    def __init__(self, blank: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros_like(blank))
        self.blank = nn.Parameter(blank.clone())

    def forward(self, vectors: Tensor) -> Tensor:
        """[names + 1, width] from names' embeddings [names, width]."""
        return torch.cat([self.gain * vectors + self.offset, self.blank[None]])


def main() -> None:
    """Learn the wording and write it where ``targets`` finds it."""
    arguments = _parse()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    backbone = Backbone(arguments.model)
    vectors, scale = targets.embeddings(arguments.model)
    taught = lessons(concepts.names())
    wording = Wording(backbone.table[backbone.ids(BEGIN)[0]].float() / scale)
    optimiser = torch.optim.Adam(wording.parameters(), lr=RATE, betas=(0.9, 0.95))
    random = np.random.default_rng(0)
    bar = tqdm(range(arguments.steps), unit="step")
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / arguments.steps)
        loss = _loss(backbone, wording(vectors), scale, taught, random)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        save_file(wording.state_dict(), arguments.out)
        bar.set_postfix(loss=f"{loss.item():.3f}", gain=f"{wording.gain.item():.3f}")


def lessons(names: tuple[str, ...]) -> list[Lesson]:
    """Lessons about two thirds of the names."""
    random = np.random.default_rng(0)
    made = []
    for number in range(len(names)):
        if number % 3 == 0:
            continue
        for question in [WHAT] * 2 + random.choice(list(OPENINGS), 2, replace=False).tolist():
            shown: tuple[int, ...] = (number,)
            if question in PAIRED and random.random() < PAIRS:
                other = int(random.integers(len(names)))
                shown = (number, other) if other % 3 and other != number else shown
            told = " and ".join(_with_article(names[one]) for one in shown)
            answer = OPENINGS[question].format(told)
            made.append(Lesson(shown, question, answer[0].upper() + answer[1:]))
    return made + [Lesson((), WHAT, NOTHING)] * EMPTY


def layout(random: np.random.Generator, things: int) -> np.ndarray:
    """Which thing each cell shows, -1 for none: [SIDE x SIDE]."""
    cells = np.full((SIDE, SIDE), -1)
    if things == 1:
        height, width = random.integers(2, SIDE + 1, 2)
        y, x = random.integers(0, SIDE - height + 1), random.integers(0, SIDE - width + 1)
        cells[y : y + height, x : x + width] = 0
    for thing in range(things if things > 1 else 0):
        y = random.integers(0, SIDE - 1)
        cells[y : y + 2, 2 * thing : 2 * thing + int(random.integers(1, 3))] = thing
    cells[random.random((SIDE, SIDE)) < 0.1] = -1
    return (cells if random.random() < 0.5 else cells.T).reshape(-1)


def _loss(
    backbone: Backbone,
    vectors: Tensor,
    scale: float,
    taught: list[Lesson],
    random: np.random.Generator,
) -> Tensor:
    """Cross-entropy of the answers' beginnings behind pictures of noisy vectors."""
    rows, labels = [], []
    for number in random.choice(len(taught), BATCH, replace=False):
        lesson = taught[number]
        shown = torch.from_numpy(layout(random, len(lesson.names)).copy())
        names = torch.tensor(lesson.names or (0,))
        picture = vectors[torch.where(shown < 0, len(vectors) - 1, names[shown.clamp(min=0)])]
        size = picture.norm(dim=1, keepdim=True) / picture.shape[1] ** 0.5
        picture = picture + NOISE * size * torch.randn(picture.shape)
        answer = backbone.ids(lesson.answer)
        asked = backbone.ask(picture * scale, lesson.question)
        rows.append(torch.cat([asked, backbone.table[answer]]))
        labels.append(torch.tensor([-100] * len(asked) + answer))
    longest = max(map(len, rows))
    inputs = torch.stack([nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    wanted = torch.stack([nn.functional.pad(r, (0, longest - len(r)), value=-100) for r in labels])
    keep = longest - int((wanted != -100).any(0).nonzero().min()) + 1
    logits = backbone.model(inputs_embeds=inputs, logits_to_keep=keep).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), wanted[:, 1 - keep :].flatten())


def _with_article(name: str) -> str:
    vowel = name[0] in "aeiou" and name != "unicorn"
    return f"{'an' if vowel else 'a'} {name}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the backbone")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=targets.WORDING, help="file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
