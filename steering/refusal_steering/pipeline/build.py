"""The build itself: every strategy for one model, from one set of requests."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from refusal_steering.analysis.phenomena import LabelledRows
from refusal_steering.analysis.separability import auroc
from refusal_steering.bundle import (
    RiskPass,
    SteeringBundle,
    Window,
    bundle_name,
    save_bundle,
)
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.canary import choose_canary
from refusal_steering.calibration.conformal import budget_threshold
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.recentring import Offsets, check_offsets
from refusal_steering.errors import SteeringError
from refusal_steering.gate.whole_prompts import check_keeps_prompts
from refusal_steering.methods.ras import (
    RISK_PROMPTS,
    refusal_prototypes,
    risk_pass,
    similarities,
)
from refusal_steering.pipeline.gate.gating import STRATEGY, FittedGate, collected_gate, token_index
from refusal_steering.pipeline.gate.push import push_directions
from refusal_steering.pipeline.parts import LeftOut, Part, adding, blending, gated
from refusal_steering.pipeline.plan import BuildPlan
from refusal_steering.pipeline.requests import refuse_swapped
from refusal_steering.pipeline.stages import Stages
from refusal_steering.pipeline.strategies import (
    Adaptive,
    adaptive_layers,
    refusal_directions,
)
from refusal_steering.pipeline.text_region import labelled_rows, text_region
from refusal_steering.prompts.contrast_set import render
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.examples import Example, Examples
from refusal_steering.prototypes import RefusalPrototypes

_log = logging.getLogger(__name__)
_CANARY_PROMPTS = 12
# Examples of each form and label whose rows are looked at in all layers.
_SAMPLE = 60


@dataclass(frozen=True, slots=True)
class Built:
    """The saved bundles by strategy, and what the report needs to know of the way there.

    ``left_out`` has the reasons for strategies that are not among them.
    """

    bundles: Mapping[str, SteeringBundle]
    left_out: Mapping[str, str]
    adaptive: Adaptive
    sample: LabelledRows
    examples: Examples
    stages: Stages
    gate: FittedGate | None = None


def build(
    target: CalibrationModel,
    corpus: Corpus,
    plan: BuildPlan,
    out: Path,
    name: str,
    offsets: Offsets | None = None,
    token_rows: Path | None = None,
) -> Built:
    """Calibrate all strategies and save each as a bundle under ``out``.

    ``name`` is the model's, for people. ``offsets`` [H] by layer and medium re-centre requests
    with media; without them media are read as they are. The folder ``token_rows`` keeps what the
    prompt gate is trained on, so that an interrupted build does not read it again. A strategy that
    the model does not allow is left out. Raises ``SteeringError`` for a plan, requests or offsets
    that do not fit the model, and where no strategy is left.
    """
    stages, left_out = Stages(), LeftOut()
    identity = target.identity(name)
    plan.check(corpus, identity.num_layers)
    if offsets:
        check_offsets(offsets, identity)
    with stages.stage("requests"):
        refuse_swapped(target, corpus)
    examples = Examples.draw(corpus.items, plan.seed, plan.forms)
    depth = identity.num_layers
    with stages.stage("rows in all layers"):
        sample = _sample(target, examples, depth)
    with stages.stage("rows of every example"):
        rows = collect(target, examples.prompts, plan.steered_layers(depth))
    with stages.stage("refusal directions"):
        directions = refusal_directions(target, examples, rows, plan)
    with stages.stage("adapters"):
        adaptive = adaptive_layers(examples, rows, directions, plan)
    parts = adding(adaptive, plan)
    with stages.stage("trust region"):
        region = text_region(target, examples, sample, plan, left_out)
    parts.append(region.part(plan))
    with stages.stage("prototypes and risk pass"), left_out.unless("ras", "cascade"):
        parts += blending(adaptive, region, *_ras(target, examples, plan))
    gate = None
    if plan.gate is not None:
        with stages.stage("prompt gate"), left_out.unless(STRATEGY):
            check_keeps_prompts(target.keeps_prompts)
            layers = plan.gate.read_layers(depth, min(adaptive.layers))
            wanted = token_index(target, corpus, plan.gate, layers, name, plan.seed)
            gate = collected_gate(target, wanted, plan.gate, token_rows)
            push = push_directions(
                target, wanted, adaptive.directions, plan.window, plan.gate, plan.dose_limit
            )
            parts.append(gated(replace(adaptive, directions=push), gate, plan, plan.gate.dose))
    if offsets:
        parts = [part.recentred(offsets) for part in parts]
    bundles = {}
    with stages.stage("canaries"):
        facts = _facts(target, corpus, examples, plan, adaptive)
        for part in parts:
            with left_out.unless(part.strategy):
                bundles[part.strategy] = _save(target, part, out, name, corpus, facts)
    if not bundles:
        raise SteeringError(f"no strategy could be built: {left_out.reasons['static']}")
    return Built(bundles, left_out.reasons, adaptive, sample, examples, stages, gate)


def _sample(target: CalibrationModel, examples: Examples, depth: int) -> LabelledRows:
    """Rows in all layers of training examples: all clear ones, and some of every form."""
    taken: dict[tuple[str, bool], int] = {}
    chosen: list[Example] = []
    for example, clear in zip(examples.all, examples.clear.tolist(), strict=True):
        key = (example.form, example.item.harmful)
        everyday = example.item.domain != "borderline"
        if example.item.split != "train" or not everyday:
            continue
        if clear or taken.get(key, 0) < _SAMPLE:
            taken[key] = taken.get(key, 0) + 1
            chosen.append(example)
    return labelled_rows(target, chosen, depth)


def _ras(
    target: CalibrationModel, examples: Examples, plan: BuildPlan
) -> tuple[RefusalPrototypes, RiskPass]:
    how = plan.ras
    plain = [
        example.prompt
        for example in examples.all
        if example.form == "plain" and example.item.harmful and example.item.split == "train"
    ]
    prototypes = refusal_prototypes(target, plain[: how.prompts], how.tokens, how.discount)
    own = (examples.tuning & examples.one_per_item).nonzero().flatten().tolist()[: how.requests]
    asked, harmful = [examples.all[i].prompt for i in own], examples.harmful[own]
    found = {
        prompt: similarities(target, asked, prototypes, how.discount, prompt, how.compared)
        for prompt in RISK_PROMPTS
    }
    best = max(found, key=lambda prompt: auroc(found[prompt], harmful))
    similar, base = found[best], None
    if how.budget is not None:
        base = budget_threshold(similar[~harmful], how.budget).value
    _log.info(
        "risk prompt %r: area %.2f, similarity of harmful %.2f, of harmless %.2f in the mean",
        best,
        auroc(similar, harmful),
        similar[harmful].mean(),
        similar[~harmful].mean(),
    )
    return prototypes, risk_pass(similar, how.discount, best, base, how.compared)


def _save(
    target: CalibrationModel,
    part: Part,
    out: Path,
    name: str,
    corpus: Corpus,
    facts: Mapping[str, Any],
) -> SteeringBundle:
    harmful = corpus.split("train", "harmful")
    step = max(1, len(harmful) // _CANARY_PROMPTS)
    prompts = [render(item, form, 0) for item in harmful[::step] for form in ("plain", "list")]
    manifest = {
        "name": bundle_name(name, part.strategy),
        "strategy": part.strategy,
        "model": target.identity(name),
        "canary": choose_canary(target, prompts, part.spec),
        "calibration": {**facts, **part.facts},
        **part.spec.manifest_terms,
        **part.more,
    }
    spec = part.spec
    bundle = save_bundle(out / part.strategy, spec.layers, manifest, spec.prototypes, spec.gate)
    _log.info("wrote %s, digest %s", out / part.strategy, bundle.digest[:12])
    return bundle


def _facts(
    target: CalibrationModel,
    corpus: Corpus,
    examples: Examples,
    plan: BuildPlan,
    adaptive: Adaptive,
) -> dict[str, Any]:
    return {
        "template_arguments": dict(target.template_arguments),
        "requests": corpus.name,
        "requests_sha256": corpus.sha256,
        "examples": len(examples.all),
        "plan": _plain(asdict(plan)),
        "gate": asdict(adaptive.threshold),
    }


def _plain(value: Any) -> Any:
    """Nested dataclass dictionaries with models turned into JSON's own kinds."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value.model_dump() if isinstance(value, Window) else value
