"""The spec of a request: whose window and limit hold, what the worker is told, what a canary is."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refusal_steering.bundle import CANARY_BLEND, SteeringBundle, Window, save_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.spec import SteeringSpec
from refusal_steering.terms import SteeringTerms

SIZE = 8
WINDOW = Window(decode_tokens=3, hold=False)
RISK_PASS = {"context_prompt": "What is it?", "risk_prompt": "{question}", "base": 0.5, "slope": 2}


def bundle(folder: Path, *, blends: bool = False, dose_limit: float | None = 0.4) -> SteeringBundle:
    layers = {1: LayerSteering.static(torch.eye(SIZE)[0], 0.0 if blends else 2.0)}
    states = RefusalPrototypes(torch.ones(2, SIZE), torch.zeros(1).long(), torch.zeros(1), 0.0)
    prototypes = states if blends else None
    spec = SteeringSpec.of_parts(layers, WINDOW, dose_limit=dose_limit, prototypes=prototypes)
    manifest: dict[str, Any] = {
        "name": "b",
        "strategy": "ras" if blends else "static",
        "model": {"id": "m", "hidden_size": SIZE, "num_layers": 4},
        **spec.manifest_terms,
    }
    if blends:
        manifest["risk_pass"] = RISK_PASS
    return save_bundle(folder, layers, manifest, prototypes)


def terms_of(holder: SteeringTerms) -> dict[str, Any]:
    return {field.name: getattr(holder, field.name) for field in fields(SteeringTerms)}


@pytest.mark.parametrize("blends", [False, True])
def test_what_is_measured_before_saving_is_what_a_saved_bundle_asks_for(
    tmp_path: Path, blends: bool
) -> None:
    found = bundle(tmp_path, blends=blends)
    parts = SteeringSpec.of_parts(found.layers, WINDOW, dose_limit=0.4, prototypes=found.prototypes)
    assert SteeringSpec.of(found) == parts
    assert SteeringSpec.of(found).canary == parts.canary


@pytest.mark.parametrize(
    ("own", "asked", "holds"),
    [(0.4, None, 0.4), (0.4, 0.2, 0.2), (0.4, 0.9, 0.4), (None, 0.9, 0.9), (None, None, None)],
)
def test_the_smaller_dose_limit_holds(
    tmp_path: Path, own: float | None, asked: float | None, holds: float | None
) -> None:
    found = bundle(tmp_path, dose_limit=own)
    assert SteeringSpec.of(found, dose_limit=asked).dose_limit == holds


def test_the_bundles_window_holds_unless_another_is_given(tmp_path: Path) -> None:
    found, other = bundle(tmp_path), Window(decode_tokens=7)
    assert SteeringSpec.of(found).window == WINDOW
    assert SteeringSpec.of(found, window=other).window == other


def test_the_worker_is_told_the_terms_of_the_spec(tmp_path: Path) -> None:
    found = bundle(tmp_path, blends=True)
    spec = replace(
        SteeringSpec.of(found, media=("audio",), shadow=True, dose_limit=0.1, blend=0.7),
        strength=0.5,
    )
    directive = spec.directive(found.digest, "policy", "v1")
    assert terms_of(directive) == terms_of(spec)
    names = (directive.bundle, directive.policy, directive.policy_version)
    assert names == (found.digest, "policy", "v1") and directive.blend_tokens == 2


def test_layers_of_a_bundle_that_blends_get_no_strength(tmp_path: Path) -> None:
    assert SteeringSpec.of(bundle(tmp_path / "a"), strength=2.0).strength == 2.0
    assert SteeringSpec.of(bundle(tmp_path / "b", blends=True), strength=2.0).strength == 0.0


@pytest.mark.parametrize("blends", [False, True])
def test_a_canary_is_text_at_full_strength_in_the_bundles_window_and_limit(
    tmp_path: Path, blends: bool
) -> None:
    found = bundle(tmp_path, blends=blends)
    asked = SteeringSpec.of(found, strength=0.3, shadow=True, media=("image",), blend=None)
    canary = asked.canary
    assert (canary.applied_strength, canary.media) == (0.0 if blends else 1.0, ())
    assert (canary.dose_limit, canary.window) == (0.4, WINDOW)
    assert canary.applied_blend == (CANARY_BLEND if blends else 0.0)
    assert (canary.silent.applied_strength, canary.silent.applied_blend) == (0.0, 0.0)
    assert (canary.silent.blend is None) == (not blends)


@pytest.mark.parametrize(("window", "rows"), [(None, 6), (0, 1), (3, 4), (9, 6)])
def test_steered_rows_begin_at_the_last_prompt_token(window: int | None, rows: int) -> None:
    assert SteeringTerms(decode_tokens=window).steered_rows(5) == rows
