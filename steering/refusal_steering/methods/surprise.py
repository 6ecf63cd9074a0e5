"""How surprising a steered model finds an answer: its likelihood after cached prompts."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from refusal_steering.calibration.answers import stop_tokens
from refusal_steering.calibration.batched import BatchSteering, batch_steered
from refusal_steering.calibration.chat import Chat
from refusal_steering.calibration.model import Batch, CalibrationModel
from refusal_steering.spec import SteeringSpec


@dataclass(frozen=True, slots=True)
class Primed:
    """A batch whose prompt is cached but for its last token: all that steering leaves alone."""

    batch: Batch
    cache: Any


@torch.no_grad()
def prime(target: CalibrationModel, batch: Batch) -> Primed:
    """Read all prompts of ``batch`` but their last tokens."""
    # The decoder alone: not every class can leave out the logits.
    output = target.model.get_decoder()(
        input_ids=batch.input_ids[:, :-1],
        attention_mask=batch.attention_mask[:, :-1],
        position_ids=batch.positions[:, :-1],
        past_key_values=batch.take_prefix(),
        use_cache=True,
    )
    return Primed(batch, output.past_key_values)


def answer_ids(target: CalibrationModel, answer: str) -> Tensor:
    """Token ids [N] of ``answer`` and of what ends an answer in the model's chat template.

    That need not be the tokenizer's end of text: Gemma's answers end with ``<end_of_turn>``.
    """
    ids = target.tokenizer(answer, add_special_tokens=False)["input_ids"]
    chat = Chat(target.tokenizer, target.template_arguments)
    end = chat.end_of_answer(stop_tokens(target))
    return torch.tensor([*ids, target.tokenizer.eos_token_id if end is None else end])


def surprise(
    target: CalibrationModel, primed: Primed, answer: Tensor, spec: SteeringSpec
) -> Tensor:
    """Mean negative log-likelihood in nats per token of ``answer`` [N] after each prompt, steered.

    Gradients reach the tensors of ``spec``.
    """
    batch, length = primed.batch, answer.shape[0]
    answers = answer.expand(len(batch.rows), -1)
    feed = torch.cat([batch.input_ids[:, -1:], answers[:, :-1]], dim=1)
    with batch_steered(target.decoder_layers, BatchSteering(spec, step=length - 1)):
        logits = target.model(
            input_ids=feed,
            attention_mask=torch.cat([batch.attention_mask[:, :-1], torch.ones_like(feed)], dim=1),
            position_ids=batch.positions[:, -1:] + torch.arange(length),
            past_key_values=copy.deepcopy(primed.cache),
            use_cache=True,
        ).logits
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), answers.flatten())
