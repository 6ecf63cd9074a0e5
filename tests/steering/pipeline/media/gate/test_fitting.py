"""A step of training holds as many prompts as fit into memory, whatever media they bring."""

from __future__ import annotations

import pytest

from refusal_steering.methods.prompt_gate.training import GateRecipe
from refusal_steering.pipeline.media.gate.fitting import prompts_of_a_step, reread_places

RECIPE = GateRecipe()


@pytest.mark.parametrize(
    ("tokens", "width", "batch"),
    [(60, 896, RECIPE.batch), (800, 3584, 23), (30_000, 8192, 16), (1, 8, RECIPE.batch)],
)
def test_few_prompts_of_many_tokens_are_trained_at_a_time(
    tokens: int, width: int, batch: int
) -> None:
    assert prompts_of_a_step(RECIPE, tokens, width) == batch


@pytest.mark.parametrize("count", [1, 47, 48, 95, 96, 5000])
def test_the_prompts_that_are_read_again_are_spread_over_all(count: int) -> None:
    found = reread_places(range(count))
    assert min(count, 48) <= len(found) < 96
    assert found[0] == 0 and count - found[-1] <= max(1, count // 48)
