"""The plan of a build through the engine, and what it asks of its data, counted before any work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from refusal_steering.bundle import Window
from refusal_steering.calibration.conformal import check_budget
from refusal_steering.engine import EngineFacts
from refusal_steering.errors import SteeringError
from refusal_steering.gate.whole_prompts import check_keeps_prompts
from refusal_steering.methods.mars import OffsetKind, TrustRegion
from refusal_steering.methods.omnisteer_presets import CENTRED
from refusal_steering.methods.omnisteer_training import Training
from refusal_steering.pipeline.gate.gating import STRATEGY
from refusal_steering.pipeline.media.requests import TEXT, Requests
from refusal_steering.pipeline.media.vectors import TOLD_APART
from refusal_steering.pipeline.parts import LeftOut
from refusal_steering.pipeline.plan import BuildPlan, GatePlan, RasPlan
from refusal_steering.prompts.contrast_set import Split

Made = Literal["static", "omnisteer", "promptgate", "mars", "ras", "cascade"]
MADE: tuple[Made, ...] = ("static", "omnisteer", "promptgate", "mars", "ras")
# Where MARS's risk leaves no doubt there is no cascade: it is made where it is asked for.
MAKEABLE: tuple[Made, ...] = (*MADE, "cascade")
_SPLITS: tuple[Split, ...] = ("train", "tune")
_HELD: tuple[Split, ...] = ("held",)
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """Everything that decides the bundles of a build but its data and its model.

    ``layers`` are the steered ones; ``None`` takes ``count`` neighbours by score. ``budget`` is the
    share of harmless requests of each group that may be touched. ``dose``, the most that an adapter
    may earn at its layer, ``static_dose`` and ``dose_limit`` are shares of the residual stream's
    length; a ``k_max`` of ``training`` is taken instead of ``dose``. ``told_apart`` is the area
    under the ROC curve, on tuning rows, from which a group's own direction counts. ``mars_offset``
    says how neutral media are taken off. ``gate`` is that of ``promptgate``, opened at the one of
    ``doses`` that refuses most, or at its own dose without any; ``texts`` is the share of the
    contrast set's wordings that it is taught beside the requests. With ``refine`` the directions
    that the gate opens are turned by gradients, as its ``push`` says. ``grey_zone`` are the shares
    of ``cascade``, as in a build of text: of harmful requests below the zone, and of harmless ones
    not above it, in every group.
    """

    strategies: tuple[Made, ...] = MADE
    layers: tuple[int, ...] | None = None
    count: int = 3
    budget: float = 0.06
    told_apart: float = TOLD_APART
    dose: float = 0.25
    static_dose: float = 0.1
    dose_limit: float = 0.5
    training: Training = field(default_factory=lambda: Training(preset=CENTRED))
    window: Window = field(default_factory=lambda: Window(decode_tokens=None, hold=False))
    mars: TrustRegion = field(default_factory=TrustRegion)
    mars_offset: OffsetKind = "paired"
    ras: RasPlan = field(default_factory=RasPlan)
    gate: GatePlan = field(default_factory=GatePlan)
    doses: tuple[float, ...] = (0.1, 0.15, 0.2, 0.3)
    texts: float = 1.0
    refine: bool = False
    grey_zone: tuple[float, float] = (0.05, 0.95)
    seed: int = 0

    def pushed_layers(self, num_layers: int) -> tuple[int, ...]:
        """The layers that a gate opens: those of the plan, or by depth as in a build of text.

        Layers by score may lie so early that a gate could read one of them at most.
        """
        return BuildPlan(layers=self.layers).steered_layers(num_layers)

    def possible(self, facts: EngineFacts) -> tuple[MediaPlan, LeftOut]:
        """The plan without what the model does not allow, and the reasons.

        Raises :class:`SteeringError` where nothing is left.
        """
        left_out = LeftOut()
        with left_out.unless(*{STRATEGY} & set(self.strategies)):
            check_keeps_prompts(facts.keeps_prompts)
        kept = tuple(name for name in self.strategies if name not in left_out.reasons)
        if not kept:
            raise SteeringError(left_out.reasons[STRATEGY])
        return replace(self, strategies=kept), left_out

    def gate_layers(self, num_layers: int) -> tuple[int, ...]:
        """The layers that the gate reads; none without one."""
        if STRATEGY not in self.strategies:
            return ()
        return self.gate.read_layers(num_layers, self.pushed_layers(num_layers)[0])

    def check(self, requests: Requests, facts: EngineFacts) -> None:
        """Raise :class:`SteeringError` for what would end the build later on."""
        depth = facts.identity.num_layers
        if strange := [layer for layer in self.layers or () if not 0 <= layer < depth]:
            raise SteeringError(
                f"there is no layer {strange[0]}; the model has layers 0 to {depth - 1}"
            )
        for group in (TEXT, *(name for name in requests.groups if name != TEXT)):
            _check_group(requests, group)
            check_budget(self.budget, len(requests.chosen("tune", group, False)))
            if STRATEGY in self.strategies:
                gate = self.gate.budget if group == TEXT else self.gate.budget_of_media
                check_budget(gate, len(requests.chosen("tune", group, False)))
        self.gate_layers(depth)


def _check_group(requests: Requests, group: str) -> None:
    for split in _SPLITS:
        bad = len(requests.chosen(split, group, True))
        good = len(requests.chosen(split, group, False))
        if min(bad, good) < _FEWEST:
            raise SteeringError(
                f"{group} has {bad} harmful and {good} harmless requests for the split {split!r} "
                f"({requests.name}); it takes {_FEWEST} of each. Of the request ids about 60 % "
                "fall into train, 15 % into tune and 25 % into held"
            )


def lines(plan: MediaPlan, requests: Requests, facts: EngineFacts) -> Iterator[str]:
    """The plan in words, and what it takes on disk."""
    takes = ", ".join(f"{count} {medium}" for medium, count in facts.takes.items()) or "text alone"
    sizes = facts.identity
    yield f"model      {sizes.id}: {sizes.num_layers} layers of width {sizes.hidden_size}"
    yield f"takes      {takes} in a request of at most {facts.context} tokens"
    yield f"strategies {', '.join(plan.strategies)}"
    for group in requests.groups:
        counts = [
            f"{split} {len(requests.chosen(split, group, True))} harmful and "
            f"{len(requests.chosen(split, group, False))} harmless"
            for split in (*_SPLITS, *_HELD)
        ]
        yield f"{group:10} {'; '.join(counts)}"
    rows = len(requests.all)
    disk = rows * sizes.num_layers * sizes.hidden_size * 2
    yield (
        f"disk       {math.ceil(disk / 2**20)} MB ({rows} rows x {sizes.num_layers} layers x "
        f"{sizes.hidden_size} x 2 bytes)"
    )
