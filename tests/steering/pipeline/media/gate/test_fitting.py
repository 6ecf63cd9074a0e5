"""What one step of training holds, and whose harmless requests set a threshold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusal_steering.errors import SteeringError
from refusal_steering.methods.prompt_gate.training import GateRecipe
from refusal_steering.pipeline.media.gate.examples import MediaExample, MediaExamples
from refusal_steering.pipeline.media.gate.fitting import (
    ALONE,
    group_thresholds,
    prompts_of_a_step,
    reread_places,
)
from refusal_steering.pipeline.media.requests import MediaRequest
from refusal_steering.prompts.gate_labels import GateLabel

RECIPE = GateRecipe()


def tuning(group: str, count: int) -> list[MediaExample]:
    """As many harmless requests of a group, each of an item of its own."""
    return [
        MediaExample(
            GateLabel(f"{group} {number}", group, False, True, False),
            group,
            MediaRequest(str(number), False, "tune", (("text", "words"),), Path()),
        )
        for number in range(count)
    ]


def test_a_group_of_many_has_a_threshold_of_its_own_and_the_few_share_one() -> None:
    sizes = {"many": ALONE, "few": 20, "fewer": 15}
    every = tuple(one for group, count in sizes.items() for one in tuning(group, count))
    scores = torch.cat([base + torch.linspace(0, 1, size) for base, size in
                        zip((0.0, 5.0, 10.0), sizes.values(), strict=True)])  # fmt: skip
    found = group_thresholds(scores, MediaExamples(every, ""), 0.1)
    assert found["many"].count == ALONE and found["few"] == found["fewer"]
    assert found["few"].count == 35
    for groups, base in ((("many",), 0), (("few", "fewer"), ALONE)):
        own = scores[base : base + sum(sizes[group] for group in groups)]
        above = float((own > found[groups[0]].value).float().mean())
        assert 0.0 < above <= 0.1
    with pytest.raises(SteeringError, match=r"few, fewer: .*cannot guarantee"):
        group_thresholds(scores, MediaExamples(every, ""), 0.02)


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
