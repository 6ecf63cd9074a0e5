"""The prompt gate of a build, and of a bundle that is there already."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from refusal_steering.bundle import SteeringBundle
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.collect import collect_tokens
from refusal_steering.calibration.token_rows.prompts import TokenPrompts
from refusal_steering.calibration.token_rows.row_files import TokenIndex
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.methods.prompt_gate.fit import fit_gate, gate_facts
from refusal_steering.methods.prompt_gate.opening import OpenGate
from refusal_steering.pipeline.plan import GatePlan
from refusal_steering.prompts.contrast_set import render
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.gate_examples import GateExamples
from refusal_steering.spec import SteeringSpec

STRATEGY = "promptgate"
_LENGTHS = 96


@dataclass(frozen=True, slots=True)
class FittedGate:
    """A gate that opens coefficients, and the facts that its bundle keeps."""

    opened: OpenGate
    facts: Mapping[str, Any]

    @property
    def section(self) -> dict[str, Any]:
        """What the manifest's section of the gate cannot take from its tensors."""
        return {"guarantee": self.opened.guarantee.model_dump()}

    def widened(self, width: float) -> FittedGate:
        """The same gate, open at ``width`` above its threshold."""
        opened = replace(self.opened, gate=replace(self.opened.gate, width=width))
        return replace(self, opened=opened)


def token_index(
    target: CalibrationModel,
    corpus: Corpus,
    plan: GatePlan,
    layers: tuple[int, ...],
    name: str,
    seed: int,
) -> TokenIndex:
    """What is to be read to train a gate on ``corpus``; nothing has been read yet."""
    examples = GateExamples.draw(corpus.items, seed, plan.families)
    return TokenIndex(
        TokenPrompts.of(target, examples.conversations),
        examples.labels,
        target.identity(name),
        layers,
        torch.zeros(len(examples.all), dtype=torch.bool),
        corpus.name,
        examples.sha256,
    )


def collected_gate(
    target: CalibrationModel, wanted: TokenIndex, plan: GatePlan, folder: Path | None
) -> FittedGate:
    """Read the rows of ``wanted`` into ``folder``, a temporary one by default, and train on them.

    Raises ``SteeringError`` where the folder holds other rows.
    """
    place: AbstractContextManager[str] = nullcontext(str(folder))
    if folder is None:
        place = tempfile.TemporaryDirectory(prefix="token-rows-")
    with place as path:
        index = collect_tokens(target, wanted, Path(path))
        return gate_of_rows(target, index, Path(path), plan)


def gate_of_rows(
    target: CalibrationModel,
    index: TokenIndex,
    folder: Path,
    plan: GatePlan,
    layers: tuple[int, ...] = (),
) -> FittedGate:
    """Train on the rows that ``folder`` holds, of ``layers`` or of all."""
    rows = index.rows(folder, layers)
    found = fit_gate(target, index, rows, plan.recipe, plan.budget)
    return FittedGate(found, gate_facts(index, plan.recipe, found))


def gated(
    bundle: SteeringBundle,
    layers: Mapping[int, LayerSteering],
    fitted: FittedGate,
    decode_tokens: int | None,
) -> SteeringSpec:
    """``layers`` in the window of ``bundle``, opened by a gate.

    ``decode_tokens`` replaces the bundle's, where it is given.
    """
    window = bundle.manifest.window
    if decode_tokens is not None:
        window = window.model_copy(update={"decode_tokens": decode_tokens})
    limit = bundle.manifest.dose_limit
    return SteeringSpec.of_parts(layers, window, dose_limit=limit, gate=fitted.opened.gate)


def constant(layer: LayerSteering, coefficient: float) -> LayerSteering:
    """The layer's direction with one coefficient for everybody; risk and offsets stay."""
    return replace(
        LayerSteering.static(layer.direction, coefficient),
        risk_weight=layer.risk_weight,
        risk_bias=layer.risk_bias,
        offsets=layer.offsets,
    )


def stream_lengths(target: CalibrationModel, layers: tuple[int, ...]) -> dict[int, float]:
    """Median length of the residual stream at the last token of plain training requests."""
    items = Corpus.shipped().split("train")
    chosen = items[:: max(1, len(items) // _LENGTHS)]
    rows = collect(target, [render(item, "plain", 0) for item in chosen], layers)
    return {layer: float(hidden.norm(dim=-1).median()) for layer, hidden in rows.items()}


def gated_manifest(
    bundle: SteeringBundle,
    spec: SteeringSpec,
    facts: Mapping[str, Any],
    guarantee: Mapping[str, Any],
    name: str | None,
) -> dict[str, Any]:
    """The manifest of ``bundle`` with a gate, without a canary and trials: they were its own.

    ``facts`` are what its calibration keeps of the gate's, ``guarantee`` what the gate promises.
    """
    known = bundle.manifest
    unlike = {"layers", "media", "weights_sha256", "canary", "measured", "gate"}
    return {
        **known.model_dump(mode="json", exclude=unlike),
        "name": name or f"{known.name.removesuffix(f'-{known.strategy}')}-{STRATEGY}",
        "strategy": STRATEGY,
        "calibration": {**known.calibration, **facts},
        "gate": {"guarantee": guarantee},
        **spec.manifest_terms,
    }


def check_gateable(bundle: SteeringBundle) -> None:
    """Raises :class:`BundleError` for a bundle that has no coefficients to open."""
    if bundle.manifest.blends or bundle.manifest.strategy == "mars":
        raise BundleError(
            f"bundle {bundle.manifest.name!r} is of strategy {bundle.manifest.strategy!r}; a gate "
            "opens the directions of omnisteer, static or promptgate"
        )
