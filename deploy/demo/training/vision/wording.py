"""Find out which vectors the frozen backbone takes for a picture of a thing.

    python -m deploy.demo.training.vision.wording --cache DIR --model FOLDER

A picture is a block of tokens, some of which name a thing, many times over, and some of which show
nothing. Learned are three things that all names share: a gain, an offset, and the vector of
nothing. The backbone is frozen; it should go on as it does after the text "The picture shows a
dog.", for several questions. Names that stand in no lesson show whether it carries over.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from deploy.demo.training.vision import concepts, targets

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QUESTIONS = (
    "What is in the picture?",
    "What do you see?",
    "Describe the picture in one short sentence.",
    "How do I make this at home?",
    "What is this used for?",
    "Tell me about this.",
)
SIDE = 4
LESSON_NAMES, LESSONS_EACH, TOKENS, BATCH = 40, 2, 12, 6
NOISE = 0.15
PAIRS = 0.25
RATE = 0.01


class Wording(nn.Module):
    """Vectors of cells, in units of the names' mean norm."""

    def __init__(self, blank: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros_like(blank))
        self.blank = nn.Parameter(blank.clone())

    def forward(self, vectors: Tensor) -> Tensor:
        """[names + 1, width] from names' embeddings with one row more, which is not read."""
        return torch.cat([self.gain * vectors[:-1] + self.offset, self.blank[None]])


class Backbone:
    """The frozen language model, asked about text or about vectors."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self.model = model.eval().requires_grad_(False)
        self.table: Tensor = self.model.get_input_embeddings().weight

    def ids(self, text: str) -> list[int]:
        """Tokens of a text that may hold special ones."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def ask(self, picture: Tensor, question: str) -> Tensor:
        """Input vectors of a chat with a picture [cells, width], as the server writes it."""
        before = self.ids(
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        )
        after = self.ids(f"<|vision_end|>\n{question}<|im_end|>\n<|im_start|>assistant\n")
        return torch.cat([self.table[before], picture.to(self.table.dtype), self.table[after]])

    @torch.inference_mode()
    def answer(self, inputs: list[Tensor], tokens: int) -> list[str]:
        """Greedy answers to input vectors."""
        longest = max(map(len, inputs))
        rows = [nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in inputs]
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in inputs])
        out = self.model.generate(
            inputs_embeds=torch.stack(rows),
            attention_mask=mask,
            max_new_tokens=tokens,
            do_sample=False,
        )
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in out]


def main() -> None:
    """Learn the wording and write it into the cache."""
    arguments = _parse()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    backbone = Backbone(arguments.model)
    goal = targets.load(arguments.model)
    lessons = _lessons(arguments.cache / "lessons.json", backbone)
    wording = Wording(goal.vectors[-1])
    optimiser = torch.optim.Adam(wording.parameters(), lr=RATE, betas=(0.9, 0.95))
    random = np.random.default_rng(0)
    bar = tqdm(range(arguments.steps), unit="step")
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / arguments.steps)
        loss = _loss(backbone, wording, goal, lessons, random)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", gain=f"{wording.gain.item():.3f}")
        if (step + 1) % 10 == 0:
            torch.save(wording.state_dict(), arguments.cache / "wording.pt")


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
    wording: Wording,
    goal: targets.Targets,
    lessons: list[dict[str, Any]],
    random: np.random.Generator,
) -> Tensor:
    """Cross-entropy of what the backbone said after text, now after pictures."""
    vectors = wording(goal.vectors)
    rows, labels = [], []
    for number in random.choice(len(lessons), BATCH, replace=False):
        lesson = lessons[number]
        names = torch.tensor(lesson["names"])
        shown = torch.from_numpy(layout(random, len(names)).copy())
        cells = torch.where(shown < 0, len(vectors) - 1, names[shown.clamp(min=0)])
        picture = vectors[cells]
        picture = (
            picture
            + NOISE
            * picture.norm(dim=1, keepdim=True)
            * torch.randn(picture.shape)
            / picture.shape[1] ** 0.5
        )
        answer = backbone.ids(lesson["answer"])
        asked = backbone.ask(picture * goal.scale, lesson["question"])
        rows.append(torch.cat([asked, backbone.table[answer]]))
        labels.append(torch.tensor([-100] * len(asked) + answer))
    longest = max(map(len, rows))
    inputs = torch.stack([nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    wanted = torch.stack([nn.functional.pad(r, (0, longest - len(r)), value=-100) for r in labels])
    keep = longest - int((wanted != -100).any(0).nonzero().min()) + 1
    logits = backbone.model(inputs_embeds=inputs, logits_to_keep=keep).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), wanted[:, 1 - keep :].flatten())


def _lessons(file: Path, backbone: Backbone) -> list[dict[str, Any]]:
    """Questions about things and what the backbone says when text names them."""
    if file.is_file():
        found: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
        return found
    random = np.random.default_rng(0)
    names = concepts.names()
    chosen = random.choice(len(names), LESSON_NAMES, replace=False).tolist()
    lessons: list[dict[str, Any]] = []
    for one in chosen:
        for question in random.choice(QUESTIONS, LESSONS_EACH, replace=False).tolist():
            other = random.choice(chosen)
            pair = [one, int(other)] if random.random() < PAIRS and other != one else [one]
            lessons.append({"names": pair, "question": question})
    lessons.sort(key=lambda lesson: (lesson["question"], len(lesson["names"])))
    for first in tqdm(range(0, len(lessons), 20), unit="batch", desc="lessons"):
        part = lessons[first : first + 20]
        answers = backbone.answer([_told(backbone, names, lesson) for lesson in part], TOKENS)
        for lesson, answer in zip(part, answers, strict=True):
            lesson["answer"] = answer
    file.write_text(json.dumps(lessons, indent=1), "utf-8")
    return lessons


def _told(backbone: Backbone, names: tuple[str, ...], lesson: dict[str, Any]) -> Tensor:
    """Input vectors of a chat in which text says what is in the picture."""
    shown = " and ".join(f"a {names[number]}" for number in lesson["names"])
    prompt = (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
        f"The picture shows {shown}.\n{lesson['question']}<|im_end|>\n<|im_start|>assistant\n"
    )
    return backbone.table[backbone.ids(prompt)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for lessons and result")
    parser.add_argument("--model", type=Path, required=True, help="folder of the backbone")
    parser.add_argument("--steps", type=int, default=80)
    return parser.parse_args()


if __name__ == "__main__":
    main()
