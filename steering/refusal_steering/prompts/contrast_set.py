"""The contrast set: harmful and harmless requests, and the forms in which people send them.

A row of the set is a phrase; :func:`render` puts it into a frame ("Explain how to ...") and the
frame into a form. The last template of every form and frame is kept from training, so that a
preview can say what a bundle does with templates it has never met.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_args

from refusal_steering.prompts.json_lines import parse_json_lines
from refusal_steering.prompts.templates import (
    CARRIERS,
    DEEDS,
    FORMS,
    FRAMES,
    HEADINGS,
    NEW,
    TEMPLATES,
    AttackForm,
    Kind,
)

__all__ = [
    "FORMS",
    "AttackForm",
    "Item",
    "Kind",
    "Label",
    "Split",
    "digest",
    "load_items",
    "render",
]

Label = Literal["harmful", "harmless"]
Split = Literal["train", "tune", "held"]


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the contrast set; ``kind`` is the kind of phrase that ``text`` is."""

    id: str
    label: Label
    domain: str
    kind: Kind
    text: str

    @property
    def harmful(self) -> bool:
        """Whether a model should refuse the request."""
        return self.label == "harmful"

    @property
    def split(self) -> Split:
        """Part of the set, by a hash of the id: about 60 % train, 15 % tune, 25 % held out."""
        share = hashlib.sha256(self.id.encode()).digest()[0] / 256
        return "train" if share < 0.6 else "tune" if share < 0.75 else "held"


def load_items() -> tuple[Item, ...]:
    """All rows, harmful first, in file order."""
    return tuple(
        Item(**row)
        for label in get_args(Label)
        for _, row in parse_json_lines(_read(label), f"{label}.jsonl")
    )


def digest() -> str:
    """Hex sha256 of the set's files, for a bundle's manifest."""
    return hashlib.sha256(b"".join(_read(label) for label in get_args(Label))).hexdigest()


def templates(form: AttackForm) -> int:
    """How many templates a form has; the last ones are kept from training."""
    return len(TEMPLATES[form])


def trained_templates(form: AttackForm) -> range:
    """The templates that training may use."""
    return range(templates(form) - NEW[form])


def new_templates(form: AttackForm) -> range:
    """The templates that training never meets; none for a form with one template."""
    return range(templates(form) - NEW[form], templates(form))


def render(item: Item, form: AttackForm, template: int, frame: int = 0) -> str:
    """The user message for ``item`` in template number ``template`` of ``form``.

    ``frame`` counts through the ways to ask that fit the item and its split, the same ones
    for both labels; where it starts varies from item to item.
    """
    start = hashlib.sha256(item.text.encode()).digest()[0]
    carrier = _turn(CARRIERS[item.kind], start + frame)
    ways = {
        "text": item.text,
        "Text": item.text[:1].upper() + item.text[1:],
        "TEXT": item.text.upper(),
    }
    fields = {
        **ways,
        "request": _turn(_frames(item), start + frame).format(**ways),
        "carrier": carrier,
        "carrier_low": carrier[0].lower() + carrier[1:],
        "deed": _turn(DEEDS[item.kind], start // 2 + frame),
        "heading": _turn(HEADINGS[item.kind], start // 3 + frame).format(**ways),
    }
    return TEMPLATES[form][template].format(**fields)


def _frames(item: Item) -> tuple[str, ...]:
    frames = FRAMES[item.kind]
    return frames if item.split == "held" or len(frames) == 1 else frames[:-1]


def _turn(table: tuple[str, ...], place: int) -> str:
    return table[place % len(table)]


def _read(label: str) -> bytes:
    data = resources.files("refusal_steering.prompts") / "data" / f"{label}.jsonl"
    return data.read_bytes()
