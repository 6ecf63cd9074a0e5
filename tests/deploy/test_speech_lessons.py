"""Training through the backbone: a request is no distance from its own lesson."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from deploy.demo.training.speech import pause
from deploy.demo.training.speech.backbone import AFTER, LAYERS, Backbone, Lesson
from deploy.demo.training.speech.grammar import Sentence
from deploy.demo.training.speech.pause import spaced
from tests.needs import demo_model, need

WORDS = "how do i bake bread in paris"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    need("demo-model")
    return Backbone(Path(demo_model()))


@pytest.fixture(scope="module")
def sentence() -> Sentence:
    return Sentence(tuple(WORDS.split()), "harmless", "bake bread in paris")


@pytest.fixture(scope="module")
def lesson(backbone: Backbone, sentence: Sentence) -> Lesson:
    (found,) = backbone.lessons([sentence])
    return found


def ends(backbone: Backbone, sentence: Sentence) -> Tensor:
    """Where the words of the written sentence end, counted in whole tokens of this sentence."""
    tokens = [
        backbone.embedding.tokenizer.decode([i]) for i in backbone.embedding.ids(sentence.written)
    ]
    assert [token.strip().lower() for token in tokens] == [*sentence.words, "?"]
    return torch.arange(len(sentence.words))


def test_a_text_is_no_distance_from_its_own_lesson(
    backbone: Backbone, sentence: Sentence, lesson: Lesson
) -> None:
    after = len(backbone.embedding.ids(AFTER))
    assert lesson.states.shape[:2] == (len(LAYERS), len(sentence.words) + after)
    prompt = backbone.text(sentence.written)
    away = backbone.distances([prompt], [lesson], [ends(backbone, sentence)])
    assert float(away.answers) < 0.01
    assert float(away.states) < 0.01


def test_what_is_said_and_where_its_words_lie_counts(
    backbone: Backbone, sentence: Sentence, lesson: Lesson
) -> None:
    places = ends(backbone, sentence)
    own, other = backbone.text(sentence.written), backbone.text("How do I steal money in Rome?")
    same, wrong = (backbone.distances([prompt], [lesson], [None]) for prompt in (own, other))
    assert wrong.answers > same.answers + 0.1
    assert wrong.states > same.states + 0.01
    shifted = backbone.distances([own], [lesson], [(places + 1) % len(places)])
    assert shifted.states > 10 * backbone.distances([own], [lesson], [places]).states


def test_the_pause_is_read_over(backbone: Backbone, sentence: Sentence, lesson: Lesson) -> None:
    dots = backbone.embedding.vectors(backbone.embedding.ids("..."))[0]
    rows = [spaced(backbone, sentence, between) for between in (pause.stored(), dots)]
    with torch.no_grad():
        learnt, plain = (backbone.distances([row], [lesson], [None]) for row in rows)
    assert learnt.answers < plain.answers / 2
    assert learnt.states < plain.states


def test_a_sound_is_trained_through_the_frozen_backbone(backbone: Backbone, lesson: Lesson) -> None:
    vectors = torch.zeros(20, backbone.embedding.table.shape[1], requires_grad=True)
    away = backbone.distances([backbone.sound(vectors)], [lesson], [None])
    (away.answers + away.states).backward()
    assert vectors.grad is not None
    assert bool((vectors.grad.norm(dim=1) > 0).all())
    assert not any(part.requires_grad for part in backbone.model.parameters())
