"""Training of OmniSteer's adapters on cached residual rows (arXiv 2602.10161, section 4).

One perceptron per layer, k = W2 relu(W1 h + b1) + b2, on the residual stream as it comes. The
model is frozen and takes no part, so rows are collected once and layers train on their own. At
inference, however, a layer sees what earlier layers have moved: the published training is open
loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError
from refusal_steering.methods.golden import check_direction
from refusal_steering.methods.omnisteer_loss import batch_loss
from refusal_steering.methods.omnisteer_presets import SCALE_FREE, Preset

_log = logging.getLogger(__name__)
_EPSILON = 1e-6


class TrainingError(SteeringError):
    """Rows that cannot be trained on, or adapters that came out useless."""

    code: ClassVar[str] = "training_failed"


@dataclass(frozen=True, slots=True)
class Training:
    """How long and with what seed adapters are trained; defaults are the paper's.

    ``k_max`` is the largest coefficient in residual-stream units; without it, each layer takes
    the largest that a harmful training row earns.
    """

    preset: Preset = SCALE_FREE
    width: int = 128
    epochs: int = 3
    batch_size: int = 4
    weight_decay: float = 0.01
    k_max: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What training found for one layer; lengths in residual-stream units.

    ``offset`` is the harmless rows' mean projection, ``negative`` the share of harmful rows whose
    unclamped coefficient lies below zero, that is, whose refusal the paper would weaken. The
    projections are means over harmful rows, before and after the clamped coefficient.
    """

    norm: float
    offset: float
    loss: float
    fires_harmful: float
    fires_harmless: float
    negative: float
    projection_before: float
    projection_after: float


@dataclass(frozen=True, slots=True)
class TrainedLayer:
    """A finished adapter; floor 0, ceiling ``k_max``."""

    steering: LayerSteering
    facts: LayerFacts


def fresh_adapter(size: int, width: int, seed: int) -> nn.Sequential:
    """An untrained perceptron: first layer Kaiming-uniform, last layer exactly zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        last = nn.Linear(width, 1)
        network = nn.Sequential(nn.Linear(size, width), nn.ReLU(), last)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return network


def as_steering(
    network: nn.Sequential, direction: Tensor, unit: float, k_max: float
) -> LayerSteering:
    """The perceptron as one layer of a bundle; it counts in ``unit`` residual-stream units."""
    first, last = network[0], network[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return LayerSteering(
        direction=direction,
        input_weight=first.weight.detach().clone(),
        input_bias=first.bias.detach().clone(),
        output_weight=last.weight.detach()[0] * unit,
        output_bias=float(last.bias.detach()) * unit,
        floor=0.0,
        ceiling=k_max,
        risk_weight=torch.zeros_like(direction),
        risk_bias=0.0,
    )


def balanced(harmful: Tensor) -> Tensor:
    """Indices of all rows, the rarer class repeated until both are equally many."""
    classes = [mask.nonzero().squeeze(-1) for mask in (harmful, ~harmful)]
    if not all(map(len, classes)):
        raise TrainingError(
            f"{len(classes[0])} harmful and {len(classes[1])} harmless rows; training needs both"
        )
    most = max(map(len, classes))
    return torch.cat([rows[torch.arange(most) % len(rows)] for rows in classes])


def train_layers(
    vectors: Mapping[int, Tensor],
    rows: Mapping[int, Tensor],
    harmful: Tensor,
    how: Training,
) -> dict[int, TrainedLayer]:
    """Adapters for golden ``vectors`` [H] on unsteered ``rows`` [N, H], as the paper trains.

    ``rows`` must hold every layer of ``vectors``, in the order of ``harmful`` [N]. Raises
    :class:`TrainingError`.
    """
    trained: dict[int, TrainedLayer] = {}
    for layer in sorted(vectors):
        if layer not in rows:
            raise TrainingError(f"no rows of layer {layer}; there are rows of {sorted(rows)}")
        trained[layer] = train_layer(vectors[layer], rows[layer], harmful, how)
        _log.info("layer %d: %s", layer, trained[layer].facts)
    return trained


def train_layer(vector: Tensor, hidden: Tensor, harmful: Tensor, how: Training) -> TrainedLayer:
    """One adapter for a golden ``vector`` [H] with its length, on rows [N, H] with labels [N].

    Raises :class:`TrainingError` when shapes disagree, rows are not finite, or the adapter earns
    nothing on any harmful row.
    """
    check_direction(vector, "the golden vector")
    _check_rows(vector, hidden, harmful)
    norm = float(vector.float().norm()) + _EPSILON
    direction = vector.float() / vector.float().norm()
    hidden = hidden.float()
    projection = hidden @ direction
    offset = float(projection[~harmful].mean())
    along = projection - offset if how.preset.centred else projection
    unit = how.preset.coefficient_unit(norm)
    network = _fit(hidden, along, harmful, norm, how)
    with torch.no_grad():
        raw = network(hidden).squeeze(-1) * unit
        loss = float(batch_loss(raw, along, harmful, norm, how.preset))
    k_max = float(raw[harmful].max()) if how.k_max is None else how.k_max
    if float(raw[harmful].max()) <= 0.0 or k_max <= 0.0:
        raise TrainingError(
            f"the adapter earns nothing on any harmful row (largest coefficient "
            f"{float(raw[harmful].max()):.3g}, k_max {k_max:.3g}, vector length {norm:.1f}, mean "
            f"projection {float(along[harmful].mean()):.3g}). Harmful rows may lie beyond the "
            "preset's reach already: raise it or centre the thresholds. A published preset does "
            "this to long vectors: use scale-free"
        )
    k = raw.clamp(0.0, k_max)
    facts = LayerFacts(
        norm=norm,
        offset=offset,
        loss=loss,
        fires_harmful=float((k[harmful] > 0).float().mean()),
        fires_harmless=float((k[~harmful] > 0).float().mean()),
        negative=float((raw[harmful] < 0).float().mean()),
        projection_before=float(projection[harmful].mean()),
        projection_after=float((projection + k)[harmful].mean()),
    )
    return TrainedLayer(as_steering(network, direction, unit, k_max), facts)


def _fit(
    hidden: Tensor, along: Tensor, harmful: Tensor, norm: float, how: Training
) -> nn.Sequential:
    network = fresh_adapter(hidden.shape[1], how.width, how.seed)
    unit = how.preset.coefficient_unit(norm)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=how.preset.learning_rate, weight_decay=how.weight_decay
    )
    for batch in _batches(balanced(harmful), how):
        k = network(hidden[batch]).squeeze(-1) * unit
        loss = batch_loss(k, along[batch], harmful[batch], norm, how.preset)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def _batches(items: Tensor, how: Training) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(how.seed)
    for _ in range(how.epochs):
        order = torch.randperm(len(items), generator=generator)
        yield from items[order].split(how.batch_size)


def _check_rows(vector: Tensor, hidden: Tensor, harmful: Tensor) -> None:
    wanted = (harmful.shape[0], vector.shape[0])
    if tuple(hidden.shape) != wanted:
        raise TrainingError(f"rows have shape {tuple(hidden.shape)}, expected {wanted}")
    if not torch.isfinite(hidden).all():
        raise TrainingError("rows hold NaN or infinite values; collect them again")
