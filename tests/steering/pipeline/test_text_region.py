"""The layer of a text build's mars is chosen on requests that made no frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from refusal_steering.pipeline import text_region
from refusal_steering.pipeline.parts import LeftOut
from refusal_steering.pipeline.plan import BuildPlan
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.examples import Examples

WIDTH, DEPTH = 512, 4


def noise(_: Any, prompts: Sequence[str], layers: Iterable[int]) -> dict[int, Tensor]:
    """Rows that say nothing of their prompts but which they are."""

    def row(layer: int, prompt: str) -> Tensor:
        seed = int(hashlib.sha256(f"{layer} {prompt}".encode()).hexdigest()[:12], 16)
        return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))

    return {layer: torch.stack([row(layer, prompt) for prompt in prompts]) for layer in layers}


def test_a_model_of_noise_has_no_layer_that_tells_requests_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_region, "collect", noise)
    target: Any = None
    items = Corpus.shipped().items[::4]
    examples, plan = Examples.draw(items, 0), BuildPlan()
    learning = examples.where(examples.clear & ~examples.tuning)
    sample = text_region.labelled_rows(target, learning.all, DEPTH)
    region = text_region.text_region(target, examples, sample, plan, LeftOut())
    assert region.area < 0.7
    part = region.part(plan)
    assert part.facts["layer_area_on_tuning_rows"] == region.area
    (layer,) = part.spec.layers.values()
    places = sample.rows[region.at] @ layer.direction
    # The very rows of the frame would have said the opposite.
    assert float(places[sample.harmful].median()) > float(places[~sample.harmful].quantile(0.9))
