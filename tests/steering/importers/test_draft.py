"""Coefficients and limits of imported bundles: their units, and that nobody gets one by default."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from refusal_steering.bundle import Window
from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.draft import Coefficient, Limit, imported_bundle
from refusal_steering.importers.imported import Imported
from refusal_steering.importers.official import adapters_of
from tests.steering.importers.checkpoints import (
    SIZE,
    adapter_state,
    model,
    vectors,
)

LAYERS = (3, 5)
PLAIN = Imported("test", vectors(LAYERS))
ADAPTED = Imported("test", vectors(LAYERS), adapters_of(adapter_state(LAYERS), "test"))


def test_a_coefficient_in_norms_adds_multiples_of_the_raw_vector() -> None:
    draft = imported_bundle(PLAIN, model(), coefficient=Coefficient(0.5, "norm"))
    assert draft.strategy == "static"
    for layer, steering in draft.layers.items():
        added = steering.coefficient(torch.zeros(1, SIZE)) * steering.direction
        assert torch.allclose(added, 0.5 * PLAIN.vectors[layer], atol=1e-5)


def test_a_coefficient_in_stream_units_is_the_length_that_is_added() -> None:
    draft = imported_bundle(PLAIN, model(), coefficient=Coefficient(2.5, "stream"))
    for steering in draft.layers.values():
        added = steering.coefficient(torch.zeros(1, SIZE)) * steering.direction
        assert float(added.norm()) == pytest.approx(2.5, rel=1e-5)


def test_a_window_can_be_chosen() -> None:
    window = Window(decode_tokens=3, hold=True)
    assert imported_bundle(ADAPTED, model(), limit=Limit(1.0), window=window).window == window


@pytest.mark.parametrize(
    ("imported", "options", "words"),
    [
        (PLAIN, {}, "need a coefficient"),
        (PLAIN, {"limit": Limit(1.0)}, "need a coefficient"),
        (
            PLAIN,
            {"coefficient": Coefficient(1.0, "norm"), "limit": Limit(1.0)},
            "need a coefficient",
        ),
        (PLAIN, {"coefficient": Coefficient(0.0, "norm")}, "positive"),
        (PLAIN, {"coefficient": Coefficient(-1.0, "stream")}, "positive"),
        (PLAIN, {"coefficient": Coefficient(math.nan, "stream")}, "positive"),
        (ADAPTED, {}, "k_max"),
        (ADAPTED, {"coefficient": Coefficient(1.0, "norm")}, "k_max"),
        (ADAPTED, {"coefficient": Coefficient(1.0, "norm"), "limit": Limit(1.0)}, "k_max"),
        (ADAPTED, {"limit": Limit(0.0)}, "positive"),
        (ADAPTED, {"limit": Limit(math.inf)}, "positive"),
    ],
)
def test_strength_is_a_decision(imported: Imported, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnusableSourceError, match=words):
        imported_bundle(imported, model(), **options)


def test_another_model_is_refused() -> None:
    coefficient = Coefficient(1.0, "norm")
    with pytest.raises(UnusableSourceError, match="hidden size"):
        imported_bundle(PLAIN, model(SIZE + 1), coefficient=coefficient)
    with pytest.raises(UnusableSourceError, match="layer 5"):
        imported_bundle(PLAIN, model(layers=5), coefficient=coefficient)
    assert imported_bundle(PLAIN, model(layers=6), coefficient=coefficient).layers.keys() == set(
        LAYERS
    )


def test_nothing_is_no_import() -> None:
    with pytest.raises(UnusableSourceError, match="no vector"):
        Imported("test", {})
