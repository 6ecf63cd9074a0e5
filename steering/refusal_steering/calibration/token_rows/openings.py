"""How far a gate opens for prompts, each read as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.collect import length_batches, pass_rows
from refusal_steering.gate.prompt_gate import PromptGate


def openings(target: CalibrationModel, prompts: Sequence[str], gate: PromptGate) -> Tensor:
    """Openings [P], 0 to 1, of user messages under the chat template."""
    encoded = [target.encode(prompt) for prompt in prompts]
    found = torch.zeros(len(prompts))
    for batch in length_batches(encoded, range(len(encoded))):
        rows = pass_rows(target, [encoded[place] for place in batch], gate.layers)
        for line, place in enumerate(batch):
            ids = encoded[place]
            own = {layer: hidden[line, : len(ids)] for layer, hidden in rows.items()}
            found[place] = gate.opening(gate.score(own, gate.count_from(ids)).score)
    return found
