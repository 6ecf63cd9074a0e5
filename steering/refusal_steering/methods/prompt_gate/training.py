"""Training of token probes under a loss on the pooled score of each prompt.

A prompt is a bag of tokens with one label. For every layer by itself, the logit of a prompt is its
pooled score, and the loss is cross entropy; what serves is the mean of the layers' scores. Where
the score has both parts, maximum and attention are trained each by itself and mixed: trained
together, the attention explains the training wordings and the maximum learns little.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from refusal_steering.calibration.token_rows.row_files import TokenRows
from refusal_steering.gate.prompt_gate import Pooling, TokenProbe
from refusal_steering.methods.adapter import Standardiser
from refusal_steering.methods.prompt_gate.pooled import bags, pool
from refusal_steering.prompts.gate_labels import GateLabels

_log = logging.getLogger(__name__)
# Token rows that mean and deviation are measured over.
_SAMPLE = 12_000


@dataclass(frozen=True, slots=True)
class PartRecipe:
    """How one part of the score is trained, the maximum or the attention.

    ``ridge`` is on standardised weights. The others weigh kinds of conversations, as
    ``GateLabels.weight`` does; what weighs nothing is left out. A maximum cannot take back what one
    token says, so it learns little from tasks about harm but to be blind. An attention learns by
    heart what a language has few of, and twins teach it to open for less of everything.
    """

    steps: int
    learning_rate: float
    ridge: float
    about: float
    language: float
    borderline: float
    twin: float

    def weight(self, labels: GateLabels) -> Tensor:
        """Weights [N] of the conversations."""
        return labels.weight(self.about, self.language, self.borderline, self.twin)


@dataclass(frozen=True, slots=True)
class GateRecipe:
    """How token probes are trained.

    ``mix`` is the share of the maximum in a score that has both parts. ``batch`` is in prompts.
    The last ``averaged`` share of the steps is averaged. ``query_scale`` is the spread of the first
    attention queries.
    """

    pooling: Pooling = "both"
    maximum: PartRecipe = field(
        default_factory=lambda: PartRecipe(900, 5e-3, 0.005, 0.1, 1.2, 2.0, 1.0)
    )
    attention: PartRecipe = field(
        default_factory=lambda: PartRecipe(600, 3e-3, 0.005, 1.0, 0.6, 1.5, 0.0)
    )
    mix: float = 0.7
    batch: int = 96
    bias_rate: float = 3e-2
    averaged: float = 0.4
    query_scale: float = 1e-3
    seed: int = 0

    @property
    def parts(self) -> Mapping[Pooling, PartRecipe]:
        """What is trained, by the pooling that it is trained under."""
        known: dict[Pooling, PartRecipe] = {"max": self.maximum, "attention": self.attention}
        return known if self.pooling == "both" else {self.pooling: known[self.pooling]}


def train_probes(
    rows: TokenRows, labels: GateLabels, learning: Tensor, recipe: GateRecipe
) -> dict[int, TokenProbe]:
    """A probe for every layer of ``rows``, from the prompts under the mask ``learning`` [N].

    Each label counts half. Probes are independent of each other, and nothing but the learning
    prompts enters them.
    """
    bagged = {
        pooling: _Bagged.of(rows.starts, labels, learning, part.weight(labels))
        for pooling, part in recipe.parts.items()
    }
    return {
        layer: _mixed(
            {at: _train(hidden, bagged[at], at, part, recipe) for at, part in recipe.parts.items()},
            recipe.mix,
        )
        for layer, hidden in rows.layers.items()
    }


@dataclass(frozen=True, slots=True)
class _Bagged:
    """The learning prompts: their places among all, labels, and weights whose mean is 1."""

    starts: Tensor
    places: Tensor
    harmful: Tensor
    shares: Tensor

    @classmethod
    def of(cls, starts: Tensor, labels: GateLabels, learning: Tensor, weight: Tensor) -> _Bagged:
        """Those under the mask ``learning`` [N] whose ``weight`` [N] is not 0."""
        places = (learning & (weight > 0)).nonzero().flatten()
        harmful = labels.harmful[places]
        return cls(starts, places, harmful, _halves(weight[places], harmful))

    def standardiser(self, hidden: Tensor, generator: torch.Generator) -> Standardiser:
        """Measured over a sample of these prompts' tokens."""
        counts = self.starts.diff()
        learning = torch.zeros(len(counts), dtype=torch.bool)
        learning[self.places] = True
        tokens = learning.repeat_interleave(counts).nonzero().flatten()
        chosen = torch.randperm(len(tokens), generator=generator)[:_SAMPLE]
        return Standardiser.of(hidden[tokens[chosen].sort().values].float())


