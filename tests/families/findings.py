"""What a family's trial has shown, property by property."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.families.asking import OFF, Answer, Asked

# An engine adds in another order in another batch.
_SAME = 1e-3
ROUNDING = 0.02


@dataclass(frozen=True)
class Findings:
    """Of one family.

    ``bundles`` were made and passed their boot canaries, ``left_out`` were not made, with the
    reason. ``layers`` is how many were found. ``row_error`` is the largest difference of a row from
    transformers', in standard deviations of its entries; ``None`` where nobody could compare.
    ``proven`` are bundles whose reports prove that every request with a medium (of text, where the
    family takes none) was steered, ``moved`` those that changed an answer to one. ``unequal`` names
    requests that a mixed batch answers otherwise. ``failure`` says where a trial ended.
    """

    family: str
    layers: int = 0
    bundles: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    row_error: float | None = None
    served: bool = False
    proven: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    unequal: tuple[str, ...] = ()
    failure: str = ""

    @property
    def rows_agree(self) -> bool:
        """Whether rows are those of transformers, but for rounding to bfloat16."""
        return self.row_error is not None and self.row_error <= ROUNDING


def steered_well(
    alone: Mapping[Asked, Answer], bundles: tuple[str, ...], *, media: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bundles whose steering is proven on all requests with media, and that moved one of them."""
    concerned = {one: answer for one, answer in alone.items() if (one.medium is not None) == media}
    under = {
        name: {one: answer for one, answer in concerned.items() if one.policy == name}
        for name in bundles
    }
    proven = tuple(
        name for name, those in under.items() if all(_proven(*pair) for pair in those.items())
    )
    moved = tuple(
        name
        for name, those in under.items()
        if any(_moved(answer, _unsteered(alone, one)) for one, answer in those.items())
    )
    return proven, moved


def unequal(alone: Mapping[Asked, Answer], together: Mapping[Asked, Answer]) -> tuple[str, ...]:
    """Requests whose tokens or log-probabilities depend on what else is in the batch."""
    return tuple(one.name for one, answer in alone.items() if _differ(answer, together[one]))


def _proven(one: Asked, answer: Answer) -> bool:
    """Whether the report has the rows of the prompt's end, and the medium that came."""
    media = [one.medium] if one.medium else []
    report = answer.report
    return int(report["rows_verified"]) >= 1 and bool(report["media"] == media)


def _moved(answer: Answer, plain: Answer) -> bool:
    acted = answer.report["coefficient"] != 0 or answer.report["blended"] > 0
    return acted and _differ(answer, plain)


def _unsteered(alone: Mapping[Asked, Answer], one: Asked) -> Answer:
    return alone[Asked(one.medium, one.text, OFF)]


def _differ(one: Answer, other: Answer) -> bool:
    if one.tokens != other.tokens:
        return True
    return any(abs(a - b) > _SAME for a, b in zip(one.logprobs, other.logprobs, strict=True))
