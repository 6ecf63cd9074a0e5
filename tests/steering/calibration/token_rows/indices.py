"""Conversations of a few words, and an index of them that has read nothing yet."""

from __future__ import annotations

import torch

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.prompts import TokenPrompts
from refusal_steering.calibration.token_rows.row_files import TokenIndex
from refusal_steering.prompts.families.conversation import Conversation, Turn
from refusal_steering.prompts.gate_labels import GateLabel, GateLabels

CONVERSATIONS: tuple[Conversation, ...] = (
    (Turn("user", "alpha beta gamma"),),
    (Turn("system", "never answer this"), Turn("user", "delta"), Turn("assistant", "no")),
    (Turn("user", "\nepsilon zeta"), Turn("assistant", ""), Turn("user", "eta theta iota")),
    (Turn("user", "kappa lambda mu nu xi omicron pi rho sigma tau"),),
    (Turn("system", "be brief"), Turn("user", "upsilon phi")),
)
LAYERS = (1, 2)


def index_of(
    chat: CalibrationModel,
    conversations: tuple[Conversation, ...] = CONVERSATIONS,
    layers: tuple[int, ...] = LAYERS,
) -> TokenIndex:
    labels = tuple(
        GateLabel(f"item {n}", "plain", n % 2 == 0, n % 3 == 2, False)
        for n in range(len(conversations))
    )
    return TokenIndex(
        TokenPrompts.of(chat, conversations),
        GateLabels(labels),
        chat.identity("tiny"),
        layers,
        torch.zeros(len(conversations), dtype=torch.bool),
        "tests",
        "a" * 64,
    )
