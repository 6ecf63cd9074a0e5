"""Training of one layer's coefficient perceptron on cached residual rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from refusal_steering.calibration.directions import Direction
from refusal_steering.coefficient import LayerSteering


@dataclass(frozen=True, slots=True)
class Recipe:
    """How adapters are trained.

    ``dose`` is what a harmful row should get, as a share of the residual stream's length, and
    also the ceiling. A harmless row should stay ``margin`` doses below zero, where the clamp
    makes it exactly 0. ``caution`` weighs harmless rows against harmful ones. ``members``
    perceptrons with other seeds are averaged; each step sees ``batch`` rows by chance.
    """

    dose: float = 0.25
    margin: float = 0.2
    caution: float = 1.0
    width: int = 32
    members: int = 1
    steps: int = 300
    batch: int = 2048
    learning_rate: float = 3e-3
    weight_decay: float = 0.3
    dropout: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Mean and standard deviation [H] of the training rows."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, hidden: Tensor) -> Standardiser:
        """Measured over ``hidden`` [N, H]."""
        return cls(hidden.mean(0), hidden.std(0) + 1e-4)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Rows with zero mean and unit deviation."""
        return (hidden - self.mean) / self.deviation

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The ``weight`` [..., H] and ``bias`` [...] that do the same to rows as they come."""
        folded = weight / self.deviation
        return folded, bias - folded @ self.mean


def train_adapter(
    hidden: Tensor, harmful: Tensor, weight: Tensor, direction: Direction, recipe: Recipe
) -> LayerSteering:
    """Fit perceptrons on rows [N, H] with labels [N] and positive row weights [N].

    The mean of ``recipe.members`` perceptrons of ``recipe.width`` units is one of the sum of the
    widths; it errs less than any of them.
    """
    standardise = Standardiser.of(hidden)
    rows, members = standardise(hidden), recipe.members
    networks = [
        _fit(rows, harmful, weight, replace(recipe, seed=recipe.seed + n)) for n in range(members)
    ]
    firsts, lasts = ([_linear(network, place) for network in networks] for place in (1, 3))
    input_weight, input_bias = standardise.fold(
        torch.cat([first.weight.detach() for first in firsts]),
        torch.cat([first.bias.detach() for first in firsts]),
    )
    ceiling = recipe.dose * direction.scale
    share = ceiling / members
    return LayerSteering(
        direction=direction.unit,
        input_weight=input_weight,
        input_bias=input_bias,
        output_weight=torch.cat([last.weight.detach()[0] for last in lasts]) * share,
        output_bias=sum(float(last.bias.detach()) for last in lasts) * share,
        floor=0.0,
        ceiling=ceiling,
        risk_weight=torch.zeros_like(direction.unit),
        risk_bias=0.0,
    )


def unclamped(layer: LayerSteering, hidden: Tensor) -> Tensor:
    """Coefficients [N] of rows [N, H] before the clamp."""
    return replace(layer, floor=-torch.inf, ceiling=torch.inf).coefficient(hidden)


def sharpened(layer: LayerSteering, harmful: Tensor, saturated: float) -> LayerSteering:
    """The adapter steeper, so that a share ``saturated`` of the rows that earn reach the ceiling.

    Who earns and who does not stays the same. ``harmful`` are rows [N, H].
    """
    raw = unclamped(layer, harmful)
    factor = layer.ceiling / float(raw[raw > 0].quantile(1.0 - saturated))
    return replace(
        layer, output_weight=layer.output_weight * factor, output_bias=layer.output_bias * factor
    )


def _linear(network: nn.Sequential, place: int) -> nn.Linear:
    layer = network[place]
    assert isinstance(layer, nn.Linear)
    return layer


def _fit(rows: Tensor, harmful: Tensor, weight: Tensor, recipe: Recipe) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(rows.shape[1], recipe.width),
            nn.ReLU(),
            nn.Linear(recipe.width, 1),
        )
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        for _ in range(recipe.steps):
            seen = torch.randint(len(rows), (recipe.batch,))
            raw = network(rows[seen]).squeeze(-1)
            loss = _hinge(raw, harmful[seen], weight[seen], recipe)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval()


def _hinge(raw: Tensor, harmful: Tensor, weight: Tensor, recipe: Recipe) -> Tensor:
    missing = torch.relu(1.0 - raw) * weight
    excess = torch.relu(raw + recipe.margin) * weight * recipe.caution
    return missing[harmful].sum() / weight[harmful].sum() + (
        excess[~harmful].sum() / weight[~harmful].sum()
    )


def train_probe(
    hidden: Tensor, harmful: Tensor, weight: Tensor, penalty: float = 0.02
) -> tuple[Tensor, float]:
    """Weight [H] and bias of a logistic regression on rows [N, H]; positive means harmful.

    ``penalty`` is the ridge on standardised weights; both classes count alike.
    """
    standardise = Standardiser.of(hidden)
    rows, labels = standardise(hidden), harmful.float()
    share = torch.where(harmful, weight / weight[harmful].sum(), weight / weight[~harmful].sum())
    slope = torch.zeros(rows.shape[1], requires_grad=True)
    offset = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([slope, offset], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = rows @ slope + offset
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        loss: Tensor = (losses * share).sum() + penalty * slope.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    folded, bias = standardise.fold(slope.detach(), offset.detach())
    return folded, float(bias)


def with_probe(
    layers: Mapping[int, LayerSteering], index: int, weight: Tensor, bias: float
) -> dict[int, LayerSteering]:
    """``layers`` with the only risk probe at layer ``index``; the engine sums the layers'."""
    return {
        at: replace(
            layer,
            risk_weight=weight if at == index else torch.zeros_like(weight),
            risk_bias=bias if at == index else 0.0,
        )
        for at, layer in layers.items()
    }
