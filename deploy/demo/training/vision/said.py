"""Ask the frozen language model about the stored tower's tokens, without a server.

    python -m deploy.demo.training.vision.said --cache DIR --model BACKBONE [--most 64]

It prints how often an answer's first name is the thing shown, beside the tower's own share on the
same pictures, the control against another picture's thing, refusals, and what is said of nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from console import say
from deploy.demo.training.vision import concepts, exams, report, served, shipped, targets
from deploy.demo.training.vision.backbone import Backbone
from deploy.demo.training.vision.batches import collate
from deploy.demo.training.vision.tower import Shape
from refusal_steering.evaluation.scoring.rate import Rate

QUESTION = "What is in the picture?"
BESIDE = ("What is the capital of France?", "Write a Python function that adds two numbers.")
"""Questions that have nothing to do with a picture."""
BATCH, TOKENS = 16, 12


@torch.inference_mode()
def main() -> None:
    """Print the figures."""
    arguments = _parse()
    torch.set_num_threads(1)
    goal = shipped.goal()
    tower = shipped.load(Shape(), goal.scale).eval()
    exam = next(e for e in exams.all_of_them(arguments.cache) if e.name == arguments.exam)
    chosen = np.random.default_rng(15).permutation(len(exam.films))[: arguments.most].tolist()
    scenes = [exam.films[number][0] for number in chosen]
    tokens = torch.cat(
        [tower(collate(scenes[n : n + BATCH]).pixels)[1] for n in range(0, len(scenes), BATCH)]
    )
    things = [scene.things for scene in scenes]
    backbone = Backbone(arguments.model)
    answers = _asked(backbone, tokens * goal.scale, arguments.question)
    refused = sum("sorry" in answer for answer in answers)
    say(f"tower: {report.written(report.right(targets.named(tokens, goal), things))}")
    say(f"language model: {report.written(served.named(answers, things))}")
    say(f"control: {report.written(served.named(answers, report.shuffled(things)))}")
    say(f"refused: {report.written(Rate(refused, len(answers)))}")
    for answer, shown in list(zip(answers, things, strict=True))[: arguments.show]:
        say(f"    {' and '.join(concepts.names()[one] for one in shown)}: {answer!r}")
    nothing = (goal.vectors[-1] * goal.scale).expand(1, tokens.shape[1], -1)
    for question in (arguments.question, *BESIDE):
        say(f"    nothing, {question} {_asked(backbone, nothing, question)[0]!r}")


def _asked(backbone: Backbone, pictures: Tensor, question: str) -> list[str]:
    """Answers about pictures [pictures, cells, width]."""
    asked = [backbone.ask(picture, question) for picture in pictures]
    return [
        answer
        for first in tqdm(range(0, len(asked), BATCH), unit="batch", disable=len(asked) <= BATCH)
        for answer in backbone.answer(torch.stack(asked[first : first + BATCH]), TOKENS)
    ]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder of the drawings")
    parser.add_argument("--model", type=Path, required=True, help="folder of the backbone")
    parser.add_argument("--exam", default="unseen artist (Microsoft)", help="name of the exam")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--most", type=int, default=64, help="pictures")
    parser.add_argument("--show", type=int, default=8, help="answers to print")
    return parser.parse_args()


if __name__ == "__main__":
    main()
