"""The ways of asking that a run compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from refusal_steering.errors import EvaluationError

Defence = Literal["self-reminder", "ecso"]
DEFENCES: tuple[Defence, ...] = get_args(Defence)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of asking: a steering policy, a system prompt, a defence, or none of them."""

    name: str
    policy: str | None = None
    system: str | None = None
    defence: Defence | None = None


def parse_defences(names: Sequence[str]) -> tuple[Defence, ...]:
    """Defences by name, each once; raises :class:`EvaluationError` for an unknown one."""
    for name in names:
        if name not in DEFENCES:
            raise EvaluationError(f"defence {name!r} is unknown; there are {', '.join(DEFENCES)}")
    return tuple(defence for defence in DEFENCES if defence in names)
