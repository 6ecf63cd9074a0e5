"""A case before its media are read: what a limit chooses from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from refusal_steering.evaluation.case import Case, Content, Label, Message, user
from refusal_steering.evaluation.expected import Expected, ShortAnswer


@dataclass(frozen=True, slots=True)
class Draft:
    """``build`` makes the content of the user message, or all turns of a conversation.

    Only chosen drafts are built. The other fields are those of :class:`Case`.
    """

    id: str
    form: str
    label: Label
    build: Callable[[], Content | tuple[Message, ...]]
    expected: Expected | None = None
    intent: str | None = None

    def case(self, suite: str) -> Case:
        """The finished case."""
        built = self.build()
        messages = built if isinstance(built, tuple) else user(built)
        return Case(self.id, suite, self.form, self.label, messages, self.expected, self.intent)


def pick(drafts: Sequence[Draft], limit: int | None, seed: int = 0) -> list[Draft]:
    """At most ``limit`` drafts by chance, evenly over forms and labels, in their old order.

    The same seed picks the same drafts, so that runs can be compared case by case. Questions that
    belong in pairs are picked in pairs, one fewer than the limit where that takes a half.
    """
    if limit is None or limit >= len(drafts):
        return list(drafts)
    units = _units(drafts)
    order = random.Random(seed).sample(range(len(units)), len(units))
    turn: dict[tuple[str, str], int] = {}
    ranks = []
    for place in order:
        first = drafts[units[place][0]]
        group = (first.form, first.label)
        turn[group] = turn.get(group, 0) + 1
        ranks.append((turn[group], place))
    # Sorting is stable: within one turn the order of the draw decides.
    chosen: list[int] = []
    for _, unit in sorted(ranks, key=lambda rank: rank[0]):
        if len(chosen) + len(units[unit]) <= limit:
            chosen += units[unit]
    # A limit below every unit still leaves something to ask.
    return [drafts[place] for place in sorted(chosen or units[order[0]][:limit])]


def _units(drafts: Sequence[Draft]) -> list[list[int]]:
    """Places of drafts that belong together, each alone unless its question is one of a pair."""
    found: dict[object, list[int]] = {}
    for place, draft in enumerate(drafts):
        pair = draft.expected.pair if isinstance(draft.expected, ShortAnswer) else ""
        found.setdefault((draft.form, pair) if pair else place, []).append(place)
    return list(found.values())
