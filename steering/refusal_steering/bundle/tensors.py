"""The tensors of a bundle: naming, shapes, and the checks that refuse a harmful file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from refusal_steering.bundle.manifest import Manifest
from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from refusal_steering.prototypes import RefusalPrototypes

_UNIT_TOLERANCE = 1e-3
_PROTOTYPES = "prototypes."
_GATE = "gate."
_ATTENTION = ("query", "value", "value_bias")


def flatten(
    layers: Mapping[int, LayerSteering],
    prototypes: RefusalPrototypes | None = None,
    gate: PromptGate | None = None,
) -> dict[str, Tensor]:
    """Name all tensors for a safetensors file; a layer's scalars share ``scalars`` [4]."""
    named: dict[str, Tensor] = {} if gate is None else _gate_tensors(gate)
    if prototypes is not None:
        named[_PROTOTYPES + "states"] = prototypes.states
        named[_PROTOTYPES + "tokens"] = prototypes.tokens
        named[_PROTOTYPES + "likelihood"] = prototypes.likelihood
        named[_PROTOTYPES + "scalars"] = torch.tensor([prototypes.norm], dtype=torch.float64)
    for index, layer in layers.items():
        prefix = f"layers.{index}."
        named[prefix + "direction"] = layer.direction
        named[prefix + "input_weight"] = layer.input_weight
        named[prefix + "input_bias"] = layer.input_bias
        named[prefix + "output_weight"] = layer.output_weight
        named[prefix + "risk_weight"] = layer.risk_weight
        named[prefix + "scalars"] = torch.tensor(
            [layer.output_bias, layer.floor, layer.ceiling, layer.risk_bias], dtype=torch.float64
        )
        for medium, offset in layer.offsets.items():
            named[f"{prefix}offset.{medium}"] = offset
        if layer.ball is not None:
            named[prefix + "ball.centre"] = layer.ball.centre
            named[prefix + "ball.radius"] = torch.tensor([layer.ball.radius])
    return {name: tensor.to(_kind(name)).clone().contiguous() for name, tensor in named.items()}


def _gate_tensors(gate: PromptGate) -> dict[str, Tensor]:
    named = {}
    for index, probe in gate.probes.items():
        fields = {
            "weight": probe.weight,
            "bias": torch.tensor([probe.bias]),
            "query": probe.query,
            "value": probe.value,
            "value_bias": torch.tensor([probe.value_bias]),
        }
        for field, tensor in fields.items():
            if gate.pooling != "max" or field not in _ATTENTION:
                named[f"{_GATE}{index}.{field}"] = tensor
    return named


def _kind(name: str) -> torch.dtype:
    if name.endswith("scalars"):
        return torch.float64
    return torch.int64 if name == _PROTOTYPES + "tokens" else torch.float32


def unflatten(named: Mapping[str, Tensor], manifest: Manifest) -> dict[int, LayerSteering]:
    """Rebuild and check the layers that ``manifest`` promises; raises :class:`BundleError`."""
    remaining = {name for name in named if not name.startswith(_PROTOTYPES)}
    layers = {}
    for index in manifest.layers:
        layers[index] = _read_layer(named, index, manifest)
        remaining -= {name for name in remaining if name.startswith(f"layers.{index}.")}
    remaining -= set(_gate_names(manifest))
    if remaining:
        raise BundleError(
            f"bundle {manifest.name!r} holds tensors that its manifest does not name, such as "
            f"{min(remaining)!r}; rebuild the bundle"
        )
    return layers


def read_prototypes(named: Mapping[str, Tensor], manifest: Manifest) -> RefusalPrototypes | None:
    """The refusal prototypes that ``manifest`` promises; raises :class:`BundleError`."""
    present = any(name.startswith(_PROTOTYPES) for name in named)
    if present != manifest.blends:
        promise = "promises" if manifest.blends else "knows no"
        raise BundleError(
            f"bundle {manifest.name!r} {promise} refusal prototypes, its weights hold "
            f"{'some' if present else 'none'}; rebuild the bundle"
        )
    if not present:
        return None

    def tensor(field: str, *shape: int | None) -> Tensor:
        return _checked(named.get(_PROTOTYPES + field), _PROTOTYPES + field, shape, manifest.name)

    states, tokens = tensor("states", None, manifest.model.hidden_size), tensor("tokens", None)
    window = manifest.window.decode_tokens
    if states.shape[0] < 1 or (window is not None and window < states.shape[0] - 1):
        raise BundleError(
            f"bundle {manifest.name!r} has {states.shape[0]} refusal prototypes and a window of "
            f"{window} decode tokens; the window must cover the generated tokens that are blended"
        )
    return RefusalPrototypes(
        states=states,
        tokens=tokens,
        likelihood=tensor("likelihood", tokens.shape[0]),
        norm=float(tensor("scalars", 1)),
    )


