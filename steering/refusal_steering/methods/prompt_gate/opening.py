"""Where a prompt gate opens: a conformal threshold, and a width that rounding does not move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.bundle import Guarantee
from refusal_steering.calibration.conformal import Threshold, budget_threshold
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.collect import pass_rows
from refusal_steering.calibration.token_rows.row_files import TokenIndex
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import Pooling, PromptGate, TokenProbe
from refusal_steering.prompts.gate_labels import GateLabels

# Rounding may move a coefficient by a twentieth of its ceiling.
_ROUNDINGS = 20.0
_NARROWEST = 0.1
_PROBED = 48


@dataclass(frozen=True, slots=True)
class OpenGate:
    """A finished gate, the threshold that it keeps, and how far rounding was seen to move scores.

    ``reached`` are the tuning conversations above the threshold, by kind, as shares.
    """

    gate: PromptGate
    threshold: Threshold
    rounding: float
    reached: Mapping[str, float]

    @property
    def guarantee(self) -> Guarantee:
        """What the manifest promises."""
        found = self.threshold
        return Guarantee(share=found.budget, rows=found.count, worst_share=found.worst_share)


def conformal_threshold(
    scores: Tensor, labels: GateLabels, read: Tensor, budget: float
) -> Threshold:
    """Split conformal over everyday harmless tuning conversations, one for each item.

    ``scores`` [N] of all conversations count only where ``read`` [N] is.
    """
    calm = labels.tuning & ~labels.harmful & labels.everyday & labels.one_per_item & read
    return budget_threshold(scores[calm], budget)


def reached(scores: Tensor, labels: GateLabels, read: Tensor, threshold: float) -> dict[str, float]:
    """Share of tuning conversations above ``threshold``: harmful, everyday, borderline, about."""
    tuning, harmful, everyday = labels.tuning & read, labels.harmful, labels.everyday
    borderline = torch.tensor([label.borderline for label in labels.all])
    kinds = {
        "harmful": harmful,
        "everyday": ~harmful & everyday,
        "borderline": borderline,
        "about harm": ~harmful & ~everyday & ~borderline,
    }
    return {
        kind: round(float((scores[tuning & mask] > threshold).float().mean()), 4)
        for kind, mask in kinds.items()
        if bool((tuning & mask).any())
    }


def rounding_of(
    target: CalibrationModel,
    index: TokenIndex,
    probes: Mapping[int, TokenProbe],
    pooling: Pooling,
    scores: Tensor,
) -> float:
    """How far a score moves where nothing but the arithmetic differs; the largest of a sample.

    ``scores`` [N] are those of the rows, which were read in batches and rounded to bfloat16; each
    prompt of the sample is read again by itself.
    """
    chosen = (index.labels.tuning & index.read).nonzero().flatten().tolist()
    if not chosen:
        raise SteeringError("no tuning conversation has been read; collect the token rows first")
    gate = PromptGate(probes, pooling, 0.0, 1.0, user_turn=index.prompts.user_turn)
    moved = []
    for place in chosen[:: max(1, len(chosen) // _PROBED)]:
        ids = index.prompts.token_ids[place]
        rows = pass_rows(target, [ids], gate.layers)
        whole = {layer: hidden[0] for layer, hidden in rows.items()}
        moved.append(abs(gate.score(whole, gate.count_from(ids)).score - float(scores[place])))
    return max(moved)


def opening_width(rounding: float) -> float:
    """The narrowest width, in units of the score, that rounding moves by a twentieth at most."""
    return max(_ROUNDINGS * rounding, _NARROWEST)
