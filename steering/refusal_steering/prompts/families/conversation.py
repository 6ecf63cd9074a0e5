"""A conversation as the chat template takes it, and the request that a family puts into one."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from refusal_steering.prompts.contrast_set import Item, render

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message."""

    role: Role
    content: str


Conversation = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One item of the contrast set as a sentence, ``text`` as the bare phrase."""

    item: Item
    sentence: str
    text: str

    @classmethod
    def of(cls, item: Item, frame: int) -> Request:
        """``item`` asked plainly in way number ``frame``."""
        return cls(item, render(item, "plain", 0, frame), item.text)


Wrap = Callable[[Request, random.Random], Conversation]


@dataclass(frozen=True, slots=True)
class Family:
    """One way of wording."""

    name: str
    wrap: Wrap


def single(*templates: str) -> Wrap:
    """A family of one user turn: ``{q}`` is the sentence, ``{t}`` the phrase."""

    def wrap(request: Request, rng: random.Random) -> Conversation:
        return (Turn("user", filled(rng.choice(templates), request)),)

    return wrap


def turns(*scripts: tuple[tuple[Role, str], ...]) -> Wrap:
    """A family of several turns, each a script of roles and templates."""

    def wrap(request: Request, rng: random.Random) -> Conversation:
        script = rng.choice(scripts)
        return tuple(Turn(role, filled(template, request)) for role, template in script)

    return wrap


def filled(template: str, request: Request) -> str:
    """``template`` with the request in its places; other braces stay as they are."""
    low = request.sentence[:1].lower() + request.sentence[1:]
    fields: Mapping[str, str] = {"{q}": request.sentence, "{low}": low, "{t}": request.text}
    for mark, value in fields.items():
        template = template.replace(mark, value)
    return template
