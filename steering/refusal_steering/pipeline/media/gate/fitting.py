"""A gate from the token rows of texts and media: probes, one threshold for all groups, width."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from refusal_steering.calibration.conformal import Threshold
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from refusal_steering.methods.prompt_gate.fit import gate_facts
from refusal_steering.methods.prompt_gate.opening import (
    OpenGate,
    conformal_threshold,
    opening_width,
    reached,
)
from refusal_steering.methods.prompt_gate.pooled import pooled_scores
from refusal_steering.methods.prompt_gate.training import GateRecipe, train_probes
from refusal_steering.pipeline.media.gate.examples import TEXTS, MediaExamples
from refusal_steering.pipeline.media.gate.token_rows import StoredTokens
from refusal_steering.pipeline.media.requests import TEXT
from refusal_steering.pipeline.media.work import Kept, Work
from refusal_steering.prompts.gate_labels import GateLabels

_log = logging.getLogger(__name__)
_REREAD = 48
# A threshold of so few requests would be decided by one or two of them: such groups share one.
ALONE = 100
_WORDS = (TEXTS, TEXT)
# A step of training holds its tokens in float32 about so many times, in so many bytes at most.
COPIES, _TRAINING_BYTES = 4, 1 << 30
_FEWEST_PROMPTS = 16
_FIELDS = ("weight", "query", "value")

Reread = Callable[[PromptGate, Sequence[int]], Tensor]
"""Scores [n] of a gate for the examples at some places, as the engine reads them when it serves."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Shares of everyday harmless requests that may open a gate: of words alone, and with media."""

    words: float
    media: float

    def of(self, group: str) -> float:
        """The share of one group."""
        return self.words if group in _WORDS else self.media


@dataclass(frozen=True, slots=True)
class FittedMediaGate:
    """A gate, the thresholds of its groups, and what its bundle keeps of the way there.

    ``opened`` has the share of harmful tuning requests that it opens for, by group.
    """

    gate: PromptGate
    opened: Mapping[str, float]
    guarantee: Mapping[str, Any]
    facts: Mapping[str, Any]


def fitted_gate(
    tokens: StoredTokens,
    examples: MediaExamples,
    recipe: GateRecipe,
    budgets: Budgets,
    reread: Reread,
    work: Work,
) -> FittedMediaGate:
    """Train on what ``tokens`` holds, and keep ``budgets`` as :func:`group_thresholds` says.

    Raises ``SteeringError`` where there are too few harmless requests for that.
    """
    inputs = {
        "tokens": tokens.digest,
        "recipe": asdict(recipe),
        "budgets": asdict(budgets),
        "alone": ALONE,
    }
    return _of(work.kept("gate", inputs, lambda: _fit(tokens, examples, recipe, budgets, reread)))


def prompts_of_a_step(recipe: GateRecipe, tokens: float, width: int) -> int:
    """How many prompts of so many ``tokens`` one step of training can hold: media have many."""
    most = int(_TRAINING_BYTES / (COPIES * tokens * width * torch.float32.itemsize))
    return min(recipe.batch, max(_FEWEST_PROMPTS, most))


