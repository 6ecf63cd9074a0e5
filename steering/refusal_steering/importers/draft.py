"""From imported vectors to the layers of a bundle.

With adapters each request earns its coefficient (strategy ``omnisteer``); without them it is
constant (``static``). Neither has a default: how strongly the vectors of another tool steer is the
user's decision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from refusal_steering.bundle import (
    Canary,
    ModelIdentity,
    SteeringBundle,
    Strategy,
    Window,
    save_bundle,
)
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.imported import Adapter, Imported
from refusal_steering.spec import SteeringSpec

CoefficientUnit = Literal["stream", "norm"]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """Constant: a length in the residual stream, or a multiple of each vector's own length."""

    value: float
    unit: CoefficientUnit


@dataclass(frozen=True, slots=True)
class Limit:
    """Bound of an adapter's coefficient in residual-stream units.

    0..``k_max``, or -``k_max``..``k_max`` if ``signed``: then the adapter may also weaken refusal.
    """

    k_max: float
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """The layers of a bundle with what its manifest says of them."""

    strategy: Strategy
    layers: Mapping[int, LayerSteering]
    window: Window
    model: ModelIdentity
    calibration: Mapping[str, Any]

    @property
    def spec(self) -> SteeringSpec:
        """A request under the bundle."""
        return SteeringSpec.of_parts(self.layers, self.window)

    def save(self, path: Path, name: str, canary: Canary | None) -> SteeringBundle:
        """Write the bundle; without a canary no server accepts it."""
        manifest = {
            "name": name,
            "strategy": self.strategy,
            "model": self.model,
            "canary": canary,
            "calibration": dict(self.calibration),
            **self.spec.manifest_terms,
        }
        return save_bundle(path, self.layers, manifest)


def imported_bundle(
    imported: Imported,
    model: ModelIdentity,
    *,
    coefficient: Coefficient | None = None,
    limit: Limit | None = None,
    window: Window | None = None,
) -> Draft:
    """Layers for ``model``; ``limit`` is needed with adapters, ``coefficient`` without.

    The risk probe is silent. Without a ``window`` every generated token is steered, with adapters
    each by what it earns itself, as published. Raises :class:`UnusableSourceError`.
    """
    _check_model(imported, model)
    facts: dict[str, Any] = {"imported_from": imported.source, "notes": list(imported.notes)}
    if imported.adapters:
        if limit is None or coefficient is not None:
            raise UnusableSourceError(
                "adapters set their own coefficient and have no bound: give the largest one "
                "(k_max, in residual-stream units), and no constant coefficient"
            )
        layers = _adapted(imported, limit)
        facts |= {"k_max": limit.k_max, "signed": limit.signed}
        return Draft("omnisteer", layers, window or Window(hold=False), model, facts)
    if coefficient is None or limit is not None:
        raise UnusableSourceError(
            "vectors without adapters need a coefficient, in residual-stream units or as a "
            "multiple of each vector's length, and no k_max"
        )
    facts |= {"coefficient": coefficient.value, "coefficient_unit": coefficient.unit}
    return Draft("static", _constant(imported, coefficient), window or Window(), model, facts)


def _adapted(imported: Imported, limit: Limit) -> dict[int, LayerSteering]:
    _check_number(limit.k_max, "k_max")
    return {
        layer: _layer(imported.vectors[layer], adapter, limit)
        for layer, adapter in imported.adapters.items()
    }


def _layer(vector: Tensor, adapter: Adapter, limit: Limit) -> LayerSteering:
    silent = LayerSteering.static(vector / vector.norm(), 0.0)
    return replace(
        silent,
        input_weight=adapter.input_weight,
        input_bias=adapter.input_bias,
        output_weight=adapter.output_weight,
        output_bias=adapter.output_bias,
        floor=-limit.k_max if limit.signed else 0.0,
        ceiling=limit.k_max,
    )


def _constant(imported: Imported, coefficient: Coefficient) -> dict[int, LayerSteering]:
    _check_number(coefficient.value, "the coefficient")
    found = {}
    for layer, vector in imported.vectors.items():
        length = float(vector.norm())
        value = coefficient.value * (length if coefficient.unit == "norm" else 1.0)
        found[layer] = LayerSteering.static(vector / vector.norm(), value)
    return found


def _check_number(value: float, what: str) -> None:
    if not math.isfinite(value) or value <= 0.0 or value > torch.finfo(torch.float32).max:
        raise UnusableSourceError(f"{what} is {value}, expected a positive finite number")


def _check_model(imported: Imported, model: ModelIdentity) -> None:
    if imported.hidden_size != model.hidden_size:
        raise UnusableSourceError(
            f"{imported.source} has hidden size {imported.hidden_size}, {model.id} has "
            f"{model.hidden_size}; the vectors were made for another model"
        )
    highest = max(imported.adapters or imported.vectors)
    if highest >= model.num_layers:
        raise UnusableSourceError(
            f"{imported.source} has layer {highest}, {model.id} has layers 0 to "
            f"{model.num_layers - 1}; the vectors were made for another model, or count from 1"
        )
