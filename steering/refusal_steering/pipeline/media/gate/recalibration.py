"""A bundle's gate with thresholds of its own for the sets of media that harmless requests bring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, make_bundle
from refusal_steering.calibration.conformal import Threshold, budget_threshold, fewest_harmless
from refusal_steering.engine import Messages, ServedModel, Steered, in_batches
from refusal_steering.errors import BundleError, SteeringError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.pipeline.media.bundles.canaries import engine_canary
from refusal_steering.pipeline.media.requests import TEXT, MediaRequest, Requests
from refusal_steering.spec import SteeringSpec
from refusal_steering.terms import media_set


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A bundle, the thresholds that keep the budget, those that hold, and the openings under them.

    ``opened`` has by set of media the shares of harmful and of harmless requests that its gate
    opens for; ``nan`` where there are none.
    """

    bundle: SteeringBundle
    found: Mapping[str, Threshold]
    held: Mapping[str, float]
    opened: Mapping[str, tuple[float, ...]]

    @property
    def capped(self) -> Mapping[str, Threshold]:
        """Those that lie above the one of text, which holds in their place."""
        return {name: one for name, one in self.found.items() if one.value > self.held[name]}


def sets_with_enough(requests: Requests, budget: float) -> tuple[list[str], dict[str, int]]:
    """Sets of media with enough harmless requests for ``budget``, and the counts of the others.

    Raises ``SteeringError`` where no set has enough.
    """
    counts = {media_set(one.media): 0 for one in requests.all}
    for one in requests.all:
        counts[media_set(one.media)] += not one.harmful
    needed = fewest_harmless(budget)
    enough = [brought for brought, count in counts.items() if count >= needed]
    if not enough:
        told = ", ".join(f"{count} of {brought}" for brought, count in counts.items()) or "none"
        raise SteeringError(
            f"a budget of {budget:g} takes {needed} harmless requests that bring the same media; "
            f"{requests.name} has {told}. Give more requests or a larger budget"
        )
    return enough, {brought: count for brought, count in counts.items() if brought not in enough}


def recalibrated(
    model: ServedModel,
    known: SteeringBundle,
    requests: Requests,
    budget: float,
    texts: Sequence[Messages],
    *,
    may_raise: bool = False,
) -> Recalibrated:
    """``known`` with a threshold for every set of media that has enough harmless requests.

    Other sets keep theirs. Unless it ``may_raise``, no set is left with a higher threshold than
    text: callers choose what they bring. ``texts`` find the new canary. What trials measured was
    another bundle, and is left out. Raises ``SteeringError`` where no set has enough, and for a
    request that cannot be read.
    """
    gate = gate_to_move(known)
    sets, _ = sets_with_enough(requests, budget)
    brought = [media_set(one.media) for one in requests.all]
    scores = _scores(model, known, requests.all)
    harmful = torch.tensor([one.harmful for one in requests.all])
    of_set = {name: torch.tensor([one == name for one in brought]) for name in sets}
    found = {
        name: budget_threshold(scores[mine & ~harmful], budget) for name, mine in of_set.items()
    }
    of_text = found[TEXT].value if TEXT in found else gate.threshold_of(())
    most = torch.inf if may_raise else of_text
    held = {name: min(one.value, most) for name, one in found.items()}
    opened = {
        name: tuple(_share(scores[mine & label] > held[name]) for label in (harmful, ~harmful))
        for name, mine in of_set.items()
    }
    others = {name: min(value, most) for name, value in gate.media_thresholds.items()}
    moved = replace(gate, threshold=min(gate.threshold, most), media_thresholds={**others, **held})
    told = {
        "requests": requests.name,
        "sha256": requests.sha256,
        "budget": budget,
        "may_raise": may_raise,
        "found": {name: asdict(one) for name, one in found.items()},
        "opened": {name: list(map(_rounded, shares)) for name, shares in opened.items()},
    }
    return Recalibrated(_with_gate(model, known, moved, texts, told), found, held, opened)


def gate_to_move(bundle: SteeringBundle) -> PromptGate:
    """The gate of a bundle; raises :class:`BundleError` for one without."""
    if bundle.gate is None:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} has no gate that reads prompts; give one of strategy "
            "promptgate, or put a gate into it with `refusal-steering gate`"
        )
    return bundle.gate


def _with_gate(
    model: ServedModel,
    known: SteeringBundle,
    gate: PromptGate,
    texts: Sequence[Messages],
    facts: Mapping[str, Any],
) -> SteeringBundle:
    manifest = known.manifest.model_dump(
        mode="json", exclude={"layers", "media", "weights_sha256", "canary", "measured"}
    )
    manifest["calibration"]["media_thresholds"] = facts
    draft = make_bundle(known.layers, manifest, known.prototypes, gate)
    manifest["canary"] = engine_canary(model, draft, texts)
    return make_bundle(known.layers, manifest, known.prototypes, gate)


def _scores(model: ServedModel, bundle: SteeringBundle, asked: Sequence[MediaRequest]) -> Tensor:
    """What the bundle's gate reads of requests, whose files are read a batch at a time."""
    model.load(bundle)
    steered = Steered(bundle, SteeringSpec.of(bundle, shadow=True))
    found = list[float]()
    for part in in_batches(model, asked, "requests"):
        for answer in model.answers([one.messages() for one in part], 1, steered):
            if answer.score is None:
                raise SteeringError("the engine has read no gate; it was started without one")
            found.append(answer.score)
    return torch.tensor(found)


def _share(above: Tensor) -> float:
    return float(above.float().mean())


def _rounded(share: float) -> float | None:
    return None if math.isnan(share) else round(share, 4)
