"""Pooling in parts equals pooling at once, and what was not read never looks like a number."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_steering.gate.prompt_gate import Pooling
from refusal_steering.runtime.gate.bank import LAYERS, OPENING, PEAK, POSITION, TOTAL
from refusal_steering.runtime.gate.pooling import Pooled, columns, conclude, merge, nothing, pool
from tests.steering.runtime.gate.gates import gate, rows

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
GATE = gate(pooling="both")
SHARES = torch.full((3,), 1 / 3)


def values(prompt: list[int]) -> torch.Tensor:
    """What the probes of :data:`GATE` read, [1, N, 3 layers, 3]."""
    read = []
    for index in GATE.layers:
        weight, bias = GATE.probes[index].stacked
        read.append(rows(index, prompt) @ weight.T + bias)
    return torch.stack(read, dim=1).unsqueeze(0)


READ = values(PROMPT)
POSITIONS = torch.arange(len(PROMPT)).unsqueeze(0)


def part(first: int, end: int) -> Pooled:
    """The tokens from ``first`` to ``end`` - 1, among others that do not count."""
    counted = (first <= POSITIONS) & (end > POSITIONS)
    return pool(READ, counted, POSITIONS, SHARES)


@settings(deadline=None)
@given(cuts=st.sets(st.integers(0, len(PROMPT)), max_size=4))
def test_parts_merge_to_the_whole(cuts: set[int]) -> None:
    edges = sorted({0, *cuts, len(PROMPT)})
    merged = columns(nothing(1, 3, torch.device("cpu")))
    for first, end in pairwise(edges):
        merged = merge(merged, part(first, end))
    for mine, whole in zip(merged, part(0, len(PROMPT)), strict=True):
        torch.testing.assert_close(mine, whole)


@pytest.mark.parametrize("pooling", ["max", "attention", "both"])
@pytest.mark.parametrize("start", [0, 4, 9])
def test_the_conclusion_is_the_formula(pooling: Pooling, start: int) -> None:
    prompt_gate = gate(pooling=pooling)
    ramp = torch.tensor([[prompt_gate.threshold, prompt_gate.width]])
    row = conclude(part(start, len(PROMPT)), torch.tensor(prompt_gate.uses), SHARES, ramp)[0]
    wanted = prompt_gate.score({index: rows(index, PROMPT) for index in GATE.layers}, start)
    assert float(row[TOTAL]) == pytest.approx(wanted.score, abs=1e-5)
    assert float(row[OPENING]) == pytest.approx(prompt_gate.opening(wanted.score), abs=1e-5)
    assert int(row[POSITION]) == wanted.position
    assert float(row[PEAK]) == pytest.approx(float(wanted.risks.max()), abs=1e-5)
    assert row[LAYERS : LAYERS + 3].tolist() == pytest.approx(wanted.layers, abs=1e-5)
    assert row[LAYERS + 3 :].tolist() == list(wanted.peaks)


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("place", range(3))
def test_one_token_that_was_not_read_leaves_no_score(column: int, place: int) -> None:
    damaged = READ.clone()
    damaged[0, 5, place, column] = torch.nan
    counted = torch.ones_like(POSITIONS, dtype=torch.bool)
    ramp = torch.tensor([[0.0, 1.0]])
    late, early = counted & (POSITIONS >= 4), counted & (POSITIONS < 4)
    for parts in ((counted,), (early, late)):
        pooled = columns(nothing(1, 3, torch.device("cpu")))
        for which in parts:
            pooled = merge(pooled, pool(damaged, which, POSITIONS, SHARES))
        assert conclude(pooled, torch.ones(2), SHARES, ramp)[0, TOTAL].isnan()


def test_a_token_that_does_not_count_may_be_unread() -> None:
    damaged = READ.clone()
    damaged[0, :3] = torch.nan
    counted = POSITIONS >= 3
    for mine, clean in zip(
        pool(damaged, counted, POSITIONS, SHARES), part(3, len(PROMPT)), strict=True
    ):
        assert torch.equal(mine, clean)


def test_a_layer_without_a_share_may_be_unread() -> None:
    damaged, shares = READ.clone(), torch.tensor([0.5, 0.5, 0.0])
    damaged[:, :, 2] = torch.nan
    counted = torch.ones_like(POSITIONS, dtype=torch.bool)
    ramp = torch.tensor([[0.0, 1.0]])
    row = conclude(pool(damaged, counted, POSITIONS, shares), torch.ones(2), shares, ramp)[0]
    two = gate(layers=GATE.layers[:2])
    wanted = two.score({index: rows(index, PROMPT) for index in two.layers})
    assert float(row[TOTAL]) == pytest.approx(wanted.score, abs=1e-5)
