"""Plans of a build from the options of its command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import typer

from refusal_steering.methods.omnisteer_presets import PRESETS
from refusal_steering.methods.omnisteer_training import Training
from refusal_steering.pipeline.media.plan import Made, MediaPlan
from refusal_steering.pipeline.plan import BuildPlan, GatePlan, RasBase, RasPlan
from refusal_steering.prompts.contrast_set import FORMS, AttackForm
from refusal_steering.tools.checks import layer_numbers


def media_plan(
    strategies: tuple[Made, ...], layers: str | None, budget: float, preset: str, seed: int
) -> MediaPlan:
    """The plan of a build through the engine; raises ``typer.BadParameter``."""
    if preset not in PRESETS:
        raise typer.BadParameter(f"unknown preset {preset!r}; expected one of {list(PRESETS)}")
    return MediaPlan(
        strategies=strategies,
        layers=layer_numbers(layers),
        budget=budget,
        training=Training(preset=PRESETS[preset], seed=seed),
        seed=seed,
    )


def text_plan(
    layers: str | None, budget: float, without_form: Sequence[str], refusal: str, seed: int
) -> BuildPlan:
    """The plan of a build of text but for its gate; raises ``typer.BadParameter``."""
    base = BuildPlan()
    return replace(
        base,
        forms=_forms_but(without_form),
        layers=layer_numbers(layers),
        budget=budget,
        seed=seed,
        recipe=replace(base.recipe, seed=seed),
        refinement=replace(base.refinement, refusal=refusal, seed=seed),
    )


def ras_plan(base: RasBase, budget: float, tokens: int | None) -> RasPlan:
    """How ``ras`` is made; raises ``typer.BadParameter``."""
    if not 0.0 < budget < 0.5:
        raise typer.BadParameter(f"--ras-budget is {budget}; expected a share between 0 and 0.5")
    if tokens is not None and tokens > RasPlan().tokens:
        raise typer.BadParameter(
            f"--ras-tokens is {tokens}; there are prototypes of {RasPlan().tokens} tokens"
        )
    return RasPlan(budget=budget if base == "budget" else None, compared=tokens)


def gate_plan(
    layers: str | None, budget: float, dose: float | None, refusal: str, seed: int
) -> GatePlan:
    """How the gate of ``promptgate`` is made, and its push."""
    base = GatePlan()
    return replace(
        base,
        layers=layer_numbers(layers),
        recipe=replace(base.recipe, seed=seed),
        budget=budget,
        dose=base.dose if dose is None else dose,
        push=replace(base.push, refusal=refusal, seed=seed),
    )


def _forms_but(left_out: Sequence[str]) -> tuple[AttackForm, ...]:
    usual = [form for form in FORMS if form != "plain"]
    if unknown := sorted(set(left_out) - set(usual)):
        raise typer.BadParameter(
            f"form {unknown[0]!r} cannot be left out; choose from {', '.join(usual)}"
        )
    return tuple(form for form in FORMS if form not in left_out)
