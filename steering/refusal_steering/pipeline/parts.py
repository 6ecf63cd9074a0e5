"""The strategies of a build on their way to bundles, and those that a model does not allow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from refusal_steering.bundle import GreyZone, RiskPass, Window
from refusal_steering.calibration.recentring import Offsets, recentred
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError
from refusal_steering.pipeline.gate.gating import STRATEGY, FittedGate
from refusal_steering.pipeline.plan import BuildPlan
from refusal_steering.pipeline.strategies import Adaptive, silent, static_layers
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.spec import SteeringSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One strategy, ready to be saved.

    ``more`` are the fields of its own in the manifest, ``facts`` those of its calibration, and
    ``notes`` what a user must know of it.
    """

    strategy: str
    spec: SteeringSpec
    more: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def recentred(self, offsets: Offsets) -> Part:
        """The same strategy with media offsets."""
        return replace(self, spec=replace(self.spec, layers=recentred(self.spec.layers, offsets)))


@dataclass(slots=True)
class LeftOut:
    """Strategies that cannot be built here, with the reasons."""

    reasons: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def unless(self, *strategies: str) -> Iterator[None]:
        """Leave ``strategies`` out where the block raises a :class:`SteeringError`.

        The others are not lost by it.
        """
        try:
            yield
        except SteeringError as error:
            for strategy in strategies:
                self.reasons.setdefault(strategy, str(error))
                _log.warning("%s is left out: %s", strategy, error)


@dataclass(frozen=True, slots=True)
class Region:
    """MARS's layer ``at``, and the risks that the cascade looks at, where there are any.

    ``area`` is how well tuning requests of text are told apart there.
    """

    at: int
    area: float
    layer: LayerSteering
    zone: GreyZone | None

    def part(self, plan: BuildPlan) -> Part:
        """The strategy ``mars``."""
        spec = _adds({self.at: self.layer}, plan.mars_window, plan)
        return Part("mars", spec, facts={"layer_area_on_tuning_rows": self.area})


def _adds(layers: Mapping[int, LayerSteering], window: Window, plan: BuildPlan) -> SteeringSpec:
    return SteeringSpec.of_parts(layers, window, dose_limit=plan.dose_limit)


def adding(adaptive: Adaptive, plan: BuildPlan) -> list[Part]:
    """The strategies ``static`` and ``omnisteer``, which share their directions."""
    constant = static_layers(adaptive.directions, adaptive.layers, plan.static_dose)
    return [
        Part("static", _adds(constant, plan.window, plan)),
        Part("omnisteer", _adds(adaptive.layers, plan.window, plan)),
    ]


def gated(adaptive: Adaptive, gate: FittedGate, plan: BuildPlan, dose: float) -> Part:
    """The strategy ``promptgate``: the same directions at a constant ``dose``, opened by a gate."""
    layers = static_layers(adaptive.directions, adaptive.layers, dose)
    spec = replace(_adds(layers, plan.window, plan), gate=gate.opened.gate)
    return Part(STRATEGY, spec, {"gate": gate.section}, {"prompt_gate": dict(gate.facts)})


def blending(
    adaptive: Adaptive, region: Region, prototypes: RefusalPrototypes, risk: RiskPass
) -> list[Part]:
    """The strategies ``ras`` and, where there is a grey zone, ``cascade``."""
    watching = Window(decode_tokens=prototypes.count - 1)
    first, asked = min(adaptive.layers), {"risk_pass": risk}

    def blends(index: int, layer: LayerSteering) -> SteeringSpec:
        return SteeringSpec.of_parts({index: silent(layer)}, watching, prototypes=prototypes)

    parts = [Part("ras", blends(first, adaptive.layers[first]), asked)]
    if region.zone is not None:
        zoned = {**asked, "grey_zone": region.zone}
        parts.append(Part("cascade", blends(region.at, region.layer), zoned))
    return parts