def reread_places(tuning: Sequence[int]) -> Sequence[int]:
    """The tuning prompts that are read again to see how far rounding moves their scores."""
    return tuning[:: max(1, len(tuning) // _REREAD)]


def group_thresholds(
    scores: Tensor, examples: MediaExamples, budgets: Budgets
) -> dict[str, Threshold]:
    """Split conformal over everyday harmless tuning requests, for every group.

    A group of at least :data:`ALONE` of them has a threshold of its own. Smaller groups that bring
    media share one, and a smaller group of words shares that of all words. Raises
    ``SteeringError`` where a threshold cannot keep its budget.
    """
    counts = {group: _everyday_harmless(examples, {group}) for group in examples.groups}
    found = {}
    for group in examples.groups:
        together = _together(group, counts)
        kept = torch.tensor([one.group in together for one in examples.all])
        own = GateLabels(tuple(one.label for one in examples.all if one.group in together))
        everyone = torch.ones(len(own.all), dtype=torch.bool)
        try:
            found[group] = conformal_threshold(scores[kept], own, everyone, budgets.of(group))
        except SteeringError as error:
            raise SteeringError(f"{', '.join(sorted(together))}: {error}") from error
    return found


def _together(group: str, counts: Mapping[str, int]) -> set[str]:
    """The groups whose requests set the threshold of ``group``."""
    if counts[group] >= ALONE:
        return {group}
    if group in _WORDS:
        return {one for one in counts if one in _WORDS}
    return {one for one, count in counts.items() if count < ALONE and one not in _WORDS}


def _everyday_harmless(examples: MediaExamples, groups: Collection[str]) -> int:
    return sum(
        one.group in groups and one.label.tuning and one.label.everyday and not one.label.harmful
        for one in examples.all
    )


def _fit(
    tokens: StoredTokens,
    examples: MediaExamples,
    recipe: GateRecipe,
    budgets: Budgets,
    reread: Reread,
) -> Kept:
    rows, labels = tokens.rows, tokens.index.labels
    width = tokens.index.model.hidden_size
    mean = int(rows.starts[-1]) / len(labels.all)
    recipe = replace(recipe, batch=prompts_of_a_step(recipe, mean, width))
    tuning, everyone = labels.tuning, tokens.index.read
    probes = train_probes(rows, labels, ~tuning, recipe)
    scores = torch.full((len(everyone),), torch.nan)
    scores[tuning] = pooled_scores(rows, probes, recipe.pooling, tuning)
    thresholds = group_thresholds(scores, examples, budgets)
    highest = max(one.value for one in thresholds.values())
    # The promise is that of the group that keeps it least surely.
    weakest = max(thresholds.values(), key=lambda one: one.worst_share)
    threshold = replace(weakest, value=highest)
    turn = tokens.index.prompts.user_turn
    gate = PromptGate(probes, recipe.pooling, highest, opening_width(0.0), user_turn=turn)
    chosen = reread_places(tuning.nonzero().flatten().tolist())
    rounding = float((reread(gate, chosen) - scores[chosen]).abs().max())
    gate = replace(gate, width=opening_width(rounding))
    found = OpenGate(gate, threshold, rounding, reached(scores, labels, everyone, highest))
    opened = _opened(scores, examples, highest, harmful=True)
    touched = _opened(scores, examples, highest, harmful=False)
    _log.info("gate opens for shares of tuning requests: %s, %s", dict(found.reached), opened)
    facts = {
        "prompt_gate": {
            **gate_facts(tokens.index, recipe, found),
            "opened_harmful": opened,
            "opened_harmless": touched,
        },
        "thresholds": {group: asdict(one) for group, one in thresholds.items()},
    }
    kept = {
        "pooling": gate.pooling,
        "threshold": gate.threshold,
        "width": gate.width,
        "user_turn": gate.user_turn,
        "biases": {str(at): (one.bias, one.value_bias) for at, one in gate.probes.items()},
    }
    return Kept(
        {
            f"{layer}.{field}": getattr(probe, field)
            for layer, probe in gate.probes.items()
            for field in _FIELDS
        },
        {
            "gate": kept,
            "opened": opened,
            "guarantee": found.guarantee.model_dump(),
            "facts": facts,
        },
    )


def _of(kept: Kept) -> FittedMediaGate:
    named = kept.facts["gate"]
    probes = {
        int(layer): TokenProbe(
            weight=kept.tensors[f"{layer}.weight"],
            bias=bias,
            query=kept.tensors[f"{layer}.query"],
            value=kept.tensors[f"{layer}.value"],
            value_bias=value_bias,
        )
        for layer, (bias, value_bias) in named["biases"].items()
    }
    gate = PromptGate(
        probes,
        named["pooling"],
        named["threshold"],
        named["width"],
        user_turn=tuple(named["user_turn"]),
    )
    return FittedMediaGate(gate, kept.facts["opened"], kept.facts["guarantee"], kept.facts["facts"])


def _opened(
    scores: Tensor, examples: MediaExamples, threshold: float, *, harmful: bool
) -> dict[str, float]:
    """Share of every group's tuning requests of one label that score above the threshold.

    Of the harmless ones, those of every day.
    """
    labels = examples.labels
    tried = labels.tuning & (labels.harmful if harmful else ~labels.harmful & labels.everyday)
    found = {}
    for group in examples.groups:
        own = tried & examples.of_group(group)
        if bool(own.any()):
            found[group] = round(float((scores[own] > threshold).float().mean()), 3)
    return found
