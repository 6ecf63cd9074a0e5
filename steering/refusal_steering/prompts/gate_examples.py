"""Conversations that a prompt gate learns from: items of the contrast set in many families."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from refusal_steering.prompts.contrast_set import FORMS, Item, render, trained_templates
from refusal_steering.prompts.families.about_harm import ABOUT_HARM
from refusal_steering.prompts.families.conversation import Conversation, Family, Request, Turn
from refusal_steering.prompts.families.genres import GENRES
from refusal_steering.prompts.families.long_texts import long_tasks
from refusal_steering.prompts.families.operators import SYSTEM_PROMPTS
from refusal_steering.prompts.families.pointing import Pointed, pointed
from refusal_steering.prompts.families.several_turns import SEVERAL_TURNS
from refusal_steering.prompts.families.wrapped import SINGLE_TURN
from refusal_steering.prompts.gate_labels import GateLabel, GateLabels
from refusal_steering.prompts.json_lines import parse_json_lines

FAMILIES: tuple[Family, ...] = (*SINGLE_TURN, *SEVERAL_TURNS)
"""Shapes of a request; ``GENRES`` are texts that contain it."""
_FRAMES = 8
# A system prompt stands before this share of the conversations.
_WITH_SYSTEM = 0.2
# Families that each further borderline request stands in, beside its plain and an attack form.
_FAMILIES_OF_FURTHER = 1
# This share of the requests in other languages stands in a family.
_WRAPPED = 0.4


@dataclass(frozen=True, slots=True)
class GateExample:
    """One conversation and what is known of it."""

    label: GateLabel
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class GateExamples:
    """Examples in order."""

    all: tuple[GateExample, ...]

    @classmethod
    def draw(cls, items: Iterable[Item], seed: int, families: int = 3) -> GateExamples:
        """Every train and tune item plainly, in an attack form, a genre and ``families`` families.

        Harmful items also stand in one task about harm each, which is harmless. Requests in other
        languages and long harmless texts come with it. Held-out items are left out. Twins,
        requests that point, and further borderline ones train only: so many of them would set the
        threshold alone.
        """
        rng = random.Random(seed)
        usable = [item for item in items if item.split != "held"]
        found = [example for item in usable for example in _of_item(item, families, rng)]
        found += [_spoken(item, rng) for item in language_items()]
        found += [
            GateExample(
                GateLabel(task.id, "long text", False, task.tuning, False), task.conversation
            )
            for task in long_tasks()
        ]
        drawn = [_with_system(example, rng) for example in found]
        # Drawn last, so that the rows of the others, once read, stay what they are.
        further = [_in_genre(item, rng) for item in usable]
        further += [_spoken(item, rng) for item in language_items("more_languages.jsonl")]
        drawn += [_with_system(example, rng) for example in further]
        taught = [_spoken(item, rng) for item in language_items("language_twins.jsonl")]
        drawn += [_with_system(_trains(example), rng) for example in taught]
        for item in borderline_twins():
            taught = [*_of_item(item, families, rng), _in_genre(item, rng)]
            drawn += [_with_system(_trains(example), rng) for example in taught]
        drawn += [_with_system(_of_pointed(one), rng) for one in pointed(rng)]
        for item in further_borderline():
            taught = _of_item(item, _FAMILIES_OF_FURTHER, rng)
            drawn += [_with_system(_trains(example), rng) for example in taught]
        return cls(tuple(drawn))

    @property
    def labels(self) -> GateLabels:
        """What is known of the examples."""
        return GateLabels(tuple(example.label for example in self.all))

    @property
    def conversations(self) -> list[Conversation]:
        """The conversations in order."""
        return [example.conversation for example in self.all]

    @property
    def sha256(self) -> str:
        """Names the examples: hex sha256 over labels and words."""
        return hashlib.sha256(repr(self.all).encode()).hexdigest()


def language_items(name: str = "languages.jsonl") -> tuple[Item, ...]:
    """Requests in other languages than English, of one of three files.

    A hash of the id splits them as it does the contrast set; what would be held out there trains.
    """
    return _items(name)


def borderline_twins() -> tuple[Item, ...]:
    """Harmless requests that sound like the contrast set's harmful training items, one for each."""
    return _items("borderline_twins.jsonl")


def further_borderline() -> tuple[Item, ...]:
    """Harmless requests that sound harmful, of many kinds; they train and set no threshold."""
    return _items("more_borderline.jsonl")


def _items(name: str) -> tuple[Item, ...]:
    data = resources.files("refusal_steering.prompts") / "data" / name
    return tuple(Item(**row) for _, row in parse_json_lines(data.read_bytes(), data.name))


def _of_item(item: Item, families: int, rng: random.Random) -> list[GateExample]:
    request = Request.of(item, rng.randrange(_FRAMES))
    form = rng.choice(FORMS[1:])
    template = rng.choice(trained_templates(form))
    wrapped = Turn("user", render(item, form, template, rng.randrange(_FRAMES)))
    found = [
        _example(item, "plain", (Turn("user", request.sentence),)),
        _example(item, form, (wrapped,)),
    ]
    for family in rng.sample(FAMILIES, families):
        found.append(_example(item, family.name, family.wrap(request, rng)))
    if item.harmful and item.kind == "act":
        family = rng.choice(ABOUT_HARM)
        about = _example(item, family.name, family.wrap(request, rng))
        found.append(replace(about, label=replace(about.label, harmful=False)))
    return found


def _in_genre(item: Item, rng: random.Random) -> GateExample:
    family = rng.choice(GENRES)
    return _example(item, family.name, family.wrap(Request.of(item, rng.randrange(_FRAMES)), rng))


def _spoken(item: Item, rng: random.Random) -> GateExample:
    request = Request.of(item, 0)
    conversation: Conversation = (Turn("user", request.sentence),)
    if rng.random() < _WRAPPED:
        conversation = rng.choice(FAMILIES).wrap(request, rng)
    return _example(item, item.domain, conversation)


def _of_pointed(one: Pointed) -> GateExample:
    name = f"pointing at {one.thing}"
    label = GateLabel(name, f"pointing, {one.kind}", one.harmful, False, one.borderline)
    return GateExample(label, one.conversation)


def _example(item: Item, family: str, conversation: Sequence[Turn]) -> GateExample:
    borderline = item.domain == "borderline"
    label = GateLabel(item.id, family, item.harmful, item.split == "tune", borderline)
    return GateExample(label, tuple(conversation))


def _trains(example: GateExample) -> GateExample:
    return replace(example, label=replace(example.label, tuning=False))


def _with_system(example: GateExample, rng: random.Random) -> GateExample:
    if rng.random() >= _WITH_SYSTEM:
        return example
    system = Turn("system", rng.choice(SYSTEM_PROMPTS))
    return replace(example, conversation=(system, *example.conversation))
