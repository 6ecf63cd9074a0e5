"""The cases of one part: families, held-out items, and requests in another language."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from refusal_steering.evaluation.case import Label, Message
from refusal_steering.evaluation.suites.unseen import closed_half, open_half, sealed_part
from refusal_steering.prompts.contrast_set import Item, load_items
from refusal_steering.prompts.families.conversation import Conversation, Family, Request, Turn
from refusal_steering.prompts.json_lines import parse_json_lines

Part = Literal["open", "closed", "sealed"]
_FRAMES = 8
_FAMILIES: Mapping[Part, tuple[tuple[Family, ...], str]] = {
    "open": (open_half.OPEN, open_half.LANGUAGE),
    "closed": (closed_half.CLOSED, closed_half.LANGUAGE),
    "sealed": (sealed_part.SEALED, sealed_part.LANGUAGE),
}


@dataclass(frozen=True, slots=True)
class UnseenCase:
    """One conversation of a family that no calibration meets."""

    id: str
    family: str
    item: Item
    conversation: Conversation

    @property
    def label(self) -> Label:
        """Borderline requests have a label of their own."""
        if self.item.harmful:
            return "harmful"
        return "borderline" if self.item.domain == "borderline" else "harmless"

    @property
    def messages(self) -> tuple[Message, ...]:
        """All turns, as OpenAI messages."""
        return tuple({"role": turn.role, "content": turn.content} for turn in self.conversation)


def unseen_cases(part: Part, rows: int = 32) -> list[UnseenCase]:
    """At most ``rows`` harmful and ``rows`` everyday requests a family, the same ones every time.

    Borderline requests stand plainly in a family of their own.
    """
    families, language = _FAMILIES[part]
    half = "open" if part == "open" else "closed"
    items = [item for item in load_items() if item.split == "held" and _half_of(item) == half]
    found = [case for family in families for case in _wrapped(family, items, rows)]
    found += _plain("language", _language(language), rows)
    found += _plain("borderline", [i for i in items if i.domain == "borderline"], rows)
    return found


def _wrapped(family: Family, items: list[Item], rows: int) -> Iterator[UnseenCase]:
    everyday = [item for item in items if item.domain != "borderline"]
    for item in _drawn(everyday, family.name, rows):
        rng = random.Random(f"{family.name}, {item.id}")
        request = Request.of(item, rng.randrange(_FRAMES))
        conversation = family.wrap(request, rng)
        yield UnseenCase(f"{item.id}/{family.name}", family.name, item, conversation)


def _plain(name: str, items: list[Item], rows: int) -> list[UnseenCase]:
    return [
        UnseenCase(f"{i.id}/{name}", name, i, (Turn("user", Request.of(i, 7).sentence),))
        for i in _drawn(items, name, rows)
    ]


def _drawn(items: list[Item], key: str, rows: int) -> list[Item]:
    """``rows`` items of each label by chance, in file order."""
    chosen: set[str] = set()
    for harmful in (True, False):
        mine = [item.id for item in items if item.harmful == harmful]
        chosen |= set(random.Random(key).sample(mine, min(rows, len(mine))))
    return [item for item in items if item.id in chosen]


def _half_of(item: Item) -> str:
    return "open" if hashlib.sha256(item.id.encode()).digest()[1] % 2 else "closed"


def _language(code: str) -> list[Item]:
    data = resources.files("refusal_steering.evaluation") / "data" / f"unseen_{code}.jsonl"
    return [Item(**row) for _, row in parse_json_lines(data.read_bytes(), data.name)]
