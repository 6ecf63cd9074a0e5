"""A gate from the token rows of texts and media: probes, thresholds by media, and a width."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from refusal_steering.methods.prompt_gate.fit import gate_facts
from refusal_steering.methods.prompt_gate.opening import (
    OpenGate,
    opening_width,
    reached,
)
from refusal_steering.methods.prompt_gate.pooled import pooled_scores
from refusal_steering.methods.prompt_gate.training import GateRecipe, train_probes
from refusal_steering.pipeline.media.gate.examples import MediaExamples
from refusal_steering.pipeline.media.gate.thresholds import (
    ALONE,
    Budgets,
    group_thresholds,
    media_thresholds,
    set_of_group,
)
from refusal_steering.pipeline.media.gate.token_rows import StoredTokens
from refusal_steering.pipeline.media.work import Kept, Work

_log = logging.getLogger(__name__)
_REREAD = 48
# A step of training holds its tokens in float32 about so many times, in so many bytes at most.
COPIES, _TRAINING_BYTES = 4, 1 << 30
_FEWEST_PROMPTS = 16
_FIELDS = ("weight", "query", "value")

Reread = Callable[[PromptGate, Sequence[int]], Tensor]
"""Scores [n] of a gate for the examples at some places, as the engine reads them when it serves."""


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
        "thresholds": "by media",
    }
    return _of(work.kept("gate", inputs, lambda: _fit(tokens, examples, recipe, budgets, reread)))


def prompts_of_a_step(recipe: GateRecipe, tokens: float, width: int) -> int:
    """How many prompts of so many ``tokens`` one step of training can hold: media have many."""
    most = int(_TRAINING_BYTES / (COPIES * tokens * width * torch.float32.itemsize))
    return min(recipe.batch, max(_FEWEST_PROMPTS, most))


def reread_places(tuning: Sequence[int]) -> Sequence[int]:
    """The tuning prompts that are read again to see how far rounding moves their scores."""
    return tuning[:: max(1, len(tuning) // _REREAD)]


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
    of_media = media_thresholds(thresholds)
    highest = max(of_media.values())
    # The promise is that of the group that keeps it least surely.
    weakest = max(thresholds.values(), key=lambda one: one.worst_share)
    threshold = replace(weakest, value=highest)
    gate = PromptGate(
        probes,
        recipe.pooling,
        highest,
        opening_width(0.0),
        user_turn=tokens.index.prompts.user_turn,
        media_thresholds=of_media,
    )
    chosen = reread_places(tuning.nonzero().flatten().tolist())
    rounding = float((reread(gate, chosen) - scores[chosen]).abs().max())
    gate = replace(gate, width=opening_width(rounding))
    above = scores - torch.tensor([of_media[set_of_group(one.group)] for one in examples.all])
    found = OpenGate(gate, threshold, rounding, reached(above, labels, everyone, 0.0))
    opened = _opened(above, examples, harmful=True)
    touched = _opened(above, examples, harmful=False)
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
        "media_thresholds": of_media,
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
        media_thresholds=named["media_thresholds"],
    )
    return FittedMediaGate(gate, kept.facts["opened"], kept.facts["guarantee"], kept.facts["facts"])


def _opened(above: Tensor, examples: MediaExamples, *, harmful: bool) -> dict[str, float]:
    """Share of every group's tuning requests of one label that score ``above`` their threshold.

    Of the harmless ones, those of every day.
    """
    labels = examples.labels
    tried = labels.tuning & (labels.harmful if harmful else ~labels.harmful & labels.everyday)
    found = {}
    for group in examples.groups:
        own = tried & examples.of_group(group)
        if bool(own.any()):
            found[group] = round(float((above[own] > 0.0).float().mean()), 3)
    return found