def read_gate(named: Mapping[str, Tensor], manifest: Manifest) -> PromptGate | None:
    """The gate that ``manifest`` promises; raises :class:`BundleError`."""
    section = manifest.gate
    if section is None:
        return None

    def tensor(index: int, field: str, size: int) -> Tensor:
        name = f"{_GATE}{index}.{field}"
        if name not in _gate_names(manifest):
            return torch.zeros(size)
        return _checked(named.get(name), name, (size,), manifest.name)

    size = manifest.model.hidden_size
    probes = {
        index: TokenProbe(
            weight=tensor(index, "weight", size),
            bias=float(tensor(index, "bias", 1)),
            query=tensor(index, "query", size),
            value=tensor(index, "value", size),
            value_bias=float(tensor(index, "value_bias", 1)),
        )
        for index in section.layers
    }
    return PromptGate(
        probes,
        section.pooling,
        section.threshold,
        section.width,
        section.opens,
        section.user_turn,
        section.media_thresholds,
    )


def _gate_names(manifest: Manifest) -> list[str]:
    """Names of the gate's tensors."""
    if manifest.gate is None:
        return []
    fields = ("weight", "bias", *(_ATTENTION if manifest.gate.pooling != "max" else ()))
    return [f"{_GATE}{index}.{field}" for index in manifest.gate.layers for field in fields]


def _read_layer(named: Mapping[str, Tensor], index: int, manifest: Manifest) -> LayerSteering:
    def tensor(field: str, *shape: int | None) -> Tensor:
        name = f"layers.{index}.{field}"
        return _checked(named.get(name), name, shape, manifest.name)

    size = manifest.model.hidden_size
    weight = tensor("input_weight", None, size)
    units = weight.shape[0]
    output_bias, floor, ceiling, risk_bias = tensor("scalars", 4).tolist()
    layer = LayerSteering(
        direction=tensor("direction", size),
        input_weight=weight,
        input_bias=tensor("input_bias", units),
        output_weight=tensor("output_weight", units),
        output_bias=output_bias,
        floor=floor,
        ceiling=ceiling,
        risk_weight=tensor("risk_weight", size),
        risk_bias=risk_bias,
        offsets={medium: _read_offset(named, index, medium, manifest) for medium in manifest.media},
        ball=_read_ball(named, index, manifest),
    )
    _check_meaning(layer, index, manifest.name)
    return layer


def _read_offset(
    named: Mapping[str, Tensor], index: int, medium: str, manifest: Manifest
) -> Tensor:
    """An offset [H], or [C, H] by the number of items."""
    name, size = f"layers.{index}.offset.{medium}", manifest.model.hidden_size
    found = named.get(name)
    by_count = found is not None and found.dim() == 2 and found.shape[0] > 0
    return _checked(found, name, (None, size) if by_count else (size,), manifest.name)


def _read_ball(named: Mapping[str, Tensor], index: int, manifest: Manifest) -> Ball | None:
    centre, radius = f"layers.{index}.ball.centre", f"layers.{index}.ball.radius"
    if centre not in named and radius not in named:
        return None
    ball = Ball(
        _checked(named.get(centre), centre, (manifest.model.hidden_size,), manifest.name),
        float(_checked(named.get(radius), radius, (1,), manifest.name)),
    )
    if ball.radius <= 0.0:
        raise BundleError(
            f"{radius!r} of bundle {manifest.name!r} is {ball.radius}, expected a number above 0"
        )
    return ball


def _checked(
    tensor: Tensor | None, name: str, shape: tuple[int | None, ...], bundle: str
) -> Tensor:
    if tensor is None:
        raise BundleError(f"bundle {bundle!r} lacks the tensor {name!r}; rebuild the bundle")
    found = tuple(tensor.shape)
    fits = len(found) == len(shape) and all(
        want is None or have == want for have, want in zip(found, shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if want is None else want for want in shape)
        raise BundleError(f"{name!r} of bundle {bundle!r} has shape {found}, expected {wanted}")
    if not torch.isfinite(tensor).all():
        raise BundleError(f"{name!r} of bundle {bundle!r} holds NaN or infinite values")
    return tensor


def _check_meaning(layer: LayerSteering, index: int, bundle: str) -> None:
    norm = float(layer.direction.norm())
    if abs(norm - 1.0) > _UNIT_TOLERANCE:
        raise BundleError(
            f"the direction of layer {index} in bundle {bundle!r} has length {norm:.4f}, "
            "expected a unit vector"
        )
    if layer.floor > layer.ceiling:
        raise BundleError(
            f"layer {index} of bundle {bundle!r} has floor {layer.floor} above its ceiling "
            f"{layer.ceiling}"
        )
