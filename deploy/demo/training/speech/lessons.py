"""What the backbone answers to sentences in text: the lessons of training through the backbone."""

from __future__ import annotations

from pathlib import Path

import torch

from deploy.demo.training.speech.backbone import Backbone, Lesson
from deploy.demo.training.speech.grammar import Sentence

# Small enough for a machine with little memory: a batch has logits of the whole vocabulary.
_BATCH = 16


def collect(backbone: Backbone, wanted: list[Sentence], path: Path) -> list[Lesson]:
    """Lessons of sentences, kept in a file that grows with each call."""
    known: dict[str, Lesson] = {}
    if path.is_file():
        known = {
            text: Lesson(*parts) for text, parts in torch.load(path, weights_only=True).items()
        }
    missing = list({each.written: each for each in wanted if each.written not in known}.values())
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        texts = [sentence.written for sentence in batch]
        known |= dict(zip(texts, backbone.lessons(batch), strict=True))
        stored = {
            text: (
                lesson.answer,
                lesson.likely.int(),
                lesson.logits.half(),
                lesson.states.bfloat16(),
            )
            for text, lesson in known.items()
        }
        torch.save(stored, path)
    return [_whole(known[sentence.written]) for sentence in wanted]


def _whole(lesson: Lesson) -> Lesson:
    return Lesson(lesson.answer, lesson.likely.long(), lesson.logits.float(), lesson.states.float())
