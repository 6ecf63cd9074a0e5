"""A case before its media are read: what a limit chooses from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from refusal_steering.evaluation.case import Case, Content, Label, Message, user


@dataclass(frozen=True, slots=True)
class Draft:
    """``build`` makes the content of the user message, or all turns of a conversation.

    Only chosen drafts are built.
    """

    id: str
    form: str
    label: Label
    build: Callable[[], Content | tuple[Message, ...]]
    choice: str | None = None

    def case(self, suite: str) -> Case:
        """The finished case."""
        built = self.build()
        messages = built if isinstance(built, tuple) else user(built)
        return Case(self.id, suite, self.form, self.label, messages, self.choice)


def pick(drafts: Sequence[Draft], limit: int | None, seed: int = 0) -> list[Draft]:
    """At most ``limit`` drafts by chance, evenly over forms and labels, in their old order.

    The same seed picks the same drafts, so that runs can be compared case by case.
    """
    if limit is None or limit >= len(drafts):
        return list(drafts)
    order = random.Random(seed).sample(range(len(drafts)), len(drafts))
    turn: dict[tuple[str, str], int] = {}
    ranks = []
    for place in order:
        group = (drafts[place].form, drafts[place].label)
        turn[group] = turn.get(group, 0) + 1
        ranks.append((turn[group], place))
    # Sorting is stable: within one turn the order of the draw decides.
    chosen = sorted(ranks, key=lambda rank: rank[0])[:limit]
    return [drafts[place] for place in sorted(place for _, place in chosen)]
