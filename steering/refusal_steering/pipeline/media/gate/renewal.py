"""A gate taught media for a bundle that is there: its push stays, what opens it is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refusal_steering.bundle import SteeringBundle, make_bundle
from refusal_steering.engine import Messages, ServedModel, every_row
from refusal_steering.pipeline.gate.gating import constant, gated_manifest
from refusal_steering.pipeline.media.bundles.canaries import engine_canary
from refusal_steering.pipeline.media.gate.examples import MediaExamples
from refusal_steering.pipeline.media.gate.fitting import FittedMediaGate
from refusal_steering.pipeline.media.gate.teaching import Push, taught_gate
from refusal_steering.pipeline.media.work import Work
from refusal_steering.pipeline.plan import GatePlan


@dataclass(frozen=True, slots=True)
class Renewal:
    """What becomes of a bundle.

    ``dose`` is what an open gate adds, as a share of the stream's length at the last token of
    ``texts``; ``None`` keeps the bundle's own coefficients. ``texts`` also find the canary.
    ``decode_tokens`` replaces the bundle's, where it is given.
    """

    bundle: SteeringBundle
    plan: GatePlan
    dose: float | None
    texts: Sequence[Messages]
    decode_tokens: int | None = None
    name: str | None = None


def renewed(
    model: ServedModel,
    wanted: Renewal,
    examples: MediaExamples,
    layers: Sequence[int],
    work: Work,
) -> tuple[SteeringBundle, FittedMediaGate]:
    """The bundle with a gate of ``examples`` that reads ``layers``, and a canary of the engine.

    Raises ``SteeringError`` for a request that cannot be read, for a budget that cannot be kept,
    and where the engine does not do what the bundle says.
    """
    push = _push(model, wanted)
    found = taught_gate(model, push, examples, layers, wanted.plan, work)
    spec = push.behind(found.gate)
    manifest = gated_manifest(wanted.bundle, spec, found.facts, found.guarantee, wanted.name)
    draft = make_bundle(spec.layers, manifest, gate=spec.gate)
    manifest["canary"] = engine_canary(model, draft, wanted.texts)
    return make_bundle(spec.layers, manifest, gate=spec.gate), found


def _push(model: ServedModel, wanted: Renewal) -> Push:
    known = wanted.bundle
    layers = dict(known.layers)
    if wanted.dose is not None:
        lengths = every_row(model, wanted.texts).norm(dim=-1).median(0).values
        layers = {
            at: constant(layer, wanted.dose * float(lengths[at])) for at, layer in layers.items()
        }
    window = known.manifest.window
    if wanted.decode_tokens is not None:
        window = window.model_copy(update={"decode_tokens": wanted.decode_tokens})
    return Push(layers, window, known.manifest.dose_limit)
