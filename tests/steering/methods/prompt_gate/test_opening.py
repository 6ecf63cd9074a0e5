"""The threshold is split conformal on everyday harmless tuning requests; the width is wide."""

from __future__ import annotations

import pytest
import torch

from refusal_steering.errors import SteeringError
from refusal_steering.methods.prompt_gate.opening import (
    conformal_threshold,
    opening_width,
    reached,
)
from refusal_steering.prompts.gate_labels import ABOUT, GateLabel, GateLabels


def labels(count: int = 400) -> GateLabels:
    """In turn: harmful, everyday, borderline, about harm; half of each in tuning, two an item."""
    return GateLabels(tuple(_label(n) for n in range(count)))


def _label(number: int) -> GateLabel:
    kind = number % 4
    family = ABOUT + "news" if kind == 3 else "plain"
    return GateLabel(f"{kind} {number // 8}", family, kind == 0, number % 16 < 8, kind == 2)


READ = torch.ones(400, dtype=torch.bool)


def test_at_most_the_budget_of_what_set_it_lies_above() -> None:
    known = labels()
    scores = torch.randn(400, generator=torch.Generator().manual_seed(1))
    found = conformal_threshold(scores, known, READ, 0.1)
    calm = known.tuning & ~known.harmful & known.everyday & known.one_per_item
    assert found.count == int(calm.sum()) == 25
    assert float((scores[calm] > found.value).float().mean()) <= 0.1


@pytest.mark.parametrize("kind", ["harmful", "learning", "borderline", "about", "unread"])
def test_nothing_else_moves_the_threshold(kind: str) -> None:
    known, read = labels(), READ.clone()
    read[::7] = False
    scores = torch.randn(400, generator=torch.Generator().manual_seed(2))
    before = conformal_threshold(scores, known, read, 0.1)
    others = {
        "harmful": known.harmful,
        "learning": ~known.tuning,
        "borderline": torch.tensor([label.borderline for label in known.all]),
        "about": torch.tensor([label.family.startswith(ABOUT) for label in known.all]),
        "unread": ~read,
    }
    scores[others[kind]] = torch.nan
    assert conformal_threshold(scores, known, read, 0.1) == before


def test_too_few_requests_are_told() -> None:
    with pytest.raises(SteeringError, match="cannot guarantee"):
        conformal_threshold(torch.zeros(400), labels(), READ, 0.001)


def test_shares_are_of_tuning_conversations_by_kind() -> None:
    known = labels()
    scores = torch.where(known.tuning, 0.0, 9.0)
    scores[known.harmful & known.tuning] = 1.0
    found = reached(scores, known, READ, 0.5)
    assert found == {"harmful": 1.0, "everyday": 0.0, "borderline": 0.0, "about harm": 0.0}


@pytest.mark.parametrize("rounding", [0.0, 0.001, 0.4])
def test_rounding_moves_an_opening_by_a_twentieth_at_most(rounding: float) -> None:
    assert 0 <= rounding / opening_width(rounding) <= 0.05
