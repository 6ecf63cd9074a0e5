"""A gate from token rows: probes, threshold and width in one go."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import torch

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.row_files import TokenIndex, TokenRows
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.methods.prompt_gate.opening import (
    OpenGate,
    conformal_threshold,
    opening_width,
    reached,
    rounding_of,
)
from refusal_steering.methods.prompt_gate.pooled import pooled_scores
from refusal_steering.methods.prompt_gate.training import GateRecipe, train_probes

_log = logging.getLogger(__name__)


def fit_gate(
    target: CalibrationModel, index: TokenIndex, rows: TokenRows, recipe: GateRecipe, budget: float
) -> OpenGate:
    """Train on the conversations of ``index`` that have been read, and set threshold and width.

    At most a share ``budget`` of everyday harmless requests opens the gate at all. Raises
    ``SteeringError`` where too few tuning conversations have been read for that.
    """
    labels, read = index.labels, index.read
    learning, tuning = read & ~labels.tuning, read & labels.tuning
    probes = train_probes(rows, labels, learning, recipe)
    scores = torch.full((len(read),), torch.nan)
    scores[tuning] = pooled_scores(rows, probes, recipe.pooling, tuning)
    threshold = conformal_threshold(scores, labels, read, budget)
    rounding = rounding_of(target, index, probes, recipe.pooling, scores)
    gate = PromptGate(
        probes,
        recipe.pooling,
        threshold.value,
        opening_width(rounding),
        user_turn=index.prompts.user_turn,
    )
    found = OpenGate(gate, threshold, rounding, reached(scores, labels, read, threshold.value))
    _log.info("gate opens for shares of tuning conversations: %s", dict(found.reached))
    return found


def gate_facts(index: TokenIndex, recipe: GateRecipe, found: OpenGate) -> dict[str, Any]:
    """What a bundle keeps of its gate's calibration."""
    return {
        "examples": index.examples,
        "examples_sha256": index.examples_sha256,
        "conversations": int(index.read.sum()),
        "recipe": asdict(recipe),
        "threshold": asdict(found.threshold),
        "rounding": round(found.rounding, 5),
        "opened_in_tuning": dict(found.reached),
    }
