"""What a plan says a build will ask is what the build asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from refusal_steering.engine import EngineAnswer, EngineFacts, Messages, PromptRows, Steered
from refusal_steering.pipeline.media.build import build_media
from refusal_steering.pipeline.media.estimate import cost_lines, costs
from refusal_steering.pipeline.media.plan import MADE, MediaPlan, lines
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.stages import Stages
from tests.steering.pipeline.media.fake_model import FACTS, HIDDEN, LAYERS, FakeModel


class Counted(FakeModel):
    """Counts conversations by stage."""

    stage = ""

    def __init__(self) -> None:
        super().__init__()
        self.conversations: Counter[str] = Counter()

    def rows(self, conversations: Sequence[Messages], steered: Steered | None = None) -> Tensor:
        self.conversations[self.stage] += len(conversations)
        return super().rows(conversations, steered)

    def answers(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None = None,
        *,
        logprobs: bool = False,
    ) -> list[EngineAnswer]:
        self.conversations[self.stage] += len(conversations)
        return super().answers(conversations, tokens, steered, logprobs=logprobs)

    def prompt_rows(
        self, conversations: Sequence[Messages], layers: Sequence[int]
    ) -> Iterator[PromptRows]:
        self.conversations[self.stage] += len(conversations)
        return super().prompt_rows(conversations, layers)

    def states(self, conversations: Sequence[Messages], tokens: int) -> Tensor:
        self.conversations[self.stage] += len(conversations)
        return super().states(conversations, tokens)


def test_a_build_asks_what_its_plan_says(
    requests: Requests, plan: MediaPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stage = Counted(), Stages.stage

    @contextmanager
    def named(stages: Stages, name: str) -> Iterator[None]:
        model.stage = name
        with stage(stages, name):
            yield

    monkeypatch.setattr(Stages, "stage", named)
    build_media(model, requests, plan, tmp_path)
    planned = {one.stage: one for one in costs(plan, requests, FACTS)}
    assert list(planned) == ["rows", "vectors", *MADE, "held-out rows", "trial"]
    # The fake model refuses every harmful text, and says something quotable of every picture.
    assert {name: one.asked for name, one in planned.items() if one.asked} == model.conversations
    for name, one in planned.items():
        assert (one.tokens >= 60 * one.asked) and bool(one.tokens) == bool(one.asked), name


def test_the_sums_that_are_shown_are_true(requests: Requests, plan: MediaPlan) -> None:
    for one in costs(plan, requests, FACTS):
        if one.memory:
            numbers = [int(word) for word in one.sum.split() if word.isdigit()]
            product = 1
            for number in numbers:
                product *= number
            assert product == one.memory
    more = replace(FACTS, identity=FACTS.identity.model_copy(update={"num_layers": 2 * LAYERS}))
    memory = {one.stage: one.memory for one in costs(plan, requests, FACTS)}
    deeper = {one.stage: one.memory for one in costs(plan, requests, more)}
    assert deeper["rows"] == 2 * memory["rows"] and deeper["vectors"] == memory["vectors"]


def test_a_medium_counts_no_more_than_the_processor_lets_it_take(
    requests: Requests, plan: MediaPlan
) -> None:
    def tokens(facts: EngineFacts) -> int:
        return costs(plan, requests, facts)[0].tokens

    seen = sum("image" in one.media for one in requests.part("train", "tune").all)
    small, smaller = (replace(FACTS, medium_tokens={"image": most}) for most in (16, 8))
    assert tokens(small) - tokens(smaller) == 8 * seen > 0
    assert tokens(replace(FACTS, medium_tokens={"image": 16_384})) == tokens(FACTS)


@pytest.mark.parametrize("held", [True, False])
def test_counts_are_shown_by_group_label_and_stage(
    requests: Requests, plan: MediaPlan, held: bool
) -> None:
    asked = requests if held else requests.part("train", "tune")
    said = [*lines(plan, asked, FACTS), *cost_lines(plan, asked, FACTS)]
    for group in asked.groups:
        (line,) = [one for one in said if one.startswith(f"{group:10} train")]
        for split in ("train", "tune", "held"):
            counts = {label: len(asked.chosen(split, group, label)) for label in (True, False)}
            assert f"{split} {counts[True]} harmful and {counts[False]} harmless" in line
    rows = len(asked.part("train", "tune").all)
    tokens = sum(cost.tokens for cost in costs(plan, asked, FACTS) if cost.stage == "rows")
    (line,) = [one for one in said if one.startswith("rows ")]
    assert f"{rows:,} requests, {tokens:,} tokens: " in line and "on a GPU" in line
    parameters = 12 * LAYERS * HIDDEN**2 + FACTS.vocabulary * HIDDEN
    assert any(f"parameters {parameters:.2g} = 12 x {LAYERS} layers" in one for one in said)
    names: list[Any] = [one.split(" ")[0] for one in said]
    assert all(name in names for name in ("vectors", *MADE, "trial", "together", "disk"))