class _Probe(nn.Module):
    """Weight, query and value [H, 3] over standardised rows, and the biases of two of them."""

    def __init__(self, size: int, recipe: GateRecipe) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(recipe.seed)
        columns = torch.zeros(size, 3)
        columns[:, 1] = recipe.query_scale * torch.randn(size, generator=generator)
        self.columns = nn.Parameter(columns)
        self.biases = nn.Parameter(torch.zeros(2))

    @property
    def offsets(self) -> Tensor:
        """Biases [3] of score, query and value; the softmax does not see one of all queries."""
        return torch.stack((self.biases[0], torch.zeros(()), self.biases[1]))


def _mixed(parts: Mapping[Pooling, TokenProbe], share: float) -> TokenProbe:
    """The probe whose pooled score has ``share`` of the maximum's and the rest of the attention's.

    One part alone is itself.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))
    highest, attended = parts["max"], parts["attention"]
    return TokenProbe(
        weight=share * highest.weight,
        bias=share * highest.bias,
        query=attended.query,
        value=(1 - share) * attended.value,
        value_bias=(1 - share) * attended.value_bias,
    )


def _train(
    hidden: Tensor, bagged: _Bagged, pooling: Pooling, part: PartRecipe, recipe: GateRecipe
) -> TokenProbe:
    generator = torch.Generator().manual_seed(recipe.seed)
    standardise = bagged.standardiser(hidden, generator)
    probe = _Probe(hidden.shape[1], recipe)
    optimiser = torch.optim.Adam(
        [
            {"params": [probe.columns], "lr": part.learning_rate},
            {"params": [probe.biases], "lr": recipe.bias_rate},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, part.steps)
    mean = torch.optim.swa_utils.AveragedModel(probe)
    loss = torch.zeros(())
    for step in range(part.steps):
        order = torch.randperm(len(bagged.places), generator=generator)
        chosen = order[: recipe.batch].sort().values
        rows, mask = bags(hidden, bagged.starts, bagged.places[chosen])
        logits = pool(standardise(rows) @ probe.columns + probe.offsets, mask, pooling)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, bagged.harmful[chosen].float(), reduction="none"
        )
        ridge = part.ridge * probe.columns.square().sum()
        loss = (losses * bagged.shares[chosen]).mean() + ridge
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step >= int(part.steps * (1 - recipe.averaged)):
            mean.update_parameters(probe)
    _log.info("gate probe: last loss %.3f", float(loss.detach()))
    return _folded(mean.module, standardise)


def _folded(probe: nn.Module, standardise: Standardiser) -> TokenProbe:
    assert isinstance(probe, _Probe)
    weights, offsets = standardise.fold(probe.columns.detach().T, probe.offsets.detach())
    return TokenProbe(
        weight=weights[0].contiguous(),
        bias=float(offsets[0]),
        query=weights[1].contiguous(),
        value=weights[2].contiguous(),
        value_bias=float(offsets[2]),
    )


def _halves(weight: Tensor, harmful: Tensor) -> Tensor:
    """Weights with mean 1 of which each label has half."""
    sums = torch.where(harmful, weight[harmful].sum(), weight[~harmful].sum())
    return weight / sums * len(weight) / 2
