"""What one step of training holds, and whose harmless requests set a threshold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusal_steering.calibration.conformal import Threshold
from refusal_steering.errors import SteeringError
from refusal_steering.methods.prompt_gate.training import GateRecipe
from refusal_steering.pipeline.media.gate.examples import TEXTS, MediaExample, MediaExamples
from refusal_steering.pipeline.media.gate.fitting import prompts_of_a_step, reread_places
from refusal_steering.pipeline.media.gate.thresholds import (
    ALONE,
    Budgets,
    group_thresholds,
    media_thresholds,
)
from refusal_steering.pipeline.media.requests import TEXT, MediaRequest
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


def test_small_groups_share_a_threshold_with_their_like() -> None:
    sizes = {TEXTS: ALONE, TEXT: 30, "image": ALONE + 1, "audio": 20, "video": 15}
    every = tuple(one for group, count in sizes.items() for one in tuning(group, count))
    scores = torch.cat(
        [base + torch.linspace(0, 1, size) for base, size in enumerate(sizes.values())]
    )
    examples, budgets = MediaExamples(every, ""), Budgets(words=0.1, media=0.2)
    found = group_thresholds(scores, examples, budgets)
    counts = {group: one.count for group, one in found.items()}
    assert counts == {TEXTS: 100, TEXT: 130, "image": 101, "audio": 35, "video": 35}
    assert found["audio"] == found["video"] != found["image"]
    for group, together in (
        (TEXT, {TEXTS, TEXT}),
        ("image", {"image"}),
        ("audio", {"audio", "video"}),
    ):
        own = scores[torch.tensor([one.group in together for one in every])]
        above = float((own > found[group].value).float().mean())
        assert 0.0 < above <= budgets.of(group) == (0.1 if group == TEXT else 0.2)
    with pytest.raises(SteeringError, match=r"audio, video: .*cannot guarantee"):
        group_thresholds(scores, examples, Budgets(words=0.1, media=0.02))


def test_a_set_of_media_has_the_highest_threshold_of_its_groups() -> None:
    values = {TEXTS: 1.0, TEXT: 2.0, "image": 3.0, "text+image": 0.5, "text+image+audio": -1.0}
    found = media_thresholds({group: Threshold(v, 0.1, 9, 0.2) for group, v in values.items()})
    assert found == {"text": 2.0, "image": 3.0, "image+audio": -1.0}


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
