"""Templates put together from parts, the same ones every time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Literal

from refusal_steering.prompts import template_parts as parts

AttackForm = Literal["plain", "carrier", "list", "role"]


def mixed(form: AttackForm, count: int, new: bool = False) -> tuple[str, ...]:
    """``count`` different templates of ``form``; ``new`` ones use only parts kept from training."""
    rng = random.Random(f"{form}, {new}")
    found: dict[str, None] = {}
    while len(found) < count:
        found[_MIXERS[form](rng, new)] = None
    return tuple(found)


def _pick(rng: random.Random, table: tuple[str, ...], new: bool) -> str:
    return rng.choice(table[-parts.KEPT :] if new else table[: -parts.KEPT])


def _carrier(rng: random.Random, new: bool) -> str:
    place = _pick(rng, parts.CARRIER_PLACES, new)
    return place.replace("{ask}", _pick(rng, parts.CARRIER_ASKS, new))


def _list(rng: random.Random, new: bool) -> str:
    template = _pick(rng, parts.LIST_ORDERS, new)
    template = template.replace("{title}", _pick(rng, parts.LIST_TITLES, new))
    template = template.replace("{ask}", _pick(rng, parts.LIST_ASKS, new))
    return template.replace("{skeleton}", _pick(rng, parts.LIST_SKELETONS, new))


def _role(rng: random.Random, new: bool) -> str:
    template = _pick(rng, parts.ROLE_ORDERS, new)
    for name, table in (
        ("persona", parts.ROLE_PERSONAS),
        ("rule", parts.ROLE_RULES),
        ("question", parts.ROLE_QUESTIONS),
        ("lead", parts.ROLE_LEADS),
        ("opening", parts.ROLE_OPENINGS),
        ("name", parts.ROLE_NAMES),
    ):
        template = template.replace(f"{{{name}}}", _pick(rng, table, new))
    # Empty parts leave blanks behind.
    return re.sub(r" *\n *", "\n", re.sub(r"  +", " ", template)).strip()


_MIXERS: dict[AttackForm, Callable[[random.Random, bool], str]] = {
    "carrier": _carrier,
    "list": _list,
    "role": _role,
}
